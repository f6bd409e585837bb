"""Benchmarks, studies and tools are run by hand; they must import, and run when small."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = [
    f"{folder}.{path.stem}"
    for folder in ("benchmarks", "studies", "tools")
    for path in sorted((ROOT / folder).glob("*.py"))
    if not path.stem.startswith("__")
]


@pytest.mark.parametrize("module", MODULES)
def test_a_module_that_is_run_by_hand_imports(module):
    importlib.import_module(module)


SMALL = {
    "search": "--neurons 5000 --width 16 --queries 20 --out {out}/search.json",
    "rescore": "--units 8 --labels 40 --width 16 --draws 20 --images 400 --runs 1 --out {out}",
}


@pytest.mark.parametrize("name", SMALL)
def test_a_benchmark_runs_at_a_small_size(name, tmp_path, monkeypatch, capsys):
    benchmark = importlib.import_module(f"benchmarks.{name}")
    monkeypatch.setattr(sys, "argv", [name, *SMALL[name].format(out=tmp_path).split()])
    benchmark.main()
    assert json.loads((tmp_path / f"{name}.json").read_text())
    assert "Traceback" not in capsys.readouterr().out
