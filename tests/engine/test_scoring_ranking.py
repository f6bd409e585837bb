from __future__ import annotations

import numpy as np
import pytest

from csp_engine.methods.scoring.ranking import NullScores, rank_labels, top_labels

YES = np.ones(1, np.bool_)


def rank(rows, n_labels, null=None, has_label=None):
    score_ut = np.array(rows, np.float32)
    has_label_u = np.ones(len(rows), np.bool_) if has_label is None else np.array(has_label)
    return rank_labels(score_ut, has_label_u, null, n_labels)


def test_ties_go_to_the_lower_label_also_at_the_boundary():
    row = np.zeros(40, np.float32)
    row[[30, 5, 17]] = 1
    row[[9, 2, 25, 33]] = 0.5
    assert top_labels(row[None], 5).tolist() == [[5, 17, 30, 2, 9]]
    assert top_labels(np.zeros((1, 40), np.float32), 3).tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("n_labels", [1, 7, 39, 40, 60])
def test_top_labels_are_the_start_of_a_stable_sort(n_labels):
    rng = np.random.default_rng(n_labels)
    score_ut = np.round(rng.standard_normal((50, 40)), 1).astype(np.float32)
    expected = np.argsort(-score_ut, axis=1, kind="stable")[:, :n_labels]
    np.testing.assert_array_equal(top_labels(score_ut, n_labels), expected)


def test_margins_go_to_the_next_label_down_even_past_the_last_rank_kept():
    ranks = rank([[0.1, 0.9, 0.4, 0.3]], 2)
    assert ranks.label_uk.tolist() == [[1, 2]]
    np.testing.assert_allclose(ranks.margin_uk, [[0.5, 0.1]], atol=1e-6)
    np.testing.assert_allclose(rank([[0.1, 0.9]], 5).margin_uk, [[0.8, 0]], atol=1e-6)


def test_percentiles_by_hand():
    null = NullScores.of(np.array([[0.1, 0.5], [0.3, 0.2], [0.2, 0.9]], np.float32))
    ranks = rank([[0.25, 0.6]], 2, null)
    assert ranks.label_uk.tolist() == [[1, 0]]
    # Label 1 beats .5 and .2 of .5, .2, .9; label 0 beats .1 and .2 of .1, .3, .2.
    np.testing.assert_allclose(ranks.percentile_uk, [[2 / 4, 2 / 4]])
    # The best of each draw are .5, .3, .9.
    np.testing.assert_allclose(ranks.best_percentile_u, [2 / 4])


def test_a_score_equal_to_a_draw_does_not_beat_it():
    null = NullScores.of(np.array([[0.5, 0.5]], np.float32))
    ranks = rank([[0.5, 0.1]], 1, null)
    assert ranks.percentile_uk[0, 0] == 0
    assert ranks.best_percentile_u[0] == 0


@pytest.mark.parametrize(("n_draws", "is_reliable"), [(18, False), (19, True), (20, True)])
def test_reliable_needs_enough_draws_to_show_it(n_draws, is_reliable):
    """Beating all of 18 draws shows 18/19 = .947; all of 19 shows .95."""
    null = NullScores.of(np.zeros((n_draws, 2), np.float32))
    ranks = rank([[1, 0.5]], 1, null)
    assert ranks.reliable_u[0] == is_reliable
    assert ranks.best_percentile_u[0] == pytest.approx(n_draws / (n_draws + 1))


def test_a_unit_without_a_label_is_all_zero():
    null = NullScores.of(np.full((20, 2), -1, np.float32))
    ranks = rank([[0.4, 0.6], [0.4, 0.6]], 2, null, [False, True])
    for name in ranks.__dataclass_fields__:
        assert not getattr(ranks, name)[0].any()
        assert getattr(ranks, name)[1].any()
