"""Alignment to valid and spurious concepts, against slow loops and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csp_engine.audits.alignment import (
    KINDS,
    best_alignment,
    best_match,
    chance_bar,
    influential,
    kinds,
)
from csp_engine.errors import InputError
from csp_engine.stats.intervals import difference_of_shares, share_of
from tests.reference import alignment_reference as slow


@pytest.mark.parametrize("has_empty", [True, False])
@pytest.mark.parametrize(("n_units", "n_texts", "width"), [(6, 6, 6), (9, 2, 5), (1, 7, 3)])
def test_alignment_equals_the_formula(n_units, n_texts, width, has_empty):
    rng = np.random.default_rng(n_units)
    vectors = rng.normal(size=(n_units, width)).astype(np.float32) * 3
    vectors[-1] = 0 if n_units > 1 else vectors[-1]
    texts = rng.normal(size=(n_texts, width)).astype(np.float32) / 2
    empty = rng.normal(size=width).astype(np.float32) if has_empty else None
    found = best_alignment(vectors, texts, empty)
    expected = slow.best_alignment(vectors, texts, empty)
    np.testing.assert_allclose(found.value_u, [v for v, _ in expected], atol=1e-6)
    assert found.text_u.tolist() == [t for _, t in expected]


def test_of_two_equal_texts_the_first_is_named():
    found = best_alignment(np.eye(2), np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 0.0]]))
    assert found.text_u.tolist() == [1, 0]


def test_the_length_of_vectors_does_not_matter():
    rng = np.random.default_rng(0)
    vectors, texts, empty = rng.normal(size=(5, 4)), rng.normal(size=(3, 4)), rng.normal(size=4)
    once = best_alignment(vectors, texts, empty)
    again = best_alignment(vectors * 1e6, texts * 1e-6, empty * 7)
    np.testing.assert_allclose(once.value_u, again.value_u, atol=1e-6)


def test_without_a_text_there_is_nothing_to_align_with():
    with pytest.raises(InputError, match="at least one concept"):
        best_alignment(np.eye(2), np.zeros((0, 2)))


@given(
    st.lists(st.integers(-6, 6).map(lambda n: n / 2), min_size=1, max_size=12),
    st.floats(0.01, 1.0),
)
@settings(max_examples=200, deadline=None)
def test_the_fewest_units_that_carry_a_share(effects, share):
    found = influential(np.array(effects), share)
    assert set(np.flatnonzero(found).tolist()) == slow.fewest_that_carry(effects, share)


def test_a_whole_share_leaves_out_only_units_without_effect():
    assert influential(np.array([0.1, 0.0, -0.2, np.nan]), 1.0).tolist() == [
        True, False, True, False,
    ]  # fmt: skip
    assert not influential(np.zeros(3)).any()
    with pytest.raises(InputError, match="above 0"):
        influential(np.ones(2), 0.0)


@given(st.lists(st.tuples(*[st.integers(-4, 4)] * 2), min_size=1, max_size=20),
       st.sampled_from([-1.0, 0.0, 2.0]), st.sampled_from([-2.0, 0.0, 1.0]))  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_kinds_follow_the_rule(pairs, valid_bar, spurious_bar):
    valid, spurious = np.array(pairs, float).T
    found = [KINDS[k] for k in kinds(valid, spurious, valid_bar, spurious_bar)]
    assert found == [slow.kind(v, s, valid_bar, spurious_bar) for v, s in pairs]


@given(st.lists(st.tuples(*[st.integers(-4, 4)] * 3), min_size=1, max_size=20),
       st.tuples(*[st.sampled_from([-1.0, 0.0, 2.0])] * 3))  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_neutral_concepts_follow_the_same_rule(triples, bars):
    valid, spurious, neutral = np.array(triples, float).T
    found = kinds(valid, spurious, bars[0], bars[1], neutral_u=neutral, neutral_bar=bars[2])
    named = dict(zip(("valid", "spurious", "neutral"), bars, strict=True))
    assert [KINDS[k] for k in found] == [slow.kind_of_three(*each, named) for each in triples]


def test_a_unit_without_a_concept_vector_is_unexpected():
    found = kinds(np.array([math.nan]), np.array([math.nan]), 0.1, 0.1)
    assert KINDS[found[0]] == "unexpected"


def test_the_bar_is_what_most_random_sets_stay_below():
    null = np.arange(101, dtype=float)
    assert chance_bar(null) == 95
    assert chance_bar(np.append(null, np.nan)) == 95
    assert math.isnan(chance_bar(np.array([np.nan])))


def test_random_vectors_rarely_pass_the_bar_of_random_vectors():
    rng = np.random.default_rng(1)
    texts, empty = rng.normal(size=(12, 16)), rng.normal(size=16)
    null, fresh = (best_alignment(rng.normal(size=(4000, 16)), texts, empty) for _ in range(2))
    assert (fresh.value_u > chance_bar(null.value_u)).mean() == pytest.approx(0.05, abs=0.015)


def test_the_match_is_the_nearest_and_ties_go_to_the_lower_unit():
    mine = np.array([[2.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    theirs = np.array([[0.0, 0.0], [0.0, 3.0], [5.0, 0.1], [10.0, 0.2], [-1.0, 0.0]])
    match, cosine = best_match(mine, theirs)
    assert match.tolist()[0::2] == [2, 2]
    assert cosine[0] == pytest.approx(5 / math.hypot(5, 0.1))
    assert math.isnan(cosine[1])
    assert np.isnan(best_match(mine, np.zeros((3, 2)))[1]).all()


def test_matching_survives_a_shuffle_of_the_other_network():
    rng = np.random.default_rng(3)
    mine = rng.normal(size=(40, 8))
    order = rng.permutation(40)
    match, cosine = best_match(mine, mine[order])
    assert order[match].tolist() == list(range(40))
    np.testing.assert_allclose(cosine, 1, atol=1e-6)


def test_the_difference_of_two_shares_is_newcombes_published_example():
    # Newcombe 1998, Table II, method 10.
    assert difference_of_shares(share_of(56, 70), share_of(48, 80)) == pytest.approx(
        (0.2, 0.0524, 0.3339), abs=1e-4
    )
    assert difference_of_shares(share_of(9, 10), share_of(3, 10)) == pytest.approx(
        (0.6, 0.1705, 0.8090), abs=1e-4
    )
    assert all(map(math.isnan, difference_of_shares(share_of(1, 2), share_of(0, 0))))
