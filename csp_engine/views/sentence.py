"""Sentences that several outputs say in the same words, each with its own marks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


def listed(parts: Sequence[str], between: str = "and") -> str:
    """Some names or phrases in a row: "a, b and c"."""
    *before, last = parts or [""]
    return f"{', '.join(before)} {between} {last}" if before else last


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence in parts, in the order of the fields.

    ``name`` comes from outside (a label, say), so an output sets it apart from the words around it;
    ``word`` is one that the glossary explains.
    """

    before: str
    name: str = ""
    after: str = ""
    word: str = ""
    end: str = ""

    def __str__(self) -> str:
        return f"{self.before}{self.name}{self.after}{self.word}{self.end}"
