"""A direction from a few images on the page Audit: mark, rank, mark more, rank again."""

from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from csp_engine import jobs, numbers, pipeline
from csp_engine.bundle import Bundle, copy_slim
from csp_engine.evaluation.directions import marked_direction
from csp_engine.pipeline.factoring.marking import N_RANKED, Ranking
from tests.engine.test_cli import run
from tests.pages.conftest import html, open_page
from tests.worlds import misled, toys

HEADING = "A direction from a few images"


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("marking")
    images = toys.draw_images(folder / "images", 60)
    asked = toys.request(
        images, folder / "own.csp", targets=(misled.target(),), n_influence_images=0
    )
    return pipeline.build(asked).path


@pytest.fixture
def own(built, serve, tmp_path, monkeypatch) -> Path:
    path = shutil.copytree(built, tmp_path / "own.csp")
    serve(path)
    monkeypatch.setenv("CSP_START_FOLDER", str(tmp_path))
    monkeypatch.setenv("CSP_TRUST_PYTHON", "1")
    return path


def marks(at) -> list[int]:
    """The images that can be marked, in order."""
    keys = [str(each.key) for each in at.button_group]
    return [int(key.rpartition("_")[2]) for key in keys if key.startswith("mark_")]


def mark(at, image: int, said: str):
    (own,) = (b for b in at.button_group if re.fullmatch(rf"mark_\d+_{image}", str(b.key)))
    return own.set_value(said).run()


def told(at) -> dict[int, str | None]:
    """What is said of each image."""
    return {
        int(str(b.key).rpartition("_")[2]): b.value
        for b in at.button_group
        if str(b.key).startswith("mark_")
    }


def ranked(at):
    at = at.button(key="directions_start").click().run()
    assert not at.exception
    (key,) = (k for k in at.session_state if str(k).startswith("directions_trial/"))
    trial = at.session_state[key]
    assert isinstance(trial, jobs.Trial)
    limit = time.monotonic() + 120
    while trial.is_running and time.monotonic() < limit:
        time.sleep(0.1)
    assert trial.is_done, trial.sentence
    return at.run(), trial


def by_hand(bundle: Bundle, layer: str, like: list[int], unlike: list[int]) -> list[int]:
    """What ranks first, once of images that look alike."""
    activation_un = np.asarray(bundle.activations("misled", layer), np.float64)
    found = marked_direction(activation_un, np.array(like), np.array(unlike, int), "x")
    group_n = bundle.images()["duplicate_group"].to_numpy()
    seen, first = set(group_n[like + unlike].tolist()), []
    for image in np.argsort(-(found.weight_u @ activation_un), kind="stable").tolist():
        if group_n[image] not in seen:
            seen.add(group_n[image])
            first.append(image)
    return first[:N_RANKED]


@pytest.mark.slow
def test_marked_images_rank_the_others_and_more_marks_rank_them_again(own):
    bundle = Bundle.open(own)
    at = open_page("audit", unit="1")
    assert HEADING in html(at)
    first = marks(at)
    layer = at.selectbox(key="directions_layer").value
    held = bundle.exemplars("misled", layer).image_uk
    assert (
        first[:1] == held[int(at.number_input(key=f"directions_unit_{layer}").value), :1].tolist()
    )
    assert at.button(key="directions_start").disabled
    like = first[:3]
    for image in like:
        at = mark(at, image, "yes")
    assert "Marked: 3 that show it, 0 that do not" in html(at)
    at, trial = ranked(at)
    shown = html(at)
    rest = numbers.count(bundle.n_images - 3)
    assert f"A direction of {layer} from 3 images that show it and all {rest} others" in shown
    assert "None of them was held out" in shown
    expected = by_hand(bundle, layer, like, [])
    assert marks(at) == [*expected, *like]  # what is marked stays there to be undone
    assert [told(at)[image] for image in like] == ["yes"] * 3
    assert {told(at)[image] for image in expected} == {None}
    folder = trial.folder
    direction = load_file(trial.result / "direction.safetensors")
    again = marked_direction(
        np.asarray(bundle.activations("misled", layer)), np.array(like), np.array([], int), "x"
    )
    np.testing.assert_allclose(direction["W_enc"][:, 0], again.weight_u, atol=1e-6)
    at = mark(at, expected[0], "yes")
    at = mark(at, expected[-1], "no")
    at = mark(at, like[0], None)  # a mark taken back
    assert "Marked: 3 that show it, 1 that does not" in html(at)
    now = [*like[1:], expected[0]]
    at, _ = ranked(at)
    assert not folder.exists()  # of the round before nothing is left
    rest = [image for image in marks(at) if image not in {*now, expected[-1]}]
    assert rest == by_hand(bundle, layer, now, [expected[-1]])
    assert "from 3 images that show it and 1 that does not" in html(at)
    at = at.button(key="directions_forget").click().run()
    assert "Mark at least three images" in html(at)
    assert "Marked: 0 that show it" in html(at)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (("CSP_TRUST_PYTHON", ""), "csp directions BUNDLE --layer NAME --like IMAGE"),
        (("CSP_READ_ONLY", "1"), "csp directions BUNDLE --layer NAME --like IMAGE"),
    ],
)
def test_who_may_not_start_it_is_told_the_command(own, monkeypatch, wrong, said):
    monkeypatch.setenv(*wrong)
    at = open_page("audit")
    assert not at.exception
    assert said in html(at)
    assert marks(at) == []
    assert HEADING not in html(open_page("audit", blind="yes"))


def test_a_copy_without_activations_says_so(built, serve, tmp_path, monkeypatch):
    monkeypatch.setenv("CSP_TRUST_PYTHON", "1")
    slim = tmp_path / "slim.csp"
    copy_slim(Bundle.open(built), slim)
    serve(slim)
    at = open_page("audit")
    assert not at.exception
    assert "found in activations, which this copy of the bundle leaves out" in html(at)


def test_whole_names_come_before_parts_of_names(built, tmp_path, capsys):
    """And ``--leave`` goes with marked images alone."""
    bundle = Bundle.open(built)
    files = bundle.images()["file"].tolist()
    layer = bundle.layers("misled")[-1]
    left = tmp_path / "left"
    like = [f"--like={files[i]}" for i in (4, 5, 6)]
    code, shown, said = run(
        capsys, "directions", built, "--layer", layer, *like, "--leave", left, "--json"
    )
    assert code == 0, said
    told = json.loads((left / "facts.json").read_text("utf-8"))
    ranking = Ranking(**{k: tuple(v) if isinstance(v, list) else v for k, v in told.items()})
    assert ranking.like == (4, 5, 6)
    assert json.loads(shown)["note"] == ranking.note
    assert [row["file"] for row in json.loads(shown)["ranked"]] == [
        files[i] for i in ranking.ranked
    ]
    code, _, said = run(
        capsys, "directions", built, "--layer", layer, "--factors", 2, "--leave", tmp_path / "x"
    )
    assert (code, "--leave is for a direction from images" in said) == (2, True)
