"""The database of reviews through SQLAlchemy: SQLite by default, any other by its address.

The table only grows: triggers refuse everything else, and each row is chained to the one before.
Numbers of rows rise in the order of commits, because each is one more than the largest at the time
and two that are equal cannot both be kept; the second writer tries again.
"""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from csp_engine.errors import ReviewError
from csp_engine.reviews.append_only import missing_triggers, strange_triggers
from csp_engine.reviews.chain import CHAINED, FIRST, LATER, link
from csp_engine.reviews.engines import MAX_TRIES, engine_of, is_lock, keep_log, writing
from csp_engine.reviews.place import Place
from csp_engine.reviews.review import (
    MAX_LABEL,
    VERDICTS,
    WITHDRAWN,
    Checked,
    Review,
    checked,
    cleaned,
    require_known,
)
from csp_engine.reviews.verifying import check
from csp_engine.types import NeuronRef

REVISIONS = ("0001", "0002", "0003")
"""Schemas that this version knows, in order; each is a file of ``migrations/versions``."""
_CHAINED_FROM, _LATER_FROM = "0002", "0003"
"""The schemas that brought the chain, and the columns of ``LATER``."""
_KNOWN = frozenset((*VERDICTS, WITHDRAWN))
LOCK_TRIES = 3
"""How often a writer waits ``BUSY_S`` for one that holds the lock longer than ours ever do."""
_UPGRADING = threading.Lock()

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
    sa.Column("chain", sa.String(64), nullable=False, server_default=""),
    sa.Column("confidence", sa.String(40), nullable=False, server_default=""),
    sa.Column("reason", sa.String(40), nullable=False, server_default=""),
    sa.UniqueConstraint("model", "layer", "unit", "reviewer", "revision"),
)
_STORED = sa.table("review", *map(sa.column, (*CHAINED, "chain", *LATER)))
"""The same table without types, so that a damaged value can be read and named."""
_version = sa.table("alembic_version", sa.column("version_num"))


