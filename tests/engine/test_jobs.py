"""Builds as processes of their own: seen from outside, killed, cancelled, resumed."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import typer.main

from csp_engine import jobs
from csp_engine.bundle import BundleWriter
from csp_engine.cli import app
from csp_engine.encoders import base
from csp_engine.errors import BundleError, InputError
from csp_engine.jobs import order as ordering
from csp_engine.jobs.allowed import Allowed
from csp_engine.jobs.process import ProcessMark, _beginning
from csp_engine.jobs.progress import read_progress
from csp_engine.networks import models
from csp_engine.pipeline import build
from tests.worlds import toys

SLOW = """
import time
from tests.worlds.toys import ColourEncoder

class Slow(ColourEncoder):
    spec = "python:slow_toys:Slow"

    def embed_images(self, pixels):
        time.sleep(0.15)
        return super().embed_images(pixels)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where a build runs: images, words, pixels.json and an encoder that takes its time."""
    folder = tmp_path_factory.mktemp("jobs")
    toys.draw_images(folder / "images")
    toys.words(folder)
    toys.as_table(folder / "images", lesion=[f"l{i // 2}" for i in range(28)]).rename(
        folder / "table.csv"
    )
    (folder / "pixels.json").write_text(json.dumps(toys.PREPROCESSING))
    (folder / "classes.txt").write_text("\n".join(sorted(toys.COLOURS)))
    (folder / "slow_toys.py").write_text(SLOW)
    return folder


ORDER = jobs.BuildOrder(
    images="images",
    model="python:tests.worlds.toys:network",
    name="small",
    layers=("first", "second"),
    encoder="python:slow_toys:Slow",
    out="bundles/a.csp",
    vocabulary=("words.txt",),
    preprocessing="pixels.json",
    class_names="classes.txt",
    exemplars=6,
    batch_size=2,
    influence_images=12,
)


@pytest.fixture
def trusted(monkeypatch) -> None:
    monkeypatch.setenv("CSP_TRUST_PYTHON", "1")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def wait_for(job: jobs.Job, is_enough: Callable[[jobs.Job], bool]) -> jobs.Job:
    end = time.monotonic() + 90
    while time.monotonic() < end:
        job = jobs.read_job(job.path)
        if is_enough(job) or job.state != "running":
            return job
        time.sleep(0.05)
    raise AssertionError(f"still {job.state}: {job.log(20)}")


def n_images(job: jobs.Job) -> int:
    return next((stage.done for stage in job.stages if stage.name == "images"), 0)


@pytest.mark.slow
def test_a_build_is_watched_cancelled_killed_and_resumed_to_the_same_bundle(folder, trusted):
    job = jobs.start(ORDER, folder)
    try:
        job = wait_for(job, lambda job: n_images(job) >= 4)
        assert job.state == "running"
        assert job.stages[-1].total == 28
        assert job.stages[-1].seconds_left is not None
        with pytest.raises(BundleError, match=r"a\.csp is being built already"):
            jobs.start(ORDER, folder)
        with pytest.raises(BundleError, match="being built already"):
            jobs.forget(job)

        job = jobs.cancel(job)
        assert job.state == "cancelled"
        assert jobs.is_unfinished(job.bundle)
        before = n_images(job)

        # Another process may resume it: all that is known of it is on disk.
        (found,) = jobs.jobs_in(folder / "bundles")
        job = wait_for(jobs.resume(found), lambda job: n_images(job) > before)
        assert job.state == "running"
        assert next(s for s in job.stages if s.name == "images").first >= before
        os.kill(json.loads((job.path / "job.json").read_text())["pid"], signal.SIGKILL)
        job = wait_for(job, lambda job: False)
        assert job.state == "killed"
        assert "killed or memory runs out" in job.sentence

        job = wait_for(jobs.resume(job), lambda job: False)
        assert job.state == "done", job.log(20)
    finally:
        jobs.cancel(job)
    assert job.n_starts == 3
    assert not jobs.is_unfinished(job.bundle)
    assert "20 neurons, 28 images" in "\n".join(job.log(3))
    recipe = replace(toys.Recipe(), n_exemplars=6, n_score=6)
    undisturbed = toys.request(
        folder, folder / "b.csp", recipe=recipe, batch_size=2, n_circuit_images=64
    )
    build(undisturbed)
    assert toys.content(job.bundle) == toys.content(folder / "b.csp")
    jobs.forget(job)
    assert not job.path.exists()
    assert job.bundle.exists()


def test_a_bundle_that_a_terminal_builds_is_taken(folder, tmp_path, trusted):
    order = replace(ORDER, out=str(tmp_path / "c.csp"))
    with BundleWriter(tmp_path / "c.csp"), pytest.raises(BundleError, match="built already"):
        jobs.start(order, folder)
    assert jobs.jobs_in(tmp_path) == []


def test_a_number_that_another_process_got_is_not_the_same_process():
    sleeping = subprocess.Popen(["sleep", "60"])
    try:
        mark = ProcessMark(sleeping.pid, _beginning(sleeping.pid))
        assert mark.is_alive
        assert not ProcessMark(sleeping.pid, mark.began[:-1] + "x").is_alive
        assert not ProcessMark(sleeping.pid, "").is_alive
        sleeping.kill()
        end = time.monotonic() + 10
        while mark.is_alive and time.monotonic() < end:
            time.sleep(0.01)
        assert not mark.is_alive  # before anybody has taken note of its end
    finally:
        sleeping.kill()
        sleeping.wait()
    assert not mark.is_alive


def a_past_job(path: Path, log: str, **changes: object) -> Path:
    path.mkdir(parents=True)
    record = {
        "order": ORDER.to_json(), "folder": str(path), "pid": 1, "began": "another boot 5",
        "started": 100.0, "n_starts": 1, "is_cancelled": False, **changes,
    }  # fmt: skip
    (path / "job.json").write_text(json.dumps(record))
    (path / "log.txt").write_text(log)
    return path


def test_a_failed_build_says_its_sentence_of_this_run_only(tmp_path):
    said = "--- started x ---\ncsp: Layer 'firts' does not exist.\n"
    job = jobs.read_job(a_past_job(tmp_path / "a.csp.job", said))
    assert job.state == "failed"
    assert job.sentence == "Layer 'firts' does not exist."
    job = jobs.read_job(a_past_job(tmp_path / "b.csp.job", said + "--- started y ---\nimages\n"))
    assert job.state == "killed"
    assert job.name == "b"


@pytest.mark.parametrize(
    "record",
    [
        "",
        "{",
        "[]",
        '{"order": {"images": 3}}',
        '{"order": {"shell": "rm"}, "pid": 1, "began": "", "started": 0, "n_starts": 1}',
    ],
)
def test_a_damaged_record_is_a_sentence_and_left_out_of_the_list(tmp_path, record):
    home = a_past_job(tmp_path / "a.csp.job", "")
    (home / "job.json").write_text(record)
    with pytest.raises(InputError, match=r"[Dd]amaged|no build at|record is damaged"):
        jobs.read_job(home)
    assert jobs.jobs_in(tmp_path) == []


def test_a_record_from_elsewhere_cannot_bring_code_with_it(folder, monkeypatch):
    monkeypatch.delenv("CSP_TRUST_PYTHON", raising=False)
    job = jobs.read_job(a_past_job(folder / "bundles" / "d.csp.job", "", folder=str(folder)))
    with pytest.raises(InputError, match="CSP_TRUST_PYTHON=1"):
        jobs.resume(job)


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"images": ""}, "images", "Choose a folder"),
        ({"images": "nowhere"}, "images", "no folder or table at"),
        ({"images": "pixels.json"}, "images", "neither a folder nor a table"),
        ({"images": "bundles-none/../images/red", "exemplars": 8}, "images", "no folder or table"),
        ({"images": "images", "exemplars": 29}, "images", "28 images, fewer than the 29"),
        ({"images": "images", "exemplars": None}, "images", "fewer than the 100"),
        ({"limit": 5}, "images", "5 images, fewer than the 6"),
        ({"class_column": "dx"}, "images", "is a folder, which has no columns"),
        ({"images": "table.csv", "class_column": "dx"}, "images", "has no column 'dx'"),
        ({"model": ""}, "model", "Name a model"),
        ({"model": "resnet50"}, "model", "does not name a model"),
        ({"model": "transformers/./none"}, "model", "no folder './none'"),
        ({"layers": ()}, "layers", "at least one layer"),
        ({"encoder": "ViT-B-32"}, "encoder", "does not name an encoder"),
        ({"encoder": "open_clip//none"}, "encoder", "no folder '/none'"),
        ({"vocabulary": ("generel",)}, "vocabulary", "Did you mean 'general'"),
        ({"vocabulary": ()}, "vocabulary", "No vocabulary"),
        ({"out": ""}, "out", "Give the bundle a name"),
        ({"out": "images.csp/../.csp"}, "out", "Give the bundle a name"),
        ({"out": "words.txt/a.csp"}, "out", "Nothing can be written"),
        ({"weights": "w.pt"}, "weights", "no file 'w.pt'"),
        ({"name": "a b"}, "name", "is not a model name"),
        ({"device": "gpu; rm -rf"}, "device", "is not a device"),
        ({"device": "cuda:0,cuda:x"}, "device", "'cuda:x' is not a device"),
        ({"device": "cuda:0,cuda:0"}, "device", "names cuda:0 twice"),
        ({"device": "mps,cuda"}, "device", "mixes mps and cuda"),
        ({"device": " "}, "device", "has an empty name"),
        ({"preset": "papre"}, "preset", "--preset is 'papre'; choose default or paper"),
        ({"gamma": 1.5}, "gamma", "gamma is 1.5"),
        ({"batch_size": 0}, "batch_size", "batch_size is 0"),
    ],
)
def test_every_wrong_field_has_its_sentence(folder, trusted, changes, field, words):
    assert replace(ORDER, out="e.csp").problems(folder) == {}
    problems = replace(ORDER, **{"out": "e.csp", **changes}).problems(folder)
    assert list(problems) == [field]
    assert words in problems[field]
    assert "\n" not in problems[field]
    assert problems[field].endswith((".", "?"))


def test_preprocessing_may_be_the_word_whole(folder, trusted):
    order = replace(ORDER, out="e.csp", preprocessing="whole")
    assert order.problems(folder) == {}
    assert "preprocessing" not in order.problems(folder, Allowed((folder / "bundles",)))
    arguments = order.arguments()
    assert arguments[arguments.index("--preprocessing") + 1] == "whole"
    wrong = replace(ORDER, preprocessing="whol").problems(folder)
    assert "There is no file 'whol'" in wrong["preprocessing"]


def test_a_folder_of_something_else_is_no_output(folder, trusted):
    (folder / "full.csp").mkdir(exist_ok=True)
    (folder / "full.csp" / "thesis.txt").write_text("mine")
    assert "is not a bundle" in replace(ORDER, out="full.csp").problems(folder)["out"]


@pytest.mark.parametrize("spec", ["openai/m@http://127.0.0.1:9/v1", "transformers/org/model"])
def test_a_visitor_cannot_say_where_images_are_sent(folder, spec):
    (folder / spec).mkdir(parents=True, exist_ok=True)  # not even where a folder is called so
    said = replace(ORDER, captioner=spec).problems(folder)["captioner"]
    assert "it can be named only in a terminal" in said


def test_the_command_shown_is_one_that_the_command_line_takes(folder):
    full = replace(
        ORDER,
        images="-my images; rm -rf $HOME",
        weights="~/w.pt",
        captioner="c",
        pooling="max",
        path_column="file",
        class_column="a b",
        group_column="lesion_id",
        image_root="root",
        limit=10,
        preset="paper",
        gamma=0.5,
        device="cuda:0,cuda:1",
    )
    words = shlex.split(full.shown())
    assert words == ["csp", *full.arguments()]
    command = typer.main.get_command(app).commands["build"]
    given = command.make_context("build", words[2:]).params
    assert Path(given["images"]) == Path("-my images; rm -rf $HOME")
    assert given["layer"] == ["first", "second"]
    assert given["set_"] == ["gamma=0.5"]
    assert given["exemplars"] == 6
    assert str(given["weights"]) == str(Path.home() / "w.pt")
    assert given["class_column"] == "a b"
    assert given["device"] == "cuda:0,cuda:1"


def test_an_order_survives_being_written():
    assert jobs.BuildOrder.from_json(json.loads(json.dumps(ORDER.to_json()))) == ORDER


def test_the_kinds_of_models_and_encoders_are_those_that_load():
    assert set(ordering.MODEL_KINDS) == set(models._KINDS)
    assert {kind.rstrip(":/") for kind in ordering.ENCODER_KINDS} == set(base.KINDS)


def test_progress_is_whole_at_any_moment_and_finished_only_at_the_end(tmp_path):
    path = tmp_path / "progress.json"

    def stop_in_the_middle() -> None:
        with jobs.ProgressFile(path) as progress:
            progress("images", 10, 50)
            progress("images", 30, 50)
            raise KeyError

    with pytest.raises(KeyError):
        stop_in_the_middle()
    stages, is_finished, _ = read_progress(path)
    assert (stages[0].first, stages[0].total, is_finished) == (10, 50, False)
    with jobs.ProgressFile(path) as progress:
        progress("images", 50, 50)
    stages, is_finished, _ = read_progress(path)
    assert is_finished
    assert stages[0].is_over
    path.write_text(path.read_text()[:40])
    assert read_progress(path) == ((), False, 0.0)


def test_time_left_follows_the_speed_since_the_stage_began():
    stage = jobs.StageProgress("images", 30, 50, 10, started=100.0, updated=140.0)
    assert stage.seconds_left == pytest.approx(40.0)


def test_jobs_do_not_load_torch():
    code = "import sys, csp_engine.jobs; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
