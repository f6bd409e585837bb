"""How well a label predicts a unit's activation, by an encoder that did not choose the label.

The prediction for an image is the cosine of image and text by that encoder, the *judge*. Two
figures on images that took no part in choosing: Pearson's correlation of activation and prediction,
and the average precision of finding, by activation, the images that the label is said of (those
whose prediction is above Otsu's threshold).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int, Int32
from scipy.sparse import csr_array

from csp_engine.errors import InputError
from csp_engine.evaluation.ground_truth import independent_counts
from csp_engine.evaluation.metrics.metric import Columns, Judged, Metric
from csp_engine.stats.drawn import LEAST_DRAWN
from csp_engine.stats.otsu import otsu
from csp_engine.types import Progress, silent

UNIT_BLOCK = 64
_RUN = 32
MOST_DRAWS, LEAST_DRAWS = 400, 100
MOST_CELLS = 500_000
"""Images times draws, at most: so many draws of the bootstrap as fit, within the two above."""


@dataclass(frozen=True, slots=True, eq=False)
class Simulated:
    """Figures of each unit's own label, with the bounds of their intervals.

    NaN for a unit without a label, a constant unit, and a label that is said of no image or of all.
    Bounds are NaN, too, of fewer than ``LEAST_DRAWN`` groups; of average precision, where the label
    is said of images of so few, or is not.
    """

    pearson_u3: Float32[np.ndarray, "u 3"]
    auprc_u3: Float32[np.ndarray, "u 3"]
    n_said_u: Int32[np.ndarray, " u"]
    n_draws: int


def predictions(
    text_td: Float[np.ndarray, "t d"],
    image_nd: Float[np.ndarray, "n d"],
    parts: Mapping[int, Sequence[int]],
) -> Float32[np.ndarray, "t n"]:
    """What each label predicts for each image: their cosine.

    A label that joins others says all of them: it predicts the smallest of what they predict, each
    brought to mean 0 and deviation 1 first. The vector of the joined text would follow either.

    Args:
        text_td: unit rows.
        image_nd: unit rows.
        parts: joined label → the labels that it holds.
    """
    predicted_tn = np.asarray(text_td @ image_nd.T, np.float32)
    alone_tn = predicted_tn.copy()
    for label, held in parts.items():
        predicted_tn[label] = _unit_scale(alone_tn[list(held)]).min(axis=0)
    return predicted_tn


def said_of(predicted_tn: Float[np.ndarray, "t n"]) -> Bool[np.ndarray, "t n"]:
    """The images that each label is said of: those above Otsu's threshold of its predictions."""
    threshold_t = np.array([otsu(predicted_n) for predicted_n in predicted_tn], predicted_tn.dtype)
    return predicted_tn > threshold_t[:, None]


def own_figures(
    activation_un: Float32[Any, "u n"],
    predicted_tn: Float32[np.ndarray, "t n"],
    label_u: Int[np.ndarray, " u"],
    metrics: tuple[Metric, ...],
    said_tn: Bool[np.ndarray, "t n"] | None = None,
) -> dict[str, Float64[np.ndarray, " u"]]:
    """Figures of every unit and its own label, by each metric.

    A metric that takes predictions gets them; any other gets what the label is said of.
    """
    said_tn = said_of(predicted_tn) if said_tn is None else said_tn
    found = {metric.name: np.full(len(label_u), np.nan) for metric in metrics}
    for rows in _blocks(label_u, UNIT_BLOCK):
        labels, own_b = np.unique(label_u[rows], return_inverse=True)
        block_bn = np.asarray(activation_un[rows], np.float32)
        for kind, value_tn in (("prediction", predicted_tn), ("said", said_tn)):
            asked = [m for m in metrics if (kind == "prediction") == ("prediction" in m.takes)]
            value_nj = value_tn[labels].T.astype(np.float64)
            varied_j = np.flatnonzero(value_nj.max(axis=0) > value_nj.min(axis=0))
            place_j = np.full(len(labels), -1)
            place_j[varied_j] = np.arange(len(varied_j))
            if not asked or not len(varied_j):
                continue
            judged = Judged(block_bn, Columns(value_nj[:, varied_j]))
            is_told_b = place_j[own_b] >= 0
            for metric in asked:
                figure_bj = metric.figures(judged)
                told_b = np.flatnonzero(is_told_b)
                found[metric.name][rows[told_b]] = figure_bj[told_b, place_j[own_b][told_b]]
    return found


