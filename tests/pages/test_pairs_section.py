"""Pairs of photographs on the page Audit: who may build tries them, others are told why not."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from csp_engine import jobs, pipeline
from csp_engine.bundle import Bundle, verify
from csp_engine.pasting.listed import ListedPairs
from csp_engine.pipeline.intervening.measuring import measure_pairs
from csp_engine.views.audit.interventions import effects
from tests.pages.conftest import html, open_page
from tests.worlds import misled, toys

N_PAIRS = 24


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """A folder with a bundle of a network that is misled by blue, and pairs with a blue corner."""
    folder = tmp_path_factory.mktemp("pairs-page")
    images = toys.draw_images(folder / "images")
    pipeline.build(
        toys.request(
            images, folder / "own.csp", targets=(misled.target(),), n_influence_images=0
        )
    )  # fmt: skip
    rng = np.random.default_rng(4)
    rows = []
    for i in range(N_PAIRS):
        without = rng.integers(0, 90, (16, 16, 3)).astype(np.uint8)
        without[..., 0] += 150
        with_it = without.copy()
        with_it[:8, :8] = (0, 0, 250)
        for name, pixels in (("without", without), ("with", with_it)):
            Image.fromarray(pixels).save(folder / f"{i}-{name}.png")
        rows.append(("blue corner", f"{i}-without.png", f"{i}-with.png"))
    table = pd.DataFrame(rows, columns=pd.Index(["artefact", "without", "with"]))
    table.to_csv(folder / "pairs.csv", index=False)
    table.iloc[:11].to_csv(folder / "few.csv", index=False)
    return folder


@pytest.fixture
def own(world, serve, tmp_path, monkeypatch) -> Path:
    """A copy of the bundle on a server that may read the folder of the pairs."""
    path = shutil.copytree(world / "own.csp", tmp_path / "own.csp")
    serve(path)
    monkeypatch.setenv("CSP_START_FOLDER", str(world))
    monkeypatch.setenv("CSP_TRUST_PYTHON", "1")
    return path


def buttons(at) -> list[str]:
    return [each.key for each in at.button if str(each.key).startswith("intervene_")]


def press(at, key: str):
    (button,) = (each for each in at.button if each.key == key)
    return button.click().run()


def told(at) -> str:
    return " ".join(each.value for each in at.error) + html(at)


def listed(at, table: str):
    """The form with a table of pairs in it."""
    (way,) = (each for each in at.selectbox if each.key == "intervene_way")
    at = way.set_value("A table of pairs").run()
    (field,) = (each for each in at.text_input if each.key == "intervene_pairs")
    field.set_value(table).run()
    return at


def ended(at) -> jobs.Trial:
    (key,) = (str(k) for k in at.session_state if str(k).startswith("intervene_trial/"))
    trial = at.session_state[key]
    limit = time.monotonic() + 120
    while trial.is_running and time.monotonic() < limit:
        time.sleep(0.1)
    return trial


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (("CSP_TRUST_PYTHON", ""), "is code that this server was not told to run"),
        (("CSP_READ_ONLY", "1"), "only those may start it who may build here"),
    ],
)
def test_where_no_pairs_can_be_tried_a_sentence_says_why(own, monkeypatch, wrong, why):
    monkeypatch.setenv(*wrong)
    at = open_page("audit")
    assert not at.exception
    assert why in html(at)
    assert buttons(at) == []
    assert why not in html(open_page("audit", blind="yes"))


def test_pairs_are_tried_from_the_page_by_another_process_and_kept(own, world):
    at = open_page("audit")
    assert buttons(at) == ["intervene_start"]
    at = press(at, "intervene_start")
    assert "Paste into which photographs?" in told(at)
    at = press(listed(at, ""), "intervene_start")
    assert "Which pairs? Name a table of them." in told(at)
    at = press(listed(at, "/etc/passwd"), "intervene_start")
    assert "nothing else is read from here" in told(at)
    at = press(listed(at, "pairs.csv"), "intervene_start")
    assert not at.exception
    trial = ended(at)
    assert trial.is_done, trial.sentence
    at.run()
    pairs = ListedPairs(world / "pairs.csv")
    (expected,) = effects(measure_pairs(misled.target(), pairs, "red").stored)
    assert expected.effect.high < 0  # blue is taken for green
    shown = html(at)
    assert "Just tried:" in shown
    assert expected.effect.signed in shown
    assert Bundle.open(own).intervention("misled") is None
    assert buttons(at) == ["intervene_keep", "intervene_drop", "intervene_start"]
    at = press(at, "intervene_keep")
    assert not at.exception
    bundle = Bundle.open(own)
    (kept,) = effects(bundle.intervention("misled"))
    assert kept.effect.value == pytest.approx(expected.effect.value, abs=1e-5)
    assert len(bundle.intervention("misled").pairs) == N_PAIRS
    assert verify(bundle) == []
    assert not trial.folder.exists()
    assert expected.effect.signed in html(open_page("audit"))


def test_pairs_of_too_few_photographs_are_refused_and_nothing_is_left(own):
    at = press(listed(open_page("audit"), "few.csv"), "intervene_start")
    trial = ended(at)
    at.run()
    assert "blue corner has 11 pairs that can be read, of 11 groups" in told(at)
    assert buttons(at) == ["intervene_start"]
    assert Bundle.open(own).intervention("misled") is None
    jobs.drop_trial(trial)
