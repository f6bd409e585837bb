from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import csp_engine.search as search


@st.composite
def vectors_and_query(draw):
    u, d = draw(st.integers(1, 30)), draw(st.integers(1, 8))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    vectors = rng.integers(-2, 3, (u, d)).astype(np.float32)  # ties and zero rows are common
    return vectors, rng.integers(-2, 3, d).astype(np.float32), draw(st.integers(1, 40))


@settings(max_examples=60, deadline=None)
@given(vectors_and_query())
def test_a_ranking_is_the_head_of_the_longer_one_and_never_holds_a_dead_row(case):
    vectors, query, n = case
    index = search.build_index(vectors).index
    everything = search.rank(index, query, len(vectors))
    found = search.rank(index, query, n)
    alive = np.flatnonzero(vectors.any(axis=1))
    assert sorted(everything.row_m.tolist()) == alive.tolist()
    assert found.row_m.tolist() == everything.row_m[:n].tolist()
    assert all(np.diff(everything.score_m) <= 0)
    same = np.diff(everything.score_m) == 0
    assert all(np.diff(everything.row_m)[same] > 0)


@settings(max_examples=40, deadline=None)
@given(vectors_and_query(), st.randoms(use_true_random=False))
def test_a_filter_gives_the_same_order_as_dropping_rows_afterwards(case, random):
    vectors, query, n = case
    index = search.build_index(vectors).index
    allowed = np.array([random.random() < 0.5 for _ in vectors])
    everything = search.rank(index, query, len(vectors)).row_m
    expected = everything[allowed[everything]][:n]
    found = search.rank(index, query, n, allowed_u=allowed)
    assert found.row_m.tolist() == expected.tolist()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 4))
def test_the_order_of_texts_in_a_query_never_matters(seed, n_texts):
    rng = np.random.default_rng(seed)
    texts = rng.standard_normal((n_texts, 6)).astype(np.float32)
    np.testing.assert_allclose(search.combine(texts), search.combine(texts[::-1]), atol=1e-6)
