from __future__ import annotations

import json
import re
import subprocess
import sys
from urllib.parse import quote

import numpy as np
import pytest

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.demo.shipping.opening import BUNDLE, SHIPPED
from csp_engine.errors import BundleError
from csp_engine.views.finding.examples import example_queries
from csp_engine.views.memo import Memo
from csp_engine.views.overview.layers import (
    FLAGS,
    LayerState,
    best_and_poorest,
    layer_states,
)
from pages.ui.neuron import candidates, looking, sections
from pages.ui.shell import store
from tests.pages.conftest import ROOT, component, html, open_page, rewrite_manifest
from tests.worlds.hostile_world import HOSTILE, LONG

EVERY = sorted(path.stem for path in (ROOT / "pages").glob("*.py") if path.stem != "__init__")
PAGES = [page for page in EVERY if page not in ("build", "glossary")]
"""Pages that show a bundle; the others open without one."""

NEEDED = {
    "layer": "score_uk.npy",
    "map": "xy.npy",
    "compare": "vector_ud.npy",
    "labels": "label_uk.npy",
}
"""A file that a page cannot do without, where it is not the exemplars."""

PARAMETERS = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "urls.md").read_text("utf-8"), re.M)
VALUES = [*HOSTILE, LONG, "-9" * 40, "nan", "0", "NaN..inf", "%00%2e%2e/"]


@pytest.mark.parametrize("page", EVERY)
def test_a_page_of_a_good_bundle_shows_no_problem(serve, small_bundle, page):
    serve(small_bundle)
    at = open_page(page)
    assert not at.exception
    assert "csp-problem" not in html(at)
    assert "csp-note" not in html(at)


@pytest.mark.parametrize("page", EVERY)
def test_a_page_of_the_shipped_demo_shows_no_problem(serve, page):
    serve(SHIPPED / BUNDLE)
    at = open_page(page, q="ruler")
    assert not at.exception
    assert "csp-problem" not in html(at)
    assert "csp-note" not in html(at)


@pytest.mark.parametrize("page", PAGES)
def test_a_bundle_with_nothing_in_it_yet_says_so(serve, copied, page):
    rewrite_manifest(copied, stages={})
    serve(copied)
    at = open_page(page, q="red") if page == "search" else open_page(page)
    assert not at.exception
    assert "csp build" in html(at)


@pytest.mark.parametrize("harm", ["none", "empty", "newer", "damaged", "nonsense"])
@pytest.mark.parametrize("page", sorted(set(EVERY) - set(PAGES)))
def test_a_page_that_needs_no_bundle_opens_whatever_lies_there(serve, tmp_path, copied, page, harm):
    if harm == "newer":
        rewrite_manifest(copied, schema=99)
    elif harm == "damaged":
        (copied / "manifest.json").write_text("{")
    elif harm == "empty":
        rewrite_manifest(copied, stages={})
    serve(tmp_path / "nothing" if harm == "none" else copied)
    at = open_page(page, **({"word": "<b>", "job": "../x", "v": "7"} if harm == "nonsense" else {}))
    assert not at.exception
    if (page, harm) == ("build", "nonsense"):
        assert "There is no build at" in html(at)
    else:
        assert "<h1 class='csp-title'>" in html(at)
        assert "csp-problem" not in html(at)


@pytest.mark.parametrize("page", PAGES)
def test_without_a_bundle_a_page_says_how_to_build_one(serve, tmp_path, page):
    serve(tmp_path)
    at = open_page(page)
    assert not at.exception
    assert at.title[0].value == "No bundle yet"
    assert "csp_engine demo" in at.code[0].value
    assert "csp build" in at.code[1].value
    assert str(tmp_path) in html(at)


@pytest.mark.parametrize("page", PAGES)
def test_a_bundle_of_a_newer_schema_is_refused_in_its_own_sentence(serve, copied, page):
    rewrite_manifest(copied, schema=99)
    serve(copied)
    at = open_page(page)
    assert not at.exception
    assert "99" in html(at)
    assert "cannot be opened" in html(at)


@pytest.mark.parametrize("page", PAGES)
def test_a_cut_off_manifest_is_a_sentence(serve, copied, page):
    path = copied / "manifest.json"
    path.write_bytes(path.read_bytes()[:-100])
    serve(copied)
    at = open_page(page)
    assert not at.exception
    assert "damaged" in html(at)


