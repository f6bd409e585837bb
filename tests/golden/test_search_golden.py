from __future__ import annotations

import numpy as np
import pytest

import csp_engine.search as search
from tests.reference import search as reference


@pytest.mark.parametrize(("u", "d", "n"), [(8, 8, 3), (40, 8, 40), (300, 16, 7), (1, 4, 5)])
@pytest.mark.parametrize("is_filtered", [False, True])
def test_rank_agrees_with_a_loop(u, d, n, is_filtered):
    rng = np.random.default_rng(u + d)
    vectors = rng.standard_normal((u, d)).astype(np.float32)
    vectors[rng.random(u) < 0.2] = 0
    vectors[u // 2] = vectors[0]
    query = rng.standard_normal(d).astype(np.float32)
    allowed = rng.random(u) < 0.6 if is_filtered else None
    found = search.rank(search.build_index(vectors).index, query, n, allowed_u=allowed)
    expected = reference.rank(vectors, query, n, allowed)
    assert found.row_m.tolist() == [row for row, _ in expected]
    np.testing.assert_allclose(found.score_m, [score for _, score in expected], atol=1e-5)


@pytest.mark.parametrize(("q", "r"), [(2, 0), (1, 1), (3, 2)])
def test_combine_agrees_with_a_loop(q, r):
    rng = np.random.default_rng(q * 10 + r)
    positive = rng.standard_normal((q, 5)).astype(np.float32)
    negative = rng.standard_normal((r, 5)).astype(np.float32)
    np.testing.assert_allclose(
        search.combine(positive, negative), reference.combine(positive, negative), atol=1e-6
    )
