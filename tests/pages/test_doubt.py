"""Where texts do not separate the images, every page with labels says so."""

from __future__ import annotations

import pytest

from csp_engine.bundle import Bundle
from csp_engine.exports.html import of_layers, write_folder
from csp_engine.pipeline import build
from csp_engine.views.images.separation import DOUBT, texts_in_words
from pages.ui.parts.cards import plain
from tests.engine.test_separation import KnowsNothing
from tests.pages.conftest import html, open_page
from tests.worlds import toys


@pytest.fixture(scope="module")
def blind(tmp_path_factory):
    folder = tmp_path_factory.mktemp("blind")
    build(toys.request(folder, folder / "blind.csp", encoder=KnowsNothing()))
    return folder / "blind.csp"


@pytest.mark.slow
def test_pages_and_exports_warn_once(serve, blind, small_bundle, tmp_path):
    serve(blind)
    for page in ("overview", "search", "layer", "neuron"):
        assert html(open_page(page)).count(plain(DOUBT)) == 1, page
    assert plain(texts_in_words(Bundle.open(blind))) in html(open_page("overview"))
    write_folder(Bundle.open(blind), of_layers(Bundle.open(blind)), tmp_path / "pages")
    for page in (tmp_path / "pages").rglob("*.html"):
        assert page.read_text("utf-8").count("doubtful") == 1
    serve(small_bundle)
    assert "doubtful" not in html(open_page("neuron"))
    assert "mean AUROC" in html(open_page("overview"))


def test_the_overview_shows_what_the_networks_see(serve, small_bundle):
    serve(small_bundle)
    text = html(open_page("overview"))
    assert "What the networks see" in text
    assert text.count("data:image/webp;base64,") == 1
