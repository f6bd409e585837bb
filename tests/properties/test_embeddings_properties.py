"""What holds for any rows and any texts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from csp_engine.types import TextRecipe
from csp_engine.vectors import normalise_rows
from csp_engine.words.templates import embed_labels


def embed_texts(texts: Sequence[str]) -> np.ndarray:
    seeds = [int.from_bytes(hashlib.sha256(t.encode()).digest()[:8], "little") for t in texts]
    return normalise_rows(np.stack([np.random.default_rng(s).normal(size=4) for s in seeds]))


@given(
    npst.arrays(
        np.float32,
        npst.array_shapes(min_dims=2, max_dims=2, max_side=5),
        elements=st.floats(-1e3, 1e3, width=32),
    ),
    st.integers(-8, 8),
)
def test_length_is_one_or_zero_and_scale_does_not_matter(x_nd: np.ndarray, power: int) -> None:
    rows = normalise_rows(x_nd)
    length = np.linalg.norm(rows.astype(np.float64), axis=1)
    np.testing.assert_allclose(length, x_nd.any(axis=1).astype(float), atol=1e-6)
    scaled = normalise_rows(x_nd.astype(np.float64) * 2.0**power)
    np.testing.assert_allclose(scaled, rows, atol=1e-6)


@given(
    st.lists(st.text(max_size=5), min_size=1, max_size=7),
    st.integers(1, 4),
    st.integers(1, 8),
    st.booleans(),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_neither_order_nor_batch_changes_a_label(
    texts: list[str], n_templates: int, batch: int, renormalise: bool, subtract: bool, random
) -> None:
    templates = ("{}", "a {}", "the {}", "{}-like")[:n_templates]
    recipe = TextRecipe(templates, renormalise=renormalise, subtract_empty=subtract)
    order = list(range(len(texts)))
    random.shuffle(order)
    rows = embed_labels(embed_texts, texts, recipe, batch=batch)
    shuffled = embed_labels(embed_texts, [texts[i] for i in order], recipe)
    np.testing.assert_array_equal(shuffled, rows[order])
