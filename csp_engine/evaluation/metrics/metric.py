"""What a metric is: all that is said about it, and how it is computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Float32, Float64, Int, Int32

SOURCES = {
    "truth": "which images show a concept: 0 or 1",
    "prediction": "what a label predicts for each image: any number",
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
    def ranks(self) -> tuple[Float64[np.ndarray, "b n"], Int32[np.ndarray, "b n"]]:
        """Rank upwards from 1, ties sharing their mean; and how many images are as active."""
        values_bn = self.activation_bn
        n = values_bn.shape[1]
        order_bn = np.argsort(values_bn, axis=1)
        sorted_bn = np.take_along_axis(values_bn, order_bn, axis=1)
        is_new_bn = np.ones(values_bn.shape, bool)
        is_new_bn[:, 1:] = sorted_bn[:, 1:] != sorted_bn[:, :-1]
        place_n = np.arange(n, dtype=np.int32)
        first_bn = np.maximum.accumulate(np.where(is_new_bn, place_n, 0), axis=1)
        is_end_bn = np.ones(values_bn.shape, bool)
        is_end_bn[:, :-1] = is_new_bn[:, 1:]
        last_bn = np.where(is_end_bn, place_n, n)[:, ::-1]
        last_bn = np.minimum.accumulate(last_bn, axis=1)[:, ::-1]
        mean_rank_bn = np.empty(values_bn.shape, np.float64)
        np.put_along_axis(mean_rank_bn, order_bn, (first_bn + last_bn) / 2 + 1, axis=1)
        n_at_least_bn = np.empty(values_bn.shape, np.int32)
        np.put_along_axis(n_at_least_bn, order_bn, (n - first_bn).astype(np.int32), axis=1)
        return mean_rank_bn, n_at_least_bn


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

    @property
    def heading(self) -> str:
        """Of its section in docs/methods.md."""
        return self.section or self.name
