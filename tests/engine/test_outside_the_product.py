"""Benchmarks, studies and tools are run by hand; what they import must still be there."""

from __future__ import annotations

import importlib
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
