"""Connections to the database of reviews, and how long they wait for one another."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.pool import NullPool

from csp_engine.errors import ReviewError
from csp_engine.files import require_file_or_nothing
from csp_engine.reviews.place import VARIABLE, Place

BUSY_S = 5.0
"""How long a writer waits for another; each holds the lock for milliseconds."""
MAX_TRIES = 40


def engine_of(place: Place) -> sa.Engine:
    """Connections to the database of a place; nothing is opened yet.

    Raises:
        ReviewError: if the address is none.
    """
    if place.file is None:
        return _server_engine(place)
    require_file_or_nothing(place.file.resolve())
    if place.refusal and place.is_there:
        # A file that nobody can write to; without a log of changes it needs no lock either.
        is_settled = not Path(f"{place.file}-wal").exists()
        query = {"mode": "ro", "uri": "true"} | ({"immutable": "1"} if is_settled else {})
        url = sa.URL.create("sqlite", database=f"file:{quote(str(place.file))}", query=query)
    else:
        url = sa.URL.create("sqlite", database=str(place.file))
    # A connection for each use: the file may be replaced, and opening it takes a fraction of a ms.
    # Transactions are begun here: the driver alone would not hold a change of the schema together.
    engine = sa.create_engine(
        url, poolclass=NullPool, connect_args={"timeout": BUSY_S, "isolation_level": None}
    )

    @event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        # A writer takes its lock at once: one that has read already is turned away, not made wait.
        is_writer = connection.get_execution_options().get("is_writer")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if is_writer else "BEGIN")

    return engine


def _server_engine(place: Place) -> sa.Engine:
    try:
        url = sa.make_url(place.url)
    except ValueError:  # it may quote a part of the password
        raise ReviewError(
            f"The address in {VARIABLE} cannot be read; write it as "
            "dialect+driver://user:password@host:port/database."
        ) from None
    engine = sa.create_engine(url, pool_size=2, max_overflow=8, pool_pre_ping=True)
    if engine.dialect.name == "postgresql":

        @event.listens_for(engine, "begin")
        def begin(connection: sa.Connection) -> None:
            # By itself it waits for a lock as long as it takes.
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{BUSY_S:g}s'")

    return engine


def keep_log(engine: sa.Engine) -> None:
    """Have SQLite write ahead, so that readers and a writer do not wait; the file remembers it."""
    for n_left in reversed(range(MAX_TRIES)):
        raw = engine.raw_connection()
        try:
            raw.cursor().execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:  # another process does the same; no time-out covers this
            if not n_left:
                raise
            time.sleep(0.03 * random.random())
        finally:
            raw.close()


@contextmanager
def writing(engine: sa.Engine) -> Generator[sa.Connection]:
    """A short transaction that writes; committed at the end."""
    with engine.connect().execution_options(is_writer=True) as connection, connection.begin():
        yield connection


def is_lock(error: BaseException) -> bool:
    """Whether somebody else holds what was asked for, and asking again may do."""
    cause = getattr(error, "orig", None) or error
    if isinstance(cause, sqlite3.Error):
        return (getattr(cause, "sqlite_errorcode", 0) & 0xFF) in (
            sqlite3.SQLITE_BUSY,
            sqlite3.SQLITE_LOCKED,
        )
    return getattr(cause, "sqlstate", None) in ("55P03", "40001", "40P01")
