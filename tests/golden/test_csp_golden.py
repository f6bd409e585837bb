from __future__ import annotations

import numpy as np
import pytest

from csp_engine.methods import METHODS, label_units
from csp_engine.methods.csp import concept_vectors, csp_components
from tests.reference import csp_reference as reference
from tests.worlds import small_layers

# (units, images, width, exemplars, partners, n_score): u = d, more exemplars wanted than images,
# n_score above and below the count, several partners.
SHAPES = [(8, 40, 8, 10, 1, 30), (6, 11, 5, 20, 1, 30), (16, 50, 16, 12, 3, 7), (5, 30, 9, 4, 2, 3)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("gamma", [0.3, 0.5, 1.0])
@pytest.mark.parametrize("weighting", ["none", "raw", "clamp0", "rank"])
def test_concept_vectors_agree_with_the_loops(shape, gamma, weighting):
    u, n, d, n_exemplars, n_partners, n_score = shape
    rng = np.random.default_rng(sum(shape))
    evidence = small_layers.awkward(rng, u, n, d, n_exemplars, n_partners)
    vector_ud = concept_vectors(*csp_components(evidence, n_score, weighting), gamma)
    for unit in range(u):
        rows, partners, activations = small_layers.rows_of(evidence, unit, n_score)
        if not rows or not any(reference.weights(activations, weighting)):
            assert not vector_ud[unit].any()
            continue
        expected = reference.concept_vector(rows, partners, activations, gamma, weighting)
        np.testing.assert_allclose(vector_ud[unit], expected, atol=2e-5)


@pytest.mark.parametrize("gamma", [0.5, 1.0])
def test_paper_preset_gives_the_published_scores_and_order(gamma):
    rng = np.random.default_rng(3)
    evidence = small_layers.awkward(rng, u=8, n=60, d=8, n_exemplars=40, n_partners=1)
    # As many labels as units and dimensions, and not of unit length: averaged templates.
    label_td = small_layers.unit_rows(rng, 8, 8) * rng.uniform(0.5, 1, (8, 1)).astype(np.float32)
    params = {**METHODS["csp"].published, "gamma": gamma}
    null = small_layers.noise(rng, evidence.image_nd, 20, 40)
    scores, _ = label_units(METHODS["csp"], evidence, null, label_td, params, n_labels=5)
    for unit in range(8):
        rows, partners, activations = small_layers.rows_of(evidence, unit, 30)
        if not rows:
            assert scores.count_u[unit] == 0
            continue
        z = reference.concept_vector(rows, partners, activations, gamma, "raw")
        expected = reference.scores(z, label_td)
        order = sorted(range(8), key=lambda t: (-expected[t], t))[:5]
        assert scores.label_uk[unit].tolist() == order
        np.testing.assert_allclose(scores.score_uk[unit], [expected[t] for t in order], atol=2e-5)


def test_an_all_negative_unit_keeps_its_published_weights():
    # Published: sum w r / (sum w): the signs cancel, and the weakest exemplar counts most.
    evidence = small_layers.by_hand(np.eye(3), [0, 1], [[2], [2]], activation=[-1, -3])
    vector_ud = concept_vectors(*csp_components(evidence, 30, "raw"), 1.0)
    expected = reference.concept_vector(np.eye(3)[:2], [[], []], [-1, -3], 1.0, "raw")
    np.testing.assert_allclose(vector_ud[0], expected, atol=1e-6)
    np.testing.assert_allclose(vector_ud[0] * np.sqrt(10), [1, 3, 0], atol=1e-5)


def test_a_negative_sum_of_mixed_weights_turns_the_strongest_exemplar_round_as_published():
    evidence = small_layers.by_hand(np.eye(2), [0, 1], [[], []], activation=[0.5, -1])
    vector_ud = concept_vectors(*csp_components(evidence, 30, "raw"), 0.5)
    np.testing.assert_allclose(vector_ud[0] * np.sqrt(5), [-1, 2], atol=1e-5)
    expected = reference.concept_vector(np.eye(2), [[], []], [0.5, -1], 0.5, "raw")
    np.testing.assert_allclose(vector_ud[0], expected, atol=1e-6)