class Database:
    """``Reviews`` in a database, whose schema is made or brought up to date by the first writer."""

    def __init__(self, place: Place) -> None:
        self.place = place
        with self._told():
            self._engine = engine_of(place)

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
        confidence: str = "",
        reason: str = "",
        given_at: datetime | None = None,
    ) -> None:
        """Add a row; it is on disk when this returns.

        Args:
            neuron: by the fingerprint of its model.
            reviewer: whose verdict it is.
            verdict: one of ``VERDICTS``, or ``WITHDRAWN``.
            note: what the reviewer wrote.
            method: whose label was shown.
            label: what the neuron was called.
            bundle: digest of the bundle that was looked at.
            confidence: one of ``CONFIDENCES``, or empty.
            reason: one of ``REASONS``, or empty.
            given_at: when it was given; now, unless it is brought from elsewhere.

        Raises:
            InputError: as ``checked`` does.
            ReviewError: if it cannot be written.
        """
        reviewer, note = checked(reviewer, verdict, note)
        require_known(confidence, reason)
        row = {
            "model": neuron.model,
            "layer": neuron.layer,
            "unit": neuron.unit,
            "reviewer": reviewer,
            "verdict": verdict,
            "note": note,
            "method": cleaned(method),
            "label": cleaned(label)[:MAX_LABEL],
            "bundle": bundle,
            "given_at": given_at or datetime.now(UTC),
            "confidence": confidence,
            "reason": reason,
        }
        if self.place.refusal:
            raise ReviewError(self.place.refusal)
        with self._told():
            if self.place.file is not None:
                self.place.file.parent.mkdir(parents=True, exist_ok=True)
            n_locked, n_lost, sent = 0, 0, ""
            for n_left in reversed(range(MAX_TRIES)):
                try:
                    with self._engine.connect() as connection:
                        is_ready = self._is_ready(connection)
                        if sent and is_ready and _has(connection, sent):
                            return
                    sent = ""
                    if not is_ready:
                        self._upgrade()
                    with writing(self._engine) as connection:
                        chained = _chained(connection, row)
                        connection.execute(sa.insert(review).values(chained))
                        sent = chained["chain"]  # from here on it may be kept, whatever is heard
                    return
                except IntegrityError:
                    if not n_left:
                        raise
                    sent = ""
                    time.sleep(0.03 * random.random())
                except DBAPIError as error:
                    if error.connection_invalidated and not n_lost:
                        n_lost += 1  # a server that was started again answers the second time
                        continue
                    if sent:
                        raise ReviewError(self._unknown) from None
                    n_locked += 1
                    if not is_lock(error) or n_locked == LOCK_TRIES:
                        raise

    @property
    def _unknown(self) -> str:
        return (
            f"The connection to the verdicts in {self.place.title} was lost while this one was "
            "being recorded; look whether it is there before you give it again."
        )

    def history(self, neuron: NeuronRef) -> list[Review]:
        """All that was said about a neuron, the newest first."""
        return self._read(*_of(neuron))[::-1]

    def of_models(self, models: Collection[str], until: int | None = None) -> list[Review]:
        """All that was said about the neurons of some models up to a row, the oldest first."""
        return self._read(review.c.model.in_(models), *_up_to(review, until))

    def since(self, last: int) -> Sequence[tuple[int, str, str, int, str, str]]:
        """What came after a row: its number, model, layer, unit, reviewer and verdict."""
        c = review.c
        columns = (c.number, c.model, c.layer, c.unit, c.reviewer, c.verdict)
        new = sa.select(*columns).where(c.number > last).order_by(c.number)
        with self._reading() as connection:
            # From the driver's own cursor: rows of SQLAlchemy take three times as long.
            cursor = None if connection is None else connection.execute(new).cursor
            found = [] if cursor is None else cursor.fetchall()
        for row in found:
            if row[5] not in _KNOWN or type(row[3]) is not int:
                raise self._damaged(f"entry {row[0]} says {row[5]!r:.40} of unit {row[3]!r:.40}")
        return found

    def check(self, head: str = "", until: int | None = None) -> Checked:
        """Compare every entry with its hash and the one before it.

        Args:
            head: the hash of an entry that must still be there; empty for none.
            until: number of the last entry to look at; all without it.

        Raises:
            ReviewError: if the entries are of a version that did not chain them.
        """
        with self._reading() as connection:
            if connection is None:
                return check([], [], head)
            schema = str(_revision(connection))
            if schema < _CHAINED_FROM:
                raise ReviewError(
                    f"The verdicts in {self.place.title} were written by an earlier version, which "
                    "did not chain them; record one verdict with this version, and check again."
                )
            chosen = sa.select(*_said(_STORED, schema), _STORED.c.chain)
            chosen = chosen.where(*_up_to(_STORED, until)).order_by(_STORED.c.number)
            rows = connection.execute(chosen).mappings()
            strange = strange_triggers(connection)
            return check(rows, missing_triggers(connection), head, strange=strange)

    def _read(self, *where: sa.ColumnElement[bool]) -> list[Review]:
        """Entries, the oldest first; none where nothing was ever written."""
        with self._reading() as connection:
            if connection is None:
                return []
            said = _said(review, str(_revision(connection)))
            chosen = sa.select(*said).where(*where).order_by(review.c.number)
            return [self._review(row) for row in connection.execute(chosen)]

    @contextmanager
    def _reading(self) -> Generator[sa.Connection | None]:
        """A connection to read from; None where nothing was ever written."""
        if not self.place.is_there:
            yield None
            return
        with self._told(), self._engine.connect() as connection:
            # An older schema holds all that is asked for; the next writer brings it up to date.
            is_there = self._is_ready(connection) or _revision(connection) is not None
            yield connection if is_there else None

    def _is_ready(self, connection: sa.Connection) -> bool:
        """Whether the schema is there and up to date.

        Raises:
            ReviewError: if a newer version of this program made it.
        """
        found = _revision(connection)
        if found is None and sa.inspect(connection).has_table(review.name):
            # Both come in one transaction, which may have ended between the two questions.
            found = _revision(connection)
            if found is None:
                raise ReviewError(
                    f"{self.place.title} holds verdicts, but its table alembic_version does not "
                    f"say how they are kept; put {REVISIONS[-1]!r} into it, or restore a copy."
                )
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
            keep_log(self._engine)
        try:
            # In turn: alembic keeps its state in the program, and not in the connection.
            with _UPGRADING, writing(self._engine) as connection:
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
            if is_lock(error):
                raise ReviewError(
                    f"The verdicts in {self.place.title} are held by another program, and nothing "
                    "was recorded; end it, or try again in a moment."
                ) from None
            cause = error.orig if isinstance(error, DBAPIError) else error
            said = cause.strerror if isinstance(cause, OSError) else None
            lines = (said or str(cause)).strip().splitlines() or [type(cause).__name__]
            raise ReviewError(
                f"The verdicts in {self.place.title} cannot be used: {lines[0].rstrip('.')}."
            ) from None
        except (ValueError, TypeError, OverflowError) as error:
            # What a column of this type cannot hold; SQLite holds it all the same.
            reason = " ".join(str(error).split())[:100].rstrip(".")
            raise self._damaged(reason) from None

    def _review(self, row: sa.Row) -> Review:
        texts = (row.model, row.layer, row.reviewer, row.note, row.method, row.label, row.bundle,
                 row.confidence, row.reason)  # fmt: skip
        is_whole = type(row.unit) is int and type(row.revision) is int and row.verdict in _KNOWN
        if not is_whole or not all(isinstance(text, str) for text in texts):
            raise self._damaged(f"entry {row.number}")
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
            row.confidence,
            row.reason,
        )

    def _damaged(self, reason: str) -> ReviewError:
        return ReviewError(
            f"The verdicts in {self.place.title} are damaged ({reason}); 'csp reviews BUNDLE "
            "--verify' says which; restore a copy."
        )


