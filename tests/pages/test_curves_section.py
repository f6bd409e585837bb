"""Ablation curves on the page Audit: what a bundle keeps, and how others are drawn from there."""

from __future__ import annotations

import shutil
import time

import numpy as np
import pytest

from csp_engine import numbers, pipeline
from csp_engine.bundle import Bundle, verify
from csp_engine.pipeline.added.deleting import random_orders, try_orders
from csp_engine.pipeline.added.fixing import Trials
from csp_engine.pipeline.added.photographs import listed_photographs
from csp_engine.views.curves import told
from csp_engine.words.word_kinds import units_by_label
from pages.ui.parts.cards import plain
from tests.pages.conftest import html, open_page
from tests.worlds import misled, toys

LAYERS = ("first@mean", "last@mean")


@pytest.fixture(scope="module")
def curved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("curves-page")
    target = toys.target(["first", "last"], factory="lively")
    path = pipeline.build(
        toys.request(folder, folder / "small.csp", targets=(target,), n_influence_images=0)
    ).path
    trials = Trials(target, listed_photographs(toys.photographs(folder)), "red")
    for layer, n_units in zip(LAYERS, (8, 12), strict=True):
        texts = Bundle.open(path).best_texts("small", layer, "csp")
        words = ["<b>red", next(filter(None, texts)).casefold().split()[0]]
        orders = {
            "random": random_orders(range(n_units), 2),
            "influence": [np.arange(n_units)],
            "words": [np.array(units_by_label(texts, words)["words"])],
        }
        stored = try_orders(trials, layer, orders, [1, 2, 4], "mean", words=words, method="csp")
        pipeline.add_curves(path, "small", layer, stored)
    return path


def test_the_page_says_what_the_bundle_holds(serve, curved):
    serve(curved)
    bundle = Bundle.open(curved)
    for layer in LAYERS:
        at = open_page("audit", curves=layer)
        assert not at.exception
        shown = html(at)
        found = told.figures("small", layer, bundle.curves("small", layer))
        for said in (found.sentence, found.details):
            assert said.replace("<b>", "&lt;b&gt;") in shown
        assert "<b>red" not in shown
        for each in found.steps:
            assert each.change.signed in shown
            assert f"{100 * each.least:.1f} to {100 * each.most:.1f}" in shown
            if each.order != "random":
                assert each.against.signed in shown
        assert shown.count("data:image/svg+xml,") == len(found.slices) + len(found.orders)
        assert f"All {numbers.count(len(found.steps))} points" in shown
    shown = html(open_page("audit", curves="nonsense"))
    assert "There is no layer “nonsense” here; showing" in shown
    assert "decides rightly for" in shown


def test_what_single_neurons_are_is_hidden_from_the_blind(serve, curved):
    serve(curved)
    assert "id='curves'" not in html(open_page("audit", blind="yes"))


def buttons(at):
    return [each.key for each in at.button if str(each.key).startswith("ablate_")]


def press(at, key):
    (button,) = (each for each in at.button if each.key == key)
    return button.click().run()


def typed(at, key, text):
    (field,) = (each for each in at.text_input if each.key == key)
    return field.set_value(text).run()


def waited(at):
    limit = time.monotonic() + 120
    while "ablate_cancel" in buttons(at) and time.monotonic() < limit:
        time.sleep(0.5)
        at = at.run()
    return at


def test_who_may_run_nothing_sees_curves_and_why(serve, curved, monkeypatch):
    monkeypatch.delenv("CSP_TRUST_PYTHON", raising=False)
    serve(curved)
    at = open_page("audit")
    assert not buttons(at)
    assert "CSP_TRUST_PYTHON=1 lets it" in html(at)
    assert "decides rightly for" in html(at)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with a bundle of a network that is misled, and photographs that mislead it."""
    folder = tmp_path_factory.mktemp("curves-world")
    images = toys.draw_images(folder / "images")
    pipeline.build(
        toys.request(
            images, folder / "own.csp", targets=(misled.target(),), n_influence_images=0
        )
    )  # fmt: skip
    misled.photographs(folder)
    return folder


@pytest.fixture
def own(world, serve, tmp_path, monkeypatch):
    """A copy of the bundle on a server that may read the folder of the photographs."""
    path = shutil.copytree(world / "own.csp", tmp_path / "own.csp")
    serve(path)
    monkeypatch.setenv("CSP_START_FOLDER", str(world))
    monkeypatch.setenv("CSP_TRUST_PYTHON", "1")
    return path


def test_bad_asks_are_refused_in_a_sentence(own):
    at = open_page("audit")
    assert "is not known yet" in html(at)
    at = press(at, "ablate_start")
    assert "Which photographs? Name a table of them." in html(at)
    at = press(typed(at, "ablate_images", "/etc/passwd"), "ablate_start")
    assert "is not below" in html(at)
    assert buttons(at) == ["ablate_start"]


@pytest.mark.slow
def test_curves_are_drawn_kept_or_dropped(own):
    at = typed(open_page("audit"), "ablate_images", "misled.csv")
    at = press(typed(at, "ablate_words", "zebra"), "ablate_start")
    assert buttons(at) == ["ablate_cancel"]
    at = waited(at)
    assert "has a label by csp with one of zebra" in html(at)
    assert buttons(at) == ["ablate_start"]
    # What was typed is still there.
    at = press(typed(at, "ablate_words", ""), "ablate_start")
    assert buttons(at) == ["ablate_cancel"]
    at = press(at, "ablate_cancel")
    assert buttons(at) == ["ablate_start"]
    at = waited(press(at, "ablate_start"))
    assert buttons(at) == ["ablate_keep", "ablate_drop", "ablate_start"]
    assert "decides rightly for" in html(at)
    at = press(at, "ablate_keep")
    assert not at.exception
    assert buttons(at) == ["ablate_start"]
    bundle = Bundle.open(own)
    assert verify(bundle) == []
    stored = bundle.curves("misled", "seen@mean")
    found = told.figures("misled", "seen@mean", stored)
    assert plain(found.sentence) in html(open_page("audit"))
    at = waited(press(typed(at, "ablate_images", "misled.csv"), "ablate_start"))
    at = press(at, "ablate_drop")
    assert buttons(at) == ["ablate_start"]
    assert Bundle.open(own).digest == bundle.digest
