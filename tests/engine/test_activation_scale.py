"""No label, and nothing that judges it, depends on the unit that activations are measured in."""

from __future__ import annotations

import numpy as np
import pytest

from csp_engine.evaluation.directions import _ridge
from csp_engine.methods import METHODS, label_layer
from tests.worlds import small_layers

SCALES = (1e-30, 1e-15, 1e-11, 1e13, 1e25)


def labelled(name, scale):
    """Units that follow a label, part of them rectified or below zero, and a constant one."""
    rng = np.random.default_rng(0)
    image_nd, label_td = small_layers.unit_rows(rng, 300, 12), small_layers.unit_rows(rng, 20, 12)
    acts_un = label_td[:6] @ image_nd.T + 0.05 * rng.standard_normal((6, 300))
    acts_un = np.concatenate(
        [acts_un, np.maximum(acts_un - 0.2, 0), acts_un - 9, np.ones((1, 300))]
    )
    evidence = small_layers.mined(acts_un.astype(np.float32) * np.float32(scale), image_nd, 20)
    null = small_layers.noise(rng, image_nd, 40, 20)
    done = label_layer(METHODS[name], evidence, null, label_td, {}, n_labels=3)
    scores = done.scores
    texts = done.texts or small_layers.WORDS
    told = [
        (texts[label] if count else None, bool(reliable))
        for label, count, reliable in zip(
            scores.label_uk[:, 0], scores.count_u, scores.reliable_u, strict=True
        )
    ]
    return told, np.asarray(scores.score_uk)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_labels_are_those_of_activations_in_any_unit(name):
    told, score_uk = labelled(name, 1)
    assert any(text and reliable for text, reliable in told) or name in ("falcon", "milan")
    for scale in SCALES:
        again, score_again_uk = labelled(name, scale)
        assert again == told, scale
        np.testing.assert_allclose(score_again_uk, score_uk, rtol=1e-3, atol=1e-4)


def test_a_direction_of_tiny_activations_is_that_of_large_ones():
    rng = np.random.default_rng(1)
    has_n = np.arange(80) < 40
    own_nu = rng.standard_normal((80, 3)) + has_n[:, None] * [2, 0, 0]
    expected_u = _ridge(own_nu, has_n, "hair")
    np.testing.assert_allclose(_ridge(own_nu * 1e-14, has_n, "hair"), expected_u, atol=1e-5)
