"""Photographs altered by known means, and what is known of a label without any truth."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from csp_engine.bundle import Bundle
from csp_engine.errors import InputError
from csp_engine.evaluation.confidence import label_features
from csp_engine.vectors import normalise_rows
from studies import altered


def test_features_are_what_a_loop_over_units_finds():
    rng = np.random.default_rng(0)
    n_units, n_ranks, n_labels = 60, 4, 9
    meaning_t = np.arange(n_labels) // 3
    id_uk = np.array([rng.permutation(n_labels)[:n_ranks] for _ in range(n_units)])
    id_uk[rng.random(id_uk.shape) < 0.2] = -1
    score_uk = -np.sort(-rng.normal(2, 1, (n_units, n_ranks)), axis=1)
    score_uk[::7, 2:] = np.nan
    percentile_u = np.where(np.arange(n_units) % 9 == 0, np.nan, rng.random(n_units))
    others = [rng.integers(-1, n_labels, n_units) for _ in range(3)]
    signal_u = np.where(np.arange(n_units) % 5 == 0, np.nan, rng.random(n_units))
    found = label_features(
        percentile_u, score_uk, id_uk, others, [signal_u],
        lambda one_a, other_a: meaning_t[one_a] == meaning_t[other_a],
    )  # fmt: skip
    for unit in range(n_units):
        best, scores = id_uk[unit, 0], [0 if np.isnan(s) else s for s in score_uk[unit]]
        next_rank = n_ranks - 1
        for rank in range(1, n_ranks):
            label = id_uk[unit, rank]
            if label >= 0 and (best < 0 or meaning_t[label] != meaning_t[best]):
                next_rank = rank
                break
        percentile = 0 if np.isnan(percentile_u[unit]) else percentile_u[unit]
        agree = [
            best >= 0 and other[unit] >= 0 and meaning_t[best] == meaning_t[other[unit]]
            for other in others
        ]
        expected = [
            -np.log10(max(1 - percentile, 1e-4)),
            (scores[0] - scores[next_rank]) / max(abs(scores[0]), 1e-9),
            sum(agree) / 3,
            0 if np.isnan(signal_u[unit]) else signal_u[unit],
        ]
        np.testing.assert_allclose(found[unit], expected, atol=1e-12)


def test_every_photograph_is_altered_once_at_most_by_a_cast():
    plot = altered.plot_alterations(4000, 3)
    casts_nc = plot.is_shown_nc[:, -len(altered.CASTS) :]
    assert casts_nc.sum(axis=1).max() == 1
    assert casts_nc.mean() * len(altered.CASTS) == pytest.approx(altered.SHARE_CAST, abs=0.03)
    pasted_nc = plot.is_shown_nc[:, : -len(altered.CASTS)]
    np.testing.assert_allclose(pasted_nc.mean(axis=0), altered.SHARE_PASTED, atol=0.02)
    assert set(plot.names) == set(altered.WORDINGS)
    np.testing.assert_array_equal(plot.is_shown_nc, altered.plot_alterations(4000, 3).is_shown_nc)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_cast_multiplies_each_colour_also_of_grey_images(mode):
    grey_hw = np.arange(64 * 48, dtype=np.uint8).reshape(48, 64)
    image = Image.fromarray(grey_hw).convert(mode)
    for name, factors in altered.CASTS.items():
        found_hwc = np.asarray(altered.alter(image, name, 0))
        for value in (0, 1, 100, 255):
            at = tuple(np.argwhere(grey_hw == value)[0])
            assert found_hwc[at].tolist() == [min(255, int(f * value + 0.5)) for f in factors]


def test_an_alteration_that_does_not_exist_is_named():
    with pytest.raises(InputError, match="'glitter'"):
        altered.alter(Image.new("RGB", (64, 64)), "glitter", 0)


def test_what_cannot_be_planted_into_is_refused_in_one_sentence(shipped_bundle, monkeypatch):
    class Stored:
        spec = "precomputed/vectors"
        needs_pixels = False

    demo = Bundle.open(shipped_bundle)
    with pytest.raises(InputError, match="precomputed/vectors holds stored vectors"):
        altered.altered_world(demo, Stored())
    monkeypatch.setattr(altered, "LEAST_IMAGES", demo.n_images + 1)
    with pytest.raises(InputError, match=f"has {demo.n_images} images, and units are planted into"):
        altered.altered_world(demo, Stored())


class Told:
    """An encoder of texts, and a bundle with a few words: as much as ``_words`` looks at."""

    words = ("ruler", "measure", "melanoma", "streaks", "veil")

    def __init__(self, recipe):
        self.manifest = SimpleNamespace(recipe=recipe)

    def embed_texts(self, prompts):
        vector_td = np.zeros((len(prompts), len(self.words)), np.float32)
        for vector_d, prompt in zip(vector_td, prompts, strict=True):
            vector_d[next(at for at, word in enumerate(self.words) if word in prompt)] = 1
        vector_td[vector_td[:, 1] == 1, :2] = 1, 0.2  # a measure is nearly a ruler
        return normalise_rows(vector_td)

    def labels(self):
        return pd.DataFrame({"text": self.words[1:]})

    def label_vectors(self):
        return self.embed_texts(self.words[1:])


@pytest.mark.parametrize(
    ("own", "kept"),
    [
        (["ruler"], ["melanoma", "streaks", "veil", "ruler"]),
        (["ruler", "measure"], ["measure", "melanoma", "streaks", "veil", "ruler"]),
    ],
)
def test_no_word_is_left_of_which_nobody_could_say_if_it_is_right(shipped_bundle, own, kept):
    told = Told(Bundle.open(shipped_bundle).manifest.recipe)
    texts, label_td = altered._words(told, told, own)
    assert texts == kept
    assert label_td.shape == (len(kept), 5)
