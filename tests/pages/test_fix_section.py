"""Test the fix: what the audit page says of a fix is what the bundle holds, and may be tried."""

from __future__ import annotations

import json
import shutil
import time

import pytest

from csp_engine import jobs, pipeline
from csp_engine.bundle import Bundle
from csp_engine.errors import InputError
from csp_engine.pipeline.added.fixes import read_fix
from csp_engine.views.audit import fixes
from tests.pages.conftest import html, open_page
from tests.worlds import toys


@pytest.fixture(scope="module")
def fixed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fix-page")
    target = toys.target(["first", "last"], factory="lively")
    path = pipeline.build(
        toys.request(folder, folder / "small.csp", targets=(target,), n_influence_images=0)
    ).path
    pipeline.add_interventions(path, target, toys.CornerPairs(), "red", n_random=2)
    pipeline.add_fix(path, "small", "three neurons", toys.tried_fix(folder, target))
    pipeline.add_fix(path, "small", "without controls", toys.tried_fix(folder, target, n_random=0))
    return path


def test_the_page_says_what_the_bundle_holds(serve, fixed):
    serve(fixed)
    at = open_page("audit")
    assert not at.exception
    shown = html(at)
    found = fixes.figures(Bundle.open(fixed).fix("small", "three neurons"))
    for said in (found.sentence, found.verdict, found.details, found.gap_sentence):
        assert said in shown
    for each in found.slices:
        assert each.right.change.signed in shown
        assert each.found.change.signed in shown
        assert f"{each.found.before.n_hits} → {each.found.after.n_hits} of {each.found.n}" in shown
    assert "random controls" in shown
    other = html(open_page("audit", fix="without controls"))
    assert "class='band'" not in other
    nonsense = open_page("audit", fix="nonsense")
    assert not nonsense.exception
    assert found.sentence in html(nonsense)


def test_names_of_slices_and_classes_are_never_markup(serve, fixed, tmp_path):
    path = tmp_path / "hostile.csp"
    shutil.copytree(fixed, path)
    evil = "<img src=x onerror='y()'>\u202e"
    stored = Bundle.open(path).fix("small", "three neurons")
    shots = stored.photographs.assign(slice=stored.photographs["slice"].replace("marked", evil))
    hostile = fixes.StoredFix(
        **{name: getattr(stored, name) for name in stored.__dataclass_fields__}
        | {"photographs": shots, "images": evil, "chosen_on": evil}
    )
    pipeline.add_fix(path, "small", "hostile", hostile)
    serve(path)
    at = open_page("audit", fix="hostile")
    assert not at.exception
    shown = html(at)
    assert "<img src=x" not in shown
    assert "&lt;img src=x" in shown
    assert "\u202e" not in shown


def test_code_that_is_not_trusted_is_never_run_from_the_page(serve, fixed, monkeypatch):
    monkeypatch.delenv("CSP_TRUST_PYTHON", raising=False)
    serve(fixed)
    at = open_page("audit")
    assert not at.exception
    assert not any(each.key == "fix_start" for each in at.button)


def test_a_server_that_only_shows_tries_nothing(serve, shipped_bundle, monkeypatch):
    monkeypatch.setenv("CSP_READ_ONLY", "1")
    serve(shipped_bundle)
    at = open_page("audit")
    assert not at.exception
    assert not any(each.key == "fix_start" for each in at.button)


def test_the_form_suggests_the_carriers(serve, shipped_bundle):
    serve(shipped_bundle)
    at = open_page("audit")
    assert not at.exception
    (units,) = (each for each in at.multiselect if each.key == "fix_units_layer2@max")
    carriers = fixes.carriers(Bundle.open(shipped_bundle), "biased", "colour patch")
    assert [int(each) for each in units.value] == carriers.part.tolist()


def waited(trial):
    limit = time.monotonic() + 90
    while trial.is_running and time.monotonic() < limit:
        time.sleep(0.1)
    return trial


