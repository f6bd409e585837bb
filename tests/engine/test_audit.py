from __future__ import annotations

import numpy as np
import pytest

from csp_engine.audits.clarity import clarity
from csp_engine.audits.polysemanticity import polysemanticity
from csp_engine.audits.redundancy import redundancy
from csp_engine.types import Exemplars
from tests.worlds import small_layers


def unit(rows):
    x_ukd = np.array([rows], np.float32)
    return x_ukd, np.ones(x_ukd.shape[:2], np.bool_)


def test_clarity_ends():
    assert clarity(*unit([[1, 0]] * 4))[0] == pytest.approx(1)
    assert clarity(*unit([[1, 0], [-1, 0]]))[0] == pytest.approx(-1)
    assert clarity(*unit([[1, 0], [0, 1]]))[0] == pytest.approx(0)


def test_polysemanticity_of_two_plain_groups():
    groups = polysemanticity(*unit([[0, 1]] * 2 + [[1, 0]] * 3))
    assert groups.polysemanticity_u[0] == pytest.approx(1)
    assert groups.size_u2[0].tolist() == [3, 2]
    # The larger group is number 0.
    assert groups.group_uk[0].tolist() == [1, 1, 0, 0, 0]
    assert groups.silhouette_u[0] == pytest.approx(1)


def test_of_two_equal_groups_that_of_the_strongest_exemplar_comes_first():
    groups = polysemanticity(*unit([[0, 1], [1, 0], [0, 1], [1, 0]]))
    assert groups.group_uk[0].tolist() == [0, 1, 0, 1]


def test_polysemanticity_reaches_two_and_not_one_as_published():
    groups = polysemanticity(*unit([[1, 0]] * 2 + [[-1, 0]] * 2))
    assert groups.polysemanticity_u[0] == pytest.approx(2)


def test_the_fallback_jumps_so_sizes_stand_beside_the_score():
    lone = polysemanticity(*unit([[1, 0]] * 19 + [[0, 1]]))
    pair = polysemanticity(*unit([[1, 0]] * 18 + [[0, 1]] * 2))
    assert lone.polysemanticity_u[0] < 0.01
    assert pair.polysemanticity_u[0] > 0.9
    assert lone.size_u2[0].tolist() == [19, 1]
    assert pair.size_u2[0].tolist() == [18, 2]


def test_identical_exemplars_are_one_group_without_a_silhouette():
    groups = polysemanticity(*unit([[0.6, 0.8]] * 5))
    assert groups.polysemanticity_u[0] == pytest.approx(0, abs=1e-6)
    assert groups.size_u2[0].tolist() == [5, 0]
    assert np.isnan(groups.silhouette_u[0])


@pytest.mark.parametrize("count", [0, 1])
def test_below_two_exemplars_nothing_is_defined_and_nothing_is_made_up(count):
    exemplars = Exemplars(
        np.zeros((1, 5), np.int32), np.zeros((1, 5), np.float32), np.array([count], np.int32)
    )
    columns, arrays = small_layers.audited(exemplars, np.eye(3, dtype=np.float32))
    for name in ("clarity", "polysemanticity", "silhouette", "redundancy"):
        assert np.isnan(columns[name][0])
    assert columns["cluster_0"].tolist() == [count]
    assert columns["cluster_1"].tolist() == [0]
    assert not arrays["image_group"].any()


def test_redundancy_of_one_unit_and_of_units_without_a_concept():
    nearest_u, similarity_u = redundancy(np.array([[1, 0]], np.float32))
    assert nearest_u.tolist() == [0]
    assert np.isnan(similarity_u[0])
    vectors = np.array([[1, 0], [0, 0], [-1, 0], [3, 0]], np.float32)
    nearest_u, similarity_u = redundancy(vectors)
    # A unit without a concept is nobody's nearest, though 0 is more than the cosine -1.
    assert nearest_u.tolist() == [3, 1, 0, 0]
    np.testing.assert_array_equal(similarity_u, [1, np.nan, -1, 1])


def test_the_columns_are_the_documented_ones():
    exemplars = Exemplars(
        np.array([[0, 1, 2], [2, 1, 0]], np.int32),
        np.ones((2, 3), np.float32),
        np.array([3, 2], np.int32),
    )
    columns, arrays = small_layers.audited(exemplars, np.eye(3, dtype=np.float32))
    assert list(columns) == [
        "clarity",
        "polysemanticity",
        "cluster_0",
        "cluster_1",
        "silhouette",
        "nearest_unit",
        "redundancy",
    ]
    assert arrays["image_group"].shape == (2, 3)
    assert columns["nearest_unit"].tolist() == [1, 0]
    assert columns["redundancy"][0] == pytest.approx(2 / np.sqrt(6))
