"""FALCON against loops written from its description, on awkward layers."""

from __future__ import annotations

import numpy as np
import pytest

from csp_engine.errors import InputError
from csp_engine.evidence.evidence import UndeclaredNeedError
from csp_engine.methods import label_layer, resolve_params
from csp_engine.methods.falcon import FALCON, paired_images, similar_images, terms_of, words_of
from csp_engine.pipeline import build
from csp_engine.pipeline.recipe import changed
from tests.reference import falcon_reference as reference
from tests.worlds import small_layers, toys

TEXTS = (
    "blue veil", "a blue veil", "Ruler", "ruler marks", "dark hair", "hair", "dark hair",
    "the photo", "x2 12", "white cysts and dark hair", "network", "pink network", "veil of veil",
)  # fmt: skip


def layer(seed=0, d=6, texts=TEXTS):
    rng = np.random.default_rng(seed)
    evidence = small_layers.awkward(rng, 9, 40, d, 7, 2)
    acts_un = evidence.given.sources["activations"](np.arange(9))
    evidence.given.sources["texts"] = lambda _: texts
    label_td = small_layers.unit_rows(rng, len(texts), d)
    label_td[6 % len(texts)] = label_td[-1]  # a tie
    label_td[1] *= 3
    return evidence.asked_by("a test", FALCON.needs), label_td, acts_un


def held(texts, kind):
    """The words of each label and whether a word is a phrase, by hand."""
    if kind == "labels":
        return [[text] for text in texts], lambda word: len(words_of(word)) > 1
    plain = [words_of(text) for text in texts]
    return (
        [[*words, *([" ".join(words)] if len(words) > 1 else [])] for words in plain],
        lambda word: " " in word,
    )


@pytest.mark.parametrize("terms", ["labels", "words"])
@pytest.mark.parametrize("neighbours", ["encoder", "model"])
@pytest.mark.parametrize("scale", [0.0, 5.0, 60.0])
def test_words_and_their_support_are_those_of_the_loops(terms, neighbours, scale):
    evidence, label_td, acts_un = layer()
    params = resolve_params(
        FALCON,
        {"terms": terms, "neighbours": neighbours, "scale": scale, "n_score": 4, "near": 0.2,
         "n_near": 3, "n_captions": 3, "n_terms": 2, "removed": 0.06},
    )  # fmt: skip
    found = FALCON.said(evidence, label_td, params)
    words, is_phrase = held(TEXTS, terms)
    quiet = paired_images(evidence, 4)
    if neighbours == "model":
        quiet = similar_images(evidence, 4, 0.2, 3)
    n_removed = 0
    for u in range(evidence.n_units):
        count = min(4, int(evidence.exemplars.count_u[u]))
        if not count:
            assert found.labels[u] == []
            assert not found.vector_ud[u].any()
            continue
        exemplars = evidence.exemplars.image_uk[u, :count].tolist()
        if neighbours == "model":
            assert quiet[u].tolist() == reference.near_in_the_model(u, acts_un, exemplars, 0.2, 3)
        asked = (evidence.image_nd, label_td, words, scale, 3)
        shown = reference.said_of(exemplars, *asked)
        bare = reference.said_of(quiet[u].tolist(), *asked) if len(quiet[u]) else {}
        kept = reference.words_kept(shown, bare, is_phrase, 0.06, 2)
        said = {label.text: label.score for label in found.labels[u]}
        assert said == pytest.approx(kept, abs=1e-5)
        scores = [label.score for label in found.labels[u]]
        assert scores == sorted(scores, reverse=True)
        n_removed += len(shown.keys() & {word for word, value in bare.items() if value >= 0.06})
    assert n_removed


def test_paired_images_are_the_nearest_partners_each_once():
    evidence = small_layers.by_hand(
        small_layers.unit_rows(np.random.default_rng(0), 9, 4), [0, 1, 2, 3], [[5, 6], [], [4], [5]]
    )
    assert [images.tolist() for images in paired_images(evidence, 30)] == [[4, 5]]
    assert [images.tolist() for images in paired_images(evidence, 2)] == [[5]]


