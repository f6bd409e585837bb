from __future__ import annotations

import numpy as np
import pytest

from csp_engine.errors import InputError
from csp_engine.evidence.contrast import ContrastRule, mine_contrast, thresholds
from csp_engine.evidence.exemplars import rank_exemplars
from csp_engine.types import Exemplars


def rows(*values):
    return np.array(values, np.float32)


def on_circle(*degrees):
    angle = np.deg2rad(np.array(degrees, np.float64))
    return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)


def one_unit(*images):
    return Exemplars(
        np.array([images], np.int32),
        np.ones((1, len(images)), np.float32),
        np.array([len(images)], np.int32),
    )


def partners(found, unit=0):
    return [
        found.image_ukj[unit, rank, :count].tolist()
        for rank, count in enumerate(found.n_partner_uk[unit])
    ]


def test_the_nearest_quiet_image_is_chosen():
    # Mean 2.4: images 2, 3, 4 are quiet. Image 1 is nearest to 0 but active.
    acts = rows([6, 5, 1, 0, 0])
    found = mine_contrast(acts, one_unit(0, 1), on_circle(0, 1, 30, 20, 90), ContrastRule())
    assert partners(found) == [[3], [3]]
    np.testing.assert_allclose(
        found.similarity_ukj[0, :, 0], np.cos(np.deg2rad([20, 19])), atol=1e-6
    )
    assert found.activation_ukj[0, :, 0].tolist() == [0, 0]
    assert found.pool_u.tolist() == [3]
    assert found.threshold_u[0] == np.float32(2.4)


def test_several_partners_come_nearest_first_with_their_activations():
    acts = rows([9, 1, 2, 3])
    rule = ContrastRule(n_partners=2)
    found = mine_contrast(acts, one_unit(0), on_circle(0, 50, 10, 20), rule)
    assert partners(found) == [[2, 3]]
    assert found.activation_ukj[0, 0].tolist() == [2, 3]


def test_copies_tie_to_the_lower_image():
    vectors = on_circle(0, 40, 20, 20, 20)
    found = mine_contrast(rows([9, 0, 0, 0, 0]), one_unit(0), vectors, ContrastRule(n_partners=2))
    assert partners(found) == [[2, 3]]


def test_a_copy_across_the_threshold_has_similarity_one():
    found = mine_contrast(rows([9, 0, 0]), one_unit(0), on_circle(7, 60, 7), ContrastRule())
    assert partners(found) == [[2]]
    assert found.similarity_ukj[0, 0, 0] == pytest.approx(1, abs=1e-7)


def test_similarities_that_float32_cannot_tell_apart_are_ordered_in_float64():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal(64) + 2e-5 * rng.standard_normal((300, 64))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    acts = np.zeros((1, 300), np.float32)
    acts[0, :20] = 9
    wide = vectors[:20].astype(np.float64) @ vectors[20:].astype(np.float64).T
    expected = (20 + wide.argmax(axis=1)).tolist()
    by_float32 = (20 + (vectors[:20] @ vectors[20:].T).argmax(axis=1)).tolist()
    assert by_float32 != expected
    for length in (None, 5, 250):
        found = mine_contrast(
            acts, one_unit(*range(20)), vectors, ContrastRule(), list_length=length
        )
        assert found.image_ukj[0, :, 0].tolist() == expected


def test_an_image_is_never_its_own_partner():
    # Unlike the published search: image 1 is among the exemplars and below the mean of 3.
    acts = rows([9, 2, 1, 0])
    found = mine_contrast(acts, one_unit(0, 1, 2), on_circle(0, 10, 40, 90), ContrastRule())
    assert partners(found) == [[1], [2], [1]]


def test_no_quiet_image_means_no_partner():
    acts = rows([3, 3, 3], [5, 1, 0], [1, 2, 3])
    exemplars = Exemplars(
        np.array([[0], [0], [2]], np.int32),
        np.ones((3, 1), np.float32),
        np.array([1, 1, 1], np.int32),
    )
    for reuse in (True, False):
        found = mine_contrast(acts, exemplars, on_circle(0, 1, 2), ContrastRule(reuse=reuse))
        assert found.pool_u.tolist() == [0, 2, 1]
        assert found.n_partner_uk.tolist() == [[0], [1], [1]]
        assert not found.similarity_ukj[0].any()


def test_units_without_exemplars_have_no_partners():
    acts = rows([2, 2, 2], [0, 0, 0])
    found = mine_contrast(acts, rank_exemplars(acts, 2), on_circle(0, 1, 2), ContrastRule())
    assert not found.n_partner_uk.any()


def test_barred_images():
    acts = rows([9, 0, 0, 0])
    vectors = on_circle(0, 1, 2, 3)
    same = {
        "duplicate_group_n": np.array([0, 0, 2, 3], np.int32),
        "group_n": np.array([5, 6, 5, 7], np.int32),
    }

    def nearest(**rule):
        return partners(mine_contrast(acts, one_unit(0), vectors, ContrastRule(**rule), **same))

    assert nearest() == [[1]]
    assert nearest(exclude_near_duplicates=True) == [[2]]
    assert nearest(exclude_same_group=True) == [[1]]
    assert nearest(exclude_near_duplicates=True, exclude_same_group=True) == [[3]]
    assert nearest(exclude_near_duplicates=True, exclude_same_group=True, n_partners=3) == [[3]]


