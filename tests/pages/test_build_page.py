"""The page that builds: wrong fields, jobs in every state, and servers that only show."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from csp_engine import jobs
from csp_engine.errors import CspError
from tests.engine.test_jobs import ORDER, a_past_job
from tests.pages.conftest import HOSTILE, MAIN, ROOT, html, open_page
from tests.worlds import toys


@pytest.fixture
def workshop(tmp_path, monkeypatch) -> Path:
    """A folder to build in: images, words, settings of pixels, and a place for bundles."""
    toys.draw_images(tmp_path / "images")
    toys.as_table(tmp_path / "images", lesion=["a"] * 28)
    toys.words(tmp_path)
    (tmp_path / "pixels.json").write_text(json.dumps(toys.PREPROCESSING))
    (tmp_path / "bundles").mkdir()
    monkeypatch.setenv("CSP_START_FOLDER", str(tmp_path))
    monkeypatch.setenv("CSP_BUNDLES", str(tmp_path / "bundles"))
    monkeypatch.delenv("CSP_TRUST_PYTHON", raising=False)
    return tmp_path


def form(**typed: str) -> AppTest:
    """The page with something typed where one may also choose."""
    at = AppTest.from_file(str(MAIN), default_timeout=60)
    at.run()
    for name, value in typed.items():
        at.session_state[f"build_{name}"] = value
    return at.switch_page(str(ROOT / "pages" / "build.py")).run()


@pytest.mark.slow
def test_an_empty_form_complains_of_nothing_until_it_is_started(workshop):
    at = open_page("build")
    assert not at.exception
    assert "csp-problem" not in html(at)
    assert at.code[0].value.startswith("csp build IMAGES --model MODEL --layer LAYER --encoder")
    at.button(key="start_build").click().run()
    for said in ("Choose a folder of images", "Name a model", "at least one layer"):
        assert said in html(at)
    assert list(workshop.glob("bundles/*")) == []


@pytest.mark.slow
def test_folders_and_tables_with_images_are_offered_and_nothing_above_them(workshop):
    at = open_page("build")
    assert at.selectbox(key="build_images").options == ["images", "images/table.csv"]


@pytest.mark.slow
def test_a_wrong_field_has_its_sentence_at_once_and_loses_it_when_mended(workshop):
    at = form(images="imagse", model="resnet50")
    assert "There is no folder or table" in html(at)
    at.selectbox(key="build_images").select("images").run()
    assert "28 images in 4 class folders" in html(at)
    assert "fewer than the 100 exemplars" in html(at)
    assert "does not name a model" in html(at)
    at.selectbox(key="build_model").select("torchvision/resnet50").run()
    at.number_input(key="build_exemplars").set_value(6).run()
    assert "csp-problem" not in html(at)
    # The usual layer and a name come by themselves.
    assert shlex.split(at.code[0].value)[:7] == [
        "csp", "build", "images", "--model", "torchvision/resnet50", "--layer", "layer4",
    ]  # fmt: skip
    assert "--out bundles/images-resnet50.csp --exemplars 6" in at.code[0].value


@pytest.mark.slow
def test_a_click_that_comes_with_a_new_value_starts_with_that_value(workshop, monkeypatch):
    """Who types a number and clicks at once sends both together."""
    started = []

    def start(order, *_: object):
        started.append(order)
        raise CspError("not today")

    monkeypatch.setattr(jobs, "start", start)
    at = form(images="images", model="torchvision/resnet50")
    at.number_input(key="build_exemplars").set_value(6).run()
    at.number_input(key="build_batch_size").set_value(1)
    at.button(key="start_build").click().run()
    assert [(order.exemplars, order.batch_size) for order in started] == [(6, 1)]
    assert "not today" in html(at)


def test_python_code_is_refused_without_trust(workshop):
    at = form(model="python:os:getcwd")
    assert "CSP_TRUST_PYTHON=1" in html(at)
    at.button(key="list_layers").click().run()
    assert "is not run from here" in html(at)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["../../etc/x", "/etc/x", "a/b", ".hidden", "<b>"])
def test_a_name_leads_nowhere_else(workshop, name):
    at = open_page("build")
    at.text_input(key="build_out").set_value(name).run()
    at.button(key="start_build").click().run()
    assert "Give the bundle a name" in html(at)
    assert "--out OUT" in at.code[0].value


def test_columns_are_those_of_the_table(workshop):
    at = form(images="images/table.csv")
    assert "28 rows" in html(at)
    assert at.selectbox(key="build_group_column").options == ["file", "lesion"]
    at.selectbox(key="build_group_column").select("lesion").run()
    assert "--group-column lesion" in at.code[0].value


def a_job(workshop: Path, name: str, log: str, **changes: object) -> None:
    record = {"folder": str(workshop), **changes}
    a_past_job(workshop / "bundles" / f"{name}.csp.job", log, **record)


@pytest.mark.slow
def test_past_builds_are_listed_and_each_says_what_became_of_it(workshop):
    a_job(workshop, "bad", "--- started x ---\ncsp: Layer 'nope' <b> does not exist.\n")
    a_job(workshop, "gone", "images: 3/28\n")
    a_job(workshop, "ended", "", is_cancelled=True)
    at = open_page("build")
    labels = [link.proto.label.replace("\u2060", "") for link in at.get("page_link")]
    assert {"bad, failed", "gone, stopped", "ended, cancelled"} <= set(labels)
    at = open_page("build", job="bad")
    assert "Layer &#x27;nope&#x27; &lt;b&gt; does not exist." in html(at)
    assert "killed or memory runs out" in html(open_page("build", job="gone"))
    at = open_page("build", job="ended")
    assert "Cancelled" in html(at)
    at.button(key="resume").click().run()
    assert "CSP_TRUST_PYTHON=1" in html(at)  # a record cannot bring trust with it
    at.button(key="forget").click().run()
    assert not (workshop / "bundles" / "ended.csp.job").exists()


def test_a_stopped_build_can_be_changed(workshop):
    a_job(workshop, "gone", "images: 3/28\n")
    at = open_page("build", job="gone")
    at.button(key="change").click().run()
    assert ">Build a bundle</h1>" in html(at)
    assert at.selectbox(key="build_images").value == "images"
    assert at.text_input(key="build_out").value == "a"
    shown = shlex.split(at.code[0].value)
    assert shown == ["csp", *ORDER.arguments()]


@pytest.mark.parametrize("name", ["nothing", "../bundles/gone", "*", HOSTILE[0], "a" * 5000])
def test_a_job_that_is_not_listed_is_a_sentence(workshop, name):
    a_job(workshop, "gone", "")
    at = open_page("build", job=name)
    assert not at.exception
    assert "There is no build" in html(at)
    assert "<script" not in html(at)


def test_a_running_build_shows_its_step_and_the_time_left(workshop, monkeypatch):
    sleeping = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        from csp_engine.jobs.process import _beginning

        mark = {"pid": sleeping.pid, "began": _beginning(sleeping.pid)}
        a_job(workshop, "going", "images: 7/28\n", **mark)
        home = workshop / "bundles" / "going.csp.job"
        with jobs.ProgressFile(home / "progress.json") as progress:
            progress("load model", 1, 1)
            progress("images", 0, 28)
            progress("images", 7, 28)
        at = open_page("build", job="going")
        assert not at.exception
        assert "Running" in html(at)
        assert "so far · about" in html(at)
        assert "Loading the model" in html(at)
        assert "images: 7/28" in at.code[0].value
        at.button(key="cancel").click().run()
        assert sleeping.wait(10) != 0
    finally:
        sleeping.kill()
        sleeping.wait()


@pytest.mark.parametrize("setting", ["1", "yes"])
def test_a_read_only_server_has_no_build_page_and_refuses_it(workshop, monkeypatch, setting):
    a_job(workshop, "gone", "")
    monkeypatch.setenv("CSP_READ_ONLY", setting)
    for params in ({}, {"job": "gone"}):
        at = open_page("build", **params)
        assert not at.exception
        assert at.session_state["pages"]["build"].visibility == "hidden"
        assert at.title[0].value == "Nothing is built here"
        assert len(at.button) == 0


def test_a_page_that_was_open_before_cannot_build_either(workshop, monkeypatch):
    a_job(workshop, "gone", "")
    at = open_page("build", job="gone")
    monkeypatch.setenv("CSP_READ_ONLY", "1")
    at.button(key="forget").click().run()
    assert (workshop / "bundles" / "gone.csp.job").exists()


def test_what_others_can_reach_only_shows_unless_told_otherwise(monkeypatch):
    from pages.ui.shell import access

    monkeypatch.delenv("CSP_READ_ONLY", raising=False)
    for address, expected in (("127.0.0.1", False), ("0.0.0.0", True), (None, True)):
        monkeypatch.setattr("streamlit.get_option", lambda _, address=address: address)
        assert access.is_read_only() is expected
    monkeypatch.setenv("CSP_READ_ONLY", "0")
    assert not access.is_read_only()


def test_reading_writes_nothing(small_bundle, serve, monkeypatch):
    monkeypatch.setenv("CSP_READ_ONLY", "1")
    serve(small_bundle)

    def state() -> list[tuple[str, int]]:
        found = small_bundle.parent.rglob("*")
        return sorted((str(path), path.stat().st_mtime_ns) for path in found)

    before = state()
    for page in ("overview", "search", "neuron", "layer", "map", "compare"):
        assert not open_page(page, q="red").exception
    assert state() == before


def test_an_unfinished_bundle_is_not_what_a_visitor_meets_first(workshop, small_bundle):
    (workshop / "bundles" / "z.csp").symlink_to(small_bundle)
    (workshop / "bundles" / "a.csp").mkdir()
    a_job(workshop, "a", "")
    at = open_page()
    assert "cannot be opened" not in html(at)
    assert "small" in html(at)


@pytest.mark.slow
def test_the_build_page_does_not_load_torch(workshop):
    code = f"""
