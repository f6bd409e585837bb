"""The shipped demo, opened by the pages as the server opens it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from csp_engine.demo.shipping import opening as shipped
from pages.ui.shell import store
from tests.pages.conftest import html, open_page

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def demo_bundle(quick_demo, tmp_path_factory) -> Path:
    """Moved to another folder, as a checkout of the project is."""
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "demo"
    return shipped.require_shipped(Path(shutil.copytree(quick_demo / "shipped", elsewhere)))


@pytest.mark.parametrize("page", ["overview", "search", "neuron", "layer", "melanoma"])
def test_every_page_opens_and_says_what_the_images_are(serve, demo_bundle, page):
    serve(demo_bundle)
    at = open_page(page)
    assert not at.exception
    assert "csp-problem" not in html(at)
    assert "not a medical device" in html(at)


def test_the_melanoma_walk_tells_what_the_classifiers_are_and_how_often_right(serve, demo_bundle):
    serve(demo_bundle)
    shown = html(open_page("melanoma"))
    assert "shortcuts planted" in shown
    assert "the shortcuts turned round" in shown
    for model in ("biased", "retrained"):
        assert f"{model} · counter-artefact" in shown
    assert "drawn by a program" in shown
    assert "Of these neurons" in shown
    assert "matched with the neuron in the same layer of retrained" in shown


def test_a_text_that_is_no_label_is_searched_with_the_encoder_beside_the_bundle(serve, demo_bundle):
    serve(demo_bundle)
    at = open_page("search", q="a zebra crossing in the rain")
    assert not at.exception
    assert "csp-problem" not in html(at)


def test_without_the_encoder_the_page_still_opens(serve, demo_bundle, tmp_path):
    store.ENCODERS.close()  # it holds that of the same bundle elsewhere
    alone = Path(shutil.copytree(demo_bundle, tmp_path / "dermoscopy.csp"))
    serve(alone)
    at = open_page("search", q="a giraffe on a bicycle")
    assert not at.exception
    assert str(tmp_path / "encoder") in html(at)
