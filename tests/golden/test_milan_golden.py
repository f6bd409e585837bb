"""MILAN against the captioner's own loops over tokens, and on awkward layers."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from csp_engine import pipeline
from csp_engine.bundle import Bundle
from csp_engine.captioners import ImageSet
from csp_engine.captioners.set_captioner import EOS
from csp_engine.captioners.speaking import Speaking
from csp_engine.cli import app
from csp_engine.errors import InputError
from csp_engine.evidence.evidence import UndeclaredNeedError
from csp_engine.evidence.speaker import Phrase
from csp_engine.methods import label_layer, resolve_params
from csp_engine.methods.milan import MILAN, rerank
from csp_engine.pipeline.recipe import changed
from tests.golden.test_captioning_golden import next_token
from tests.reference import captioning_reference as reference
from tests.worlds import small_layers, toys
from tests.worlds.small_captioner import NOTHING, small_captioner

TEXTS = ("red", "grey stripe", "red", "white stripes", "deep blue", "-")


@pytest.fixture(scope="module")
def captioner(tmp_path_factory):
    folder = tmp_path_factory.mktemp("captioner") / "small"
    return small_captioner(folder, encoder_fingerprint=toys.ColourEncoder().fingerprint)


def layer(captioner, seed=0, n_exemplars=7):
    rng = np.random.default_rng(seed)
    evidence = small_layers.awkward(rng, 7, 30, 16, n_exemplars, 1)
    evidence.given.sources.update(texts=lambda _: TEXTS, speaker=lambda _: Speaking(captioner))
    return evidence.asked_by("a test", MILAN.needs), small_layers.unit_rows(rng, len(TEXTS), 16)


def shown(evidence, u, most):
    count = min(most, int(evidence.exemplars.count_u[u]))
    return evidence.image_nd[evidence.exemplars.image_uk[u, :count]]


@pytest.mark.parametrize("prior_weight", [0.0, 0.2, 1.0, 3])
@pytest.mark.parametrize("n_exemplars", [1, 7])
def test_labels_are_ranked_as_by_the_loops_over_tokens(captioner, prior_weight, n_exemplars):
    evidence, label_td = layer(captioner, n_exemplars=n_exemplars)
    params = resolve_params(MILAN, {"prior_weight": prior_weight, "candidates": "labels"})
    found = MILAN.said(evidence, label_td, params)
    words = {text: captioner.tokenizer.encode(text).ids for text in dict.fromkeys(TEXTS)}
    n_said = 0
    for u, said in enumerate(found.labels):
        images = shown(evidence, u, captioner.n_images)
        if not len(images):
            assert said == []
            assert not found.vector_ud[u].any()
            continue
        given, alone = next_token(captioner, ImageSet.of(images)), next_token(captioner, None)
        slow = reference.rerank(
            given, alone, [tuple(ids) for ids in words.values()], EOS, prior_weight
        )
        text_of = {tuple(ids): text for text, ids in words.items()}
        expected = {text_of[phrase]: (score, log_p) for score, log_p, _, phrase in slow}
        assert {label.text for label in said} == expected.keys()
        for label in said:
            assert (label.score, label.raw) == pytest.approx(expected[label.text], abs=2e-3)
        scores = [label.score for label in said]
        assert scores == sorted(scores, reverse=True)
        best = TEXTS.index(said[0].text)
        np.testing.assert_allclose(found.vector_ud[u], label_td[best], atol=1e-5)
        n_said += 1
    assert n_said == 6


def test_lambda_zero_is_plain_likelihood(captioner):
    evidence, label_td = layer(captioner)
    for candidates in ("labels", "beam"):
        params = resolve_params(MILAN, {"prior_weight": 0.0, "candidates": candidates})
        for u, said in enumerate(MILAN.said(evidence, label_td, params).labels):
            if said:
                images = ImageSet.of(shown(evidence, u, captioner.n_images))
                log_p = captioner.log_p(images, [label.text for label in said])
                assert [label.score for label in said] == pytest.approx(log_p.tolist(), abs=1e-3)
                assert [label.raw for label in said] == [label.score for label in said]
                assert list(log_p) == sorted(log_p, reverse=True)


@pytest.mark.parametrize("prior_weight", [0.2, 1])
def test_the_beam_is_what_the_captioner_describes_and_nothing_in_common_is_no_label(
    captioner, prior_weight
):
    evidence, label_td = layer(captioner)
    params = resolve_params(MILAN, {"prior_weight": prior_weight, "n_beams": 6})
    said = MILAN.said(evidence, label_td, params).labels
    for u, own in enumerate(said):
        images = shown(evidence, u, captioner.n_images)
        if not len(images):
            assert own == []
            continue
        (asked,) = captioner.describe(
            [ImageSet.of(images)], n_phrases=6, n_beams=6, prior_weight=float(prior_weight)
        )
        assert [one.text for one in own] == [phrase.text for phrase in asked.phrases]
        assert [one.score for one in own] == pytest.approx(
            [phrase.pmi for phrase in asked.phrases], abs=1e-3
        )
        assert NOTHING not in [one.text for one in own]


def test_reranking_says_a_phrase_once_and_breaks_ties_by_the_alphabet():
    said = [("b", -1.0, -5.0), ("a", -1.0, -5.0), ("c", -3.0, -20.0), ("b", -1.0, -5.0)]
    phrases = [Phrase(*one) for one in said]
    assert [(one.text, one.score, one.raw) for one in rerank(phrases, 0)] == [
        ("a", -1, -1), ("b", -1, -1), ("c", -3, -3),
    ]  # fmt: skip
    assert [one.text for one in rerank(phrases, 0.5)] == ["c", "a", "b"]
    assert rerank([], 0.2) == []


def test_blocks_and_random_image_sets(captioner):
    evidence, label_td = layer(captioner)
    null = small_layers.noise(np.random.default_rng(1), evidence.image_nd, 25, 7)
    whole = label_layer("milan", evidence, null, label_td, {})
    parts = label_layer("milan", evidence, null, label_td, {}, unit_block=3)
    assert whole.texts == parts.texts
    np.testing.assert_array_equal(whole.scores.label_uk[:, 0], parts.scores.label_uk[:, 0])
    np.testing.assert_allclose(whole.scores.score_uk, parts.scores.score_uk, atol=1e-3)
    alive = whole.scores.count_u > 0
    assert np.isfinite(whole.scores.best_percentile_u[alive]).all()
    np.testing.assert_array_equal(alive, evidence.exemplars.count_u > 0)


def test_asking_a_captioner_must_be_declared(captioner):
    evidence, _ = layer(captioner)
    with pytest.raises(UndeclaredNeedError, match="a captioner that gives likelihoods without"):
        _ = evidence.asked_by("a test", ("texts",)).speaker


@pytest.mark.slow
def test_bundles_are_labelled_with_it_where_a_captioner_gives_likelihoods(tmp_path, captioner):
    recipe = changed(replace(toys.SMALL, n_candidates=3, n_beams=8), {"methods": "csp"})
    path = tmp_path / "a.csp"
    pipeline.build(toys.request(tmp_path, path, recipe=recipe, captioner=captioner))
    wanted = changed(recipe, {"methods": "csp,milan"})
    with pytest.raises(InputError, match=r"'milan' needs a captioner .*none is at hand; name"):
        pipeline.relabel(path, wanted)
    assert "milan" not in Bundle.open(path).manifest.recipe["methods"]
    ran = CliRunner().invoke(app, ["label", str(path), "--set", "methods=csp,milan", "--json"])
    assert ran.exit_code == 0, ran.output
    bundle = Bundle.open(path)
    for name in bundle.layers("small"):
        scores = bundle.scores("small", name, "milan")
        np.testing.assert_array_equal(
            scores.count_u > 0, bundle.exemplars("small", name).count_u > 0
        )
    needs = bundle.stage("scores:small/first@mean/milan").needs
    assert "candidates:small/first@mean" in needs  # another captioner, another key
    pipeline.relabel(path, changed(wanted, {"gamma": 0.5}))


def test_a_captioner_that_gives_no_likelihoods_is_refused(tmp_path, captioner):
    kept = ("spec", "dim", "n_images", "fingerprint", "encoder_fingerprint", "description")
    mute = SimpleNamespace(**{name: getattr(captioner, name) for name in (*kept, "describe")})
    recipe = changed(replace(toys.SMALL, n_candidates=3, n_beams=8), {"methods": "milan"})
    request = toys.request(tmp_path, tmp_path / "a.csp", recipe=recipe, captioner=mute)
    with pytest.raises(InputError, match=r"needs a captioner that gives .*small gives none; name"):
        pipeline.build(request)
    plain = toys.request(tmp_path, tmp_path / "b.csp", recipe=recipe)
    with pytest.raises(InputError, match=r"none is at hand; name the folder of one"):
        pipeline.build(plain)
