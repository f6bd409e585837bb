from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import csp_engine.search as search
from csp_engine.bundle import Bundle, BundleWriter
from csp_engine.errors import InputError, MissingModelError, StaleError
from csp_engine.search import index as index_of
from csp_engine.types import NeuronRef, TextRecipe
from csp_engine.words.templates import embed_labels

SQUARE = np.array([[1, 0, 0], [0.6, 0.8, 0], [0, 0, 0], [0.6, 0.8, 0]], dtype=np.float32)


def test_rank_puts_the_nearest_first_and_ties_to_the_lower_row():
    found = search.rank(search.build_index(SQUARE).index, np.array([0, 1, 0], np.float32), 3)
    assert found.row_m.tolist() == [1, 3, 0]
    assert found.score_m.tolist() == pytest.approx([0.8, 0.8, 0.0])


def test_a_neuron_without_evidence_is_never_found_even_when_all_others_score_below_zero():
    found = search.rank(search.build_index(SQUARE).index, np.array([-1, -1, 0], np.float32), 99)
    assert found.row_m.tolist() == [0, 1, 3]


def test_ties_across_the_cut_go_to_lower_rows_when_the_index_stops_among_them():
    same = np.tile(np.array([[0.6, 0.8]], np.float32), (200, 1))
    found = search.rank(search.build_index(same).index, np.array([1, 0], np.float32), 5)
    assert found.row_m.tolist() == [0, 1, 2, 3, 4]


def test_an_index_of_dead_neurons_only_finds_nothing():
    for kind in index_of.INDEX_KINDS:
        built = search.build_index(np.zeros((5, 3), np.float32), kind)
        assert len(search.rank(built.index, np.ones(3, np.float32), 3)) == 0


def test_rank_looks_only_at_allowed_rows():
    allowed = np.array([True, False, True, True])
    found = search.rank(
        search.build_index(SQUARE).index, np.array([0, 1, 0], np.float32), 9, allowed_u=allowed
    )
    assert found.row_m.tolist() == [3, 0]


def test_rank_like_leaves_the_neuron_itself_out_but_keeps_its_twin():
    index = search.build_index(SQUARE).index
    assert search.rank_like(index, 1, 1).row_m.tolist() == [3]
    assert len(search.rank_like(index, 2, 3)) == 0


def test_an_unknown_kind_names_the_known_ones():
    with pytest.raises(InputError, match="auto, flat, codes"):
        search.build_index(SQUARE, "annoy")


def test_several_texts_are_the_mean_of_unit_vectors():
    query = search.combine(np.array([[2, 0], [0, 5]], np.float32))
    assert query.tolist() == pytest.approx([2**-0.5, 2**-0.5])


def test_but_not_takes_the_negative_away():
    query = search.combine(
        np.array([[1, 0], [0.6, 0.8]], np.float32), np.array([[1, 0]], np.float32)
    )
    assert query[0] < 0 < query[1]


def test_one_text_alone_keeps_the_length_its_recipe_gave_it():
    assert search.combine(np.array([[0.3, 0.4]], np.float32)).tolist() == pytest.approx([0.3, 0.4])


def test_texts_that_cancel_out_are_refused():
    one = np.array([[1, 0]], np.float32)
    with pytest.raises(InputError, match="cancel"):
        search.combine(one, one)


def test_percentile_counts_ties_half_and_skips_draws_without_evidence():
    null = np.array([[0.1, 0], [0.2, 0], [0.2, 0], [0, 0], [0.4, 0]], np.float32)
    level = search.NullLevel.of(null, np.array([1, 0], np.float32))
    assert level.percentile(np.array([0.05, 0.2, 0.5], np.float32)).tolist() == [0, 0.5, 1]


class WordEncoder:
    """Each text gets a direction of its own, from its bytes."""

    spec, dim, fingerprint, description = "python:tests:words", 8, "a" * 64, {}

    def preprocess(self, image):
        return np.zeros((3, 2, 2), np.float32)

    def embed_images(self, pixels):
        return np.eye(8, dtype=np.float32)[: len(pixels)]

    def embed_texts(self, texts):
        rows = [np.random.default_rng(list(t.encode())).standard_normal(8) for t in texts]
        return np.stack([r / np.linalg.norm(r) for r in rows]).astype(np.float32)


