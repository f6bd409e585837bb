"""How well a label explains image sets in general: the log mean of its scores over many."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64


@dataclass(slots=True, eq=False)
class LogMean:
    """``log mean exp`` over rows, for each label, gathered block by block in float64."""

    highest_t: Float64[np.ndarray, " t"]
    total_t: Float64[np.ndarray, " t"]
    n: int = 0

    @classmethod
    def over(cls, n_labels: int) -> LogMean:
        """No rows yet."""
        return cls(np.full(n_labels, -np.inf), np.zeros(n_labels))

    def add(self, g_ut: Float64[np.ndarray, "u t"]) -> None:
        """Take in more rows."""
        if not len(g_ut):
            return
        new_t = np.maximum(self.highest_t, g_ut.max(axis=0))
        self.total_t *= np.exp(self.highest_t - new_t)
        self.total_t += np.exp(g_ut - new_t).sum(axis=0)
        self.highest_t = new_t
        self.n += len(g_ut)

    @property
    def mean_t(self) -> Float64[np.ndarray, " t"]:
        """The log mean; 0 before any row."""
        if not self.n:
            return np.zeros_like(self.total_t)
        return self.highest_t + np.log(self.total_t) - np.log(self.n)

    def with_each(self, g_rt: Float64[np.ndarray, "r t"]) -> Float64[np.ndarray, "r t"]:
        """For each row the log mean if that row were one more of them."""
        if not self.n:
            return g_rt
        log_total_t = self.highest_t + np.log(self.total_t)
        return np.logaddexp(log_total_t, g_rt) - np.log(self.n + 1)


def leave_one_out(g_rt: Float64[np.ndarray, "r t"]) -> Float64[np.ndarray, "r t"]:
    """For each row the ``log mean exp`` over all the other rows; needs two rows or more.

    Subtracting a row from the total is exact enough except for the largest row of a column, which
    may be nearly all of it; that one is summed again without it.
    """
    n_rows = len(g_rt)
    columns = np.arange(g_rt.shape[1])
    top_t = g_rt.argmax(axis=0)
    highest_t = g_rt[top_t, columns]
    power_rt = np.exp(g_rt - highest_t)
    # The largest row is 1, so what is left for any other row is at least 1.
    others_rt = power_rt.sum(axis=0) - power_rt
    without_rt = g_rt.copy()
    without_rt[top_t, columns] = -np.inf
    second_t = without_rt.max(axis=0)
    log_rest_t = second_t + np.log(np.exp(without_rt - second_t).sum(axis=0))
    others_rt[top_t, columns] = 1
    log_others_rt = highest_t + np.log(others_rt)
    log_others_rt[top_t, columns] = log_rest_t
    return log_others_rt - np.log(n_rows - 1)
