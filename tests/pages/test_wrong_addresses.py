"""Addresses of what is not there: what was asked for, what there is, and what to do next."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from csp_engine.bundle import Bundle, kinds
from csp_engine.views.address import pick, read_view
from csp_engine.views.memo import Memo
from pages.ui.neuron import ahead, walking
from pages.ui.shell import page as shell
from pages.ui.shell import store
from tests.pages.conftest import MAIN, component, html, open_page

LAYER = "second@mean"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("nosuchpage", "There is no page “nosuchpage”, so this is the overview"),
        ("serch", "did you mean <a target='_self' href='/search'>Search</a>?"),
        ("table", "did you mean <a target='_self' href='/layer'>Table</a>?"),
        ("words", "did you mean <a target='_self' href='/glossary'>Words</a>?"),
        ("<b>x", "&lt;b&gt;x"),
        ("x" * 500, "…”"),
    ],
)
def test_an_address_of_no_page_is_told(serve, small_bundle, monkeypatch, asked, said):
    serve(small_bundle)
    monkeypatch.setattr("pages.ui.shell.page.page_asked", lambda: asked)
    shown = html(AppTest.from_file(str(MAIN), default_timeout=60).run())
    assert said in shown
    assert "There is no page" in shown
    assert "20 neurons of small" in shown  # and the overview is there


@pytest.mark.parametrize("asked", ["", "overview", "layer"])
def test_an_address_of_a_page_is_not(serve, small_bundle, monkeypatch, asked):
    serve(small_bundle)
    monkeypatch.setattr("pages.ui.shell.page.page_asked", lambda: asked)
    assert "There is no page" not in html(AppTest.from_file(str(MAIN), default_timeout=60).run())


def test_nothing_is_asked_where_no_browser_came():
    assert shell.page_asked() == ""


@pytest.mark.parametrize(
    ("page", "params", "said"),
    [
        ("neuron", {"queue": "supects"}, "There is no queue “supects”; it is left out. Known here: "
                                         "none, suspects, disputed."),
        ("neuron", {"blind": "ys"}, "There is no answer to “blind” “ys”; it is left out."),
        ("neuron", {"units": "5"}, "“units” in this address is left out; did you mean “unit”?"),
        ("search", {"color": "label"}, "did you mean “colour”?"),
        ("map", {"layr": LAYER}, "did you mean “layer”?"),
        ("neuron", {"layer": "zz"}, "Known here: first@mean, second@mean."),
    ],
)  # fmt: skip
def test_what_a_page_leaves_out_of_its_address_is_told(serve, small_bundle, page, params, said):
    serve(small_bundle)
    assert said in html(open_page(page, **params))


@pytest.mark.parametrize("name", ["utm_source", "fbclid", "ref", "q", "embed", "gclid", "x" * 300])
def test_what_others_add_to_an_address_is_not(small_bundle, name):
    assert read_view({name: "1"}, "small", Bundle.open(small_bundle)).notes == ()


def test_a_note_names_what_exists_where_that_is_short():
    assert pick("model", "rex", ["rat", "red"])[1] == (
        "There is no model “rex” here; showing red instead. Known here: rat, red."
    )
    for options in (["only"], [f"layer{at}" for at in range(200)], ["a" * 300, "b"]):
        note = pick("layer", "zz", options)[1]
        assert note is not None
        assert note.endswith("instead.")


def damage(copied, method: str) -> None:
    """Cut off the labels of one method in every layer."""
    bundle = Bundle.open(copied)
    for layer in bundle.layers("small"):
        stage = bundle.stage(kinds.SCORES.name("small", layer, method))
        path = copied / stage.directory / "label_uk.npy"
        path.write_bytes(path.read_bytes()[:-4])


def test_a_damaged_file_of_another_method_leaves_the_steps_and_the_images(
    serve, copied, monkeypatch
):
    monkeypatch.setattr(store, "MEMO", Memo())
    monkeypatch.setattr(ahead, "KEPT", Memo())
    damage(copied, "semanticlens")
    serve(copied)
    at = open_page("neuron", layer=LAYER, unit="5", method="csp")
    assert not at.exception
    assert "damaged" in html(at)
    assert str(copied.parent) not in html(at).split("Made from")[0]
    label = Bundle.open(copied).best_texts("small", LAYER, "csp")[5]
    assert label in html(at)
    assert component(at, "csp_tiles")["tiles"]
    at.button(key="next").click().run()
    assert at.query_params["unit"] == "6"
    # In a list that needs the table, too: previous and next go through the layer meanwhile.
    listed = open_page("neuron", layer=LAYER, unit="5", method="csp", sort="-score")
    assert "go through the layer meanwhile" in html(listed)
    listed.button(key="next").click().run()
    assert listed.query_params["unit"] == "6"


def test_the_list_of_a_layer_needs_none_of_its_tables(small_bundle):
    bundle = Bundle.open(small_bundle)
    view = read_view({"layer": LAYER, "unit": "11"}, "small", bundle)
    queue = walking.lists.layer_queue(bundle, view)
    assert queue.step(1) == {"model": "small", "layer": LAYER, "unit": 0}
    assert queue.step(-1) == {"model": "small", "layer": LAYER, "unit": 10}
