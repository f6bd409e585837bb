"""Templates, normalising and label vectors by hand."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from csp_engine.errors import InputError
from csp_engine.types import TextRecipe
from csp_engine.words.templates import (
    TEMPLATES,
    embed_labels,
    empty_vector,
    fill_templates,
    normalise_rows,
)


def test_rows_become_unit_and_zero_rows_stay() -> None:
    rows = normalise_rows(np.array([[3.0, 4.0], [0.0, 0.0], [-2.0, 0.0]]))
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0, 0], [-1, 0]], atol=1e-7)


@pytest.mark.parametrize("size", [1e-30, 1e30, 1e-3])
def test_tiny_and_huge_rows_keep_their_direction(size: float) -> None:
    rows = normalise_rows((size * np.array([[3.0, 4.0]])).astype(np.float32))
    np.testing.assert_allclose(rows, [[0.6, 0.8]], atol=1e-6)


def test_half_precision_rows() -> None:
    rows = normalise_rows(np.array([[300.0, 400.0]], np.float16))
    np.testing.assert_allclose(rows, [[0.6, 0.8]], atol=1e-4)


def test_prompts_of_one_text_stand_together() -> None:
    assert fill_templates(["cat", "{}"], ["a {}", "{}!"]) == ["a cat", "cat!", "a {}", "{}!"]


def test_every_named_set_of_templates_is_usable() -> None:
    for templates in TEMPLATES.values():
        TextRecipe(templates)
    assert len(TEMPLATES["paper"]) == 6


def test_the_empty_prompt_is_taken_away_before_normalising() -> None:
    vectors = {"a cat": [0.6, 0.8], "a ": [0.6, -0.8]}
    recipe = TextRecipe(("a {}",), renormalise=True, subtract_empty=True)
    rows = embed_labels(lambda texts: np.array([vectors[t] for t in texts]), ["cat"], recipe)
    np.testing.assert_allclose(rows, [[0, 1]], atol=1e-7)


def test_the_empty_vector_averages_the_templates_without_a_text() -> None:
    vectors = {"a ": [1.0, 0.0], "!": [0.28, 0.96]}
    recipe = TextRecipe(("a {}", "{}!"), renormalise=False)
    found = empty_vector(lambda texts: np.array([vectors[t] for t in texts]), recipe)
    np.testing.assert_allclose(found, [0.8, 0.6], atol=1e-7)


def test_an_encoder_without_the_empty_text_has_no_empty_vector() -> None:
    def only_names(texts: list[str]) -> np.ndarray:
        raise InputError("no stored vector for ''")

    assert empty_vector(only_names, TextRecipe(("{}",))) is None
    assert empty_vector(lambda texts: np.zeros((1, 3)), TextRecipe(("{}",))) is None
    opposite = np.array([[0.6, 0.8], [-0.6, -0.8]])
    assert empty_vector(lambda texts: opposite, TextRecipe(("{}", "a {}"))) is None


def test_progress_counts_texts() -> None:
    seen: list[tuple[str, int, int]] = []
    embed_labels(
        lambda texts: np.eye(2)[[0] * len(texts)],
        ["a", "b", "c"],
        TextRecipe(("{}", "a {}")),
        batch=2,
        progress=lambda *call: seen.append(call),
    )
    assert seen == [("labels", 2, 3), ("labels", 3, 3)]


def test_no_texts_and_no_batch_are_refused() -> None:
    recipe = TextRecipe(("{}",))
    with pytest.raises(InputError, match="no label"):
        embed_labels(lambda texts: np.ones((len(texts), 2)), [], recipe)
    with pytest.raises(InputError, match="batch of 0"):
        embed_labels(lambda texts: np.ones((len(texts), 2)), ["a"], recipe, batch=0)


def test_importing_embeddings_leaves_torch_alone() -> None:
    code = "import sys, csp_engine.words.templates; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