import sys
import time
from streamlit.testing.v1 import AppTest
at = AppTest.from_file({json.dumps(str(ROOT / "pages" / "ui" / "main.py"))}, default_timeout=60)
at.run()
at.switch_page({json.dumps(str(ROOT / "pages" / "build.py"))}).run()
assert not at.exception
sys.exit("torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_encoder_of_a_bundle_is_offered_but_never_chosen_and_is_told_of(
    workshop, shipped_bundle, monkeypatch
):
    monkeypatch.setenv("CSP_BUNDLES", str(shipped_bundle))
    at = open_page("build")
    box = at.selectbox(key="build_encoder")
    assert box.value == "open_clip/ViT-B-32/laion2b_s34b_b79k"
    (own,) = [name for name in box.options if name.endswith("/demo/encoder")]
    assert "labels from it would be noise on yours" not in html(at)
    box.select(own).run()
    assert "This is the encoder of the bundle dermoscopy." in html(at)
    assert "labels from it would be noise on yours" in html(at)


BLIND = """
from tests.engine.test_separation import KnowsNothing
"""


def tried(at: AppTest) -> AppTest:
    """The page once the trial that it started has ended."""
    at.button(key="try_encoder").click().run()
    held = at.session_state["build_trial"][1]
    limit = time.monotonic() + 90
    while held.is_running and time.monotonic() < limit:
        time.sleep(0.1)
    return at.run()