def test_barring_without_groups_is_refused():
    acts, vectors = rows([9, 0]), on_circle(0, 1)
    with pytest.raises(InputError, match="Near-duplicates cannot be excluded"):
        mine_contrast(acts, one_unit(0), vectors, ContrastRule(exclude_near_duplicates=True))
    with pytest.raises(InputError, match="no group column"):
        mine_contrast(acts, one_unit(0), vectors, ContrastRule(exclude_same_group=True))


def test_without_reuse_the_total_counts_not_the_order():
    # Both exemplars are nearest to image 2. In rank order 0 would take it and leave 1 with 80
    # degrees; the best total gives it to 1.
    vectors = on_circle(0, 20, 10, -12, 100)
    acts = rows([9, 8, 0, 0, 0])
    with_reuse = mine_contrast(acts, one_unit(0, 1), vectors, ContrastRule())
    assert partners(with_reuse) == [[2], [2]]
    without = mine_contrast(acts, one_unit(0, 1), vectors, ContrastRule(reuse=False))
    assert partners(without) == [[3], [2]]


def test_without_reuse_a_small_pool_serves_the_strongest_first():
    vectors = on_circle(0, 1, 2, 3, 4)
    acts = rows([9, 8, 7, 0, 0])
    rule = ContrastRule(reuse=False, n_partners=2)
    found = mine_contrast(acts, one_unit(0, 1, 2), vectors, rule)
    assert found.n_partner_uk.tolist() == [[1, 1, 0]]
    found = mine_contrast(acts, one_unit(2), vectors, rule)
    assert partners(found) == [[3, 4]]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [("mean", 3), ("quantile:0.25", 2), ("quantile:0.9", 6), ("max:0.5", 4), ("max:1", 8)],
)
def test_thresholds_by_hand(rule, expected):
    assert thresholds(rows([0, 2, 8, 3, 2]), rule)[0] == pytest.approx(expected)


def test_a_threshold_between_two_float32_numbers_goes_up():
    # The mean lies between neighbours 1 and 1 + 2^-23, so the images at 1 are below it.
    high = np.nextafter(np.float32(1), np.float32(2))
    assert thresholds(rows([1, 1, high]), "mean")[0] == high


def test_the_quantile_of_a_mostly_silent_unit_still_calls_silence_quiet():
    acts = rows([0, 0, 0, 0, 5])
    limit = thresholds(acts, "quantile:0.25")[0]
    assert (acts < limit).sum() == 4


def test_a_constant_unit_has_no_quiet_images():
    acts = np.full((1, 7), 0.1, np.float32)
    for rule in ("mean", "quantile:0.5", "max:1"):
        assert not (acts < thresholds(acts, rule)[:, None]).any()


def test_a_fraction_of_a_maximum_that_is_not_positive_calls_nothing_quiet():
    acts = rows([-3, -2, -1], [-1, 0, -2])
    assert not (acts < thresholds(acts, "max:0.5")[:, None]).any()


@pytest.mark.parametrize(
    "rule",
    ["median", "mean:1", "quantile", "quantile:", "quantile:0", "quantile:1", "quantile:x",
     "quantile:nan", "max:0", "max:1.1", "max:-1", ""],
)  # fmt: skip
def test_unknown_rules_are_refused(rule):
    with pytest.raises(InputError, match="quantile:Q"):
        ContrastRule(threshold=rule)
    with pytest.raises(InputError, match="not a threshold for quiet images"):
        thresholds(rows([1, 2]), rule)


def test_no_partners_is_refused():
    with pytest.raises(InputError, match="at least 1"):
        ContrastRule(n_partners=0)


@pytest.mark.parametrize("bad", [2.0, np.nan, 0.5])
def test_vectors_that_are_not_unit_length_are_refused(bad):
    vectors = on_circle(0, 10, 20)
    vectors[1] *= bad
    with pytest.raises(InputError, match="image 1 has length"):
        mine_contrast(rows([9, 0, 0]), one_unit(0), vectors, ContrastRule())


def test_a_zero_vector_is_nobody_but_no_error():
    vectors = on_circle(0, 100, 20)
    vectors[2] = 0
    found = mine_contrast(rows([9, 0, 0]), one_unit(0), vectors, ContrastRule())
    assert partners(found) == [[2]]
    assert found.similarity_ukj[0, 0, 0] == 0


def test_progress_counts_images_then_units():
    seen = []
    acts = np.random.default_rng(0).standard_normal((5, 9), dtype=np.float32)
    mine_contrast(
        acts,
        rank_exemplars(acts, 2),
        on_circle(*range(9)),
        ContrastRule(),
        unit_block=2,
        progress=lambda *step: seen.append(step),
    )
    assert [step for step in seen if step[0] == "contrast images"] == [
        ("contrast images", done, 5) for done in (2, 4, 5)
    ]
    assert seen[0][0] == "neighbours"
    assert seen[0][1] == seen[0][2]
