"""How sure a reviewer is, and what the verdict rests on."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Two columns that are empty for earlier entries, whose hashes stay as they are."""
    for name in ("confidence", "reason"):
        op.add_column("review", sa.Column(name, sa.String(40), nullable=False, server_default=""))
