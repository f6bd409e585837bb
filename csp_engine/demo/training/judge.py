"""The judge of the demo: an encoder of another kind, for one purpose, to say what labels predict.

It shares nothing with the demo encoder but the simulator: other photographs, other captions, other
seed, and no network. Pictures become responses to random patches of them, whitened (Coates and Ng,
"The importance of encoding versus training", ICML 2011); a ridge regression reads the concepts from
these, another reads them from the words and pairs of words of a text. It is fitted in a minute or
two wherever it is asked for, so nothing of it is shipped:

    csp evaluate assets/demo/dermoscopy.csp --benchmark planted --judge
    python:csp_engine.demo.training.judge:encoder
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64
from PIL import Image

from csp_engine.demo.simulator import render
from csp_engine.demo.simulator.captions import HELD_OUT, WORDINGS
from csp_engine.demo.simulator.cases import CONCEPTS, concept_table, draw_cases
from csp_engine.demo.training.encoder import teaching_captions
from csp_engine.demo.workers import workers

SPEC = "python:csp_engine.demo.training.judge:encoder"
SIDE, PATCH, STEP = 96, 6, 2
N_FILTERS, N_LESSONS, N_CAPTIONS = 256, 600, 8000
SEED = 71
SOFT = 0.25
"""What a response must exceed, in standard deviations of a whitened patch."""
_BLOCK = 50


class PatchJudge:
    """Vectors of one number for each concept, and one that only texts without a known word have."""

    spec = SPEC
    needs_pixels = True
    dim = len(CONCEPTS) + 1

    def __init__(self, n_lessons: int = N_LESSONS, n_captions: int = N_CAPTIONS, seed: int = SEED):
        """Draw photographs and captions, and fit.

        Args:
            n_lessons: photographs.
            n_captions: captions.
            seed: of everything.
        """
        settings = [n_lessons, n_captions, seed, render.VERSION, SIDE, PATCH, STEP, N_FILTERS]
        self.description: dict[str, Any] = {"kind": "patches", "settings": settings}
        self.fingerprint = hashlib.sha256(json.dumps(self.description).encode()).hexdigest()
        cases = draw_cases("words", n_lessons, seed)
        with workers(n_lessons) as run:
            pixel_ncyx = np.stack(list(run(_drawn, cases.to_dict("records"))))
        shown = concept_table(cases)[list(CONCEPTS)]
        rng = np.random.default_rng(seed)
        self._filters(pixel_ncyx, rng)
        feature_nf = self._features(pixel_ncyx)
        self._mean_f, spread_f = feature_nf.mean(axis=0), feature_nf.std(axis=0)
        self._spread_f = np.where(spread_f > 1e-9, spread_f, 1.0)
        self._read_fc, reading_nc = _ridge(
            (feature_nf - self._mean_f) / self._spread_f, shown.to_numpy(float), len(feature_nf) / 4
        )
        self._base_c = reading_nc.mean(axis=0)
        self._unit_c = np.maximum(reading_nc.std(axis=0), 1e-6)
        wordings = {name: WORDINGS[name] + HELD_OUT[name] for name in CONCEPTS}
        taught = teaching_captions(shown, n_captions, seed, wordings)
        words = sorted({word for each in taught for word in _words(each.text)})
        self._row = {word: at for at, word in enumerate(words)}
        place = {name: c for c, name in enumerate(CONCEPTS)}
        said_tc = np.zeros((len(taught), len(CONCEPTS)))
        for t, each in enumerate(taught):
            said_tc[t, [place[name] for name in each.concepts]] = 1
        self._say_wc, _ = _ridge(self._bags([each.text for each in taught]), said_tc, 1.0)

    def preprocess(self, image: Image.Image) -> Float32[np.ndarray, "c y x"]:
        """The whole image, small."""
        small = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        return np.asarray(small, np.float32).transpose(2, 0, 1) / 255

    def embed_images(self, pixels: Float32[np.ndarray, "n c y x"]) -> Float32[np.ndarray, "n d"]:
        """What pictures show, in standard deviations over the lessons; unit rows."""
        feature_nf = (self._features(pixels) - self._mean_f) / self._spread_f
        shown_nc = (feature_nf @ self._read_fc - self._base_c) / self._unit_c
        return _unit_rows(np.column_stack([shown_nc, np.zeros(len(shown_nc))]))

    def embed_texts(self, texts: Sequence[str]) -> Float32[np.ndarray, "t d"]:
        """Which concepts texts name; unit rows."""
        bag_tw = self._bags(texts)
        said_tc = bag_tw @ self._say_wc
        return _unit_rows(np.column_stack([said_tc, bag_tw.sum(axis=1) == 0]))

    def _bags(self, texts: Sequence[str]) -> Float64[np.ndarray, "t w"]:
        bag_tw = np.zeros((len(texts), len(self._row)))
        for t, text in enumerate(texts):
            known = [self._row[word] for word in _words(text) if word in self._row]
            bag_tw[t, known] = 1
        return bag_tw

    def _filters(self, pixel_ncyx: np.ndarray, rng: np.random.Generator) -> None:
        """Patches at random, and what whitens any patch."""
        patches = []
        for image_cyx in pixel_ncyx[:: max(1, len(pixel_ncyx) // 400)]:
            patch_pk = _patches(image_cyx[None])[0]
            patches.append(patch_pk[rng.integers(len(patch_pk), size=40)])
        patch_pk = np.concatenate(patches).astype(np.float64)
        self._centre_k = patch_pk.mean(axis=0)
        size_k, turn_kk = np.linalg.eigh(
            np.cov(patch_pk, rowvar=False) + 1e-3 * np.eye(patch_pk.shape[1])
        )
        whiten_kk = turn_kk / np.sqrt(size_k) @ turn_kk.T
        chosen = rng.permutation(len(patch_pk))[:N_FILTERS]
        filter_fk = _unit_rows((patch_pk[chosen] - self._centre_k) @ whiten_kk)
        self._filter_kf = np.asarray(whiten_kk @ filter_fk.T, np.float32)
        self._offset_f = np.asarray(self._centre_k @ whiten_kk @ filter_fk.T, np.float32)

    def _features(self, pixel_ncyx: np.ndarray) -> Float64[np.ndarray, "n f"]:
        """Responses of both signs at two scales: mean and largest over the picture."""
        found = []
        for start in range(0, len(pixel_ncyx), _BLOCK):
            block = np.asarray(pixel_ncyx[start : start + _BLOCK], np.float32)
            n, c, side, _ = block.shape
            halved = block.reshape(n, c, side // 2, 2, side // 2, 2).mean(axis=(3, 5))
            parts = [block.mean(axis=(2, 3)), block.std(axis=(2, 3))]
            for scaled in (block, halved):
                response_npf = _patches(scaled) @ self._filter_kf - self._offset_f
                for sign in (1, -1):
                    over_npf = np.maximum(sign * response_npf - SOFT, 0)
                    parts += [over_npf.mean(axis=1), over_npf.max(axis=1)]
            found.append(np.concatenate(parts, axis=1))
        return np.concatenate(found).astype(np.float64)


def encoder() -> PatchJudge:
    """The judge, fitted."""
    return PatchJudge()


def _drawn(case: dict[str, Any]) -> np.ndarray:
    image = render.render(case).image().resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return np.asarray(image, np.float32).transpose(2, 0, 1) / 255


def _patches(pixel_ncyx: np.ndarray) -> np.ndarray:
    """All patches of pictures, ``(n, p, k)``."""
    window = np.lib.stride_tricks.sliding_window_view(pixel_ncyx, (PATCH, PATCH), axis=(2, 3))
    window = window[:, :, ::STEP, ::STEP]
    n, c, rows, columns = window.shape[:4]
    flat = window.transpose(0, 2, 3, 1, 4, 5)
    return np.ascontiguousarray(flat).reshape(n, rows * columns, c * PATCH * PATCH)


def _words(text: str) -> list[str]:
    words = text.casefold().replace(",", " ").split()
    return [*words, *(" ".join(pair) for pair in pairwise(words))]


def _ridge(x_nf: np.ndarray, y_nc: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights of a ridge regression of centred values, and what they give for the same rows."""
    square_ff = x_nf.T @ x_nf + penalty * np.eye(x_nf.shape[1])
    weight_fc = np.linalg.solve(square_ff, x_nf.T @ (y_nc - y_nc.mean(axis=0)))
    return weight_fc, x_nf @ weight_fc


def _unit_rows(value_nd: np.ndarray) -> np.ndarray:
    length_n = np.linalg.norm(value_nd, axis=1, keepdims=True)
    return np.asarray(value_nd / np.where(length_n > 0, length_n, 1.0), np.float32)
