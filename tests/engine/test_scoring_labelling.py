from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from csp_engine.errors import InputError, StaleError
from csp_engine.evidence.contrast import ContrastRule
from csp_engine.methods import (
    METHODS,
    label_layer,
    label_units,
    noise_evidence,
    pair_statistics,
)
from tests.worlds import small_layers

OF_VOCABULARY = [name for name, method in METHODS.items() if not method.writes]
ALL = [
    ("csp", {"gamma": 0.7}),
    ("semanticlens", {}),
    ("clip_dissect", {"prior": "null"}),
    ("clip_dissect", {"prior": "layer", "prior_weight": 0.8}),
    ("clip_dissect", {"prior": "none"}),
]


def layer(seed=0, u=9, n=60, d=8, t=25):
    rng = np.random.default_rng(seed)
    evidence = small_layers.awkward(rng, u, n, d, 15, 2)
    return (
        evidence,
        small_layers.noise(rng, evidence.image_nd, 30, 15, 2),
        small_layers.unit_rows(rng, t, d),
    )


@pytest.mark.parametrize(("method", "params"), ALL)
@pytest.mark.parametrize("unit_block", [1, 4])
def test_results_do_not_depend_on_the_block(method, params, unit_block):
    evidence, null, label_td = layer()
    whole, extra = label_units(method, evidence, null, label_td, params)
    parts, part_extra = label_units(method, evidence, null, label_td, params, unit_block=unit_block)
    for name in whole.__dataclass_fields__:
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), atol=2e-5)
    assert extra.keys() == part_extra.keys()
    for name in extra:
        np.testing.assert_allclose(part_extra[name], extra[name], atol=1e-6)


@pytest.mark.parametrize(("method", "params"), [*ALL, ("csp_plus", {})])
def test_what_layers_share_changes_nothing(method, params):
    """Made for the first layer, used for the second; neither sees what the other alone has."""
    _, null, label_td = layer()
    common = {}
    for seed in (0, 1):
        rng = np.random.default_rng(seed)
        acts_un = rng.standard_normal((7, 60)).astype(np.float32)
        evidence = small_layers.mined(acts_un, null.image_nd, 15 - 6 * seed)
        alone = label_layer(method, evidence, null, label_td, params)
        shared = label_layer(method, evidence, null, label_td, params, common=common)
        for name in alone.scores.__dataclass_fields__:
            a, b = getattr(alone.scores, name), getattr(shared.scores, name)
            np.testing.assert_array_equal(a, b)
        assert alone.arrays.keys() == shared.arrays.keys()
        for name, array in alone.arrays.items():
            np.testing.assert_array_equal(shared.arrays[name], array)
    is_of_layer = params.get("prior") == "layer"
    assert bool(common) == (not is_of_layer)


@pytest.mark.parametrize("method", ["csp", "semanticlens", "clip_dissect"])
def test_a_label_does_not_depend_on_which_other_neurons_are_in_the_call(method):
    evidence, null, label_td = layer()
    whole, _ = label_units(method, evidence, null, label_td, {})
    alone, _ = label_units(method, evidence.block(slice(5, 6)), null, label_td, {})
    np.testing.assert_array_equal(alone.label_uk[0], whole.label_uk[5])
    np.testing.assert_allclose(alone.score_uk[0], whole.score_uk[5], atol=2e-5)
    np.testing.assert_allclose(alone.percentile_uk[0], whole.percentile_uk[5], atol=1e-6)


def test_the_published_prior_does_depend_on_the_other_neurons():
    evidence, null, label_td = layer()
    params = {"prior": "layer"}
    whole, _ = label_units("clip_dissect", evidence, null, label_td, params)
    alone, _ = label_units("clip_dissect", evidence.block(slice(5, 6)), null, label_td, params)
    np.testing.assert_allclose(alone.score_uk, 0, atol=1e-4)
    assert abs(whole.score_uk[5, 0]) > 0.01


