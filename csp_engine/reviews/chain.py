"""Each entry of the history is hashed together with the hash of the one before it.

Whoever changes, removes, inserts or swaps entries, even with a tool of the database, has to redo
all hashes from there on; and whoever kept the last hash of an earlier day finds that too.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from csp_engine.hashing import sha256_json

CHAINED = (
    "number", "model", "layer", "unit", "reviewer", "revision", "verdict", "note", "method",
    "label", "bundle", "given_at",
)  # fmt: skip
"""What is hashed of an entry, in this order."""
LATER = ("confidence", "reason")
"""What is hashed behind it where an entry has any of it; so older entries keep their hashes."""
FIRST = ""
"""What stands for the hash before the first entry."""


def link(before: Any, entry: Mapping[str, Any]) -> str:
    """The hash of an entry: sha256 of JSON of the hash before it and the entry's fields.

    Args:
        before: the hash of the entry before, or ``FIRST``.
        entry: the fields of ``CHAINED``; the time as a datetime, or as the database writes it.
            Those of ``LATER`` may be missing, which is the same as empty.
    """
    later = [entry.get(name, "") for name in LATER]
    hashed = [entry[name] for name in CHAINED] + (later if any(x != "" for x in later) else [])
    return sha256_json([_plain(before), *map(_plain, hashed)])


def moment(value: Any) -> datetime | None:
    """The time of an entry in UTC, None where it is none."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC)


def _plain(value: Any) -> Any:
    """A value as JSON has it; a damaged one gets a hash as well, but never that of a sound one."""
    at = moment(value) if isinstance(value, datetime) else None
    if at is not None:
        return at.isoformat(timespec="microseconds")
    is_sound = value is None or isinstance(value, int | str)
    return value if is_sound else {"damaged": repr(value)}  # a text may look like any repr