def simulate(
    activation_un: Float32[Any, "u n"],
    predicted_tn: Float32[np.ndarray, "t n"],
    label_u: Int[np.ndarray, " u"],
    has_label_u: Bool[np.ndarray, " u"],
    *,
    group_n: Int[np.ndarray, " n"] | None = None,
    level: float = 0.95,
    seed: int = 0,
    progress: Progress = silent,
) -> Simulated:
    """Both figures of every unit's label, with percentile bootstrap intervals over images.

    Whole groups are drawn, or images where there are none; all units meet the same draws.

    Args:
        activation_un: activations on held-out images; any array that gives rows when indexed.
        predicted_tn: what each label predicts for them.
        label_u: the row of the label of each unit; means nothing where it has none.
        has_label_u: which units have a label.
        group_n: images with the same number belong together.
        level: of the intervals.
        seed: of the draws.
        progress: called with the units done.

    Raises:
        InputError: if there are fewer than 4 images, or an activation is not finite.
    """
    n_units, n_images = activation_un.shape
    if n_images < 4:
        raise InputError(f"Labels are judged on {n_images} images; at least 4 are needed.")
    said_tn = said_of(predicted_tn)
    weight_nr = _drawn(n_images, group_n, seed)
    total_r = weight_nr.sum(axis=0)
    tails = [50 * (1 - level), 50 * (1 + level)]
    pearson_u3, auprc_u3 = (np.full((n_units, 3), np.nan, np.float32) for _ in range(2))
    unit_u = np.flatnonzero(has_label_u)
    n_groups = n_images if group_n is None else len(np.unique(group_n))
    least_t = np.minimum(*independent_counts(said_tn.T, group_n))
    n_said_u = np.zeros(n_units, np.int32)
    n_said_u[unit_u] = said_tn.sum(axis=1)[label_u[unit_u]]
    for done, rows in enumerate(_blocks(label_u[unit_u], UNIT_BLOCK), start=1):
        units = unit_u[rows]
        value_bn = np.asarray(activation_un[units], np.float32)
        if not np.isfinite(value_bn).all():
            bad = units[int(np.argmin(np.isfinite(value_bn).all(axis=1)))]
            raise InputError(
                f"Unit {bad} has activations that are not finite; look for an overflow in the "
                "network."
            )
        labels, own_b = np.unique(label_u[units], return_inverse=True)
        pearson_br = _pearson_drawn(value_bn, predicted_tn[labels], own_b, weight_nr)
        auprc_br = np.stack([
            _auprc_drawn(value_n, said_tn[label], weight_nr, total_r)
            for value_n, label in zip(value_bn, label_u[units], strict=True)
        ])  # fmt: skip
        # The first draw counts every image once.
        for figure_u3, drawn_br, n_b in (
            (pearson_u3, pearson_br, np.full(len(units), n_groups)),
            (auprc_u3, auprc_br, least_t[label_u[units]]),
        ):
            figure_u3[units, 0] = drawn_br[:, 0]
            enough_b = n_b >= LEAST_DRAWN
            figure_u3[units[enough_b], 1:] = _bounds(drawn_br[enough_b, 1:], tails)
        progress("simulation", min(done * UNIT_BLOCK, len(unit_u)), len(unit_u))
    return Simulated(pearson_u3, auprc_u3, n_said_u, weight_nr.shape[1] - 1)


def _blocks(label_u: np.ndarray, size: int) -> Iterator[Int[np.ndarray, " b"]]:
    """Rows of units some at a time, those of one label together."""
    order_u = np.argsort(label_u, kind="stable")
    for start in range(0, len(order_u), size):
        yield order_u[start : start + size]


