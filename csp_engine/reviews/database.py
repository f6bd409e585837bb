"""The database of reviews through SQLAlchemy: SQLite by default, any other by its address.

The table only grows. Numbers of rows rise in the order of commits, because each is one more than
the largest at the time and two that are equal cannot both be kept; the second writer tries again.
"""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from csp_engine.errors import ReviewError
from csp_engine.reviews.place import Place
from csp_engine.reviews.review import MAX_LABEL, Review, checked, cleaned
from csp_engine.types import NeuronRef

REVISIONS = ("0001",)
"""Schemas that this version knows, in order; each is a file of ``migrations/versions``."""
BUSY_S = 5.0
"""How long a writer waits for another; each holds the lock for milliseconds."""
MAX_TRIES = 40

review = sa.Table(
    "review",
    sa.MetaData(),
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
_version = sa.table("alembic_version", sa.column("version_num"))


class Database:
    """``Reviews`` in a database, whose schema is made or brought up to date by the first writer."""

    def __init__(self, place: Place) -> None:
        self.place = place
        with self._told():
            self._engine = _engine(place)

    def add(
        self,
        neuron: NeuronRef,
        *,
        reviewer: str,
        verdict: str,
        note: str = "",
        method: str = "",
        label: str = "",
        bundle: str = "",
    ) -> None:
        """Add a row; it is on disk when this returns.

        Raises:
            InputError: as ``checked`` does.
            ReviewError: if it cannot be written.
        """
        reviewer, note = checked(reviewer, verdict, note)
        mine = (*_of(neuron), review.c.reviewer == reviewer)
        row = {
            "number": _next(review.c.number),
            "revision": _next(review.c.revision, *mine),
            "model": neuron.model,
            "layer": neuron.layer,
            "unit": neuron.unit,
            "reviewer": reviewer,
            "verdict": verdict,
            "note": note,
            "method": cleaned(method),
            "label": cleaned(label)[:MAX_LABEL],
            "bundle": bundle,
            "given_at": datetime.now(UTC),
        }
        if self.place.refusal:
            raise ReviewError(self.place.refusal)
        with self._told():
            if self.place.file is not None:
                self.place.file.parent.mkdir(parents=True, exist_ok=True)
            for n_left in reversed(range(MAX_TRIES)):
                try:
                    with self._engine.connect() as connection:
                        is_ready = self._is_ready(connection)
                    if not is_ready:
                        self._upgrade()
                    with _writing(self._engine) as connection:
                        connection.execute(sa.insert(review).values(row))
                    return
                except IntegrityError:
                    if not n_left:
                        raise
                    time.sleep(0.03 * random.random())

    def history(self, neuron: NeuronRef) -> list[Review]:
        """All that was said about a neuron, the newest first."""
        found = self._read(sa.select(review).where(*_of(neuron)).order_by(review.c.number.desc()))
        return [_review(row) for row in found]

    def of_models(self, models: Collection[str]) -> list[Review]:
        """All that was said about the neurons of some models, the oldest first."""
        chosen = sa.select(review).where(review.c.model.in_(models)).order_by(review.c.number)
        return [_review(row) for row in self._read(chosen)]

    def since(self, last: int) -> Sequence[tuple[int, str, str, int, str, str]]:
        """What came after a row: its number, model, layer, unit, reviewer and verdict."""
        c = review.c
        columns = (c.number, c.model, c.layer, c.unit, c.reviewer, c.verdict)
        new = sa.select(*columns).where(c.number > last).order_by(c.number)
        with self._reading() as connection:
            # From the driver's own cursor: rows of SQLAlchemy take three times as long.
            cursor = None if connection is None else connection.execute(new).cursor
            return [] if cursor is None else cursor.fetchall()

    def _read(self, query: sa.Select) -> Sequence[sa.Row]:
        """The rows of a query; none where nothing was ever written."""
        with self._reading() as connection:
            return [] if connection is None else connection.execute(query).all()

    @contextmanager
    def _reading(self) -> Generator[sa.Connection | None]:
        """A connection to read from; None where nothing was ever written."""
        if not self.place.is_there:
            yield None
            return
        with self._told(), self._engine.connect() as connection:
            yield connection if self._is_ready(connection) else None

    def _is_ready(self, connection: sa.Connection) -> bool:
        """Whether the schema is there and up to date.

        Raises:
            ReviewError: if a newer version of this program made it.
        """
        found = _revision(connection)
        if found is not None and found not in REVISIONS:
            raise ReviewError(
                f"The verdicts in {self.place.title} were written by a newer version of this "
                f"program (schema {found}, this one knows {REVISIONS[-1]}); update it."
            )
        return found == REVISIONS[-1]

    def _upgrade(self) -> None:
        """Make the schema, or bring it up to date; another process may be doing the same."""
        from csp_engine.reviews.migrating import migrate  # brings alembic in

        if self.place.file is not None:
            _keep_log(self._engine)
        try:
            with _writing(self._engine) as connection:
                if not self._is_ready(connection):
                    migrate(connection)
        except SQLAlchemyError:
            with self._engine.connect() as connection:
                if not self._is_ready(connection):
                    raise

    @contextmanager
    def _told(self) -> Generator[None]:
        """Say in one sentence what a database complains about."""
        try:
            yield
        except ImportError as error:
            raise ReviewError(
                f"Verdicts in {self.place.title} need a package that is not here: {error.name}."
            ) from None
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            lines = str(cause).strip().splitlines() or [type(cause).__name__]
            raise ReviewError(
                f"The verdicts in {self.place.title} cannot be used: {lines[0].rstrip('.')}."
            ) from None


def _of(neuron: NeuronRef) -> tuple[sa.ColumnElement[bool], ...]:
    c = review.c
    return (c.model == neuron.model, c.layer == neuron.layer, c.unit == neuron.unit)


def _next(column: sa.Column[int], *where: sa.ColumnElement[bool]) -> sa.ScalarSelect[int]:
    """One more than the largest so far, worked out within the statement that uses it."""
    largest = sa.func.coalesce(sa.func.max(column), 0)
    return sa.select(largest + 1).where(*where).scalar_subquery()


def _review(row: sa.Row) -> Review:
    at = row.given_at if row.given_at.tzinfo else row.given_at.replace(tzinfo=UTC)
    return Review(
        NeuronRef(row.model, row.layer, row.unit),
        row.revision,
        row.reviewer,
        row.verdict,
        row.note,
        row.method,
        row.label,
        row.bundle,
        at.astimezone(UTC),
    )


def _revision(connection: sa.Connection) -> str | None:
    """The schema of a database, None where it has none yet."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(sa.select(_version.c.version_num)).scalar()


def _engine(place: Place) -> sa.Engine:
    if place.file is None:
        return sa.create_engine(place.url, pool_size=2, max_overflow=8, pool_pre_ping=True)
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


def _keep_log(engine: sa.Engine) -> None:
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
def _writing(engine: sa.Engine) -> Generator[sa.Connection]:
    """A short transaction that writes; committed at the end."""
    with engine.connect().execution_options(is_writer=True) as connection, connection.begin():
        yield connection