def _of(neuron: NeuronRef) -> tuple[sa.ColumnElement[bool], ...]:
    c = review.c
    return (c.model == neuron.model, c.layer == neuron.layer, c.unit == neuron.unit)


def _said(table: sa.FromClause, schema: str) -> tuple[sa.ColumnElement[Any], ...]:
    """What an entry says; what its schema does not have yet is empty."""
    has_later = schema >= _LATER_FROM
    later = (table.c[name] if has_later else sa.literal("").label(name) for name in LATER)
    return (*(table.c[name] for name in CHAINED), *later)


def _up_to(table: sa.FromClause, until: int | None) -> tuple[sa.ColumnElement[bool], ...]:
    return () if until is None else (table.c.number <= until,)


def _chained(connection: sa.Connection, row: dict[str, Any]) -> dict[str, Any]:
    """A new row with its numbers and its hash, behind the last one that the connection sees."""
    c = review.c
    last = connection.execute(
        sa.select(c.number, c.chain).order_by(c.number.desc()).limit(1)
    ).one_or_none()
    number, before = (0, FIRST) if last is None else last
    mine = [c[name] == row[name] for name in ("model", "layer", "unit", "reviewer")]
    revision = connection.execute(sa.select(sa.func.max(c.revision)).where(*mine)).scalar() or 0
    row = {**row, "number": number + 1, "revision": revision + 1}
    return {**row, "chain": link(before, row)}


def _has(connection: sa.Connection, chain: str) -> bool:
    """Whether an entry is kept; the hash of each holds its number and those of all before."""
    return (
        connection.execute(sa.select(review.c.number).where(review.c.chain == chain)).first()
        is not None
    )


def _revision(connection: sa.Connection) -> str | None:
    """The schema of a database, None where it has none yet."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(sa.select(_version.c.version_num)).scalars().all()
    return max(map(str, found), default=None)
