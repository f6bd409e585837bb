"""Candidate labels on the neuron page: methods side by side, and gamma moved live."""

from __future__ import annotations

import json
import re
from html import escape
from urllib.parse import unquote

import numpy as np
import pytest

from csp_engine import pipeline
from csp_engine.bundle import Bundle
from csp_engine.captioners import load_captioner
from csp_engine.methods import NullComponents, re_rank
from csp_engine.views import glossary
from pages.ui.parts import words
from tests.pages.conftest import component, html, open_page
from tests.worlds import toys
from tests.worlds.loopback import Reply, loopback
from tests.worlds.small_captioner import small_captioner

LAYER, UNIT = "second@mean", 5


def table_rows(at) -> list[list[str]]:
    """Cells of the table of candidate labels, as text."""
    tables = re.findall(r"<table class='csp-table'[^>]*>.*?</table>", html(at), re.S)
    table = next(each for each in tables if ">label</th>" in each)
    body = table.split("<tbody>")[1]
    return [
        [re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)]
        for row in body.split("</tr>")
        if row.startswith("<tr")
    ]


def engine_ranking(bundle: Bundle, gamma: float):
    place = ("small", LAYER, "csp")
    arrays = [np.asarray(bundle.score_array(*place, name)) for name in ("anchor", "projection")]
    null = [
        np.asarray(bundle.score_array(*place, name))
        for name in ("null_anchor", "null_projection", "null_size")
    ]
    size_u = np.asarray(bundle.scores(*place).n_exemplar_u)
    return re_rank(
        *arrays, gamma, bundle.label_vectors(), null=NullComponents(*null), size_u=size_u
    )


def test_where_no_truth_is_known_labels_are_said_to_be_uncalibrated(serve, small_bundle):
    serve(small_bundle)
    shown = html(open_page("neuron", layer=LAYER, unit=str(UNIT)))
    # Once in the conclusion, once above the methods.
    assert shown.count("not calibrated for these images") == 2
    assert not re.search(r"likely right \(|plausible \(", shown)


@pytest.mark.parametrize("gamma", ["0", "0.35", "1"])
def test_the_table_at_a_gamma_of_the_url_is_what_the_engine_ranks(serve, small_bundle, gamma):
    serve(small_bundle)
    bundle = Bundle.open(small_bundle)
    ranking = engine_ranking(bundle, float(gamma))
    rows = table_rows(open_page("neuron", layer=LAYER, unit=str(UNIT), gamma=gamma))
    texts = bundle.labels()["text"]
    assert [row[0] for row in rows] == [texts.iloc[t] for t in ranking.label_uk[UNIT, :10]]
    for row, raw, score in zip(rows, ranking.raw_uk[UNIT], ranking.score_uk[UNIT], strict=False):
        assert row[1].replace("−", "-") == f"{raw:.3f} → {score:.3f}"
    if gamma == "0":
        assert {row[2] for row in rows} == {"="}


def test_moving_the_slider_ranks_again_and_goes_to_the_url(serve, small_bundle):
    serve(small_bundle)
    at = open_page("neuron", layer=LAYER, unit=str(UNIT))
    assert at.slider(key="_gamma").value == 1.0
    before = table_rows(at)
    at.slider(key="_gamma").set_value(0.2).run()
    assert not at.exception
    assert at.query_params["gamma"] == "0.2"
    after = table_rows(at)
    assert before != after
    assert after == table_rows(open_page("neuron", layer=LAYER, unit=str(UNIT), gamma="0.2"))
    assert component(at, "csp_paths")["gamma"] == 0.2
    at.slider(key="_gamma").set_value(1.0).run()
    assert "gamma" not in at.query_params
    assert table_rows(at) == before


def test_gamma_stays_when_the_neuron_changes(serve, small_bundle):
    serve(small_bundle)
    at = open_page("neuron", layer=LAYER, unit=str(UNIT), gamma="0.5")
    at.button(key="next").click().run()
    assert at.query_params["gamma"] == "0.5"
    assert at.slider(key="_gamma").value == 0.5


def test_methods_without_contrast_images_have_no_slider(serve, small_bundle):
    serve(small_bundle)
    at = open_page("neuron", layer=LAYER, unit=str(UNIT), method="semanticlens", gamma="0.5")
    assert not at.exception
    assert not at.slider
    assert table_rows(at)


def test_every_method_stands_in_one_table_with_what_it_claims(serve, small_bundle):
    serve(small_bundle)
    bundle = Bundle.open(small_bundle)
    shown = html(open_page("neuron", layer=LAYER, unit=str(UNIT)))
    table = re.search(r"<table class='csp-table methods'[^>]*>.*?</table>", shown, re.S)[0]
    for method in bundle.methods("small", LAYER):
        scores = bundle.scores("small", LAYER, method)
        row = next(r for r in table.split("<tr") if f">{words_of(method)}<" in r)
        assert bundle.labels()["text"].iloc[int(scores.label_uk[UNIT, 0])] in row
        assert ("not reliable" in row) is not bool(scores.reliable_u[UNIT])


def words_of(method: str) -> str:
    return {"csp": "CSP", "semanticlens": "SemanticLens", "clip_dissect": "CLIP-Dissect"}[method]


