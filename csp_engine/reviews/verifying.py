"""Whether a history is as it was written, entry by entry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from csp_engine.reviews.chain import FIRST, link, moment
from csp_engine.reviews.review import VERDICTS, WITHDRAWN, Checked

MAX_PROBLEMS = 20
"""A sentence for each of these many; then only how many more there are."""


def check(
    entries: Iterable[Mapping[str, Any]],
    missing: list[str],
    head: str = "",
    *,
    strange: Sequence[str] = (),
) -> Checked:
    """Compare every entry with its hash, its number and the one before it.

    Args:
        entries: rows by number, with their ``chain``, as the database holds them.
        missing: triggers that are not there.
        head: a hash that an earlier check gave; empty where none was kept.
        strange: triggers that are there and should not be.
    """
    problems = [
        f"The trigger {name} is not as it was made: the database no longer refuses changes."
        for name in missing
    ]
    problems += [
        f"The trigger or rule {name:.60} was added by somebody else: it can keep new verdicts out."
        for name in strange
    ]
    before, expected, is_known = FIRST, 1, not head
    last_revision: dict[tuple[Any, ...], Any] = {}
    n_entries = 0
    for entry in entries:
        n_entries += 1
        number = entry["number"]
        if number != expected:
            problems.append(_gap(expected, number))
        at = moment(entry["given_at"])
        if link(before, {**entry, "given_at": at or entry["given_at"]}) != entry["chain"]:
            after = f"entry {number - 1}" if number > 1 else "the beginning"
            problems.append(f"Entry {number} is not what was written after {after}.")
        if at is None:
            problems.append(
                f"Entry {number} has the time {entry['given_at']!r:.60}, which is not a time."
            )
        if entry["verdict"] not in (*VERDICTS, WITHDRAWN):
            problems.append(
                f"Entry {number} says {entry['verdict']!r:.60}, which is not a verdict."
            )
        whose = tuple(entry[name] for name in ("model", "layer", "unit", "reviewer"))
        if entry["revision"] != last_revision.get(whose, 0) + 1:
            problems.append(
                f"Entry {number} is revision {entry['revision']!r:.60} of its reviewer and neuron; "
                f"{last_revision.get(whose, 0) + 1} would follow."
            )
        if isinstance(entry["revision"], int):
            last_revision[whose] = entry["revision"]
        before, expected = entry["chain"], number + 1
        is_known |= before == head
    if not is_known:
        problems.append(
            f"No entry has the hash {head[:80]!r}: entries were removed from the end, or all "
            "hashes were made again."
        )
    if len(problems) > MAX_PROBLEMS:
        n_more = len(problems) - MAX_PROBLEMS
        problems = [*problems[:MAX_PROBLEMS], f"There are {n_more:,} more problems."]
    return Checked(n_entries, str(before), tuple(problems))


def _gap(expected: int, number: int) -> str:
    if number < expected:
        return f"Entry {number} stands where entry {expected} belongs."
    if number == expected + 1:
        return f"Entry {expected} is missing."
    return f"Entries {expected} to {number - 1} are missing."