@pytest.mark.parametrize("page", [page for page in PAGES if page not in ("audit", "melanoma")])
def test_a_cut_off_array_is_a_sentence_where_it_is_needed(serve, copied, page, monkeypatch):
    monkeypatch.setattr(store, "MEMO", Memo())
    for path in copied.glob(f"*/{NEEDED.get(page, 'exemplar_image.npy')}"):
        path.write_bytes(path.read_bytes()[:-4])
    serve(copied)
    at = open_page(page, q="red") if page == "search" else open_page(page)
    assert not at.exception
    assert "damaged" in html(at)


@pytest.mark.parametrize("part", [looking, sections, candidates])
def test_what_one_part_of_a_neuron_cannot_read_hides_no_other(
    serve, small_bundle, part, monkeypatch
):
    def damaged(*_: object, **__: object) -> None:
        raise BundleError("a file is damaged")

    monkeypatch.setattr(part, "neighbours" if part is sections else "section", damaged)
    serve(small_bundle)
    at = open_page("neuron", unit="5")
    assert not at.exception
    assert html(at).count("a file is damaged") == 1
    assert "One image, changed" in [each.label for each in at.expander]


@pytest.mark.parametrize("page", PAGES)
def test_a_nonsense_url_shows_something_and_says_what_was_replaced(serve, small_bundle, page):
    serve(small_bundle)
    at = open_page(
        page, bundle="smal", layer="nope", unit="-1e9", method="<b>", k="x", q="red", v="7"
    )
    assert not at.exception
    for said in ("smal", "nope", "-1e9", "&lt;b&gt;", "version 7"):
        assert said in html(at)


def test_a_bundle_is_found_by_name_only(serve, small_bundle):
    serve(small_bundle)
    at = open_page("neuron", bundle=str(small_bundle.parent / "other.csp"))
    assert not at.exception
    assert "showing small instead" in html(at)


def test_the_overview_tells_what_is_looked_at(serve, small_bundle):
    serve(small_bundle)
    shown = html(open_page())
    manifest = Bundle.open(small_bundle).manifest
    assert "20 neurons of small" in shown
    assert "28 images" in shown
    assert manifest.inputs["encoder"]["spec"] in shown
    assert manifest.inputs["models"]["small"]["fingerprint"][:12] in shown


def test_a_first_visit_is_explained_in_five_sentences_beside_one_neuron(serve, small_bundle):
    serve(small_bundle)
    at = open_page()
    sentences = re.findall(r"<li>(.*?)</li>", html(at))
    words = [re.sub(r"<[^>]+>", "", sentence) for sentence in sentences]
    assert len(words) == 5
    assert all(re.fullmatch(r"[A-Z][^.?!]*\.", each) for each in words)
    opened = at.get("page_link")[-1].proto.label
    unit = re.search(r"unit (\d+) of", words[0])[1]
    assert opened.endswith(f"/{unit}")
    assert len(component(at, "csp_tiles")["tiles"]) == 4


def test_flagged_counts_each_neuron_once(serve, small_bundle):
    serve(small_bundle)
    for state in layer_states(Bundle.open(small_bundle)):
        assert max(state.flags.values()) <= state.n_flagged <= state.n_units
    assert "dead, dense, constant or never positive" in html(open_page())


def test_examples_to_search_for_do_not_repeat_each_other(small_bundle):
    """Twice the same word, or a word and its spelling, would waste the few there are."""
    bundle = Bundle.open(small_bundle)
    texts = example_queries(bundle, store.MEMO, "csp")
    labels = bundle.labels()["text"].tolist()
    vector_td = bundle.label_vectors() - bundle.label_vectors().mean(axis=0)
    vector_td = vector_td[[labels.index(text) for text in texts]]
    vector_td /= np.linalg.norm(vector_td, axis=1, keepdims=True)
    alike = vector_td @ vector_td.T - np.eye(len(texts))
    assert texts
    assert alike.max() < 0.7


def test_the_layer_table_counts_what_the_bundle_says(serve, small_bundle):
    serve(small_bundle)
    bundle = Bundle.open(small_bundle)
    for layer, n_units in (("first@mean", 8), ("second@mean", 12)):
        link = rf"<a href='/layer\?bundle=small&amp;model=small&amp;layer={quote(layer)}&[^']*'>"
        row = re.search(rf"<tr>[^/]*{link}{layer}</a>.*?(?=<tr>|</tbody>)", html(open_page()))[0]
        cells = dict(re.findall(r"<td data-heading='([^']+)'>(\d+)[ <]", row))
        assert cells["neurons"] == str(n_units)
        n_reliable = int(bundle.scores("small", layer, "csp").reliable_u.sum())
        assert cells["by CSP"] == str(n_reliable)
        assert f"{n_reliable} <span class='csp-quiet'>{numbers.share(n_reliable / n_units)}<" in row


