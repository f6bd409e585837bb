from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from csp_engine.methods import METHODS, label_units, rescore
from csp_engine.methods.scoring.halves import concept_vectors, csp_components
from csp_engine.methods.scoring.ranking import top_labels
from tests.reference.contrast_residuals import contrast_residuals
from tests.worlds import small_layers

EVERYDAY = settings(max_examples=15, deadline=None)


@st.composite
def layers(draw):
    """Seed, units, width, labels, images, exemplars, partners; often equal numbers of them."""
    u = draw(st.integers(5, 9))
    d = draw(st.sampled_from([3, u, 12]))
    t = draw(st.sampled_from([2, u, d, 30]))
    n = draw(st.integers(6, 40))
    return (
        draw(st.integers(0, 2**32 - 1)),
        u,
        d,
        t,
        n,
        draw(st.integers(1, 45)),
        draw(st.integers(1, 3)),
    )


def build(layer):
    """A layer with odd units, its null and labels."""
    seed, u, d, t, n, n_exemplars, n_partners = layer
    rng = np.random.default_rng(seed)
    evidence = small_layers.awkward(rng, u, n, d, n_exemplars, n_partners)
    null = small_layers.noise(rng, evidence.image_nd, 12, n_exemplars, n_partners)
    return evidence, null, small_layers.unit_rows(rng, t, d)


METHOD = st.sampled_from([name for name in METHODS if not METHODS[name].writes])


@EVERYDAY
@given(layers(), METHOD)
def test_every_score_is_finite_ordered_and_within_its_range(layer, method):
    scores, _ = label_units(method, *build(layer), {}, n_labels=10)
    for name in scores.__dataclass_fields__:
        assert np.isfinite(getattr(scores, name)).all()
    for u, count in enumerate(scores.count_u):
        assert (np.diff(scores.score_uk[u, :count]) <= 0).all()
        assert (scores.margin_uk[u] >= 0).all()
        assert len(set(scores.label_uk[u, :count].tolist())) == count
    assert (scores.percentile_uk >= 0).all()
    assert (scores.percentile_uk < 1).all()
    length_u = np.linalg.norm(scores.vector_ud, axis=1)
    np.testing.assert_allclose(length_u, scores.count_u > 0, atol=1e-5)
    assert not scores.reliable_u.any()  # Twelve draws cannot show a percentile of .95.


@EVERYDAY
@given(layers(), METHOD, st.randoms(use_true_random=False))
def test_the_order_of_the_labels_does_not_matter(layer, method, random):
    evidence, null, label_td = build(layer)
    order = list(range(len(label_td)))
    random.shuffle(order)
    n_labels = len(order)
    first, _ = label_units(method, evidence, null, label_td, {}, n_labels=n_labels)
    second, _ = label_units(method, evidence, null, label_td[order], {}, n_labels=n_labels)
    for u in np.flatnonzero(first.count_u):
        by_label = np.empty(n_labels)
        by_label[first.label_uk[u]] = first.score_uk[u]
        again = np.empty(n_labels)
        again[np.array(order)[second.label_uk[u]]] = second.score_uk[u]
        np.testing.assert_allclose(again, by_label, atol=2e-5)


@EVERYDAY
@given(layers(), METHOD, st.floats(1e-6, 1e6))
def test_scaling_activations_up_changes_nothing(layer, method, factor):
    evidence, null, label_td = build(layer)
    exemplars = evidence.exemplars
    scaled = replace(
        evidence,
        exemplars=type(exemplars)(
            exemplars.image_uk,
            (exemplars.activation_uk * np.float32(factor)).astype(np.float32),
            exemplars.count_u,
        ),
    )
    params = {"weighting": "rank"} if method == "csp" else {}
    first, _ = label_units(method, evidence, null, label_td, params)
    second, _ = label_units(method, scaled, null, label_td, params)
    np.testing.assert_array_equal(second.score_uk, first.score_uk)


@EVERYDAY
@given(layers(), st.floats(0, 1), st.sampled_from(["none", "raw", "clamp0", "rank"]))
def test_a_stored_layer_at_another_gamma_is_the_layer_labelled_at_it(layer, gamma, weighting):
    evidence, null, label_td = build(layer)
    scores, extra = label_units("csp", evidence, null, label_td, {"weighting": weighting})
    again = rescore(scores, extra, label_td, gamma)
    params = {"weighting": weighting, "gamma": gamma}
    fresh, _ = label_units("csp", evidence, null, label_td, params)
    np.testing.assert_allclose(again.score_uk, fresh.score_uk, atol=1e-5)
    np.testing.assert_array_equal(again.count_u, fresh.count_u)
    np.testing.assert_allclose(again.best_percentile_u, fresh.best_percentile_u, atol=1 / 12)


@EVERYDAY
@given(layers(), st.integers(1, 50))
def test_gamma_zero_unweighted_is_semanticlens(layer, n_score):
    evidence, null, label_td = build(layer)
    params = {"gamma": 0.0, "weighting": "none", "n_score": n_score}
    ours, _ = label_units("csp", evidence, null, label_td, params)
    theirs, _ = label_units("semanticlens", evidence, null, label_td, {"n_score": n_score})
    np.testing.assert_array_equal(ours.vector_ud, theirs.vector_ud)
    np.testing.assert_allclose(ours.score_uk, theirs.score_uk, atol=1e-6)


@EVERYDAY
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.floats(0, 1))
def test_residuals(seed, d, gamma):
    rng = np.random.default_rng(seed)
    p, n = (small_layers.unit_rows(rng, 4, d)[None] for _ in range(2))
    s = np.sum(p * n, axis=2)
    removed = contrast_residuals(p, n, gamma)
    np.testing.assert_allclose(np.sum(removed * n, axis=2), (1 - gamma) * s, atol=1e-5)
    whole = contrast_residuals(p, n, 1.0)
    np.testing.assert_allclose(np.sum(whole**2, axis=2), 1 - s**2, atol=1e-5)


@EVERYDAY
@given(layers(), st.randoms(use_true_random=False))
def test_without_weights_the_order_of_the_exemplars_does_not_matter(layer, random):
    evidence, _, _ = build(layer)
    unit = 0
    count = int(evidence.exemplars.count_u[unit])
    order = list(range(count))
    random.shuffle(order)
    block = evidence.block(slice(unit, unit + 1))
    first = concept_vectors(*csp_components(block, 99, "none"), 0.6)
    for array in (
        block.exemplars.image_uk,
        block.contrast.image_ukj,
        block.contrast.n_partner_uk,
    ):
        array[0, :count] = array[0, order]
    second = concept_vectors(*csp_components(block, 99, "none"), 0.6)
    np.testing.assert_allclose(second, first, atol=1e-4)


@EVERYDAY
@given(
    st.lists(st.lists(st.integers(-3, 3), min_size=7, max_size=7), min_size=1, max_size=5),
    st.integers(1, 9),
)
def test_top_labels_with_many_ties_are_the_start_of_a_stable_sort(rows, n_labels):
    score_ut = np.array(rows, np.float32)
    expected = np.argsort(-score_ut, axis=1, kind="stable")[:, :n_labels]
    np.testing.assert_array_equal(top_labels(score_ut, n_labels), expected)
