from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csp_engine.search import matching


def unit(rows) -> np.ndarray:
    rows = np.asarray(rows, np.float32)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows / np.where(length, length, 1)).astype(np.float32)


def slow(a: np.ndarray, b: np.ndarray) -> list[tuple[int, float, bool] | None]:
    """One neuron at a time, in float64, straight from the definition."""

    def best(row, others):
        cosines = [
            round(float(np.float64(row) @ np.float64(other)), 6) if other.any() else -9
            for other in others
        ]
        top = max(cosines, default=-9)
        return (cosines.index(top), top) if top > -9 and row.any() else None

    found = []
    for u, row in enumerate(a):
        mine = best(row, b)
        if mine is None:
            found.append(None)
            continue
        back = best(b[mine[0]], a)
        found.append((mine[0], mine[1], back is not None and back[0] == u))
    return found


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n_a=st.integers(0, 9),
    n_b=st.integers(0, 9),
    width=st.integers(1, 9),
    share_zero=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_matches_equal_the_definition(seed, n_a, n_b, width, share_zero):
    rng = np.random.default_rng(seed)
    a, b = (unit(rng.normal(size=(n, width)).reshape(n, width)) for n in (n_a, n_b))
    a[rng.random(n_a) < share_zero] = 0
    b[rng.random(n_b) < share_zero] = 0
    found = matching.match(a, b)
    for u, expected in enumerate(slow(a, b)):
        assert found.has_match_u[u] == (expected is not None)
        if expected is None:
            assert np.isnan(found.similarity_u[u])
            assert not found.is_mutual_u[u]
        else:
            assert found.similarity_u[u] == pytest.approx(expected[1], abs=2e-6)
            if width > 1:  # in one dimension all cosines are 1 or -1
                assert (found.other_u[u], found.is_mutual_u[u]) == (expected[0], expected[2])


def test_a_shuffled_copy_is_found_again_mutually():
    rng = np.random.default_rng(0)
    a = unit(rng.normal(size=(50, 8)))
    order = rng.permutation(50)
    found = matching.match(a[order], a)
    assert found.other_u.tolist() == order.tolist()
    assert found.is_mutual_u.all()
    np.testing.assert_allclose(found.similarity_u, 1, atol=1e-5)


def test_of_two_equal_neurons_the_lower_is_the_match():
    a = unit([[1, 0], [0, 1]])
    b = unit([[0, 1], [1, 0], [1, 0]])
    found = matching.match(a, b)
    assert found.other_u.tolist() == [1, 0]
    back = matching.match(b, a)
    assert back.other_u.tolist() == [1, 0, 0]
    assert back.is_mutual_u.tolist() == [True, True, False]


def test_blocks_change_nothing(monkeypatch):
    rng = np.random.default_rng(2)
    a, b = unit(rng.normal(size=(23, 5))), unit(rng.normal(size=(17, 5)))
    whole = matching.match(a, b)
    monkeypatch.setattr(matching, "_PRODUCT_VALUES", 40)
    parts = matching.match(a, b)
    assert (whole.other_u == parts.other_u).all()
    assert (whole.is_mutual_u == parts.is_mutual_u).all()


def test_random_sets_rarely_pass_the_chance_level():
    rng = np.random.default_rng(3)
    b = unit(rng.normal(size=(30, 12)))
    level = matching.chance_level(unit(rng.normal(size=(500, 12))), b)
    fresh = matching.match(unit(rng.normal(size=(2000, 12))), b).similarity_u
    assert 0.02 < float((fresh > level).mean()) < 0.09
    assert np.isnan(matching.chance_level(np.zeros((5, 12), np.float32), b))
    assert np.isnan(matching.chance_level(b, np.zeros((5, 12), np.float32)))
