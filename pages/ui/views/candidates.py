"""Candidate labels of one neuron, as stored and at any gamma; no drawing here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from csp_engine.bundle import Bundle, KeptScores
from csp_engine.methods import NullComponents, move_labels, score_paths
from csp_engine.views import random_sets
from csp_engine.views.address import View
from csp_engine.words.vocabularies import is_proposed
from pages.ui.shell import store
from pages.ui.views import neuron as neurons

STEP = 0.05
N_SHOWN = 10
N_PATHS = 5


@dataclass(frozen=True, slots=True)
class Candidate:
    """One candidate label. ``raw`` and ``raw_place`` say where it stood without contrast images.

    ``percentile`` is None where there are no random image sets to compare with. ``is_proposed``:
    a captioner proposed it, and no vocabulary holds it.
    """

    text: str
    score: float
    raw: float
    raw_place: int | None
    margin: float
    percentile: float | None
    is_proposed: bool


@dataclass(frozen=True, slots=True)
class Candidates:
    """Candidate labels of one method, best first, and how far the first can be trusted."""

    method: str
    gamma: float | None
    rows: tuple[Candidate, ...]
    n_exemplars: int
    n_draws: int
    best_percentile: float | None
    is_reliable: bool


def built_gamma(bundle: Bundle, view: View, method: str) -> float | None:
    """The gamma that a method was built with, or None where there is none to move."""
    return KeptScores(bundle, view.model, view.layer, method).gamma


def stored(bundle: Bundle, view: View, method: str, limit: int = N_SHOWN) -> Candidates:
    """What the build found."""
    scores = bundle.scores(view.model, view.layer, method)
    labels = bundle.method_labels(view.model, view.layer, method)
    n_draws = neurons.n_null(bundle)
    label_k = np.asarray(scores.label_uk[view.unit, : min(limit, int(scores.count_u[view.unit]))])
    texts, sources = _words(labels, label_k)
    rows = tuple(
        Candidate(
            texts[k],
            float(scores.score_uk[view.unit, k]),
            float(scores.raw_uk[view.unit, k]),
            None,
            float(scores.margin_uk[view.unit, k]),
            float(scores.percentile_uk[view.unit, k]) if n_draws else None,
            is_proposed(sources[k]),
        )
        for k in range(len(label_k))
    )
    return Candidates(
        method,
        built_gamma(bundle, view, method),
        rows,
        int(scores.n_exemplar_u[view.unit]),
        n_draws,
        float(scores.best_percentile_u[view.unit]) if n_draws and rows else None,
        bool(scores.reliable_u[view.unit]),
    )


def at_gamma(
    bundle: Bundle, view: View, method: str, gamma: float, limit: int = N_SHOWN
) -> Candidates:
    """All labels ranked again at a gamma, against the same random image sets at that gamma."""
    size = int(bundle.scores(view.model, view.layer, method).n_exemplar_u[view.unit])
    null = _null(bundle, view, method, size)
    best_r = None
    if null is not None:
        best_r = random_sets.best_of_null(
            bundle, store.MEMO, view.model, view.layer, method, size, gamma
        )
    moved = move_labels(
        *_halves(bundle, view, method), gamma, bundle.label_vectors(), null=null, best_r=best_r
    )
    ranks = moved.ranks
    label_k = ranks.label_uk[0, : min(limit, int(ranks.count_u[0]))]
    texts, sources = _words(bundle.labels(), label_k)
    rows = tuple(
        Candidate(
            texts[k],
            float(ranks.score_uk[0, k]),
            float(moved.raw_k[k]),
            int(moved.raw_place_k[k]),
            float(ranks.margin_uk[0, k]),
            None if null is None else float(ranks.percentile_uk[0, k]),
            is_proposed(sources[k]),
        )
        for k in range(len(label_k))
    )
    return Candidates(
        method,
        gamma,
        rows,
        size,
        0 if null is None else len(null.size_r),
        None if null is None or not rows else float(ranks.best_percentile_u[0]),
        bool(ranks.reliable_u[0]),
    )


def paths(
    bundle: Bundle, view: View, method: str, texts: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of some labels along gamma: the gammas, and one column per label."""
    every = bundle.labels()["text"].to_numpy()
    rows = [int(np.flatnonzero(every == text)[0]) for text in texts]
    gamma_g = np.round(np.arange(0, 1 + STEP / 2, STEP), 2)
    label_kd = np.asarray(bundle.label_vectors()[rows])
    return gamma_g, score_paths(*_halves(bundle, view, method), gamma_g, label_kd)


def _words(labels: pd.DataFrame, label_k: np.ndarray) -> tuple[list[str], list[str]]:
    """Texts and sources of some labels; all at once, because a table is slow row by row."""
    rows = labels[["text", "source"]].take(label_k)
    return rows["text"].astype(str).tolist(), rows["source"].tolist()


def _halves(bundle: Bundle, view: View, method: str) -> tuple[np.ndarray, np.ndarray]:
    anchor_ud, projection_ud = KeptScores(bundle, view.model, view.layer, method).halves()
    return np.asarray(anchor_ud[view.unit]), np.asarray(projection_ud[view.unit])


def _null(bundle: Bundle, view: View, method: str, size: int) -> NullComponents | None:
    """Random image sets of the neuron's own size, or None where the bundle has none."""
    null = random_sets.null_components(bundle, view.model, view.layer, method).of_size(size)
    return null if len(null.size_r) else None
