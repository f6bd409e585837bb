"""The history of reviews."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the table; the constraint is also the index by which a neuron is found."""
    op.create_table(
        "review",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("layer", sa.String(255), nullable=False),
        sa.Column("unit", sa.Integer, nullable=False),
        sa.Column("reviewer", sa.String(200), nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("verdict", sa.String(20), nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("method", sa.String(255), nullable=False),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("bundle", sa.String(64), nullable=False),
        sa.Column("given_at", sa.DateTime(timezone=True), nullable=False),
        sa.UniqueConstraint("model", "layer", "unit", "reviewer", "revision"),
    )
