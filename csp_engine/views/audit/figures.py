"""Figures of an audit with their intervals, as pages, reports and the command line write them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from csp_engine import numbers
from csp_engine.evaluation.paired_effects import Bounded

MOST_DECIMALS = 6


@dataclass(frozen=True, slots=True)
class Figure(Bounded):
    """A figure with its interval, as a page writes it; NaN bounds where groups are too few."""

    @property
    def is_known(self) -> bool:
        """Whether there is one."""
        return not math.isnan(self.value)

    @property
    def has_interval(self) -> bool:
        """Whether it is known how far chance may move it."""
        return not math.isnan(self.low)

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        """The ends of its interval, None where there is none."""
        return (self.low, self.high) if self.has_interval else (None, None)

    @property
    def signed(self) -> str:
        """As an effect: ``−2.70 (−2.94 to −2.48)``."""
        if not self.is_known:
            return numbers.UNKNOWN
        return self._with_ends(2)

    @property
    def fine(self) -> str:
        """As an effect of one neuron, which may be small: ``−0.0312 (−0.0401 to −0.0223)``."""
        if not self.is_known:
            return numbers.UNKNOWN
        size = max(abs(each) for each in (self.value, *self.bounds) if each is not None)
        first = math.floor(math.log10(size)) if size > 0 else 0
        return self._with_ends(min(max(2 - first, 0), MOST_DECIMALS))

    def _with_ends(self, decimals: int) -> str:
        value, low, high = (_signed(each, decimals) for each in (self.value, self.low, self.high))
        return f"{value} ({f'{low} to {high}' if self.has_interval else numbers.BARE})"

    @property
    def share(self) -> str:
        """As a share or an area: ``1.01 (0.96 to 1.06)``."""
        if not self.is_known:
            return numbers.UNKNOWN
        ends = f"{self.low:.2f} to {self.high:.2f}" if self.has_interval else numbers.BARE
        return f"{self.value:.2f} ({ends})".replace("-", "−")

    def as_json(self) -> dict[str, float | None] | None:
        """As plain data; None where there is no figure."""
        if not self.is_known:
            return None
        low, high = self.bounds
        return {"value": self.value, "low": low, "high": high}


NONE = Figure(math.nan, math.nan, math.nan)
"""No figure at all."""


def figure(row: Mapping[Any, Any], name: str) -> Figure:
    """A figure of a table's row: the columns ``name``, ``name_low`` and ``name_high``."""
    return Figure(*(float(row[f"{name}{end}"]) for end in ("", "_low", "_high")))


def _signed(value: float, decimals: int) -> str:
    return f"{value:+.{decimals}f}".replace("-", "−")
