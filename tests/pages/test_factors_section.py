"""Factors on the page Audit: how to get some is said, and who may build looks for them there."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from csp_engine import jobs, pipeline
from csp_engine.bundle import Bundle, verify
from csp_engine.pipeline.added.fixing import Trials
from csp_engine.pipeline.added.photographs import listed_photographs
from csp_engine.pipeline.factoring.finding import find_factors
from csp_engine.views.audit.factors import factored
from pages.ui.parts.cards import plain
from tests.pages.conftest import html, open_page
from tests.worlds import misled, toys

HEADING = "What pushes its wrong decisions"


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """A folder with a bundle of a network that is misled, and photographs that mislead it."""
    folder = tmp_path_factory.mktemp("factors-page")
    images = toys.draw_images(folder / "images")
    pipeline.build(
        toys.request(
            images, folder / "own.csp", targets=(misled.target(),), n_influence_images=0
        )
    )  # fmt: skip
    misled.photographs(folder)
    return folder


@pytest.fixture
def own(world, serve, tmp_path, monkeypatch) -> Path:
    """A copy of the bundle on a server that may read the folder of the photographs."""
    path = shutil.copytree(world / "own.csp", tmp_path / "own.csp")
    serve(path)
    monkeypatch.setenv("CSP_START_FOLDER", str(world))
    monkeypatch.setenv("CSP_TRUST_PYTHON", "1")
    return path


def buttons(at) -> list[str]:
    return [each.key for each in at.button if str(each.key).startswith("factors_")]


def press(at, key: str):
    (button,) = (each for each in at.button if each.key == key)
    return button.click().run()


@pytest.mark.parametrize("wrong", [("CSP_TRUST_PYTHON", ""), ("CSP_READ_ONLY", "1")])
def test_where_none_may_be_sought_the_page_says_how_they_come(own, monkeypatch, wrong):
    monkeypatch.setenv(*wrong)
    at = open_page("audit")
    assert not at.exception
    shown = html(at)
    assert HEADING in shown
    assert "Nobody has looked for factors of misled yet" in shown
    assert "csp factors BUNDLE --layer NAME --images TABLE" in shown
    assert buttons(at) == []
    assert HEADING not in html(open_page("audit", blind="yes"))


def test_factors_are_found_from_the_page_by_another_process_and_kept(own, world):
    at = open_page("audit")
    assert buttons(at) == ["factors_start"]
    at = press(at, "factors_start")
    assert "Which photographs? Name a table of them." in " ".join(e.value for e in at.error) + html(
        at
    )
    (field,) = (each for each in at.text_input if each.key == "factors_images")
    field.set_value("/etc/passwd").run()
    at = press(at, "factors_start")
    told = " ".join(each.value for each in at.error) + html(at)
    assert "nothing else is read from here" in told
    (field,) = (each for each in at.text_input if each.key == "factors_images")
    field.set_value("misled.csv").run()
    at = press(at, "factors_start")
    assert not at.exception
    (trial,) = (at.session_state[k] for k in trial_keys(at))
    assert isinstance(trial, jobs.Trial)
    limit = time.monotonic() + 120
    while trial.is_running and time.monotonic() < limit:
        time.sleep(0.1)
    assert trial.is_done, trial.sentence
    at.run()
    shots = listed_photographs(world / "misled.csv", limit=300)
    expected = find_factors(Trials(misled.target(), shots, "red"), "seen@mean", 5)
    assert Bundle.open(own).factors("misled", "seen@mean") is None
    shown = html(at)
    assert "Nobody has looked" not in shown
    assert buttons(at) == ["factors_keep", "factors_drop", "factors_start"]
    at = press(at, "factors_keep")
    assert not at.exception
    bundle = Bundle.open(own)
    kept = bundle.factors("misled", "seen@mean")
    assert kept.factors["gap"].tolist() == pytest.approx(expected.factors["gap"].tolist(), abs=1e-5)
    assert verify(bundle) == []
    assert not trial.folder.exists()
    sentence = plain(factored(bundle, "misled", "seen@mean", "csp").sentence)
    assert sentence in shown  # what was tried
    assert sentence in html(open_page("audit"))  # and what is kept


def trial_keys(at) -> list[str]:
    return [str(key) for key in at.session_state if str(key).startswith("factors_trial/")]


def test_a_search_that_fails_says_why_and_leaves_nothing(own, world):
    """Of one class nothing is wrong but what the network takes for the other."""
    rows = (world / "misled.csv").read_text("utf-8").splitlines()
    few = [rows[0], *rows[1:12]]
    (world / "few.csv").write_text("\n".join(few) + "\n", "utf-8")
    at = open_page("audit")
    (field,) = (each for each in at.text_input if each.key == "factors_images")
    field.set_value("few.csv").run()
    at = press(at, "factors_start")
    (trial,) = (at.session_state[k] for k in trial_keys(at))
    limit = time.monotonic() + 120
    while trial.is_running and time.monotonic() < limit:
        time.sleep(0.1)
    at.run()
    told = " ".join(each.value for each in at.error) + html(at)
    assert "are of 11 groups (lesions, patients or single photographs)" in told
    assert "intervals need 20" in told
    assert buttons(at) == ["factors_start"]
    assert Bundle.open(own).factors("misled", "seen@mean") is None
    jobs.drop_trial(trial)
