"""What each pair adds to a score: the sum is the score, and single parts by hand."""

from __future__ import annotations

import numpy as np
import pytest

from csp_engine.methods import METHODS, resolve_params
from tests.worlds import small_layers


def score_parts(evidence, label_d, params):
    method = METHODS["csp"]
    return method.parts(evidence, label_d, resolve_params(method, params))


@pytest.mark.parametrize("weighting", ["none", "rank", "raw"])
@pytest.mark.parametrize("gamma", [0.0, 0.6, 1.0])
def test_the_parts_sum_to_the_score_of_the_label(weighting, gamma):
    rng = np.random.default_rng(8)
    evidence = small_layers.awkward(rng, 6, 40, 8, 12, 2)
    label_td = small_layers.unit_rows(rng, 5, 8)
    params = {"weighting": weighting, "gamma": gamma, "n_score": 7}
    method = METHODS["csp"]
    whole = method.score(evidence, label_td, resolve_params(method, params))
    for unit in range(6):
        one = evidence.block(np.array([unit]))
        for label in range(5):
            parts = score_parts(one, label_td[label], params)
            assert len(parts.part_k) == min(7, evidence.exemplars.count_u[unit])
            assert parts.part_k.sum() == pytest.approx(whole.score_ut[unit, label], abs=1e-5)


def test_a_pair_adds_what_its_exemplar_has_and_its_look_alike_has_not():
    """The first exemplar is x and z beside a z, the second is z beside a z: only the first says x.

    With gamma 1 the residuals are x / sqrt(2) and 0, so the score for x is 1, and all of it
    is the first's.
    """
    x, z = np.eye(2)
    images = np.array([(x + z) / np.sqrt(2), z, z], np.float32)
    evidence = small_layers.by_hand(images, [0, 1], [[2], [2]])
    parts = score_parts(evidence, x.astype(np.float32), {})
    np.testing.assert_allclose(parts.part_k, [1, 0], atol=1e-6)
    np.testing.assert_allclose(parts.exemplar_k, [1 / np.sqrt(2), 0], atol=1e-6)
    np.testing.assert_allclose(parts.contrast_k, [0, 0], atol=1e-6)


def test_nothing_left_adds_nothing():
    images = np.eye(2, dtype=np.float32)[[0, 0]]
    evidence = small_layers.by_hand(images, [0], [[1]])
    np.testing.assert_array_equal(score_parts(evidence, images[0], {}).part_k, [0])
