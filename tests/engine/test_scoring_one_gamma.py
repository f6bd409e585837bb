from __future__ import annotations

import numpy as np
import pytest

from csp_engine.errors import InputError
from csp_engine.methods import (
    NullComponents,
    label_units,
    move_labels,
    null_best,
    re_rank,
    score_paths,
)
from tests.worlds import small_layers


@pytest.fixture(scope="module")
def layer():
    """Nine units (some short or constant), their null, labels, and stored halves at gamma 1."""
    rng = np.random.default_rng(11)
    evidence = small_layers.awkward(rng, 9, 50, 12, 20, 2)
    null = small_layers.noise(rng, evidence.image_nd, 25, 20, 2)
    label_td = small_layers.unit_rows(rng, 30, 12)
    scores, extra = label_units("csp", evidence, null, label_td, {"gamma": 1.0}, n_labels=6)
    return evidence, null, label_td, scores, extra


@pytest.mark.parametrize("gamma", [0.0, 0.05, 0.35, 0.9, 1.0])
def test_every_number_is_what_labelling_the_layer_at_that_gamma_gives(layer, gamma):
    evidence, null, label_td, scores, extra = layer
    fresh, _ = label_units("csp", evidence, null, label_td, {"gamma": gamma}, n_labels=6)
    components = NullComponents(extra["null_anchor"], extra["null_projection"], extra["null_size"])
    for unit in range(evidence.n_units):
        own = components.of_size(int(scores.n_exemplar_u[unit]))
        moved = move_labels(
            extra["anchor"][unit], extra["projection"][unit], gamma, label_td, 6, null=own
        )
        for name in moved.ranks.__dataclass_fields__:
            np.testing.assert_allclose(
                getattr(moved.ranks, name)[0], getattr(fresh, name)[unit], atol=1e-6, err_msg=name
            )
        np.testing.assert_allclose(moved.raw_k, fresh.raw_uk[unit], atol=1e-6)


def test_the_built_gamma_gives_the_stored_scores(layer):
    _, _, label_td, scores, extra = layer
    moved = move_labels(extra["anchor"][3], extra["projection"][3], 1.0, label_td, 6)
    np.testing.assert_array_equal(moved.ranks.label_uk[0], scores.label_uk[3])
    np.testing.assert_allclose(moved.ranks.score_uk[0], scores.score_uk[3], atol=1e-6)


def test_at_gamma_zero_nothing_has_moved(layer):
    _, _, label_td, _, extra = layer
    moved = move_labels(extra["anchor"][3], extra["projection"][3], 0.0, label_td, 30)
    np.testing.assert_allclose(moved.raw_k, moved.ranks.score_uk[0], atol=1e-6)
    assert moved.raw_place_k.tolist() == list(range(1, 31))


def test_places_without_contrast_images_by_hand():
    """An attribute on an object, and the object alone: the object is first only at gamma 0."""
    label_td = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)
    anchor, projection = np.array([0.8, 0.6, 0], np.float32), np.array([0.8, 0, 0], np.float32)
    moved = move_labels(anchor, projection, 1.0, label_td)
    assert moved.ranks.label_uk[0].tolist() == [1, 0, 2]
    assert moved.raw_place_k.tolist() == [2, 1, 3]
    np.testing.assert_allclose(moved.raw_k, [0.6, 0.8, 0], atol=1e-6)
    np.testing.assert_allclose(moved.ranks.score_uk[0], [1, 0, 0], atol=1e-6)


def test_the_kept_best_of_the_null_gives_the_same_percentiles(layer):
    _, _, label_td, scores, extra = layer
    components = NullComponents(extra["null_anchor"], extra["null_projection"], extra["null_size"])
    own = components.of_size(int(scores.n_exemplar_u[3]))
    halves = extra["anchor"][3], extra["projection"][3], 0.4, label_td
    kept = move_labels(*halves, null=own, best_r=null_best(own, 0.4, label_td))
    fresh = move_labels(*halves, null=own)
    whole = re_rank(
        extra["anchor"][3:4],
        extra["projection"][3:4],
        0.4,
        label_td,
        null=components,
        size_u=scores.n_exemplar_u[3:4],
    )
    for moved in (kept.ranks, fresh.ranks):
        np.testing.assert_allclose(moved.percentile_uk, whole.percentile_uk, atol=1e-7)
        assert moved.best_percentile_u[0] == whole.best_percentile_u[0]


def test_without_a_null_of_this_size_nothing_is_claimed(layer):
    _, _, label_td, _, extra = layer
    components = NullComponents(extra["null_anchor"], extra["null_projection"], extra["null_size"])
    for null in (None, components.of_size(10_000)):
        moved = move_labels(extra["anchor"][3], extra["projection"][3], 0.5, label_td, null=null)
        assert not moved.ranks.percentile_uk.any()
        assert not moved.ranks.reliable_u.any()
        assert moved.ranks.count_u[0] == 20


def test_a_neuron_of_which_nothing_is_left_has_no_label_and_no_place(layer):
    _, _, label_td, _, extra = layer
    anchor = extra["anchor"][3]
    moved = move_labels(anchor, anchor, 1.0, label_td, null=None)
    assert moved.ranks.count_u[0] == 0
    assert not moved.raw_place_k.any()
    assert move_labels(anchor, anchor, 0.9, label_td).ranks.count_u[0] == 20


def test_paths_pass_through_the_scores_at_each_gamma(layer):
    _, _, label_td, _, extra = layer
    gamma_g = np.array([0.0, 0.3, 1.0])
    path_gt = score_paths(extra["anchor"][3], extra["projection"][3], gamma_g, label_td)
    for gamma, path_t in zip(gamma_g, path_gt, strict=True):
        moved = move_labels(extra["anchor"][3], extra["projection"][3], float(gamma), label_td, 30)
        np.testing.assert_allclose(
            path_t[moved.ranks.label_uk[0]], moved.ranks.score_uk[0], atol=1e-6
        )


@pytest.mark.parametrize("gamma", [-0.1, 1.5, float("nan")])
def test_a_gamma_outside_its_range_is_refused(layer, gamma):
    _, _, label_td, _, extra = layer
    with pytest.raises(InputError, match="gamma is"):
        move_labels(extra["anchor"][0], extra["projection"][0], gamma, label_td)
