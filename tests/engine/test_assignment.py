from __future__ import annotations

import numpy as np
import pytest

from csp_engine.evidence.pairing import assign_columns, row_prices


def test_the_best_total_wins_over_the_first_row():
    similarity = np.array([[0.9, 0.8], [0.9, 0.1]])
    row_s, column_s, is_full = assign_columns(similarity, 1)
    assert (row_s.tolist(), column_s.tolist(), is_full) == ([0, 1], [1, 0], True)


def test_equal_columns_go_from_the_lowest():
    row_s, column_s, _ = assign_columns(np.array([[0.1, 0.7, 0.7, 0.7]]), 2)
    assert (row_s.tolist(), column_s.tolist()) == ([0, 0], [1, 2])


def test_first_places_before_second_ones_and_strong_rows_before_weak_ones():
    row_s, column_s, is_full = assign_columns(np.array([[0.9, 0.1, 0.2], [0.8, 0.3, 0.2]]), 2)
    assert not is_full
    # Row 0 keeps two places, row 1 one; best total for that: 0.9 + 0.2 and 0.3.
    assert (row_s.tolist(), sorted(column_s.tolist()[:2]), column_s[2]) == ([0, 0, 1], [0, 2], 1)


def test_a_row_without_allowed_columns_takes_no_place_from_others():
    row_s, column_s, is_full = assign_columns(np.array([[-np.inf, -np.inf], [0.1, 0.2]]), 1)
    assert (row_s.tolist(), column_s.tolist(), is_full) == ([1], [1], False)


def test_nothing_allowed_gives_nothing():
    row_s, column_s, is_full = assign_columns(np.full((2, 2), -np.inf), 1)
    assert (len(row_s), len(column_s), is_full) == (0, 0, False)


def test_the_price_of_a_row_counts_what_others_would_gain():
    # Row 1 could leave column 0 to row 0, which gains 0.1 by it: 0.85 elsewhere would do.
    similarity = np.array([[0.9, 0.8], [0.9, 0.1]])
    row_s, column_s, _ = assign_columns(similarity, 1)
    np.testing.assert_allclose(row_prices(similarity, row_s, column_s), [0.8, 0.8])


@pytest.mark.parametrize("n_partners", [1, 2])
@pytest.mark.parametrize("seed", range(8))
def test_a_new_column_helps_exactly_when_it_beats_a_price(seed, n_partners):
    rng = np.random.default_rng(seed)
    similarity = rng.choice([0.2, 0.5, 0.9], (4, 9)) + 0.05 * rng.random((4, 9))
    similarity[rng.random((4, 9)) < 0.1] = -np.inf
    row_s, column_s, is_full = assign_columns(similarity, n_partners)
    assert is_full
    total = similarity[row_s, column_s].sum()
    price_m = row_prices(similarity, row_s, column_s)

    def total_with(column):
        wider = np.column_stack([similarity, column])
        rows, columns, _ = assign_columns(wider, n_partners)
        return wider[rows, columns].sum()

    assert total_with(price_m - 1e-6) == pytest.approx(total, abs=1e-9)
    for row in range(4):
        only_here = np.full(4, -np.inf)
        only_here[row] = price_m[row] + 1e-6
        assert total_with(only_here) == pytest.approx(total + 1e-6, abs=1e-9)