def test_a_unit_is_left_out_of_its_own_space_and_a_random_set_is_no_unit_of_it():
    rng = np.random.default_rng(4)
    evidence, _, acts_un = layer(4)
    loud_un = acts_un.copy()
    loud_un[5] -= 50  # by itself it would decide every product
    evidence.given.sources["layer"] = lambda _: loud_un
    evidence.given.sources["activations"] = lambda units: loud_un[units]
    (found,) = similar_images(evidence.block(slice(5, 6)), 7, -1, 99)
    exemplars = evidence.exemplars.image_uk[5].tolist()
    assert found.tolist() == reference.near_in_the_model(5, loud_un, exemplars, -1, 99)
    noise_rn = rng.standard_normal((1, 40)).astype(np.float32)
    noise = small_layers.mined(noise_rn, evidence.image_nd, 7)
    noise.given.sources["layer"] = lambda _: acts_un
    (found,) = similar_images(noise.asked_by("a test", FALCON.needs), 7, -1, 99)
    exemplars = noise.exemplars.image_uk[0].tolist()
    length_n = np.linalg.norm(acts_un, axis=0)
    product_n = (acts_un / length_n)[:, exemplars].mean(axis=1) @ (acts_un / length_n)
    expected = [n for n in np.argsort(-product_n) if noise_rn[0, n] < noise_rn[0].mean()]
    assert found.tolist() == expected


def test_words_leave_out_fillers_numbers_and_scraps_and_keep_other_scripts():
    assert words_of("A photo of the dog's 2nd blue-white VEIL, at 10 cm") == [
        "dogs", "blue", "white", "veil",
    ]  # fmt: skip
    assert words_of("écorce brûlée") == ["écorce", "brûlée"]
    assert words_of("the of a") == words_of("") == []
    terms = terms_of(TEXTS, "words")
    assert len(set(terms.texts)) == len(terms.texts)
    assert {"blue veil", "veil veil", "hair", "white cysts dark hair"} <= set(terms.texts)
    assert terms_of(["the of", "12"], "words").texts == ()


def test_captions_that_say_nothing_leave_neurons_without_a_label():
    evidence, label_td, _ = layer(texts=("the photo", "12", "a"))
    found = FALCON.said(evidence, label_td[:3], resolve_params(FALCON, {"terms": "words"}))
    assert not any(found.labels)


def test_what_contrast_shares_is_not_said_and_blocks_change_nothing():
    evidence, label_td, _ = layer(2)
    null = small_layers.noise(np.random.default_rng(1), evidence.image_nd, 25, 7)
    settings = {"terms": "words", "neighbours": "model"}
    whole = label_layer("falcon", evidence, null, label_td, settings)
    parts = label_layer("falcon", evidence, null, label_td, settings, unit_block=2)
    for name in ("label_uk", "score_uk", "vector_ud", "best_percentile_u", "count_u"):
        np.testing.assert_allclose(
            getattr(whole.scores, name), getattr(parts.scores, name), atol=1e-6
        )
    assert whole.texts == parts.texts
    nothing = label_layer("falcon", evidence, null, label_td, {**settings, "removed": 0.0})
    has_quiet = [len(images) > 0 for images in similar_images(evidence, 30, 0.3, 10)]
    assert (nothing.scores.count_u[has_quiet] < whole.scores.count_u[has_quiet]).any()


@pytest.mark.slow
def test_a_bundle_is_labelled_with_it(tmp_path):
    recipe = changed(toys.SMALL, {"methods": "falcon", "falcon.neighbours": "model"})
    bundle = build(toys.request(tmp_path, tmp_path / "a.csp", recipe=recipe))
    texts = set(bundle.labels()["text"])
    for name in bundle.layers("small"):
        scores = bundle.scores("small", name, "falcon")
        own = bundle.table(f"scores:small/{name}/falcon", "labels")["text"].tolist()
        assert set(own) <= texts
        assert scores.count_u.any()
        assert np.linalg.norm(scores.vector_ud[scores.count_u > 0], axis=1) == pytest.approx(1)


def test_reading_the_layer_must_be_declared():
    evidence, _, _ = layer()
    with pytest.raises(UndeclaredNeedError, match="reads activations of the whole layer without"):
        _ = evidence.asked_by("a test", ("activations",)).layer_wn


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"terms": "nouns"}, "terms is 'nouns'; choose one of labels, words"),
        ({"neighbours": "both"}, "neighbours is 'both'; choose one of encoder, model"),
        ({"removed": 2}, "removed is 2"),
    ],
)
def test_bad_parameters_get_one_sentence(params, said):
    with pytest.raises(InputError, match=said):
        resolve_params(FALCON, params)