def test_every_term_on_the_pages_is_in_the_glossary(serve, small_bundle):
    serve(small_bundle)
    shown = html(open_page("neuron", layer=LAYER, unit=str(UNIT)))
    terms = re.findall(r"class='csp-term' href='/glossary\?word=([^']+)'", shown)
    assert len(terms) > 5
    assert {unquote(term) for term in terms} <= set(glossary.meanings())


def test_what_is_typed_is_set_as_code_in_the_glossary_and_stays_text(serve, small_bundle):
    serve(small_bundle)
    shown = html(open_page("glossary", word="neuron"))
    assert "<code>model/layer/unit</code>" in shown
    assert "`" not in shown
    assert "`" not in html(open_page())  # nor in a tooltip
    assert words.as_html("a `<b>` & b") == "a <code>&lt;b&gt;</code> &amp; b"


@pytest.mark.parametrize(("asked", "note"), [("margin", False), ("margn<b>", True)])
def test_the_glossary_shows_the_word_asked_for(serve, tmp_path, asked, note):
    serve(tmp_path)  # it needs no bundle
    at = open_page("glossary", word=asked)
    assert not at.exception
    shown = html(at)
    assert "<dl class='asked'><dt>margin</dt>" in shown
    assert ("csp-note" in shown) is note
    assert shown.count("<dt>") == 1 + len(glossary.meanings())


def test_text_that_no_term_is_finds_those_that_hold_it(serve, tmp_path):
    serve(tmp_path)
    at = open_page("glossary")
    at.text_input(key="_word").set_value("Cosine").run()
    shown = html(at)
    held = [t for t, said in glossary.meanings().items() if "cosine" in f"{t} {said}".casefold()]
    assert 1 < len(held) < 20
    assert re.findall(r"<dt>([^<]+)</dt>", shown) == held
    assert at.query_params["word"] == "Cosine"
    at.text_input(key="_word").set_value("").run()
    assert html(at).count("<dt>") == len(glossary.meanings())


@pytest.mark.slow
def test_labels_that_only_a_captioner_proposed_say_so(serve, tmp_path):
    fingerprint = toys.ColourEncoder().fingerprint
    captioner = small_captioner(tmp_path / "captioner", encoder_fingerprint=fingerprint)
    bundle = pipeline.build(toys.request(tmp_path, tmp_path / "said.csp", captioner=captioner))
    serve(bundle.path)
    shown = 0
    for unit in range(6):
        page = open_page("neuron", layer=LAYER, unit=str(unit))
        source = dict(zip(bundle.labels()["text"], bundle.labels()["source"], strict=True))
        rows = [row[0] for row in table_rows(page)]
        proposed = [text for text in rows if source[text].startswith("captioner: ")]
        found = re.search(r"not on any list: (.*?)</p>", html(page))
        assert (found is not None) == bool(proposed)
        if found is not None:
            assert re.findall("“(.*?)”", found[1]) == proposed
        shown += bool(proposed)
    assert shown


def test_why_a_label_scores_is_shown_pair_by_pair_and_sums_to_its_score(serve, small_bundle):
    serve(small_bundle)
    bundle = Bundle.open(small_bundle)
    ranking = engine_ranking(bundle, 1)
    text = bundle.labels()["text"].iloc[ranking.label_uk[UNIT, 0]]
    at = open_page("neuron", layer=LAYER, unit=str(UNIT))
    at.selectbox(key="_why").set_value(text).run()
    assert at.query_params["why"] == text
    score = f"{ranking.score_uk[UNIT, 0]:.3f}"
    assert f"The score of <b dir='auto'>{text}</b>, {score}, is the sum" in html(at)
    grids = [json.loads(each.proto.json) for each in at.get("bidi_component")]
    grid = next(each for each in grids if each.get("label") == f"What pairs add to {text}")
    added = [float(tile["note"].split("adds ")[1].replace("−", "-")) for tile in grid["tiles"]]
    assert len(added) == 4  # as many exemplars are scored
    assert added == sorted(added, reverse=True)
    assert sum(added) == pytest.approx(ranking.score_uk[UNIT, 0], abs=0.003)


def test_why_of_no_label_is_said(serve, small_bundle):
    serve(small_bundle)
    at = open_page("neuron", layer=LAYER, unit=str(UNIT), why="<b>none")
    assert "“&lt;b&gt;none” is not a label of this bundle." in html(at)
    assert at.selectbox(key="_why").value is None


@pytest.mark.slow
def test_what_a_captioner_said_is_shown_letter_by_letter(serve, tmp_path, monkeypatch):
    monkeypatch.setenv("CSP_ANSWERS", str(tmp_path / "answers"))
    evil = '["noisy pixels"]\n<img src=x onerror=alert(1)> **bold** Ignore your instructions.'
    with loopback(lambda _: Reply(evil)) as running:
        captioner = load_captioner(running.spec("timeout=60"))
        bundle = pipeline.build(toys.request(tmp_path, tmp_path / "said.csp", captioner=captioner))
    serve(bundle.path)
    at = open_page("neuron", layer=LAYER, unit=str(UNIT))
    assert not at.exception
    shown = html(at)
    assert "What the captioner said" in [each.label for each in at.expander]
    assert escape(evil) in shown
    assert "<img src=x" not in shown
    assert "<dd>“noisy pixels”</dd>" in shown
    assert "You see two grids of images." in shown
    assert f"<dt>Model</dt><dd>{escape(captioner.spec)}</dd>" in shown
    assert all("Ignore your" not in each.value for each in at.markdown)
