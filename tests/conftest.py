"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real models and images, or a skip that says where it was looked for."""
    folder = Path(os.environ.get("CSP_SHARED_DATA", ROOT.parent / "shared" / "data")).resolve()
    if not (folder / "images").is_dir():
        pytest.skip(f"real models and images are not at {folder} (set CSP_SHARED_DATA)")
    return folder
