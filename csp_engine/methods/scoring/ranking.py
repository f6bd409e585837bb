"""From scores to the best labels of each unit, and how they compare with random image sets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int, Int32

RELIABLE_AT = 0.95
"""A unit's best label is called reliable from this percentile of the best labels of noise."""


@dataclass(frozen=True, slots=True, eq=False)
class NullScores:
    """Scores of every label for random image sets, and the best score of each draw, sorted."""

    label_tr: Float32[np.ndarray, "t r"]
    best_r: Float32[np.ndarray, " r"]

    @classmethod
    def of(cls, score_rt: Float32[np.ndarray, "r t"]) -> NullScores:
        """From one row of scores per draw."""
        return cls(np.ascontiguousarray(score_rt.T), np.sort(score_rt.max(axis=1)))

    @property
    def n_draws(self) -> int:
        """Number of random image sets."""
        return len(self.best_r)

    def n_below(
        self, label_uk: Int32[np.ndarray, "u k"], score_uk: Float32[np.ndarray, "u k"]
    ) -> Int[np.ndarray, "u k"]:
        """How many draws give the same label a lower score."""
        below_uk = np.empty(label_uk.shape, np.int64)
        for k in range(label_uk.shape[1]):
            below_uk[:, k] = np.count_nonzero(
                self.label_tr[label_uk[:, k]] < score_uk[:, k, None], axis=1
            )
        return below_uk


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """The part of ``LabelScores`` that depends on the labels; the fields mean the same."""

    label_uk: Int32[np.ndarray, "u k"]
    score_uk: Float32[np.ndarray, "u k"]
    raw_uk: Float32[np.ndarray, "u k"]
    margin_uk: Float32[np.ndarray, "u k"]
    percentile_uk: Float32[np.ndarray, "u k"]
    count_u: Int32[np.ndarray, " u"]
    best_percentile_u: Float32[np.ndarray, " u"]
    reliable_u: Bool[np.ndarray, " u"]
    vector_ud: Float32[np.ndarray, "u d"]

    @classmethod
    def empty(cls, n_units: int, n_labels: int, width: int) -> Ranking:
        """No unit has a label yet."""
        return cls(
            np.zeros((n_units, n_labels), np.int32),
            *(np.zeros((n_units, n_labels), np.float32) for _ in range(4)),
            np.zeros(n_units, np.int32),
            np.zeros(n_units, np.float32),
            np.zeros(n_units, np.bool_),
            np.zeros((n_units, width), np.float32),
        )

    def put(
        self,
        rows: Int[np.ndarray, " b"],
        part: LabelRanks,
        *,
        vector_ud: Float32[np.ndarray, "b d"],
        raw_uk: Float32[np.ndarray, "b k"],
    ) -> None:
        """Fill in some units."""
        named = part.count_u > 0
        self.vector_ud[rows] = vector_ud
        self.raw_uk[rows] = np.where(named[:, None], raw_uk, 0)
        for name in LabelRanks.__dataclass_fields__:
            getattr(self, name)[rows] = getattr(part, name)

    def fields(self) -> dict[str, Any]:
        """Field names and arrays."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True, slots=True, eq=False)
class LabelRanks:
    """The best labels of a block of units; all zero where a unit has none."""

    label_uk: Int32[np.ndarray, "u k"]
    score_uk: Float32[np.ndarray, "u k"]
    margin_uk: Float32[np.ndarray, "u k"]
    percentile_uk: Float32[np.ndarray, "u k"]
    count_u: Int32[np.ndarray, " u"]
    best_percentile_u: Float32[np.ndarray, " u"]
    reliable_u: Bool[np.ndarray, " u"]


def top_labels(score_ut: Float32[np.ndarray, "u t"], n_labels: int) -> Int[np.ndarray, "u k"]:
    """The ids of the ``min(n_labels, t)`` best labels, best first, ties to the lower id."""
    n_all = score_ut.shape[1]
    if n_labels >= n_all:
        return np.argsort(-score_ut, axis=1, kind="stable")
    chosen_uk = np.argpartition(score_ut, n_all - n_labels, axis=1)[:, n_all - n_labels :]
    chosen_uk.sort(axis=1)
    value_uk = np.take_along_axis(score_ut, chosen_uk, axis=1)
    # A partition picks any of several labels that tie at the boundary; those rows are sorted whole.
    n_at_least_u = np.count_nonzero(score_ut >= value_uk.min(axis=1, keepdims=True), axis=1)
    top_uk = np.take_along_axis(chosen_uk, np.argsort(-value_uk, axis=1, kind="stable"), axis=1)
    tied = n_at_least_u > n_labels
    if tied.any():
        top_uk[tied] = np.argsort(-score_ut[tied], axis=1, kind="stable")[:, :n_labels]
    return top_uk


def rank_labels(
    score_ut: Float32[np.ndarray, "u t"],
    has_label_u: Bool[np.ndarray, " u"],
    null: NullScores | None,
    n_labels: int,
) -> LabelRanks:
    """The best labels with margins and percentiles.

    With r draws of which b score lower, the percentile is ``b / (r + 1)``: one minus the Monte
    Carlo p-value ``(1 + #{draw >= score}) / (r + 1)``, so it never reaches 1 and r draws cannot
    claim more than r draws can show. The margin of the lowest label of all, which has no next one,
    is 0.
    """
    n_units, n_all = score_ut.shape
    n_kept = min(n_labels, n_all)
    top_uk = top_labels(score_ut, n_kept + 1)
    value_uk = np.take_along_axis(score_ut, top_uk, axis=1)
    score_uk = value_uk[:, :n_kept]
    margin_uk = np.zeros((n_units, n_kept), np.float32)
    margin_uk[:, : top_uk.shape[1] - 1] = value_uk[:, :-1] - value_uk[:, 1:]
    label_uk = top_uk[:, :n_kept].astype(np.int32)
    named = has_label_u[:, None]
    ranks = LabelRanks(
        np.where(named, label_uk, 0).astype(np.int32),
        np.where(named, score_uk, 0).astype(np.float32),
        np.where(named, margin_uk, 0).astype(np.float32),
        np.zeros((n_units, n_kept), np.float32),
        np.where(has_label_u, n_kept, 0).astype(np.int32),
        np.zeros(n_units, np.float32),
        np.zeros(n_units, np.bool_),
    )
    if null is not None:
        place_in_null(ranks, null, label_uk)
    return ranks


def place_in_null(ranks: LabelRanks, null: NullScores, label_uk: Int32[np.ndarray, "u k"]) -> None:
    """Fill in percentiles and whether the best label is reliable.

    Args:
        ranks: labels and scores; changed in place.
        null: the draws.
        label_uk: which row of ``null.label_tr`` each label of ``ranks`` is.
    """
    total = null.n_draws + 1
    has_label_u = ranks.count_u > 0
    n_below_uk = null.n_below(label_uk, ranks.score_uk)
    ranks.percentile_uk[:] = np.where(has_label_u[:, None], n_below_uk / total, 0)
    n_below_u = np.searchsorted(null.best_r, ranks.score_uk[:, 0], side="left")
    ranks.best_percentile_u[:] = np.where(has_label_u, n_below_u / total, 0)
    # Compared as counts: 0.95 is not a float32.
    ranks.reliable_u[:] = has_label_u & (n_below_u >= RELIABLE_AT * total - 1e-9)


def scores_of(
    vector_ud: Float32[np.ndarray, "u d"],
    label_td: Float32[np.ndarray, "t d"],
    ranks: LabelRanks,
) -> Float32[np.ndarray, "u k"]:
    """The product of each unit's vector with the labels it was given."""
    return np.matmul(label_td[ranks.label_uk], vector_ud[:, :, None])[:, :, 0]
