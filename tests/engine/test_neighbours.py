from __future__ import annotations

import numpy as np
import pytest

from csp_engine.evidence import neighbours
from csp_engine.types import silent


def unit_rows(seed, n, d):
    vector = np.random.default_rng(seed).standard_normal((n, d)) + 0.5
    return (vector / np.linalg.norm(vector, axis=1, keepdims=True)).astype(np.float32)


def test_nearly_equal_similarities_go_by_image():
    pair = np.zeros(4, np.int64)
    image = np.array([9, 4, 7, 1])
    similarity = np.array([0.5, 0.5 - 5e-13, 0.5 - 2e-12, 0.5 - 1e-3])
    image_pj, similarity_pj, count_p = neighbours.choose_best(pair, image, similarity, 2, 3)
    # 4 is within the tie of 9, 7 is not; then 9 is largest.
    assert image_pj.tolist() == [[4, 9, 7], [0, 0, 0]]
    assert similarity_pj[0].tolist() == [0.5, 0.5, 0.5]
    assert count_p.tolist() == [3, 0]


def test_pairs_with_many_candidates_are_chosen_like_those_with_few():
    rng = np.random.default_rng(0)
    pair = np.repeat([0, 2, 3], [40, 2, 9])
    image = np.concatenate([rng.permutation(50)[:40], [3, 1], np.arange(9)])
    similarity = np.round(rng.random(51), 1)
    image_pj, _, count_p = neighbours.choose_best(pair, image, similarity, 4, 3)
    assert count_p.tolist() == [3, 0, 2, 3]
    for row in (0, 2, 3):
        here = pair == row
        ranked = sorted(zip(-similarity[here], image[here], strict=True))
        expected = [int(i) for _, i in ranked[:3]]
        assert image_pj[row, : count_p[row]].tolist() == expected


@pytest.mark.parametrize("d", [3, 16, 37, 700])
def test_slack_covers_the_rounding_of_float32_products(d):
    image_nd = unit_rows(d, 200, d)
    space = neighbours.ImageSpace(image_nd)
    wide_nn = image_nd.astype(np.float64) @ image_nd.astype(np.float64).T
    assert 2 * np.abs(image_nd @ image_nd.T - wide_nn).max() < space.slack


def test_lists_are_nearest_first_and_know_what_is_barred():
    image_nd = unit_rows(1, 30, 8)
    group_n = (np.arange(30) // 3).astype(np.int32)
    space = neighbours.ImageSpace(image_nd, (group_n,))
    lists = neighbours.neighbour_lists(space, np.array([4, 20]), 12, silent)
    for row, query in enumerate((4, 20)):
        image_l = lists.image_el[row]
        assert image_l[0] == query
        assert len(set(image_l.tolist())) == 12
        assert (np.diff(lists.product_el[row]) <= 0).all()
        left_out = np.setdiff1d(np.arange(30), image_l)
        assert (image_nd[left_out] @ image_nd[query]).max() <= lists.product_el[row, -1] + 1e-6
        expected = group_n[image_l] != group_n[query]
        np.testing.assert_array_equal(lists.is_open_el[row], expected)
    assert not lists.is_whole
    assert neighbours.neighbour_lists(space, np.array([4]), 99, silent).is_whole


def test_nothing_outside_a_shortened_list_exceeds_its_bound():
    image_nd = unit_rows(2, 60, 6)
    space = neighbours.ImageSpace(image_nd)
    query_e = np.arange(0, 60, 7)
    lists = neighbours.neighbour_lists(space, query_e, 10, silent)
    quiet_n = np.random.default_rng(0).random(60) < 0.6
    for n_near in (1, 3, 50):
        k_c, image_c, bound_k = neighbours.nearest_in_lists(space, lists, query_e, quiet_n, n_near)
        for row, query in enumerate(query_e):
            near = image_c[k_c == row]
            assert len(near) <= n_near
            others = np.setdiff1d(np.flatnonzero(quiet_n), [*near, query])
            wide = image_nd[others].astype(np.float64) @ image_nd[query].astype(np.float64)
            assert wide.max() <= bound_k[row]


@pytest.mark.parametrize("n_best", [1, 3])
def test_a_crowd_of_copies_gives_its_lowest_images(n_best):
    image_nd = unit_rows(3, 700, 5)
    image_nd[100:] = image_nd[99]
    image_nd[350] = image_nd[0]
    space = neighbours.ImageSpace(image_nd)
    quiet_bn = np.ones((1, 700), bool)
    quiet_bn[0, 90:200] = False
    pair_c, image_c = neighbours.candidates_by_mask(
        space, np.array([650]), np.zeros(1, np.int64), quiet_bn, n_best
    )
    assert image_c.tolist() == list(range(200, 200 + n_best))
    assert not pair_c.any()
