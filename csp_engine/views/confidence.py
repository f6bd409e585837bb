"""How likely the best label of a neuron is right, in this bundle, on these images.

Where a bundle has neurons whose true concept is known (planted, or measured by concept columns),
its own labels teach how often labels like these are right. Nothing is carried over from other
images: a probability that holds on one set of photographs was measured not to hold on another.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float64

from csp_engine.bundle import Bundle, KeptScores
from csp_engine.bundle.names import layer_path
from csp_engine.evaluation.confidence import (
    LEAST_OF_A_KIND,
    Alike,
    Bin,
    Calibration,
    calibrate,
    calibration_error,
    can_learn,
    gap,
    label_features,
    left_out,
    reliability,
)
from csp_engine.types import NeuronRef
from csp_engine.views.accuracy import kept_judged_labels
from csp_engine.views.controls import SAME_AT, label_cosines
from csp_engine.views.memo import Memo
from csp_engine.views.neuron.candidates import CandidateLabels
from csp_engine.views.places import places

LARGEST_ERROR = 0.1
"""A calibration that is further off than this on neurons left out gives no probability."""

LEAST_JUDGED = 2 * LEAST_OF_A_KIND
"""Neurons left out that a calibration must have been tried on: a few may agree by chance."""

LIKELY, PLAUSIBLE = 0.85, 0.5
NOT_CALIBRATED = "not calibrated for these images"


@dataclass(frozen=True, slots=True, eq=False)
class Learnt:
    """What a bundle's known neurons teach about one method's labels.

    ``most_refused`` is the most that is said of a label that the method does not rely on: the
    regression adds up what speaks for a label, and one reason against may outweigh all of it.
    ``error`` is the expected calibration error and ``bins`` the reliability diagram, on neurons of
    ``groups`` (layers with all their poolings, or fifths of one layer) that were left out while it
    was learnt.
    """

    calibration: Calibration
    most_refused: float
    n_known: int
    groups: str
    bins: tuple[Bin, ...]
    error: float

    @property
    def holds(self) -> bool:
        """Whether its probabilities may be shown."""
        return self.error <= LARGEST_ERROR and self.n_judged >= LEAST_JUDGED

    @property
    def n_judged(self) -> int:
        """Known neurons that the others could teach enough to say something of."""
        return sum(each.right.n for each in self.bins)


def features(
    bundle: Bundle, memo: Memo, model: str, layer: str, method: str
) -> Float64[np.ndarray, "u f"]:
    """What is known of each best label without any truth, one row for each unit of a layer."""
    scores = bundle.scores(model, layer, method)
    kept = KeptScores(bundle, model, layer, method)
    signals = () if kept.method is None else kept.method.stores.signals
    return label_features(
        np.asarray(scores.best_percentile_u, float),
        np.asarray(scores.score_uk, float),
        _vocabulary_ids(bundle, model, layer, method),
        [
            _vocabulary_ids(bundle, model, layer, name)[:, 0]
            for name in bundle.methods(model, layer)
            if name != method
        ],
        [kept.array(name) for name in signals],
        _alike(bundle, memo),
    )


def leads(
    bundle: Bundle, memo: Memo, model: str, layer: str, method: str
) -> Float64[np.ndarray, " u"]:
    """Best score of each unit less that of its next kept label that means something else.

    NaN where all kept labels mean the same, or labels have no scores.
    """

    def make() -> np.ndarray:
        score_uk = np.asarray(bundle.scores(model, layer, method).score_uk, float)
        id_uk = _vocabulary_ids(bundle, model, layer, method)
        gap_u, has_other_u = gap(id_uk, score_uk, _alike(bundle, memo))
        return np.where(has_other_u, gap_u, np.nan)

    return memo.once(("leads", bundle.digest, model, layer, method), make)


def learnt(bundle: Bundle, memo: Memo, method: str) -> Learnt | None:
    """What the known neurons teach about a method; None where there are none, or too few."""

    def make() -> Learnt | None:
        if all(bundle.truth(*place) is None for place in places(bundle)):
            return None
        return _learn(bundle, memo, method)

    return memo.once(("confidence", bundle.digest, method), make)


def probabilities(
    bundle: Bundle, memo: Memo, model: str, layer: str, method: str
) -> Float64[np.ndarray, " u"] | None:
    """How likely each best label of a layer is right; None where that is not known."""
    found = learnt(bundle, memo, method)
    if found is None or not found.holds:
        return None

    def make() -> np.ndarray:
        scores = bundle.scores(model, layer, method)
        p_u = found.calibration.probability(features(bundle, memo, model, layer, method))
        is_refused_u = ~np.asarray(scores.reliable_u)
        p_u = np.where(is_refused_u, np.minimum(p_u, found.most_refused), p_u)
        return np.where(np.asarray(scores.count_u) > 0, p_u, np.nan)

    return memo.once(("probabilities", bundle.digest, model, layer, method), make)


def probability(bundle: Bundle, memo: Memo, neuron: NeuronRef, method: str) -> float | None:
    """How likely the best label of a neuron is right; None where that is not known."""
    if method not in bundle.methods(neuron.model, neuron.layer):
        return None
    p_u = probabilities(bundle, memo, neuron.model, neuron.layer, method)
    return None if p_u is None or np.isnan(p_u[neuron.unit]) else float(p_u[neuron.unit])


def in_words(p: float | None, otherwise: str = NOT_CALIBRATED) -> str:
    """A probability as a person would say it; ``otherwise`` where it is not known."""
    if p is None:
        return otherwise
    odds = _odds(p)
    if p >= PLAUSIBLE:
        return f"{'likely right' if p >= LIKELY else 'plausible'} ({odds})"
    return f"{'as likely wrong as right' if odds == '5 in 10' else 'probably wrong'} ({odds})"


def doubt(p: float | None, is_reliable: bool) -> str:
    """A sentence for a label that beats random image sets and is still probably wrong; or none."""
    if p is None or p >= PLAUSIBLE or not is_reliable:
        return ""
    return (
        "The label scores higher than those of random image sets, but where the true concept is "
        f"known, labels like it are right {_odds(p)} times."
    )


@dataclass(frozen=True, slots=True)
class Trust:
    """What to say of a best label.

    ``words`` stand beside it: how likely it is right, where this bundle has taught that
    (``is_learnt``), or else what random image sets say. ``doubt`` is a sentence, empty for none;
    ``doubts``: it was learnt that such a label is more often wrong than right. ``lead`` is that of
    ``leads``.
    """

    words: str
    is_good: bool
    is_learnt: bool
    doubt: str
    doubts: bool = False
    lead: float = math.nan


def trust_of(bundle: Bundle, memo: Memo, neuron: NeuronRef, found: CandidateLabels) -> Trust:
    """How far the first of a method's labels may be trusted."""
    p = probability(bundle, memo, neuron, found.method)
    return Trust(
        words=in_words(p, found.trust),
        is_good=found.is_reliable if p is None else p >= LIKELY,
        is_learnt=p is not None,
        doubt=doubt(p, found.is_reliable),
        doubts=p is not None and p < PLAUSIBLE,
        lead=float(leads(bundle, memo, neuron.model, neuron.layer, found.method)[neuron.unit]),
    )


