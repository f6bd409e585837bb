"""Label vectors against a slow loop."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pytest

from csp_engine.types import TextRecipe
from csp_engine.words.templates import TEMPLATES, embed_labels
from tests.reference.label_embedding import label_vector


def embed_texts(texts: Sequence[str]) -> np.ndarray:
    """A unit row per prompt, unrelated for different prompts."""
    rows = np.empty((len(texts), 6), np.float32)
    for row, text in zip(rows, texts, strict=True):
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
        row[:] = np.random.default_rng(seed).normal(size=6)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("batch", [1, 2, 3, 100])
@pytest.mark.parametrize("subtract_empty", [False, True])
@pytest.mark.parametrize("renormalise", [False, True])
# 2 templates × 2, 3 and 6 texts: layouts that mix texts differ in each case.
@pytest.mark.parametrize(
    ("n_texts", "templates"),
    [
        (2, ("a {}", "{}-like")),
        (3, TEMPLATES["paper"]),
        (6, TEMPLATES["paper"]),
        (5, TEMPLATES["plain"]),
        (1, TEMPLATES["dermoscopy"]),
    ],
)
def test_label_vectors_equal_the_slow_loop(
    n_texts: int, templates: tuple[str, ...], renormalise: bool, subtract_empty: bool, batch: int
) -> None:
    texts = ["red", "dog {}", "50% off", "", "red", "a cat"][:n_texts]
    recipe = TextRecipe(templates, renormalise=renormalise, subtract_empty=subtract_empty)
    rows = embed_labels(embed_texts, texts, recipe, batch=batch)
    expected = [
        label_vector(lambda t: embed_texts([t])[0], text, templates, renormalise, subtract_empty)
        for text in texts
    ]
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, expected, atol=2e-6)


def test_texts_are_not_mixed_where_a_template_major_layout_would_mix_them() -> None:
    """Published code gave two queries of two templates one and the same vector."""
    recipe = TextRecipe(("a {}", "the {}"))
    both = embed_labels(embed_texts, ["cat", "dog"], recipe)
    alone = [embed_labels(embed_texts, [text], recipe)[0] for text in ("cat", "dog")]
    np.testing.assert_array_equal(both, alone)
    assert abs(both[0] @ both[1]) < 0.99