@pytest.mark.parametrize(("method", "params"), ALL)
def test_units_without_evidence_have_no_label(method, params):
    evidence, null, label_td = layer()
    assert evidence.exemplars.count_u[2] == 0
    scores, _ = label_units(method, evidence, null, label_td, params)
    assert scores.count_u[2] == 0
    assert not scores.reliable_u[2]
    for name in ("score_uk", "margin_uk", "percentile_uk", "raw_uk", "vector_ud"):
        assert not getattr(scores, name)[2].any()
        assert np.isfinite(getattr(scores, name)).all()
    assert scores.n_exemplar_u[2] == 0
    assert scores.similarity_u[2] == scores.reuse_u[2] == 0


@pytest.mark.parametrize("method", OF_VOCABULARY)
def test_a_layer_without_any_evidence_is_not_an_error(method):
    evidence, null, label_td = layer()
    scores, extra = label_units(method, evidence.block(slice(2, 3)), null, label_td, {})
    assert scores.count_u.tolist() == [0]
    if method == "csp":
        assert not extra["anchor"].any()
        assert extra["anchor"].shape == (1, 8)


@pytest.mark.parametrize("method", OF_VOCABULARY)
@pytest.mark.parametrize("n_labels", [1, 2, 5])
def test_a_vocabulary_of_two(method, n_labels):
    evidence, null, label_td = layer(t=2)
    scores, _ = label_units(method, evidence, null, label_td, {}, n_labels=n_labels)
    kept = min(n_labels, 2)
    assert scores.label_uk.shape == (9, kept)
    assert set(scores.count_u.tolist()) == {0, kept}
    assert scores.margin_uk[0, 0] > 0
    assert kept == 1 or scores.margin_uk[0, 1] == 0


def test_the_concept_vector_of_clip_dissect_is_its_best_label():
    evidence, null, label_td = layer()
    scores, _ = label_units("clip_dissect", evidence, null, 3 * label_td, {})
    np.testing.assert_allclose(scores.vector_ud[0], label_td[scores.label_uk[0, 0]], atol=1e-6)


@pytest.mark.parametrize("method", OF_VOCABULARY)
@pytest.mark.parametrize("n_exemplars", [40, 4])
def test_percentiles_of_noise_are_spread_evenly(method, n_exemplars):
    """Whatever the number of exemplars: units with few of them meet a null made of as few."""
    rng = np.random.default_rng(0)
    image_nd = small_layers.unit_rows(rng, 600, 16) + 0.2
    image_nd = (image_nd / np.linalg.norm(image_nd, axis=1, keepdims=True)).astype(np.float32)
    label_td = small_layers.unit_rows(rng, 80, 16)
    rule = ContrastRule(n_partners=2)
    null = noise_evidence(image_nd, n_draws=300, n_exemplars=40, rule=rule, seed=1)
    units = noise_evidence(image_nd, n_draws=300, n_exemplars=n_exemplars, rule=rule, seed=2)
    units.given.sources["texts"] = lambda _: small_layers.WORDS
    scores, _ = label_units(method, units, null, label_td, {})
    shares = [np.mean(scores.best_percentile_u >= level) for level in (0.25, 0.5, 0.75, 0.95)]
    np.testing.assert_allclose(shares, [0.75, 0.5, 0.25, 0.05], atol=0.1)
    assert np.mean(scores.reliable_u) < 0.12


def test_a_null_of_more_exemplars_than_a_unit_has_would_call_noise_reliable():
    """Why the null is matched in size: against sets of 30, many random pairs look striking."""
    rng = np.random.default_rng(0)
    # As in real encoders, all images share a direction; the mean of many has little else left.
    image_nd = small_layers.unit_rows(rng, 600, 16) + np.float32(0.5)
    image_nd /= np.linalg.norm(image_nd, axis=1, keepdims=True)
    label_td = small_layers.unit_rows(rng, 80, 16)
    rule = ContrastRule()
    null = noise_evidence(image_nd, n_draws=200, n_exemplars=30, rule=rule, seed=1)
    few = noise_evidence(image_nd, n_draws=200, n_exemplars=2, rule=rule, seed=2)
    many, _ = label_units("semanticlens", null, null, label_td, {})
    ours, _ = label_units("semanticlens", few, null, label_td, {})
    unmatched = np.mean(ours.score_uk[:, 0] > np.quantile(many.score_uk[:, 0], 0.95))
    assert unmatched > 0.3
    assert np.mean(ours.reliable_u) < 0.12


