from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from csp_engine.stats.enrichment import (
    NONE,
    UNKNOWN,
    adjusted,
    enriched,
    main_class,
    tail_chance,
)
from csp_engine.stats.wilson import wilson
from csp_engine.views.images.facts import properties_of


@given(st.data())
def test_the_tail_is_that_of_scipy(data):
    n_images = data.draw(st.integers(1, 5000))
    n_all = data.draw(st.integers(0, n_images))
    n_chosen = data.draw(st.integers(1, min(100, n_images)))
    low, high = max(0, n_chosen - (n_images - n_all)), min(n_chosen, n_all)
    k = data.draw(st.integers(low, high))
    expected = stats.hypergeom.sf(k - 1, n_images, n_all, n_chosen)
    assert tail_chance(k, n_chosen, n_all, n_images) == pytest.approx(expected, rel=1e-6, abs=1e-12)


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_is_that_of_scipy(pair):
    k, n = pair
    expected = stats.binomtest(k, n).proportion_ci(0.95, "wilson")
    assert wilson(k / n, n) == pytest.approx((expected.low, expected.high), abs=1e-9)


@given(st.lists(st.floats(1e-9, 1), min_size=1, max_size=30))
def test_the_adjustment_is_that_of_scipy(p_p):
    np.testing.assert_allclose(adjusted(p_p), stats.false_discovery_control(p_p), rtol=1e-9)


def columns_of(has_pn):
    """Flags as one column each."""
    numbers = np.arange(len(has_pn))
    return numbers, np.where(has_pn, numbers[:, None], NONE)


def test_by_hand():
    """Ten images, three with hair; of four chosen, all three. 7 of 210 choices do that."""
    has_pn = np.zeros((3, 10), bool)
    has_pn[0, :3] = True  # hair
    has_pn[1, [0, 5, 6, 7, 8]] = True  # ruler: one of four, half of all
    has_pn[2, 9] = True  # none of the chosen
    rows = enriched(["hair", "ruler", "ink"], *columns_of(has_pn), np.array([0, 1, 2, 4]))
    assert [row.name for row in rows] == ["hair", "ruler"]
    hair = rows[0]
    assert (hair.n_here, hair.n_chosen, hair.n_all, hair.n_images) == (3, 4, 3, 10)
    assert hair.lift == pytest.approx(2.5)
    assert hair.p == pytest.approx(7 / 210)
    assert hair.q == pytest.approx(3 * 7 / 210)
    assert rows[1].lift == pytest.approx(0.5)


def test_of_properties_that_mean_nothing_few_seem_to():
    """Random flags on random choices: at q 0.05 a table is wrong in about one of twenty."""
    rng = np.random.default_rng(0)
    has_pn = rng.random((20, 300)) < 0.3
    names = [str(i) for i in range(20)]
    n_wrong = sum(
        any(
            row.q < 0.05
            for row in enriched(names, *columns_of(has_pn), rng.choice(300, 30, replace=False))
        )
        for _ in range(400)
    )
    assert n_wrong / 400 < 0.08


def test_nothing_chosen_has_nothing():
    assert enriched(["a"], np.zeros(1, int), np.zeros((1, 5), int), np.zeros(0, np.int64)) == []
    assert math.isclose(tail_chance(0, 3, 0, 10), 1)


@pytest.mark.parametrize(
    ("count_c", "n_all_c", "expected"),
    [
        ([29, 1, 0], [10, 10, 10], 0),
        ([1, 28, 1], [3, 94, 3], None),  # 28 of 30 is what the probe set shows anyway
        ([3, 27, 0], [1, 70, 29], 1),  # both are more than usual; most exemplars show the second
        ([0, 0, 0], [1, 1, 1], None),
        ([10, 10, 10], [1, 1, 1], None),
    ],
)
def test_the_main_class_is_the_one_shown_most_and_more_than_usual(count_c, n_all_c, expected):
    class_u, has_u = of_counts(np.array([count_c]), np.array(n_all_c))
    assert (int(class_u[0]) if has_u[0] else None) == expected


def of_counts(count_uc, n_all_c):
    unit_m, class_m = np.nonzero(count_uc)
    return main_class(unit_m, class_m, count_uc[unit_m, class_m], n_all_c, len(count_uc))


def test_main_classes_are_what_a_loop_over_units_finds():
    rng = np.random.default_rng(0)
    count_uc = rng.integers(0, 9, (300, 6)) * (rng.random((300, 6)) < 0.5)
    n_all_c = np.array([5, 40, 3, 0, 5, 20])  # of one class the probe set has no image
    class_u, has_u = of_counts(count_uc, n_all_c)
    for unit, count_c in enumerate(count_uc):
        best = None
        for each, count in enumerate(count_c):
            n_here = count_c.sum()
            is_more = count > 0 and wilson(count / n_here, n_here)[0] > n_all_c[each] / 73
            if is_more and (best is None or count > count_c[best]):
                best = each
        assert (int(class_u[unit]) if has_u[unit] else None) == best
    assert 0 < has_u.sum() < 300


def test_main_classes_of_very_many_neurons_take_memory_for_what_is_counted():
    n_units, n_classes = 20_000, 1_000
    unit_m = np.repeat(np.arange(n_units), 2)
    class_m = np.arange(2 * n_units) % n_classes
    tracemalloc.start()
    main_class(unit_m, class_m, np.full(2 * n_units, 15), np.full(n_classes, 9), n_units)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < n_units * n_classes  # not even a byte for each neuron and class


def test_more_than_usual_is_by_wilsons_interval():
    for n_here in range(31):
        _, has_u = of_counts(np.array([[n_here, 30 - n_here]]), np.array([40, 60]))
        is_more = wilson(n_here / 30, 30)[0] > 0.4 or wilson(1 - n_here / 30, 30)[0] > 0.6
        assert bool(has_u[0]) == is_more


def test_what_no_two_images_share_is_no_property():
    images = pd.DataFrame(
        {
            "file": ["a", "b", "c", "d"],
            "class": ["benign", "melanoma", None, None],
            "sex": ["male", "male", "female", None],
            "ruler": [1.0, 0.0, np.nan, 1.0],
            "patch_mask": ["masks/a.png", None, "masks/c.png", None],
        }
    )
    known = properties_of(images)
    assert known.names == ["class: benign", "class: melanoma", "sex: female", "sex: male", "ruler"]
    assert (known.property_cn == 4).any(axis=0).tolist() == [True, False, False, True]
    assert known.column_p.tolist() == [0, 0, 1, 1, 2]
    is_known_cn = known.property_cn != UNKNOWN
    assert is_known_cn.sum(axis=1)[known.column_p].tolist() == [2, 2, 3, 3, 3]


def test_images_of_which_nothing_is_known_do_not_count():
    """Known of six of ten images, of two of the three chosen: as if there were no others."""
    has_pn, is_known_pn = np.zeros((2, 1, 10), bool)
    has_pn[0, :3] = True
    is_known_pn[0, :6] = True
    column_p, property_cn = columns_of(has_pn)
    property_cn[~is_known_pn] = UNKNOWN
    (row,) = enriched(["ruler"], column_p, property_cn, np.array([0, 1, 9]))
    (same,) = enriched(["ruler"], *columns_of(has_pn[:, :6]), np.array([0, 1]))
    assert row == same
    assert (row.n_here, row.n_chosen, row.n_all, row.n_images) == (2, 2, 3, 6)