@pytest.mark.slow
def test_an_encoder_is_tried_before_a_build_and_noise_is_said(workshop, monkeypatch):
    monkeypatch.setenv("CSP_TRUST_PYTHON", "1")
    (workshop / "blind.py").write_text(BLIND)
    (workshop / "images" / "<b>&.png").write_bytes(
        next(workshop.glob("images/*/*.png")).read_bytes()
    )
    at = form(images="images", encoder="python:blind:KnowsNothing", vocabulary=["words.txt"])
    assert at.button(key="start_build").label == "Start build"
    at = tried(at)
    assert not at.exception
    shown = html(at)
    assert "Labels from this encoder will be noise on these photographs." in shown
    assert shown.count("data:image/webp;base64,") == 12
    assert "<b>&.png" not in shown
    assert at.button(key="start_build").label == "Start anyway"
    # What was found is of that encoder alone.
    at.selectbox(key="build_encoder").select("open_clip/ViT-B-32/laion2b_s34b_b79k").run()
    assert "will be noise" not in html(at)
    assert at.button(key="start_build").label == "Start build"


@pytest.mark.slow
def test_a_trial_reads_and_runs_no_more_than_a_build_may(workshop, tmp_path_factory, monkeypatch):
    asked = []
    monkeypatch.setattr(jobs, "start_trial", lambda *given: asked.append(given))
    outside = toys.draw_images(tmp_path_factory.mktemp("outside") / "images", 4)
    at = form(images=str(outside), encoder="open_clip/ViT-B-32/laion2b_s34b_b79k")
    at.button(key="try_encoder").click().run()
    assert "nothing else is read from here" in html(at)
    at = form(images="images", encoder="python:os:getcwd")
    at.button(key="try_encoder").click().run()
    assert "is Python code" in html(at)
    assert asked == []
    assert open_page("build").button(key="try_encoder").disabled
