"""What a metric is: all that is said about it, and how it is computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int, Int32

from csp_engine.errors import InputError
from csp_engine.registry import (
    require_declared,
    require_shapes,
    require_shown,
    require_whole_numbers,
)
from csp_engine.stats.otsu import otsu

SOURCES = {
    "truth": "which images show a concept: 0 or 1",
    "prediction": "what a label predicts for each image: any number",
    "said": "which images a label is said of: 0 or 1, by a threshold on what it predicts",
}
"""What the columns that activations are compared with may hold."""


class Columns:
    """What activations are compared with, ``(n, j)``, none of them constant."""

    def __init__(self, value_nj: Float64[np.ndarray, "n j"]) -> None:
        self.value_nj = value_nj

    @cached_property
    def positives(self) -> list[Int[np.ndarray, " p"]]:
        """For each column of 0 and 1 the images with 1."""
        return [np.flatnonzero(column_n) for column_n in self.value_nj.T]

    @cached_property
    def n_positive_j(self) -> Int[np.ndarray, " j"]:
        """How many images have 1, for each column of 0 and 1."""
        return self.value_nj.sum(axis=0).astype(np.int64)


class Judged:
    """A block of units and the columns they are compared with; ranks are found once for all."""

    def __init__(self, activation_bn: Float32[np.ndarray, "b n"], columns: Columns) -> None:
        self.activation_bn = activation_bn
        self.columns = columns

    @cached_property
    def order(self) -> Int[np.ndarray, "b n"]:
        """The images of each unit from the weakest to the strongest."""
        return np.argsort(self.activation_bn, axis=1)

    @cached_property
    def ranks(self) -> tuple[Float64[np.ndarray, "b n"], Int32[np.ndarray, "b n"]]:
        """Rank upwards from 1, ties sharing their mean; and how many images are as active."""
        n_units, n = self.activation_bn.shape
        sorted_bn = np.take_along_axis(self.activation_bn, self.order, axis=1)
        is_new_bn = np.ones(sorted_bn.shape, bool)
        is_new_bn[:, 1:] = sorted_bn[:, 1:] != sorted_bn[:, :-1]
        # Runs of equal activations, all rows one after another; none goes on into the next row.
        start_r = np.flatnonzero(is_new_bn)
        length_r = np.diff(start_r, append=sorted_bn.size)
        first_r = start_r % max(n, 1)
        place_bn = (self.order + n * np.arange(n_units)[:, None]).ravel()
        mean_rank_bn = np.empty(sorted_bn.shape, np.float64)
        mean_rank_bn.ravel()[place_bn] = np.repeat(first_r + (length_r + 1) / 2, length_r)
        n_at_least_bn = np.empty(sorted_bn.shape, np.int32)
        n_at_least_bn.ravel()[place_bn] = np.repeat((n - first_r).astype(np.int32), length_r)
        return mean_rank_bn, n_at_least_bn

    @cached_property
    def active_bn(self) -> Bool[np.ndarray, "b n"]:
        """Which images each unit is active on: those above Otsu's threshold of its activations."""
        threshold_b = np.array([otsu(values_n) for values_n in self.activation_bn], np.float32)
        return self.activation_bn > threshold_b[:, None]

    @cached_property
    def overlap_bj(self) -> Float64[np.ndarray, "b j"]:
        """How many images of a column of 0 and 1 each unit is active on."""
        return self.active_bn.astype(np.float64) @ self.columns.value_nj

    def among(self, is_in_n: Bool[np.ndarray, " n"], columns: Columns) -> Judged:
        """The same units on some of the images, without sorting them again."""
        some = Judged(self.activation_bn[:, is_in_n], columns)
        kept_bm = self.order[is_in_n[self.order]].reshape(len(self.order), -1)
        some.order = (np.cumsum(is_in_n) - 1)[kept_bm]
        return some


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Metric:
    """One figure of a unit and a column.

    Attributes:
        name: in bundles and tables.
        title: for people.
        meaning: one sentence.
        compute: figures of every unit and column; NaN where not defined.
        takes: what the columns may hold, names from ``SOURCES``.
        kind: how to show it, as for the columns of tables.
        low: smallest possible value, if there is one.
        high: largest possible value, if there is one.
        chance: what a unit has that has nothing to do with the column; None if that depends.
        term: its word in the glossary.
        version: raise it when results change.
        order: place among the metrics, lower numbers first.
        is_always_kept: part of every stage ``truth``; others extend its key where they are there.
        section: heading of its section in docs/methods.md; by default its name.
    """

    name: str
    title: str
    meaning: str
    compute: Callable[[Judged], Float64[np.ndarray, "b j"]]
    takes: tuple[str, ...] = ("truth",)
    kind: Literal["number", "figure", "count", "share"] = "number"
    low: int | float | None = None
    high: int | float | None = None
    chance: int | float | None = None
    term: str = ""
    version: int = 1
    order: int = 100
    is_always_kept: bool = False
    section: str = ""

    def __post_init__(self) -> None:
        require_declared("metric", self.name, title=self.title, meaning=self.meaning)
        require_whole_numbers("metric", self.name, version=self.version, order=self.order)
        require_shown("metric", self.name, self.kind, self.low, self.high)
        if unknown := [each for each in self.takes if each not in SOURCES]:
            raise InputError(
                f"Metric {self.name!r} takes {unknown[0]!r}; choose from {', '.join(SOURCES)}."
            )

    def figures(self, judged: Judged) -> Float64[np.ndarray, "b j"]:
        """The figures of a block of units.

        Raises:
            InputError: if they are of another shape.
        """
        figure_bj = self.compute(judged)
        shape = (len(judged.activation_bn), judged.columns.value_nj.shape[1])
        require_shapes(f"Metric {self.name!r}", {"figures": figure_bj}, {"figures": shape})
        return figure_bj

    @property
    def heading(self) -> str:
        """Of its section in docs/methods.md."""
        return self.section or self.name