@pytest.mark.slow
def test_a_trial_runs_in_a_process_of_its_own(fixed, tmp_path, monkeypatch):
    monkeypatch.setenv("CSP_TRUST_PYTHON", "1")
    table = toys.photographs(tmp_path)
    pixels = tmp_path / "pixels.json"
    pixels.write_text(json.dumps(toys.PREPROCESSING))
    asked = [
        "--units=last@mean:0,5", "--output=red", "--random=2", f"--images={table.name}",
        f"--preprocessing={pixels}",
    ]  # fmt: skip
    trial = waited(
        jobs.start_trial(["fix", str(fixed), *asked], tmp_path, jobs.Allowed((tmp_path,)))
    )
    assert trial.is_done, trial.sentence
    assert fixes.figures(read_fix(trial.result)).held[0].units == (0, 5)
    assert trial.stages[-1].is_over
    jobs.drop_trial(trial)
    assert not trial.folder.exists()
    wrong = waited(
        jobs.start_trial(["fix", str(fixed), "--units=last@mean:99", "--output=red"], tmp_path)
    )
    assert not wrong.is_done
    assert "last@mean of small has no unit 99" in wrong.sentence
    jobs.drop_trial(wrong)


def started(monkeypatch):
    """What the page would start, and what it may read."""
    calls = []

    def start(command, folder, allowed=None):
        calls.append((command, allowed))
        raise InputError("Not today.")

    monkeypatch.setattr(jobs, "start_trial", start)
    return calls


def press(at):
    (button,) = (each for each in at.button if each.key == "fix_start")
    return button.click().run()


def test_neurons_of_an_address_come_first_and_are_what_is_tried(serve, shipped_bundle, monkeypatch):
    calls = started(monkeypatch)
    serve(shipped_bundle)
    hold = "layer2@max:3,14; layer2@max:firing with 3;"
    at = open_page("audit", model="biased", hold=hold)
    assert not at.exception
    (named,) = (each for each in at.text_input if each.key.startswith("fix_named"))
    assert named.value == hold
    assert not any(each.value for each in at.multiselect if each.key.startswith("fix_units"))
    heads = [each for each in html(at).split("<h2 ")[1:]]
    assert heads[0].startswith("class='csp-h' id='fix'>Test the fix")
    assert html(at).count("id='fix'") == 1
    assert at.expander[0].label == "Try another"
    at = press(at)
    ((command, allowed),) = calls
    assert [each for each in command if each.startswith("--units")] == [
        "--units=layer2@max:3,14", "--units=layer2@max:firing with 3"
    ]  # fmt: skip
    assert allowed is None
    assert "Not today." in html(at)


def test_directions_of_a_file_are_read_where_the_server_may_alone(
    serve, shipped_bundle, monkeypatch
):
    calls = started(monkeypatch)
    serve(shipped_bundle)
    at = open_page("audit", model="biased", hold=" ; ")
    at = press(at)
    assert not calls
    assert "Nothing to take out" in html(at)
    (file,) = (each for each in at.text_input if each.key == "fix_file")
    at = press(file.set_value("/etc/passwd").run())
    assert not calls
    assert "is not below" in html(at)
    (file,) = (each for each in at.text_input if each.key == "fix_file")
    press(file.set_value("along.safetensors").run())
    ((command, allowed),) = calls
    (layer,) = (each.value for each in at.selectbox if each.key == "fix_layer")
    assert command[-1] == f"--project={layer}=along.safetensors"
    assert allowed is not None


def test_who_may_try_nothing_is_told_the_command(serve, fixed, monkeypatch):
    monkeypatch.delenv("CSP_TRUST_PYTHON", raising=False)
    serve(fixed)
    at = open_page("audit", hold="last@mean:3,5; first@mean:<b>'")
    assert not at.exception
    shown = html(at)
    assert "--units last@mean:3,5 --units " in shown
    assert "<b>'" not in shown
    assert "CSP_TRUST_PYTHON=1 lets it" in shown


def test_a_bundle_without_pairs_offers_it_too(serve, small_bundle, monkeypatch):
    monkeypatch.setenv("CSP_TRUST_PYTHON", "1")
    serve(small_bundle)
    at = open_page("audit", hold="last@mean:3")
    assert not at.exception
    assert any(each.key == "fix_start" for each in at.button)
    assert any(each.label == "Try one" for each in at.expander)


def test_an_address_that_names_nothing_makes_no_command(serve, fixed, monkeypatch):
    monkeypatch.delenv("CSP_TRUST_PYTHON", raising=False)
    serve(fixed)
    shown = html(open_page("audit", hold="nowhere:3"))
    assert "csp fix BUNDLE" not in shown
    assert "names no layer of small. The network small is code" in shown
