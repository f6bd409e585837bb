"""What fills the tables of a document is a module beside it."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def tables(request: pytest.FixtureRequest) -> ModuleType:
    """The module of ``docs`` that the test's module names as ``TABLES``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DOCS))
        return importlib.import_module(request.module.TABLES)
