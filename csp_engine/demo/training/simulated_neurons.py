"""Simulated neurons: a concept, or two, with the images that would excite a neuron for it.

Most of the images show the concept, some are noise. Contrast images are the nearest ones in encoder
space that do not show it, as in a bundle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import faiss
import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64

from csp_engine.captioners import ImageSet
from csp_engine.errors import InputError

N_IMAGES = 30
"""Most images that excite one."""
_N_NEIGHBOURS = 256
_LEAST = 8

Kind = Literal["single", "accompanied", "both", "either", "nothing"]
KINDS: dict[Kind, float] = {
    "single": 0.42,
    "accompanied": 0.20,
    "both": 0.16,
    "either": 0.10,
    "nothing": 0.12,
}
"""Kinds of simulated neurons and how often each is drawn in training.

``single`` answers to one concept; ``accompanied`` too, but a second concept shows in nearly all of
its exemplars and contrast images and must not be named; ``both`` answers to two concepts together
("A and B"); ``either`` to one or the other, and each is a right answer; ``nothing`` to none.
"""


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedNeuron:
    """Rows of activating and contrast images, and the concepts that are its meaning.

    ``companion`` is the concept that an ``accompanied`` neuron must not be named after, or −1.
    """

    kind: Kind
    activating_m: Int64[np.ndarray, " m"]
    contrast_c: Int64[np.ndarray, " c"]
    concepts: tuple[int, ...]
    companion: int = -1


class NeuronSimulator:
    """Draws simulated neurons from images whose concepts are known.

    Args:
        image_nd: unit embeddings.
        truth_nc: which concepts each image shows.
    """

    def __init__(
        self, image_nd: Float32[np.ndarray, "n d"], truth_nc: Bool[np.ndarray, "n c"]
    ) -> None:
        self.image_nd = image_nd
        self.truth_nc = truth_nc
        self.near_nl: Int32[np.ndarray, "n l"] = _neighbours(image_nd)
        count_cc = truth_nc.T.astype(np.int64) @ truth_nc.astype(np.int64)
        count_c = np.diag(count_cc)
        n = len(truth_nc)
        self.usable = np.flatnonzero((count_c >= _LEAST) & (count_c <= n - _LEAST))
        if not len(self.usable):
            raise InputError(
                f"No concept shows on at least {_LEAST} of the {n} images and is absent from as "
                "many, so there is nothing to learn."
            )
        is_usable_c = np.isin(np.arange(len(count_c)), self.usable)
        other = ~np.eye(len(count_c), dtype=bool) & is_usable_c[:, None] & is_usable_c
        # Rows A, columns B: together often enough; and B without A often enough.
        self.pairs = np.argwhere(other & (count_cc >= _LEAST))
        self.companions = np.argwhere(
            other & (count_cc >= _LEAST) & (count_c[None, :] - count_cc >= _LEAST)
        )

    def draw(
        self, rng: np.random.Generator, kind: Kind, *, noise: float | None = None,
        n_images: int | None = None, company: float | None = None,
    ) -> SimulatedNeuron:  # fmt: skip
        """One simulated neuron.

        Args:
            rng: source of randomness.
            kind: see ``KINDS``; one with two concepts becomes ``single`` where no pair exists.
            noise: share of activating images drawn from all images; by default 0 to 0.4.
            n_images: activating images; by default 3 to 30, often 30.
            company: share of an ``accompanied`` neuron's images that show the companion; by default
                0.85 to 1.
        """
        truth = self.truth_nc
        if n_images is None:
            n_images = N_IMAGES if rng.random() < 0.4 else int(rng.integers(3, N_IMAGES + 1))
        noise = rng.uniform(0, 0.4) if noise is None else noise
        n_noise = round(noise * n_images)
        n_true = n_images - n_noise
        if (kind in ("both", "either") and not len(self.pairs)) or (
            kind == "accompanied" and not len(self.companions)
        ):
            kind = "single"
        anything = rng.integers(0, len(truth), n_noise)
        companion = -1
        if kind == "nothing":
            activating = rng.integers(0, len(truth), n_images)
            is_open_n = np.ones(len(truth), bool)
            concepts: tuple[int, ...] = ()
        elif kind == "single":
            a = int(rng.choice(self.usable))
            concepts, is_open_n = (a,), ~truth[:, a]
            activating = np.concatenate([self._pick(rng, truth[:, a], n_true), anything])
        elif kind == "accompanied":
            a, companion = (int(c) for c in self.companions[rng.integers(len(self.companions))])
            concepts, is_open_n = (a,), ~truth[:, a]
            company = rng.uniform(0.85, 1) if company is None else company
            n_with = round(company * n_true)
            with_both = self._pick(rng, truth[:, a] & truth[:, companion], n_with)
            rest = self._pick(rng, truth[:, a], n_true - n_with)
            activating = np.concatenate([with_both, rest, anything])
        else:
            a, b = sorted(int(c) for c in self.pairs[rng.integers(len(self.pairs))])
            concepts = (a, b)
            if kind == "both":
                shown_n = truth[:, a] & truth[:, b]
                activating = self._pick(rng, shown_n, n_true)
                is_open_n = ~shown_n
            else:
                n_first = round(rng.uniform(0.35, 0.65) * n_true)
                activating = np.concatenate(
                    [
                        self._pick(rng, truth[:, a], n_first),
                        self._pick(rng, truth[:, b], n_true - n_first),
                    ]
                )
                is_open_n = ~(truth[:, a] | truth[:, b])
            activating = np.concatenate([activating, anything])
        wanted_n = truth[:, companion] if companion >= 0 else None
        contrast = self._partners(rng, activating, is_open_n, wanted_n)
        return SimulatedNeuron(kind, activating, contrast, concepts, companion)

    def images(self, neuron: SimulatedNeuron, mode: str) -> ImageSet:
        """What a captioner is shown of it."""
        contrast = neuron.contrast_c if mode == "contrast" else neuron.contrast_c[:0]
        return ImageSet(self.image_nd[neuron.activating_m], self.image_nd[contrast])

    def _pick(
        self, rng: np.random.Generator, is_shown_n: Bool[np.ndarray, " n"], n: int
    ) -> Int64[np.ndarray, " m"]:
        """Images that show a concept: at random, or as real neurons do, leaning some way.

        A leaning pick takes of three times as many images those that lie furthest in the direction
        from one random image to another.
        """
        shown = np.flatnonzero(is_shown_n)
        n = min(n, len(shown))
        if rng.random() < 0.7:
            return rng.choice(shown, n, replace=False)
        among = rng.choice(shown, min(3 * n, len(shown)), replace=False)
        start, end = rng.integers(0, len(self.image_nd), 2)
        along = self.image_nd[among] @ (self.image_nd[end] - self.image_nd[start])
        return among[np.argsort(-along, kind="stable")[:n]]

    def _partners(
        self,
        rng: np.random.Generator,
        activating: Int64[np.ndarray, " m"],
        is_open_n: Bool[np.ndarray, " n"],
        wanted_n: Bool[np.ndarray, " n"] | None,
    ) -> Int64[np.ndarray, " c"]:
        """The nearest image of each that lacks the concept and, if there is one, has the companion.

        Up to 15 % of them are simply the nearest image: a real neuron is quiet on some images that
        show its concept.
        """
        near_ml = self.near_nl[activating]
        open_ml = is_open_n[near_ml]
        if wanted_n is not None:
            both_ml = open_ml & wanted_n[near_ml]
            open_ml = np.where(both_ml.any(axis=1, keepdims=True), both_ml, open_ml)
        leak_m = rng.random(len(activating)) < rng.uniform(0, 0.15)
        open_ml = open_ml | leak_m[:, None]
        found_m = near_ml[np.arange(len(near_ml)), open_ml.argmax(axis=1)][open_ml.any(axis=1)]
        return np.setdiff1d(found_m, activating).astype(np.int64)


def _neighbours(image_nd: Float32[np.ndarray, "n d"]) -> Int32[np.ndarray, "n l"]:
    """The nearest other images of each image, nearest first."""
    image_nd = np.ascontiguousarray(image_nd, np.float32)
    length = min(_N_NEIGHBOURS + 1, len(image_nd))
    near_nl = np.empty((len(image_nd), length), np.int32)
    for start in range(0, len(image_nd), 2048):
        part = slice(start, start + 2048)
        _, near_nl[part] = faiss.knn(
            image_nd[part], image_nd, length, metric=faiss.METRIC_INNER_PRODUCT
        )
    return near_nl
