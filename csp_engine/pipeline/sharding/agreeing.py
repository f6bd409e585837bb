"""Whether parts belong together: one sentence where they do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from csp_engine.bundle import Part, kinds
from csp_engine.errors import StaleError
from csp_engine.hashing import canonical_json

OF_PLACE = ("device", "threads")
"""Conditions of where a network ran; the others are of the code."""


def require_same_pass(parts: Sequence[Part], header: Mapping[str, Any], of: int) -> None:
    """Refuse parts of another pass, or of another number of shards.

    Args:
        parts: what lies there.
        header: of the pass that is asked for.
        of: how many shards it has.

    Raises:
        StaleError: naming the first such part, what differs and what to do.
    """
    for part in parts:
        if canonical_json(part.header) != canonical_json(header):
            raise StaleError(
                f"{_capital(part)} in {part.path.parent.name} was measured with "
                f"{_difference(part.header, header)} than asked for now; repeat the options it was "
                f"measured with, or delete {part.path.parent}."
            )
        if part.of != of:
            raise StaleError(
                f"{part.path.parent.name} holds {part.name}, and {of} shards are asked for; keep "
                f"to {part.of}, or delete {part.path.parent}."
            )


def require_same_conditions(
    parts: Sequence[Part], conditions: Mapping[str, Any], whose: str
) -> None:
    """Refuse parts that other code or another kind of device measured.

    Args:
        parts: what lies there.
        conditions: what they are compared with; parts may say more.
        whose: what sentences call that.

    Raises:
        StaleError: naming the first such part and the first thing that differs.
    """
    for part in parts:
        for name, value in conditions.items():
            held = part.conditions.get(name)
            if held == value:
                continue
            told = {"threads": "threads of the processor", "device": "device"}.get(name, name)
            advice = " (OMP_NUM_THREADS sets how many)" if name == "threads" else ""
            if name == "passes":
                told, held, value = "networks", _runs(held or {}), f"networks {_runs(value)}"
            raise StaleError(
                f"{_capital(part)} was measured with {told} {held!s:.60} and {whose} with "
                f"{value!s:.60}, which may differ in the last digits; delete {part.path} and "
                f"measure that shard again with what the others have{advice}."
            )


def _runs(trials: Mapping[str, Any]) -> str:
    """How the networks ran, in words: which of them faster than they are given."""
    quick = [name for name, trial in trials.items() if "reason" not in trial]
    return f"run faster ({', '.join(quick)})" if quick else "run as they are given"


def require_all(parts: Sequence[Part], of: int, folder: Path) -> None:
    """Refuse parts of which one is missing, is there twice, or lacks a file.

    Raises:
        StaleError: naming the shards.
    """
    for one, other in pairwise(parts):
        if one.number == other.number:
            raise StaleError(
                f"{_capital(one)} is there twice with different values, as {one.path.name} and "
                f"{other.path.name}; delete both from {folder} and measure it again."
            )
    for part in parts:
        if not part.is_there:
            raise damaged(part)
    missing = sorted(set(range(1, of + 1)) - {part.number for part in parts})
    if missing:
        some = ", ".join(map(str, missing[:8])) + (", ..." if len(missing) > 8 else "")
        raise StaleError(
            f"{len(missing)} of {of} shards are not finished in {folder}: {some}; run the same "
            f"'csp build' with --shard {missing[0]}/{of} and so on, then merge again."
        )


def damaged(part: Part, stream: str = "") -> StaleError:
    """What is said of a part whose files are not what was written."""
    which = f" ({stream}.part)" if stream else ""
    return StaleError(
        f"{_capital(part)} is not what was written{which}; delete {part.path} and measure it again."
    )


def _capital(part: Part) -> str:
    return part.name[0].upper() + part.name[1:]


def _difference(held: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """What differs between two passes, in words."""
    if held.get("batch_size") != asked["batch_size"]:
        return f"another batch size ({held.get('batch_size')!s:.20})"
    before, now = dict(held.get("stages") or {}), asked["stages"]
    if before.get("images") != now["images"]:
        return "other images or thumbnails"
    if before.get("embeddings") != now["embeddings"]:
        return "another encoder"
    for name in now:
        if before.get(name) != now[name]:
            model, layer = kinds.ACTIVATIONS.parts(name)
            if name in before:
                return f"other weights or other reading of {model}/{layer}"
            return f"other layers (it lacks {model}/{layer})"
    is_same = sorted(held.get("missing") or ()) == sorted(asked["missing"])
    return "the layers in another order" if is_same else "other layers"