@pytest.mark.parametrize("method", OF_VOCABULARY)
def test_a_unit_with_a_meaning_is_reliable(method):
    rng = np.random.default_rng(3)
    image_nd = small_layers.unit_rows(rng, 300, 32)
    label_td = small_layers.unit_rows(rng, 60, 32)
    acts_un = (image_nd @ label_td[[7, 11]].T).T
    null = small_layers.noise(rng, image_nd, 100, 30)
    evidence = small_layers.mined(acts_un, image_nd, 30)
    scores, _ = label_units(method, evidence, null, label_td, {})
    assert scores.label_uk[:, 0].tolist() == [7, 11]
    assert scores.reliable_u.all()
    np.testing.assert_allclose(scores.best_percentile_u, 100 / 101, atol=1e-6)
    np.testing.assert_allclose(scores.percentile_uk[:, 0], 100 / 101, atol=1e-6)


def test_pair_statistics_by_hand():
    image_nd = np.array([[1, 0], [0.6, 0.8], [0, 1], [0.8, 0.6]], np.float32)
    unit = small_layers.by_hand(image_nd, [0, 3, 2], [[1, 2], [1], []])
    # Pairs: (0,1) .6, (0,2) 0, (3,1) .96; image 1 twice.
    similarity_u, reuse_u = pair_statistics(unit, 30)
    assert similarity_u[0] == pytest.approx((0.6 + 0 + 0.96) / 3)
    assert reuse_u[0] == pytest.approx(1 / 3)
    first_u, none_u = pair_statistics(unit, 1)
    assert first_u[0] == pytest.approx(0.3)
    assert none_u[0] == 0


def test_evidence_is_described_with_the_scores():
    evidence, null, label_td = layer()
    scores, _ = label_units("csp", evidence, null, label_td, {"n_score": 6})
    count_u = evidence.exemplars.count_u
    np.testing.assert_array_equal(scores.n_exemplar_u, np.minimum(count_u, 6))
    np.testing.assert_array_equal(scores.pool_u, evidence.contrast.pool_u)


def test_progress_reaches_the_number_of_units_once():
    evidence, null, label_td = layer()
    seen = []
    label_units(
        "clip_dissect",
        evidence,
        null,
        label_td,
        {"prior": "layer"},
        unit_block=2,
        progress=lambda stage, done, total: seen.append((stage, done, total)),
    )
    done = [d for _, d, _ in seen]
    assert done == sorted(done)
    assert seen[-1] == ("clip_dissect", 8, 8)


def test_what_cannot_be_labelled_is_refused():
    evidence, null, label_td = layer()
    with pytest.raises(InputError, match="1 label"):
        label_units("csp", evidence, null, label_td[:1], {})
    with pytest.raises(InputError, match="n_labels is 0"):
        label_units("csp", evidence, null, label_td, {}, n_labels=0)
    with pytest.raises(StaleError, match="5 wide and image vectors 8"):
        label_units("csp", evidence, null, label_td[:, :5].copy(), {})
    with pytest.raises(InputError, match="no random image sets"):
        label_units("csp", evidence, null.block(slice(0, 0)), label_td, {})
    with pytest.raises(InputError, match="'cpp' does not exist; choose one of csp"):
        label_units("cpp", evidence, null, label_td, {})
    with pytest.raises(InputError, match="two random image sets"):
        label_units("clip_dissect", evidence, null.block(slice(0, 1)), label_td, {})
    with pytest.raises(InputError, match="last_weight"):
        label_units("clip_dissect", evidence, null, label_td, {"first_weight": 0.5})


def test_memory_mapped_arrays_work(tmp_path):
    evidence, null, label_td = layer()
    np.save(tmp_path / "images.npy", evidence.image_nd)
    np.save(tmp_path / "labels.npy", label_td)
    image_nd = np.load(tmp_path / "images.npy", mmap_mode="r")
    mapped = replace(evidence, image_nd=image_nd)
    labels = np.load(tmp_path / "labels.npy", mmap_mode="r")
    for method in OF_VOCABULARY:
        scores, _ = label_units(method, mapped, null, labels, {})
        expected, _ = label_units(method, evidence, null, label_td, {})
        np.testing.assert_array_equal(scores.label_uk, expected.label_uk)
