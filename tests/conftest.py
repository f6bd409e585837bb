"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real models and images, or a skip that says where it was looked for."""
    folder = Path(os.environ.get("CSP_SHARED_DATA", ROOT.parent / "shared" / "data")).resolve()
    if not (folder / "images").is_dir():
        pytest.skip(f"real models and images are not at {folder} (set CSP_SHARED_DATA)")
    return folder


@pytest.fixture(scope="session")
def toy_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small world of drawn shapes: images, labels.csv, vocabulary.txt, a network, an encoder."""
    from csp_engine.demo.shapes import make_world

    return make_world(tmp_path_factory.mktemp("shapes") / "world", quick=True)


@pytest.fixture(scope="session")
def quick_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo made small: its work folder in ``work``, what ships of it in ``shipped``.

    Made once, also where tests run in several processes.
    """
    from csp_engine.demo.dermoscopy.parts import QUICK
    from csp_engine.demo.dermoscopy.shipping import ship
    from csp_engine.demo.dermoscopy.world import build_world

    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "quick-demo"
    with FileLock(f"{folder}.lock"):
        if not (folder / "shipped").exists():
            ship(build_world(folder / "work", QUICK), folder / "shipped")
    return folder


@pytest.fixture(scope="session")
def toy_images(toy_world: Path) -> Path:
    """Its 96 drawings, one folder per shape."""
    return toy_world / "images"