def _drawn(n_images: int, group_n: np.ndarray | None, seed: int) -> Float32[np.ndarray, "n r"]:
    """How often each image counts: once in the first column, then as groups are drawn anew."""
    members = np.arange(n_images) if group_n is None else np.unique(group_n, return_inverse=True)[1]
    n_groups = int(members.max(initial=-1)) + 1
    n_draws = int(np.clip(MOST_CELLS // n_images, LEAST_DRAWS, MOST_DRAWS))
    rng = np.random.default_rng(seed)
    count_rg = rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=n_draws)
    count_rg = np.concatenate([np.ones((1, n_groups), count_rg.dtype), count_rg])
    return np.ascontiguousarray(count_rg.T[members], dtype=np.float32)


def _pearson_drawn(
    value_bn: Float32[np.ndarray, "b n"],
    predicted_jn: Float32[np.ndarray, "j n"],
    own_b: Int[np.ndarray, " b"],
    weight_nr: Float32[np.ndarray, "n r"],
) -> Float64[np.ndarray, "b r"]:
    """Weighted correlations, by matrix products of values brought to unit scale."""
    one_bn, two_jn = _unit_scale(value_bn), _unit_scale(predicted_jn)
    total_r = weight_nr.sum(axis=0, dtype=np.float64)

    def mean(value_xn: np.ndarray) -> np.ndarray:
        return (value_xn @ weight_nr).astype(np.float64) / total_r

    mean_br, mean_jr = mean(one_bn), mean(two_jn)
    variance_br = mean(one_bn**2) - mean_br**2
    variance_jr = mean(two_jn**2) - mean_jr**2
    covariance_br = mean(one_bn * two_jn[own_b]) - mean_br * mean_jr[own_b]
    is_known_br = (variance_br > 1e-6) & (variance_jr[own_b] > 1e-6)
    scale_br = np.sqrt(np.where(is_known_br, variance_br * variance_jr[own_b], 1.0))
    return np.where(is_known_br, np.clip(covariance_br / scale_br, -1, 1), np.nan)


def _unit_scale(value_xn: np.ndarray) -> Float32[np.ndarray, "x n"]:
    """Mean 0 and deviation 1; a constant row is 0."""
    value_xn = value_xn.astype(np.float64)
    is_varied_x = value_xn.max(axis=1) > value_xn.min(axis=1)
    value_xn -= value_xn.mean(axis=1, keepdims=True)
    spread_x = np.where(is_varied_x, value_xn.std(axis=1), 1.0)
    value_xn = value_xn / np.where(spread_x > 0, spread_x, 1.0)[:, None]
    return np.where(is_varied_x[:, None], value_xn, 0.0).astype(np.float32)


def _auprc_drawn(
    value_n: Float32[np.ndarray, " n"],
    is_said_n: Bool[np.ndarray, " n"],
    weight_nr: Float32[np.ndarray, "n r"],
    total_r: Float32[np.ndarray, " r"],
) -> Float64[np.ndarray, " r"]:
    """Average precision with image i counted ``weight_nr[i]`` times; equal activations together.

    ``total_r`` is the sum of the weights. Only images that the label is said of, in runs of equal
    activations, make the sum; what lies between two of them is added up at once.
    """
    n_said = int(is_said_n.sum())
    if not 0 < n_said < len(is_said_n) or value_n.min() == value_n.max():
        return np.full(weight_nr.shape[1], np.nan)
    order_n = np.argsort(-value_n, kind="stable")
    falling_n = -value_n[order_n]
    place_p = np.flatnonzero(is_said_n[order_n])
    end_p = np.searchsorted(falling_n, falling_n[place_p], side="right")
    end_e = end_p[np.diff(end_p, append=-1) != 0]
    said_e = np.searchsorted(place_p, end_e)
    said_er = _sums(order_n[place_p], said_e, weight_nr)
    # Whole numbers below 2**24, which float32 adds exactly.
    precision_er = _running(said_er.copy())
    n_said_r = precision_er[-1].astype(np.float64)
    precision_er /= np.maximum(_running(_sums(order_n, end_e, weight_nr)), 1)
    precision_er *= said_er
    summed_r = precision_er.sum(axis=0, dtype=np.float64)
    is_known_r = (n_said_r > 0) & (n_said_r < total_r)
    return np.where(is_known_r, summed_r / np.where(is_known_r, n_said_r, 1.0), np.nan)


def _sums(
    row_k: Int[np.ndarray, " k"], end_e: Int[np.ndarray, " e"], value_nr: Float32[np.ndarray, "n r"]
) -> Float32[np.ndarray, "e r"]:
    """Sums of rows in the order given: of those before the first end, up to the second, and so on.

    Rows behind the last end are left out.
    """
    n_rows = int(end_e[-1])
    parts = (np.ones(n_rows, np.float32), row_k[:n_rows], np.concatenate([[0], end_e]))
    return csr_array(parts, shape=(len(end_e), len(value_nr))) @ value_nr


def _running(value_nr: Float32[np.ndarray, "n r"]) -> Float32[np.ndarray, "n r"]:
    """Sums down the rows, in place; several times as fast as NumPy along this axis."""
    whole = len(value_nr) // _RUN * _RUN
    runs = value_nr[:whole].reshape(-1, _RUN, value_nr.shape[1])
    for k in range(1, _RUN):
        runs[:, k] += runs[:, k - 1]
    for before_kr, here_kr in pairwise(runs):
        here_kr += before_kr[-1]
    for row in range(max(whole, 1), len(value_nr)):
        value_nr[row] += value_nr[row - 1]
    return value_nr


def _bounds(drawn_br: Float64[np.ndarray, "b r"], tails: list[float]) -> np.ndarray:
    """Percentiles of the draws in which a figure is defined."""
    bounds_b2 = np.full((len(drawn_br), 2), np.nan)
    is_whole_b = np.isfinite(drawn_br).all(axis=1)
    if is_whole_b.any():
        bounds_b2[is_whole_b] = np.percentile(drawn_br[is_whole_b], tails, axis=1).T
    for b in np.flatnonzero(~is_whole_b):
        known_r = drawn_br[b][np.isfinite(drawn_br[b])]
        if len(known_r):
            bounds_b2[b] = np.percentile(known_r, tails)
    return bounds_b2