def uncalibrated(trusted: Sequence[Trust]) -> str:
    """A sentence where of no label it was learnt how likely it is right; empty otherwise."""
    if not trusted or any(each.is_learnt for each in trusted):
        return ""
    return f"How likely they are right is {NOT_CALIBRATED}."


def _odds(p: float) -> str:
    """A probability in whole neurons."""
    if p < 0.05:
        return "less than 1 in 20"
    for least, odds in ((0.985, "49 in 50"), (0.95, "19 in 20")):
        if p >= least:
            return odds
    return f"{min(max(round(10 * p), 1), 9)} in 10"


def _learn(bundle: Bundle, memo: Memo, method: str) -> Learnt | None:
    table = kept_judged_labels(bundle, memo).get(method)
    if table is None:
        return None
    parts, refused = [], []
    for _, own in table.groupby(["model", "layer"], sort=False):
        model, layer = own[["model", "layer"]].iloc[0]
        parts.append(features(bundle, memo, model, layer, method)[own["unit"].to_numpy()])
        refused.append(~np.asarray(bundle.scores(model, layer, method).reliable_u)[own["unit"]])
    x_uf, right_u = np.concatenate(parts), table["best"].to_numpy(bool)
    if not can_learn(right_u):
        return None
    # A unit teaches nothing about itself: under another pooling it is of the same group.
    place_u = (table["model"] + "/" + table["layer"].map(layer_path)).to_numpy()
    is_one_layer = len(pd.unique(place_u)) == 1
    group_u = np.unique(table["unit"], return_inverse=True)[1] % 5 if is_one_layer else place_u
    p_u = left_out(x_uf, right_u, list(group_u))
    is_refused_u = np.concatenate(refused)
    told_u = np.where(
        is_refused_u, np.minimum(p_u, _most_left_out(p_u, right_u, is_refused_u, group_u)), p_u
    )
    is_told_u = ~np.isnan(told_u)
    bins = reliability(told_u[is_told_u], right_u[is_told_u])
    return Learnt(
        calibrate(x_uf, right_u),
        _most(right_u[is_refused_u & (p_u >= PLAUSIBLE)]),
        len(table),
        "fifths of the layer" if is_one_layer else "layers",
        bins,
        calibration_error(bins),
    )


def _most(right_u: np.ndarray) -> float:
    """The share of some labels that is right, with one of each kind added: a half where none is."""
    return float((right_u.sum() + 1) / (len(right_u) + 2))


def _most_left_out(
    p_u: np.ndarray, right_u: np.ndarray, is_refused_u: np.ndarray, group_u: np.ndarray
) -> np.ndarray:
    """The same for every row by the other groups: of refused labels that sound plausible."""
    is_plausible_u = is_refused_u & (p_u >= PLAUSIBLE)
    most_u = np.empty(len(p_u))
    for group in np.unique(group_u):
        is_own_u = group_u == group
        most_u[is_own_u] = _most(right_u[is_plausible_u & ~is_own_u])
    return most_u


def _vocabulary_ids(bundle: Bundle, model: str, layer: str, method: str) -> np.ndarray:
    """Best labels as rows of the vocabulary; -1 where there is none, or it is not in it."""
    scores = bundle.scores(model, layer, method)
    label_uk = np.asarray(scores.label_uk)
    ids = bundle.label_ids
    texts = bundle.method_labels(model, layer, method)["text"]
    row_t = np.array([ids.get(text, -1) for text in texts], int)
    is_said_uk = np.arange(label_uk.shape[1]) < np.asarray(scores.count_u)[:, None]
    return np.where(is_said_uk, row_t[np.where(is_said_uk, label_uk, 0)], -1)


def _alike(bundle: Bundle, memo: Memo) -> Alike:
    def alike(one_a: np.ndarray, other_a: np.ndarray) -> np.ndarray:
        return (label_cosines(bundle, memo, one_a, other_a) >= SAME_AT) | (one_a == other_a)

    return alike