@pytest.fixture(params=[(False, False), (True, False), (True, True)])
def bundle(request, tmp_path):
    """A bundle with two labels and nothing else."""
    renormalise, subtract = request.param
    recipe = TextRecipe(("{}", "a {}", "{}-like"), renormalise, subtract)
    texts = ["red", "striped cloth"]
    with BundleWriter(tmp_path / "toy.csp") as writer:
        vocabulary = {
            "templates": list(recipe.templates),
            "renormalise": renormalise,
            "subtract_empty": subtract,
        }
        encoder = {"spec": "python:tests:words", "fingerprint": "a" * 64}
        writer.describe(recipe={}, inputs={"vocabulary": vocabulary, "encoder": encoder})
        with writer.stage("vocabulary", version=1, params={}, needs={}, inputs={}) as folder:
            folder.table("labels", pd.DataFrame({"text": texts, "source": ["here", "here"]}))
            folder.array("text", embed_labels(WordEncoder().embed_texts, texts, recipe))
    return Bundle.open(tmp_path / "toy.csp")


def test_a_vocabulary_label_needs_no_encoder_and_equals_what_the_encoder_says(bundle):
    stored = search.query_vector(bundle, " striped_cloth ")
    embedded = embed_labels(
        WordEncoder().embed_texts, ["striped cloth"], search.text_recipe(bundle)
    )
    np.testing.assert_allclose(stored, embedded[0], atol=1e-6)


def test_a_free_text_is_made_as_the_labels_were(bundle):
    class Shouting(WordEncoder):
        """Gives the vector of the first label for any text."""

        def embed_texts(self, texts):
            return super().embed_texts([t.replace("green", "red") for t in texts])

    np.testing.assert_allclose(
        search.query_vector(bundle, "green", Shouting()), bundle.label_vectors()[0], atol=1e-6
    )


def test_an_article_is_not_said_twice(bundle):
    """Templates bring their own: "a photo of a {}" and "a red truck" share one."""
    assert search.prompts(bundle, "a red truck") == search.prompts(bundle, "red truck")
    assert search.prompts(bundle, "The red truck") == search.prompts(bundle, "red truck")
    assert search.stored_label(bundle, "a striped cloth") == search.stored_label(
        bundle, "striped cloth"
    )
    for whole in ("another", "theory", "an", "a", "anteater"):
        assert whole in search.prompts(bundle, whole)[0]


def test_a_label_that_begins_with_an_article_stays_whole(bundle, monkeypatch):
    monkeypatch.setitem(bundle.label_ids, "a cappella", 1)
    assert search.stored_label(bundle, "a cappella") == 1
    assert search.stored_label(bundle, "cappella") is None


def test_a_free_text_without_encoder_says_which_one_is_needed(bundle):
    with pytest.raises(MissingModelError, match="python:tests:words"):
        search.query_vector(bundle, "green")


def test_another_encoder_is_refused(bundle):
    other = WordEncoder()
    other.fingerprint = "b" * 64
    with pytest.raises(StaleError, match="bbbb"):
        search.query_vector(bundle, "green", other)


def test_an_image_becomes_the_vector_its_encoder_gives(bundle):
    found = search.image_query_vector(bundle, None, WordEncoder())
    assert found.tolist() == [1, 0, 0, 0, 0, 0, 0, 0]


def test_an_empty_query_is_refused(bundle):
    with pytest.raises(InputError, match="empty"):
        search.query_vector(bundle, " _ ")


def test_prompts_are_the_templates_filled_and_braces_in_a_query_are_text(bundle):
    assert search.prompts(bundle, "red {0}") == ["red {0}", "a red {0}", "red {0}-like"]


def test_rows_are_found_and_filtered_by_name():
    rows = pd.DataFrame(
        {"model": ["m", "m", "k"], "layer": ["a@mean", "b@mean", "a@mean"], "unit": [0, 0, 0]}
    )
    assert search.row_of(rows, NeuronRef("k", "a@mean", 0)) == 2
    assert search.allowed_rows(rows, model="m", layers=["a@mean"]).tolist() == [True, False, False]
    assert search.allowed_rows(rows) is None
    with pytest.raises(InputError, match="k/b@mean/7"):
        search.row_of(rows, NeuronRef("k", "b@mean", 7))


def test_searching_needs_no_torch():
    code = "import sys, csp_engine.search.query; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
