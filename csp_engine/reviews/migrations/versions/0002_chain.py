"""The history only grows, and every entry is hashed together with the one before it."""

import sqlalchemy as sa
from alembic import op

from csp_engine.reviews.append_only import triggers
from csp_engine.reviews.chain import CHAINED, FIRST, link, moment

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Chain what is there, then let nobody change it."""
    op.add_column("review", sa.Column("chain", sa.String(64), nullable=False, server_default=""))
    connection = op.get_bind()
    # Without types: a damaged time is hashed as it stands, and does not stop the upgrade.
    table = sa.table("review", *map(sa.column, (*CHAINED, "chain")))
    rows = connection.execute(sa.select(table).order_by(table.c.number)).mappings().all()
    before, chained = FIRST, []
    for row in rows:
        before = link(before, {**row, "given_at": moment(row["given_at"]) or row["given_at"]})
        chained.append({"at": row["number"], "hash": before})
    if chained:
        ours = sa.update(table).where(table.c.number == sa.bindparam("at"))
        connection.execute(ours.values(chain=sa.bindparam("hash")), chained)
    for statement in triggers(connection.dialect.name).values():
        op.execute(sa.text(statement))
