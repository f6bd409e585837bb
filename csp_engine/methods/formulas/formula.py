"""Formulas of concepts, in one form for each meaning."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from jaxtyping import Bool

from csp_engine.methods.formulas.atoms import Atoms

Literal = tuple[int, bool]
"""A concept, and whether it is denied."""

AND, OR = "AND", "OR"


@dataclass(frozen=True, slots=True, order=True)
class Formula:
    """Literals, and perhaps an inner formula, joined by one operator; no concept comes twice.

    The inner formula has the other operator. Since no concept comes twice, two formulas mean the
    same only if they are equal: every order and bracketing of one meaning has this one form.
    """

    literals: tuple[Literal, ...]
    operator: str = ""
    inner: Formula | None = None

    def joined(self, operator: str, literal: Literal) -> Formula:
        """This formula AND, or OR, one more literal."""
        if self.operator in ("", operator):
            return Formula(_ordered((*self.literals, literal)), operator, self.inner)
        return Formula((literal,), operator, self)

    @property
    def atoms(self) -> frozenset[int]:
        """The concepts in it."""
        inner = self.inner.atoms if self.inner else frozenset()
        return inner | {atom for atom, _ in self.literals}

    def text(self, names: Sequence[str]) -> str:
        """In words: "(ruler OR pen) AND NOT hair"."""
        parts = [f"NOT {names[atom]}" if denied else names[atom] for atom, denied in self.literals]
        if self.inner:
            parts.insert(0, f"({self.inner.text(names)})")
        return f" {self.operator} ".join(parts)

    def truth(self, atoms: Atoms) -> tuple[Bool[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
        """On which images it holds for certain, and on which it fails for certain."""
        sides = [self.inner.truth(atoms)] if self.inner else []
        for atom, denied in self.literals:
            shown_n = atoms.shown_qn[atom]
            sides.append((shown_n, atoms.known(atom) & ~shown_n)[:: -1 if denied else 1])
        holds_n, fails_n = sides[0]
        for true_n, false_n in sides[1:]:
            if self.operator == AND:
                holds_n, fails_n = holds_n & true_n, fails_n | false_n
            else:
                holds_n, fails_n = holds_n | true_n, fails_n & false_n
        return holds_n, fails_n


def affirmed(text: str) -> tuple[str, ...]:
    """The concepts of a formula in words that it does not deny."""
    inner: tuple[str, ...] = ()
    depth = list(accumulate((letter == "(") - (letter == ")") for letter in text))
    if text.startswith("(") and 0 in depth:
        end = depth.index(0)
        after = re.match(rf" (?:{AND}|{OR}) ", text[end + 1 :])
        if after:  # else it is a name that begins with a bracket
            inner, text = affirmed(text[1:end]), text[end + 1 + after.end() :]
    names = re.split(rf" (?:{AND}|{OR}) ", text)
    return (*inner, *(name for name in names if not name.startswith("NOT ")))


def _ordered(literals: Sequence[Literal]) -> tuple[Literal, ...]:
    """What is shown before what is denied, each in the order of the concepts."""
    return tuple(sorted(literals, key=lambda literal: literal[::-1]))
