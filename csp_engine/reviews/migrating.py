"""Bringing a database of reviews up to date; alembic comes in here and no sooner."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

MIGRATIONS = Path(__file__).with_name("migrations")


def migrate(connection: sa.Connection) -> None:
    """Make the schema, or bring it up to date, within the transaction of a connection."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
