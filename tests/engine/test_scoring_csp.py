from __future__ import annotations

import numpy as np
import pytest

from csp_engine.errors import InputError
from csp_engine.methods import METHODS, NullComponents, label_units, re_rank, rescore
from csp_engine.methods.scoring.halves import csp_components, exemplar_weights
from tests.reference.contrast_residuals import contrast_residuals
from tests.worlds import small_layers

# Three pictures: an attribute on an object, the object alone, the attribute alone.
OBJECT, ATTRIBUTE = np.array([1, 0, 0]), np.array([0, 1, 0])
BOTH = np.array([0.8, 0.6, 0])
IMAGES = np.stack([BOTH, OBJECT, ATTRIBUTE]).astype(np.float32)
LABELS = np.stack([OBJECT, ATTRIBUTE]).astype(np.float32)


def null_for(image_nd, k=2, n_draws=10):
    return small_layers.noise(np.random.default_rng(0), image_nd, n_draws, k)


def test_the_contrast_image_takes_the_object_away():
    evidence = small_layers.by_hand(IMAGES, [0], [[1]])
    scores, _ = label_units("csp", evidence, null_for(IMAGES), LABELS, {"gamma": 1.0})
    assert scores.label_uk[0].tolist() == [1, 0]
    np.testing.assert_allclose(scores.score_uk[0], [1, 0], atol=1e-6)
    np.testing.assert_allclose(scores.raw_uk[0], [0.6, 0.8], atol=1e-6)
    without, _ = label_units("csp", evidence, null_for(IMAGES), LABELS, {"gamma": 0.0})
    assert without.label_uk[0].tolist() == [0, 1]


def test_residuals_at_gamma_one_are_orthogonal_to_the_contrast_image_and_not_normalised():
    p, n = BOTH[None, None].astype(np.float32), OBJECT[None, None].astype(np.float32)
    np.testing.assert_allclose(contrast_residuals(p, n, 1.0)[0, 0], [0, 0.6, 0], atol=1e-6)
    np.testing.assert_allclose(contrast_residuals(p, n, 0.5)[0, 0], [0.4, 0.6, 0], atol=1e-6)
    np.testing.assert_array_equal(contrast_residuals(p, n, 0.0), p)


def test_the_components_add_up_to_the_weighted_residuals():
    rng = np.random.default_rng(0)
    image_nd = small_layers.unit_rows(rng, 9, 5)
    evidence = small_layers.by_hand(image_nd, [0, 1, 2], [[5], [6], [7]], [4, 2, 1])
    anchor_ud, projection_ud = csp_components(evidence, 30, "raw")
    residual_ukd = contrast_residuals(image_nd[None, :3], image_nd[None, 5:8], 0.3)
    expected = np.array([4, 2, 1]) / 7 @ residual_ukd[0]
    np.testing.assert_allclose((anchor_ud - 0.3 * projection_ud)[0], expected, atol=1e-6)


def test_several_contrast_images_act_as_their_normalised_mean():
    image_nd = np.array([[0.6, 0.64, 0.48], [1, 0, 0], [0, 1, 0]], np.float32)
    evidence = small_layers.by_hand(image_nd, [0], [[1, 2]])
    anchor_ud, projection_ud = csp_components(evidence, 30, "none")
    n = np.array([1, 1, 0]) / np.sqrt(2)
    np.testing.assert_allclose(projection_ud[0], (image_nd[0] @ n) * n, atol=1e-6)
    np.testing.assert_allclose(anchor_ud[0], image_nd[0], atol=1e-6)


def test_an_exemplar_without_a_contrast_image_enters_unchanged():
    evidence = small_layers.by_hand(IMAGES, [0, 2], [[1], []])
    anchor_ud, projection_ud = csp_components(evidence, 30, "none")
    np.testing.assert_allclose(anchor_ud - projection_ud, [[0, 0.8, 0]], atol=1e-6)


def test_duplicates_across_the_threshold_leave_no_label_rather_than_a_rounding_error():
    rng = np.random.default_rng(1)
    image_nd = small_layers.unit_rows(rng, 40, 64)
    image_nd[20:] = image_nd[:20]
    gone = small_layers.by_hand(image_nd, list(range(20)), [[20 + i] for i in range(20)])
    kept = small_layers.by_hand(image_nd, list(range(20)), [[21 + i] for i in range(19)] + [[20]])
    label_td = small_layers.unit_rows(rng, 7, 64)
    evidence = small_layers.joined(gone, kept)
    null = null_for(image_nd, 20)
    for weighting in ("none", "raw", "rank"):
        params = {"gamma": 1.0, "weighting": weighting}
        scores, extra = label_units("csp", evidence, null, label_td, params)
        assert scores.count_u.tolist() == [0, 7]
        assert not scores.vector_ud[0].any()
        assert not scores.score_uk[0].any()
        assert not scores.reliable_u[0]
        assert scores.best_percentile_u[0] == 0
        for array in (*scores.__dataclass_fields__,):
            assert np.isfinite(getattr(scores, array)).all()
        # A little less gamma, and the unit has its label back.
        assert rescore(scores, extra, label_td, 0.9).count_u.tolist() == [7, 7]