def _state(layer: str, n_reliable: int | None) -> LayerState:
    counts = {} if n_reliable is None else {"csp": n_reliable}
    return LayerState("m", layer, 10, dict.fromkeys(FLAGS.values(), 0), 0, counts)


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ([], ""),
        ([4], ""),
        ([4, 4], ""),
        ([None, None], ""),
        ([9, None, 2, 5], "CSP finds a reliable label for 90 % of the neurons of m / 0, the most, "
         "and for 20 % of m / 2, the fewest."),
    ],
)  # fmt: skip
def test_the_overview_names_the_best_and_the_poorest_layer(counts, words):
    states = [_state(str(at), count) for at, count in enumerate(counts)]
    assert best_and_poorest(states, "csp") == words


def test_a_search_ranks_as_the_engine_does_and_shows_the_prompts(serve, small_bundle):
    from csp_engine.search import open_index, query_vector, rank

    serve(small_bundle)
    at = open_page("search", q="red")
    bundle = Bundle.open(small_bundle)
    index, rows = open_index(bundle, "csp")
    best = rows.iloc[int(rank(index, query_vector(bundle, "red"), 1).row_m[0])]
    found = component(at, "csp_cards")["cards"]
    assert found[0]["id"] == f"{best['layer']} / {best['unit']}"
    assert len(found) == 12
    assert "<li dir='auto'>red-like</li>" in html(at)
    assert found[0]["href"].startswith("/neuron?bundle=small&model=small&layer=")


def test_but_not_changes_the_order(serve, small_bundle):
    serve(small_bundle)
    plain = component(open_page("search", q="red"), "csp_cards")["cards"]
    minus = component(open_page("search", q="blue", **{"not": "red"}), "csp_cards")["cards"]
    assert plain[0]["id"] != minus[0]["id"]


def test_a_text_that_cancels_itself_is_a_sentence(serve, small_bundle):
    serve(small_bundle)
    at = open_page("search", q="red", **{"not": "red"})
    assert not at.exception
    assert "cancel each other out" in html(at)


def test_a_layer_filter_keeps_to_that_layer(serve, small_bundle):
    serve(small_bundle)
    at = open_page("search", q="green", model="small", layer="second@mean")
    ids = [card["id"] for card in component(at, "csp_cards")["cards"]]
    assert len(ids) == 12
    assert all(each.startswith("second@mean / ") for each in ids)


@pytest.mark.slow
def test_a_free_text_loads_the_encoder_and_answers(serve, small_bundle, monkeypatch):
    monkeypatch.setenv("CSP_TRUST_PYTHON", "1")
    serve(small_bundle)
    at = open_page("search", q="red blue")
    assert not at.exception
    assert len(component(at, "csp_cards")["cards"]) == 12


@pytest.mark.slow
def test_a_bundle_does_not_decide_what_code_runs(serve, small_bundle, monkeypatch):
    monkeypatch.delenv("CSP_TRUST_PYTHON", raising=False)
    store.ENCODERS.close()
    serve(small_bundle)
    at = open_page("search", q="something unheard of")
    assert not at.exception
    assert "Python code" in html(at)


def test_typing_a_query_puts_it_in_the_url(serve, small_bundle):
    serve(small_bundle)
    at = open_page("search")
    at.text_input(key="_q").set_value("blue").run()
    assert at.query_params["q"] == "blue"
    assert component(at, "csp_cards")["cards"][0]["title"].startswith("blue")


def test_exemplars_stand_beside_their_own_contrast_images(serve, small_bundle):
    serve(small_bundle)
    at = open_page("neuron", layer="second@mean", unit="5")
    bundle = Bundle.open(small_bundle)
    exemplars = bundle.exemplars("small", "second@mean")
    contrast = bundle.contrast("small", "second@mean")
    tiles = component(at, "csp_tiles")["tiles"]
    assert len(tiles) == int(exemplars.count_u[5])
    for rank, tile in enumerate(tiles):
        first, second = tile["images"]
        assert ["image", str(exemplars.image_uk[5, rank])] in first["facts"]
        assert ["image", str(contrast.image_ukj[5, rank, 0])] in second["facts"]
        assert f"similarity {contrast.similarity_ukj[5, rank, 0]:.3f}" in tile["note"].replace(
            "−", "-"
        )


