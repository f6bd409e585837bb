"""What a statistic of a neuron is: all that is said about it, and how it is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float32

from csp_engine.evidence.evidence import Evidence, require_needs
from csp_engine.registry import require_declared, require_shown, require_whole_numbers

Measured = Mapping[str, np.ndarray]
"""Arrays by name, one row for each unit."""


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """A block of units as statistics see it.

    ``exemplar_ukd`` holds the image vectors of the first exemplars, zero where ``mask_uk`` is
    false; ``evidence`` the rest, as far as the statistic declares it.
    """

    evidence: Evidence
    exemplar_ukd: Float32[np.ndarray, "u k d"]
    mask_uk: Bool[np.ndarray, "u k"]


def nothing_across(found: Measured) -> Measured:
    """For statistics in which every unit stands alone."""
    return found


def no_note(row: Mapping[str, Any]) -> str:
    """For statistics that need no words beside them."""
    return ""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Statistic:
    """One figure of every unit, and what stands beside it.

    Attributes:
        name: of the column.
        title: of the column, for people.
        meaning: one sentence.
        measure: figures and arrays of a block of units. What is not declared below is kept only
            until ``across``. A figure that is not defined is NaN, never a made-up number.
        across: from the whole layer's arrays to those that are stored.
        kind: how to show it, as for the columns of tables.
        unit: of measurement; empty for plain numbers.
        low: smallest possible value, if there is one.
        high: largest possible value, if there is one.
        term: its word in the glossary.
        beside: further columns, name → meaning.
        arrays: stored arrays of more than one value for each unit, name → meaning.
        needs: names from ``csp_engine.evidence.evidence.NEEDS``.
        version: raise it when results change.
        order: place among the statistics, lower numbers first.
        note: words to put behind the figure of one unit, from its row of columns; empty for none.
        is_column: whether tables of neurons show it and maps may be coloured by it.
        is_together: measured in one stage with others; such stages cannot grow.
        section: heading of its section in docs/methods.md; by default its name.
    """

    name: str
    title: str
    meaning: str
    measure: Callable[[Seen], Measured]
    across: Callable[[Measured], Measured] = nothing_across
    kind: Literal["number", "figure", "count", "share"] = "number"
    unit: str = ""
    low: int | float | None = None
    high: int | float | None = None
    term: str = ""
    beside: Mapping[str, str] = field(default_factory=dict)
    arrays: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ("exemplars",)
    version: int = 1
    order: int = 100
    note: Callable[[Mapping[str, Any]], str] = no_note
    is_column: bool = True
    is_together: bool = False
    section: str = ""

    def __post_init__(self) -> None:
        require_declared("statistic", self.name, title=self.title, meaning=self.meaning)
        require_whole_numbers("statistic", self.name, version=self.version, order=self.order)
        require_shown("statistic", self.name, self.kind, self.low, self.high)
        require_needs(f"Statistic {self.name!r}", self.needs)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all its columns."""
        return (self.name, *self.beside)

    @property
    def heading(self) -> str:
        """Of its section in docs/methods.md."""
        return self.section or self.name
