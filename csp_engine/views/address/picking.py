"""Choices that exist, made from whatever a URL says, each with a note where it was another."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import TypeVar

Default = TypeVar("Default", float, None)
MOST_NAMED, MOST_LETTERS = 6, 120
"""Options that a note names, if they are so few and so short."""


def pick(kind: str, asked: str | None, options: Sequence[str]) -> tuple[str, str | None]:
    """The option asked for, or the nearest one and a note that says so."""
    if asked is None or asked == "":
        return options[0], None
    if asked in options:
        return asked, None
    near = difflib.get_close_matches(asked[:200], options, 1, cutoff=0.3) or [options[0]]
    note = f"There is no {kind} “{shorten(asked)}” here; showing {near[0]} instead."
    names = ", ".join(options)
    if 1 < len(options) <= MOST_NAMED and len(names) <= MOST_LETTERS:
        note += f" Known here: {names}."
    return near[0], note


def pick_number(kind: str, asked: str | None, lowest: int, highest: int) -> tuple[int, str | None]:
    """The whole number asked for, or the nearest one in the range and a note that says so."""
    if asked is None or asked == "":
        return lowest, None
    if not re.fullmatch(r"-?[0-9]{1,30}", asked):
        return lowest, f"“{shorten(asked)}” is not a {kind} number; showing {lowest} instead."
    number = min(max(int(asked), lowest), highest)
    if number == int(asked):
        return number, None
    return number, f"There is no {kind} {shorten(asked)} ({lowest}–{highest}); showing {number}."


def pick_share(
    kind: str, asked: str | None, default: Default
) -> tuple[float | Default, str | None]:
    """The number in [0, 1] asked for, to two digits, or the nearest one and a note."""
    if asked is None or asked == "":
        return default, None
    if not re.fullmatch(r"-?[0-9]{1,9}(\.[0-9]{1,9})?", asked, re.ASCII):
        shown = "the one of this bundle" if default is None else f"{default:g}"
        return default, f"“{shorten(asked)}” is not a {kind} (0 to 1); showing {shown} instead."
    number = min(max(float(asked), 0.0), 1.0)
    note = f"There is no {kind} {shorten(asked)} (0 to 1); showing {number:g}."
    return round(number, 2), None if number == float(asked) else note


def shorten(text: str, limit: int = 60) -> str:
    """One line of at most ``limit`` characters, for quoting what somebody typed."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