def test_next_and_previous_walk_round_the_layer_and_stay_in_the_url(serve, small_bundle):
    serve(small_bundle)
    at = open_page("neuron", layer="second@mean", unit="11")
    at.button(key="next").click().run()
    assert at.query_params["unit"] == "0"
    assert "second@mean / 0" in html(at)
    at.button(key="previous").click().run()
    assert at.query_params["unit"] == "11"


def test_the_label_table_shows_the_chosen_method(serve, small_bundle):
    serve(small_bundle)
    bundle = Bundle.open(small_bundle)
    scores = bundle.scores("small", "first@mean", "clip_dissect")
    best = bundle.labels()["text"].iloc[int(scores.label_uk[3, 0])]
    at = open_page("neuron", unit="3", method="clip_dissect")
    table = html(at).split("<h2 class='csp-h'>Candidate labels</h2>")[1]
    assert table.index(f"dir='auto'>{best}<") < table.index("</tr>", table.index("<tbody>"))


@pytest.mark.parametrize("show", ["stratified", "random"])
def test_samples_show_the_images_of_the_bundle(serve, small_bundle, show):
    serve(small_bundle)
    samples = Bundle.open(small_bundle).samples("small", "first@mean")
    images = getattr(samples, f"{show}_image_us")[2]
    tiles = component(open_page("neuron", unit="2", show=show), "csp_tiles")["tiles"]
    shown = sorted(tile["images"][0]["image"] for tile in tiles)
    assert shown == sorted(images.tolist())


def test_a_unit_without_a_reliable_label_says_so(serve, small_bundle):
    serve(small_bundle)
    bundle = Bundle.open(small_bundle)
    found = [
        (layer, unit)
        for layer in bundle.layers("small")
        for unit, good in enumerate(bundle.scores("small", layer, "csp").reliable_u)
        if not good
    ]
    layer, unit = found[0]
    assert "No reliable label" in html(open_page("neuron", layer=layer, unit=str(unit)))


@pytest.mark.parametrize("page", EVERY)
def test_hostile_names_and_addresses_are_shown_as_text(serve, hostile_bundle, page, monkeypatch):
    monkeypatch.delenv("CSP_TRUST_PYTHON", raising=False)
    serve(hostile_bundle)
    label = str(Bundle.open(hostile_bundle).labels()["text"].iloc[0])
    rotated = [
        {name: VALUES[(at + turn) % len(VALUES)] for at, name in enumerate(PARAMETERS)}
        for turn in (0, 6)
    ]
    for asked in ({"q": label, "layer": HOSTILE[1], "unit": HOSTILE[3], "word": label}, *rotated):
        at = open_page(page, **asked)
        assert not at.exception
        shown = html(at).lower()
        assert "<script" not in shown
        # The contact sheet is ours: its source is a picture, and its words are escaped.
        sheet = r"<img src='data:image/webp;base64,[\w+/=]+' alt='[^'<>]*'>"
        assert "<img" not in re.sub(sheet, "", shown)
        assert "\u202e" not in shown
        assert LONG[-1000:] not in shown
        for element in at.get("page_link"):
            assert "](" not in element.proto.label
        for text in [m.value for m in at.markdown] + [c.value for c in at.caption]:
            assert "evil" not in text


def test_two_bundles_can_be_chosen_between(serve, small_bundle, copied):
    other = copied.rename(copied.with_name("other.csp"))
    serve(small_bundle, other)
    at = open_page()
    at.selectbox(key="_bundle").select("other").run()
    assert at.query_params["bundle"] == "other"
    assert "other.csp" in html(at)


def test_a_server_starts_without_what_a_first_page_does_not_need():
    """SciPy takes a fifteenth of a second, torch seconds."""
    code = "import app, sys; sys.exit(bool({'torch', 'scipy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.slow
def test_pages_read_a_bundle_without_loading_torch(small_bundle):
    code = f"""
import os, sys
os.environ["CSP_BUNDLES"] = {json.dumps(str(small_bundle))}
from streamlit.testing.v1 import AppTest
at = AppTest.from_file({json.dumps(str(ROOT / "pages" / "ui" / "main.py"))}, default_timeout=60)
at.run()
for page in ("search", "neuron"):
    at.query_params["q"] = "red"
    at.switch_page({json.dumps(str(ROOT / "pages"))} + f"/{{page}}.py").run()
    assert not at.exception
sys.exit("torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
