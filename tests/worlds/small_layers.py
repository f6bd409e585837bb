"""Layers small enough for slow references, mined by the real code."""

from __future__ import annotations

import numpy as np

from csp_engine.audits.measuring import measure_units
from csp_engine.audits.registered import AUDITS
from csp_engine.evidence.contrast import ContrastRule, mine_contrast
from csp_engine.evidence.evidence import Evidence, Given
from csp_engine.evidence.exemplars import rank_exemplars
from csp_engine.evidence.speaker import Phrase
from csp_engine.types import ContrastSet, Exemplars

WORDS = [f"word {number}" for number in range(1000)]
"""Texts of labels, of which none joins two others."""


class Babbler:
    """A captioner without a network: how likely a text is follows from the mean image."""

    n_images = 4

    def propose(self, sets, n_beams):
        return [self.judge(images, WORDS[:n_beams]) for images in sets]

    def judge(self, images, texts):
        mean = images.mean(axis=0)
        fit = [float(mean[len(text) * t % len(mean)]) for t, text in enumerate(texts)]
        return [Phrase(text, fit[t] - 2, -2 - t / 7) for t, text in enumerate(texts)]


def unit_rows(rng, n, d):
    rows = rng.standard_normal((n, d))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def mined(acts_un, image_nd, n_exemplars=10, rule=None):
    acts_un = np.ascontiguousarray(acts_un, np.float32)
    exemplars = rank_exemplars(acts_un, n_exemplars)
    contrast = mine_contrast(acts_un, exemplars, image_nd, rule or ContrastRule())
    sources = {
        "activations": lambda units: acts_un[units],
        "layer": lambda _: acts_un,
        "texts": lambda _: WORDS,
        "speaker": lambda _: Babbler(),
    }
    return Evidence(exemplars, contrast, image_nd, Given(sources=sources))


def awkward(rng, u, n, d, n_exemplars, n_partners):
    """Random units among which one is all-negative, one constant, one sparse, one with ties.

    Images 0 and 1 are the same picture, and unit 0 fires on one and not on the other.
    """
    image_nd = unit_rows(rng, n, d)
    image_nd[1] = image_nd[0]
    acts_un = rng.standard_normal((u, n)).astype(np.float32)
    acts_un[0, :2] = 9, -9
    acts_un[1] = -1 - np.abs(acts_un[1])
    acts_un[2] = 0.5
    acts_un[3] = np.maximum(acts_un[3] - 1.2, 0)
    acts_un[4] = np.round(acts_un[4])
    return mined(acts_un, image_nd, n_exemplars, ContrastRule(n_partners=n_partners))


def noise(rng, image_nd, n_draws, n_exemplars=10, n_partners=1):
    acts_rn = rng.standard_normal((n_draws, len(image_nd)))
    return mined(acts_rn, image_nd, n_exemplars, ContrastRule(n_partners=n_partners))


def by_hand(image_nd, exemplar, partner, activation=None):
    """Evidence of one unit: exemplar image ids, and for each a list of contrast image ids."""
    image_nd = np.asarray(image_nd, np.float32)
    k, j = len(exemplar), max((len(p) for p in partner), default=0)
    j = max(j, 1)
    activation = np.arange(k, 0, -1) if activation is None else activation
    image_kj = np.zeros((k, j), np.int32)
    similarity_kj = np.zeros((k, j), np.float32)
    for rank, images in enumerate(partner):
        for place, image in enumerate(images):
            image_kj[rank, place] = image
            similarity_kj[rank, place] = image_nd[exemplar[rank]] @ image_nd[image]
    exemplars = Exemplars(
        np.array([exemplar], np.int32).reshape(1, k),
        np.array([activation], np.float32).reshape(1, k),
        np.array([k], np.int32),
    )
    contrast = ContrastSet(
        image_kj[None],
        similarity_kj[None],
        np.zeros((1, k, j), np.float32),
        np.array([[len(p) for p in partner]], np.int32).reshape(1, k),
        np.array([7], np.int32),
        np.zeros(1, np.float32),
    )
    return Evidence(exemplars, contrast, image_nd)


def joined(*parts):
    """Several by-hand units of the same shape as one layer."""

    def join(kind, name):
        return np.concatenate([getattr(getattr(part, kind), name) for part in parts])

    return Evidence(
        Exemplars(*(join("exemplars", name) for name in Exemplars.__dataclass_fields__)),
        ContrastSet(*(join("contrast", name) for name in ContrastSet.__dataclass_fields__)),
        parts[0].image_nd,
    )


def rows_of(evidence, unit, n_score):
    """Exemplar rows, partner rows and activations of one unit, for the references."""
    exemplars, contrast, image_nd = evidence.exemplars, evidence.contrast, evidence.image_nd
    ranks = range(min(n_score, int(exemplars.count_u[unit])))
    rows = [image_nd[exemplars.image_uk[unit, k]] for k in ranks]
    partners = [
        [image_nd[i] for i in contrast.image_ukj[unit, k, : contrast.n_partner_uk[unit, k]]]
        for k in ranks
    ]
    return rows, partners, [float(exemplars.activation_uk[unit, k]) for k in ranks]


def audited(exemplars, image_nd, n_score=30, **settings):
    """All shipped statistics of units that have exemplars and no contrast images."""
    shape = (*exemplars.image_uk.shape, 1)
    nothing = np.zeros(shape, np.float32)
    n_units = len(exemplars.count_u)
    contrast = ContrastSet(
        nothing.astype(np.int32),
        nothing,
        nothing,
        np.zeros(shape[:2], np.int32),
        np.zeros(n_units, np.int32),
        np.zeros(n_units, np.float32),
    )
    evidence = Evidence(exemplars, contrast, image_nd)
    return measure_units(list(AUDITS.values()), evidence, n_score, **settings)