def test_weights():
    evidence = small_layers.by_hand(IMAGES, [0, 1, 2], [[], [], []], [3, 1, -2])
    share = {
        name: exemplar_weights(evidence, 30, name)[0].tolist()
        for name in ("none", "raw", "clamp0", "rank")
    }
    assert share["none"] == pytest.approx([1 / 3] * 3)
    assert share["raw"] == pytest.approx([3 / 6, 1 / 6, -2 / 6])
    assert share["clamp0"] == pytest.approx([3 / 4, 1 / 4, 0])
    assert share["rank"] == pytest.approx([3 / 6, 2 / 6, 1 / 6])
    assert exemplar_weights(evidence, 2, "rank")[0].tolist() == pytest.approx([2 / 3, 1 / 3])


def test_a_unit_whose_weights_are_all_zero_has_no_label():
    evidence = small_layers.by_hand(IMAGES, [0, 2], [[1], [1]], [-1, -3])
    scores, _ = label_units("csp", evidence, null_for(IMAGES), LABELS, {"weighting": "clamp0"})
    assert scores.count_u[0] == 0
    assert not scores.score_uk.any()


@pytest.mark.parametrize("weighting", ["none", "raw"])
def test_another_gamma_from_the_stored_halves_is_what_labelling_again_gives(weighting):
    rng = np.random.default_rng(4)
    evidence = small_layers.awkward(rng, 9, 50, 12, 20, 2)
    null = small_layers.noise(rng, evidence.image_nd, 25, 20, 2)
    label_td = small_layers.unit_rows(rng, 30, 12)
    params = {"weighting": weighting, "gamma": 1.0}
    scores, extra = label_units("csp", evidence, null, label_td, params, n_labels=6)
    again = rescore(scores, extra, label_td, 0.4, n_labels=6)
    fresh, _ = label_units("csp", evidence, null, label_td, {**params, "gamma": 0.4}, n_labels=6)
    for name in fresh.__dataclass_fields__:
        np.testing.assert_allclose(getattr(again, name), getattr(fresh, name), atol=1e-6)
    # The first gamma was another answer, or this test would show nothing.
    assert (scores.label_uk != fresh.label_uk).any()


def test_one_neuron_can_be_re_ranked_with_and_without_a_null():
    rng = np.random.default_rng(5)
    evidence = small_layers.awkward(rng, 6, 50, 12, 20, 1)
    null = small_layers.noise(rng, evidence.image_nd, 25, 20)
    label_td = small_layers.unit_rows(rng, 30, 12)
    scores, extra = label_units("csp", evidence, null, label_td, {"gamma": 0.5})
    one = slice(3, 4)
    alone = re_rank(extra["anchor"][one], extra["projection"][one], 0.5, label_td)
    np.testing.assert_array_equal(alone.label_uk, scores.label_uk[one])
    np.testing.assert_allclose(alone.score_uk, scores.score_uk[one], atol=1e-6)
    assert not alone.percentile_uk.any()
    beside = re_rank(
        extra["anchor"][one],
        extra["projection"][one],
        0.5,
        label_td,
        null=NullComponents(extra["null_anchor"], extra["null_projection"], extra["null_size"]),
        size_u=scores.n_exemplar_u[one],
    )
    np.testing.assert_allclose(beside.percentile_uk, scores.percentile_uk[one], atol=1e-6)
    np.testing.assert_allclose(beside.best_percentile_u, scores.best_percentile_u[one], atol=1e-6)


def test_the_null_is_taken_at_the_same_gamma():
    rng = np.random.default_rng(6)
    evidence = small_layers.awkward(rng, 6, 80, 8, 20, 1)
    null = small_layers.noise(rng, evidence.image_nd, 40, 20)
    label_td = small_layers.unit_rows(rng, 30, 8)
    scores, _ = label_units("csp", evidence, null, label_td, {"gamma": 1.0})
    null_scores, _ = label_units("csp", null, null, label_td, {"gamma": 1.0})
    best = scores.score_uk[0, 0]
    expected = np.count_nonzero(null_scores.score_uk[:, 0] < best) / 41
    assert scores.best_percentile_u[0] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"gamma": 1.5}, "gamma is 1.5"),
        ({"gamma": float("nan")}, "gamma is nan"),
        ({"gamma": "1"}, "gamma is '1'"),
        ({"weighting": "max"}, "none, raw, clamp0, rank"),
        ({"gama": 1}, "Did you mean 'gamma'"),
        ({"n_score": 0}, "n_score is 0"),
    ],
)
def test_wrong_parameters_are_refused_by_name(params, words):
    evidence = small_layers.by_hand(IMAGES, [0], [[1]])
    with pytest.raises(InputError, match=words.replace("(", r"\(")):
        label_units(METHODS["csp"], evidence, null_for(IMAGES), LABELS, params)


def test_re_rank_refuses_a_gamma_outside_its_range():
    with pytest.raises(InputError, match=r"gamma is -0\.1"):
        re_rank(IMAGES, IMAGES, -0.1, LABELS)
