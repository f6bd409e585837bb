from __future__ import annotations

import numpy as np
import pytest

from csp_engine.methods import METHODS, label_units
from tests.reference import semanticlens_reference as reference
from tests.worlds import small_layers


@pytest.mark.parametrize(("u", "n", "d", "t"), [(8, 40, 8, 8), (6, 12, 5, 3), (5, 30, 16, 40)])
@pytest.mark.parametrize("n_score", [3, 30])
def test_scores_agree_with_the_loops(u, n, d, t, n_score):
    """Also where units, labels and width are equal: the published code then multiplies without
    a transpose, or returns a diagonal."""
    rng = np.random.default_rng(u + t)
    evidence = small_layers.awkward(rng, u, n, d, n_exemplars=20, n_partners=1)
    label_td = small_layers.unit_rows(rng, t, d) * np.float32(0.7)
    null = small_layers.noise(rng, evidence.image_nd, 20)
    scores, extra = label_units(
        METHODS["semanticlens"], evidence, null, label_td, {"n_score": n_score}, n_labels=t
    )
    assert not extra
    for unit in range(u):
        rows, _, _ = small_layers.rows_of(evidence, unit, n_score)
        if not rows:
            assert scores.count_u[unit] == 0
            continue
        expected = reference.scores(rows, label_td)
        order = sorted(range(t), key=lambda i: -expected[i])
        assert scores.label_uk[unit].tolist() == order
        np.testing.assert_allclose(scores.score_uk[unit], sorted(expected)[::-1], atol=1e-5)
        np.testing.assert_array_equal(scores.raw_uk[unit], scores.score_uk[unit])


@pytest.mark.parametrize("n_partners", [1, 4])
def test_csp_at_gamma_zero_without_weights_is_semanticlens(n_partners):
    rng = np.random.default_rng(5)
    evidence = small_layers.awkward(rng, 8, 60, 8, n_exemplars=35, n_partners=n_partners)
    label_td = small_layers.unit_rows(rng, 50, 8)
    null = small_layers.noise(rng, evidence.image_nd, 30, 35, n_partners)
    params = {"gamma": 0.0, "weighting": "none"}
    ours, _ = label_units(METHODS["csp"], evidence, null, label_td, params)
    theirs, _ = label_units(METHODS["semanticlens"], evidence, null, label_td, {})
    np.testing.assert_array_equal(ours.vector_ud, theirs.vector_ud)
    np.testing.assert_array_equal(ours.label_uk, theirs.label_uk)
    np.testing.assert_array_equal(ours.percentile_uk, theirs.percentile_uk)
    np.testing.assert_allclose(ours.score_uk, theirs.score_uk, atol=1e-6)
    np.testing.assert_allclose(ours.raw_uk, theirs.raw_uk, atol=1e-6)


def test_activation_weights_at_gamma_zero_are_not_semanticlens():
    """The published comparison varies gamma and the weights at once; here they are two knobs."""
    evidence = small_layers.by_hand(np.eye(3), [0, 1], [[2], [2]], activation=[9, 1])
    null = small_layers.noise(np.random.default_rng(0), np.eye(3, dtype=np.float32), 5, 2)
    label_td = np.eye(3, dtype=np.float32)
    ours, _ = label_units("csp", evidence, null, label_td, {"gamma": 0.0, "weighting": "raw"})
    theirs, _ = label_units("semanticlens", evidence, null, label_td, {})
    assert abs(ours.score_uk[0, 0] - theirs.score_uk[0, 0]) > 0.2
