"""A bundle that names Python code as its network: no command runs it unless it is trusted."""

from __future__ import annotations

import sys

import pandas as pd
import pytest

from csp_engine import pipeline
from csp_engine.bundle import Bundle
from csp_engine.errors import MissingModelError
from csp_engine.trust import OWN_MODELS, TRUST, may_run, require_trust
from tests.engine.test_cli import run
from tests.worlds import damage, toys

SPEC = "python:stranger:network"
CODE = """
from pathlib import Path
Path(__file__).with_name("ran").touch()
from tests.worlds.toys import network
"""


@pytest.fixture
def hostile(tmp_path, monkeypatch):
    """A bundle whose network is code that lies beside it, where Python would find it."""
    path = pipeline.build(toys.request(tmp_path, tmp_path / "small.csp")).path
    damage.edit(path, lambda body: body["inputs"]["models"]["small"].update(spec=SPEC))
    (tmp_path / "stranger.py").write_text(CODE, "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(TRUST, raising=False)
    yield path
    sys.modules.pop("stranger", None)


COMMANDS = {
    "pairs": ("intervene", "--pairs", "pairs.csv", "--output", "red"),
    "paste": ("intervene", "--paste", "ruler", "--photos", "images", "--output", "red"),
    "fix": ("fix", "--units", "first@mean:1", "--images", "shots.csv", "--output", "red"),
    "ablate": ("ablate", "--layer", "first@mean", "--images", "shots.csv", "--output", "red"),
    "factors": ("factors", "--layer", "first@mean", "--images", "shots.csv"),
    "maps": ("maps", "--neuron", "small/first@mean/1", "--out", "looks"),
    "checks": ("maps", "--pairs", "pairs.csv"),
    "cosy": ("evaluate", "--cosy", "simulator"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_runs_what_a_bundle_names(hostile, tmp_path, capsys, name):
    toys.photographs(tmp_path)
    pd.DataFrame({"artefact": ["x"], "without": ["a.png"], "with": ["b.png"]}).to_csv(
        tmp_path / "pairs.csv", index=False
    )
    command, *options = COMMANDS[name]
    code, _, said = run(capsys, command, hostile, *options)
    assert code == 2
    assert not (tmp_path / "ran").exists()
    assert f"is Python code ({SPEC}), which runs only if you trust it" in said
    assert TRUST in said


@pytest.mark.slow
def test_code_runs_where_it_is_trusted(hostile, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv(TRUST, "1")
    toys.photographs(tmp_path)
    command, *options = COMMANDS["fix"]
    run(capsys, command, hostile, *options)
    assert (tmp_path / "ran").exists()


def test_the_project_s_own_networks_need_no_trust(monkeypatch, shipped_bundle):
    monkeypatch.delenv(TRUST, raising=False)
    specs = [m["spec"] for m in Bundle.open(shipped_bundle).manifest.inputs["models"].values()]
    assert set(specs) == set(OWN_MODELS)
    assert all(map(may_run, specs))
    near = OWN_MODELS[0].replace(":biased", ":main")
    with pytest.raises(MissingModelError, match=r"It is Python code .*: name it, or set CSP_TRUST"):
        require_trust("It", near, "name it")
