"""The shipped demo is a bundle of an earlier version: it opens, verifies and says the same.

``shipped_demo.json`` is what ``csp`` said of it before its modules moved into rooms (5548205).
"""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from csp_engine.cli import main

HERE = Path(__file__).parent
DEMO = HERE.parents[1] / "assets" / "demo" / "dermoscopy.csp"
GOLDEN = json.loads((HERE / "shipped_demo.json").read_text("utf-8"))


@pytest.fixture
def csp(capsys):
    """Run a command, and read its JSON."""

    def run(*arguments: str):
        with pytest.raises(SystemExit) as stopped:
            main([*arguments, "--json"])
        assert stopped.value.code == 0
        return json.loads(capsys.readouterr().out)

    return run


def assert_says(said, golden):
    """Everything that was said before; newer versions may say more."""
    if isinstance(golden, dict):
        for name, value in golden.items():
            assert_says(said[name], value)
    elif isinstance(golden, list):
        assert len(said) == len(golden)
        for one, value in zip(said, golden, strict=True):
            assert_says(one, value)
    else:
        assert said == golden


@pytest.mark.parametrize("command", ["info", "verify"])
def test_what_it_is_and_that_it_is_whole(csp, command):
    said = csp(command, str(DEMO))
    assert_says(said, GOLDEN[command])


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("search", ("hair", "--not", "ruler")), ("like", ("--like", "biased/layer4@mean/3"))],
)
def test_searches_find_the_same(csp, name, arguments):
    found = csp("search", str(DEMO), *arguments, "-n", "4")["found"]
    assert len(found) == len(GOLDEN[name])
    for own, held in zip(found, GOLDEN[name], strict=True):
        assert own["score"] == pytest.approx(held["score"], abs=1e-4)
        assert {**own, **held, "score": 0} == {**own, "score": 0}


def test_labels_and_their_figures_are_the_same(csp, tmp_path):
    csp("export", str(DEMO), str(tmp_path / "labels.csv"), "-n", "2")
    table = pd.read_csv(tmp_path / "labels.csv")
    assert len(table) == GOLDEN["n_rows"]
    rows = pd.DataFrame(GOLDEN["rows"])
    pd.testing.assert_frame_equal(table[list(rows)].iloc[::487].reset_index(drop=True), rows)
