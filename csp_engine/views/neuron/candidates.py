"""Candidate labels of one neuron, as stored and at any gamma."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import SupportsFloat

import numpy as np
import pandas as pd

from csp_engine import numbers
from csp_engine.bundle import Bundle, KeptScores, kinds
from csp_engine.methods import NullComponents, move_labels, score_paths
from csp_engine.types import NeuronRef
from csp_engine.views.benchmark.faithfulness import Faithful, of_label
from csp_engine.views.memo import Memo
from csp_engine.views.neuron.label import beats_chance, lacking, not_judged, own_test
from csp_engine.views.neuron.proposals import own_labels
from csp_engine.views.random_sets import best_of_null, n_drawn, null_components
from csp_engine.views.sentence import Sentence
from csp_engine.words.vocabularies import is_proposed, same_label

STEP = 0.05
N_SHOWN = 10
N_IMPORTED = 50
"""Labels of other tools are all shown: some say a neuron in sixteen words, or in a sum of ten."""

N_PATHS = 5


@dataclass(frozen=True, slots=True)
class CandidateLabel:
    """One candidate label. ``raw`` and ``raw_place`` say where it stood without contrast images.

    Numbers that are not known are NaN; ``percentile`` is None where there are no random image sets
    to compare with. ``is_proposed``: a captioner proposed it, and no vocabulary holds it.
    ``is_own``: a captioner proposed it for this very neuron, whether or not it is on a list.
    ``weight`` is that of a concept in an imported sum; ``note`` says what else an imported label
    is: a formula, or one of a group of units.
    """

    text: str
    score: float
    raw: float
    raw_place: int | None
    margin: float
    percentile: float | None
    is_proposed: bool
    is_own: bool = False
    weight: float = math.nan
    note: str = ""


@dataclass(frozen=True, slots=True)
class CandidateLabels:
    """Candidate labels of one method, best first, and how far the first can be trusted.

    ``gamma`` is None for a method that has none; its labels have no raw score either.
    ``best_percentile`` is None where nothing judges the first label, and ``not_judged`` says why.
    ``faithful`` says how well the first label predicts the neuron, where somebody measured it.
    ``lacks`` says what the first label lacks to be reliable where it beats chance.
    """

    method: str
    gamma: float | None
    rows: tuple[CandidateLabel, ...]
    n_exemplars: int
    n_draws: int
    best_percentile: float | None
    is_reliable: bool
    not_judged: str = "No random image sets to compare with."
    score_name: str = "score"
    faithful: Faithful | None = None
    lacks: str = ""

    @property
    def trust(self) -> str:
        """Whether the first label is reliable, in words."""
        if self.best_percentile is None:
            return "not judged"
        return "reliable" if self.is_reliable else "not reliable"

    @property
    def has_weights(self) -> bool:
        """Whether the labels are concepts of a sum, each with its weight."""
        return any(not math.isnan(row.weight) for row in self.rows)

    @property
    def percentile_of_best(self) -> str:
        """The percentile of the first label as the best of all labels, or a dash."""
        return self._percentile(self.best_percentile)

    def percentile(self, row: CandidateLabel) -> str:
        """The percentile of one label, or a dash."""
        return self._percentile(row.percentile)

    def _percentile(self, value: float | None) -> str:
        return numbers.UNKNOWN if value is None else numbers.percentile(value, self.n_draws)

    @property
    def verdict(self) -> Sentence:
        """How far the first label can be trusted, with what that rests on."""
        if not self.rows:
            return Sentence("No label: there are no exemplars, or nothing is left of them.")
        at = "From" if self.gamma is None else f"At γ = {self.gamma:g}, from"
        since = f"{at} {numbers.count(self.n_exemplars)} exemplars"
        if self.best_percentile is None:
            return Sentence(f"{since}. {self.not_judged}" if self.n_exemplars else self.not_judged)
        if test := own_test(self.method):
            passes = "passes" if self.is_reliable else "does not pass"
            so = f", {passes} its test {test}, so it is "
            return Sentence("The best label, ", self.rows[0].text, so, self.trust, ".")
        beats = numbers.beats(self.best_percentile, self.n_draws)
        so = "so"
        if not self.is_reliable and beats_chance(self.best_percentile):
            so = f"but {self.lacks}, so"
        return Sentence(
            f"{since}: the best label, ",
            self.rows[0].text,
            f", scores higher than the best labels of {beats}, {so} it is ",
            self.trust,
            ".",
        )

    def shares(self) -> list[tuple[float, float | None]]:
        """Score and raw score of each label as places in [0, 1] on one scale that holds zero.

        A score that is not known has no bar; concepts of a sum have one for their weight.
        """
        if self.has_weights:
            most = max(abs(r.weight) for r in self.rows if not math.isnan(r.weight)) or 1.0
            return [(0.0 if math.isnan(r.weight) else r.weight / most, None) for r in self.rows]
        has_raw = self.gamma is not None
        every = [0.0, *(row.score for row in self.rows)]
        every += [row.raw for row in self.rows] if has_raw else []
        known = [value for value in every if math.isfinite(value)]
        low = min(known)
        span = max(known) - low or 1.0

        def place(value: float) -> float:
            return min(max((value - low) / span, 0.0), 1.0) if not math.isnan(value) else 0.0

        return [(place(row.score), place(row.raw) if has_raw else None) for row in self.rows]


def built_gamma(bundle: Bundle, neuron: NeuronRef, method: str) -> float | None:
    """The gamma that a method was built with, or None where there is none to move."""
    return KeptScores(bundle, neuron.model, neuron.layer, method).gamma


def stored(bundle: Bundle, neuron: NeuronRef, method: str, limit: int = N_SHOWN) -> CandidateLabels:
    """What the build found."""
    stage = kinds.SCORES.name(neuron.model, neuron.layer, method)
    scores = bundle.scores(neuron.model, neuron.layer, method)
    labels = bundle.method_labels(neuron.model, neuron.layer, method)
    n_draws, unit = n_drawn(bundle), neuron.unit
    if bundle.stage(stage).params.get("imported"):
        limit = max(limit, N_IMPORTED)
    label_k = np.asarray(scores.label_uk[unit, : min(limit, int(scores.count_u[unit]))])
    texts, sources = _words(labels, label_k)
    weight_uk = bundle.imported_weights(neuron.model, neuron.layer, method)
    notes = _notes(labels, label_k)
    own = own_labels(bundle, neuron)
    rows = tuple(
        CandidateLabel(
            texts[k],
            float(scores.score_uk[unit, k]),
            float(scores.raw_uk[unit, k]),
            None,
            float(scores.margin_uk[unit, k]),
            _known(scores.percentile_uk[unit, k]) if n_draws else None,
            is_proposed(sources[k]),
            same_label(texts[k]) in own,
            math.nan if weight_uk is None else float(weight_uk[unit, k]),
            notes[k],
        )
        for k in range(len(label_k))
    )
    is_reliable = bool(scores.reliable_u[unit])
    return CandidateLabels(
        method,
        built_gamma(bundle, neuron, method),
        rows,
        int(scores.n_exemplar_u[unit]),
        n_draws,
        _known(scores.best_percentile_u[unit]) if n_draws and rows else None,
        is_reliable,
        not_judged(bundle, neuron, method),
        bundle.stage(stage).facts.get("score_name", "score"),
        of_label(bundle, neuron, method),
        lacking(bundle, neuron, method) if rows and not is_reliable else "",
    )


def _notes(labels: pd.DataFrame, label_k: np.ndarray) -> list[str]:
    """What else imported labels are."""
    notes = [""] * len(label_k)
    for column, words in (("form", "{}"), ("group", "group of units {}")):
        if column in labels:
            for k, value in enumerate(labels[column].take(label_k).tolist()):
                if isinstance(value, str) and value:
                    notes[k] = "; ".join(filter(None, [notes[k], words.format(value)]))
    return notes


def _known(value: SupportsFloat) -> float | None:
    """A number, or None where it is not known."""
    return None if math.isnan(float(value)) else float(value)


def at_gamma(
    bundle: Bundle,
    memo: Memo,
    neuron: NeuronRef,
    method: str,
    gamma: float,
    limit: int = N_SHOWN,
) -> CandidateLabels:
    """All labels ranked again at a gamma, against the same random image sets at that gamma."""
    place = (neuron.model, neuron.layer, method)
    size = int(bundle.scores(*place).n_exemplar_u[neuron.unit])
    null = _null(bundle, neuron, method, size)
    best_r = None if null is None else best_of_null(bundle, memo, *place, size, gamma)
    moved = move_labels(
        *_halves(bundle, neuron, method), gamma, bundle.label_vectors(), null=null, best_r=best_r
    )
    ranks = moved.ranks
    label_k = ranks.label_uk[0, : min(limit, int(ranks.count_u[0]))]
    texts, sources = _words(bundle.labels(), label_k)
    own = own_labels(bundle, neuron)
    rows = tuple(
        CandidateLabel(
            texts[k],
            float(ranks.score_uk[0, k]),
            float(moved.raw_k[k]),
            int(moved.raw_place_k[k]),
            float(ranks.margin_uk[0, k]),
            None if null is None else float(ranks.percentile_uk[0, k]),
            is_proposed(sources[k]),
            same_label(texts[k]) in own,
        )
        for k in range(len(label_k))
    )
    return CandidateLabels(
        method,
        gamma,
        rows,
        size,
        0 if null is None else len(null.size_r),
        None if null is None or not rows else float(ranks.best_percentile_u[0]),
        bool(ranks.reliable_u[0]),
    )


def paths(
    bundle: Bundle, neuron: NeuronRef, method: str, texts: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of some labels along gamma: the gammas, and one column per label."""
    every = bundle.labels()["text"].to_numpy()
    rows = [int(np.flatnonzero(every == text)[0]) for text in texts]
    gamma_g = np.round(np.arange(0, 1 + STEP / 2, STEP), 2)
    label_kd = np.asarray(bundle.label_vectors()[rows])
    return gamma_g, score_paths(*_halves(bundle, neuron, method), gamma_g, label_kd)


def _words(labels: pd.DataFrame, label_k: np.ndarray) -> tuple[list[str], list[str]]:
    """Texts and sources of some labels.

    All at once, because a table is slow row by row; from the arrays below the columns, because a
    column or a table builds an index for what it takes.
    """
    texts, sources = (labels[name].array.take(label_k).tolist() for name in ("text", "source"))
    return [str(text) for text in texts], sources


def _halves(bundle: Bundle, neuron: NeuronRef, method: str) -> tuple[np.ndarray, np.ndarray]:
    halves = KeptScores(bundle, neuron.model, neuron.layer, method).halves()
    anchor_d, projection_d = (np.asarray(half_ud[neuron.unit]) for half_ud in halves)
    return anchor_d, projection_d


def _null(bundle: Bundle, neuron: NeuronRef, method: str, size: int) -> NullComponents | None:
    """Random image sets of the neuron's own size, or None where the bundle has none."""
    null = null_components(bundle, neuron.model, neuron.layer, method).of_size(size)
    return null if len(null.size_r) else None
