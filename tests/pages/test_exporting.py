"""The buttons that give neurons as pages, and the zips behind them."""

from __future__ import annotations

import io
import re
import zipfile

import pytest
import streamlit

from csp_engine.bundle import Bundle
from pages.ui.parts import exporting
from tests.pages.conftest import html, open_page


@pytest.fixture
def pressed(monkeypatch):
    """Draw a page and press its button for pages: the zip's files by name."""
    found: dict[str, object] = {}
    real = streamlit.download_button

    def remembered(label, data, **looks):
        if "as pages" in label:
            found.update(label=label, data=data)
        return real(label, data, **looks)

    monkeypatch.setattr(streamlit, "download_button", remembered)

    def press(page: str, **params: str) -> tuple[str, dict[str, str]]:
        at = open_page(page, **params)
        assert not at.exception
        with zipfile.ZipFile(io.BytesIO(found["data"]())) as archive:
            names = {name.partition("/")[2]: name for name in archive.namelist()}
            texts = {k: archive.read(v).decode() for k, v in names.items() if k.endswith("html")}
        return str(found["label"]), texts

    return press


def neurons_in(texts: dict[str, str]) -> list[str]:
    """The neurons of the only table, in its order."""
    (table,) = [text for name, text in texts.items() if name.startswith("tables/")]
    return re.findall(r'aria-label="Neuron ([^"]+)"', table)


def test_the_overview_gives_every_neuron(serve, small_bundle, pressed):
    serve(small_bundle)
    label, texts = pressed("overview")
    assert label == "Download all neurons as pages (ZIP)"
    bundle = Bundle.open(small_bundle)
    n = sum(bundle.n_units("small", layer) for layer in bundle.layers("small"))
    assert sum(name.startswith("neurons/") for name in texts) == n


def test_the_table_gives_its_rows_in_their_order(serve, small_bundle, pressed):
    serve(small_bundle)
    keep = {"layer": "second@mean", "sort": "-clarity", "where": "clarity:0.1.."}
    at = open_page("layer", **keep)
    units = at.dataframe[0].value["unit"].tolist()
    _, texts = pressed("layer", **keep)
    assert neurons_in(texts) == [f"small/second@mean/{unit}" for unit in units]
    assert "clarity:0.1.., sorted by -clarity" in texts["index.html"]


def test_a_search_gives_what_it_found_with_how_well_it_matches(serve, small_bundle, pressed):
    serve(small_bundle)
    label, texts = pressed("search", q="red")
    assert label == "Download these neurons as pages (ZIP)"
    assert "best for “red” first" in texts["index.html"]
    (table,) = [text for name, text in texts.items() if name.startswith("tables/")]
    assert ">Match<" in table
    bundle = Bundle.open(small_bundle)
    n = sum(
        int((bundle.scores("small", layer, "csp").count_u > 0).sum())
        for layer in bundle.layers("small")
    )
    assert len(neurons_in(texts)) == n


def test_what_is_too_large_is_left_to_the_command_line(serve, small_bundle, monkeypatch):
    serve(small_bundle)
    monkeypatch.setattr(exporting, "MAX_BYTES", 100)
    at = open_page("overview")
    assert not at.exception
    assert "csp export small.csp pages --format html" in html(at)
    assert not at.get("download_button")
