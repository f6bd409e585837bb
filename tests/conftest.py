"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from filelock import FileLock
from hypothesis import settings

# Other machines are slower, and busy ones slower still.
settings.register_profile("csp", deadline=None)
settings.load_profile("csp")

if TYPE_CHECKING:
    from tests.worlds.postgres import Server

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shipped_bundle() -> Path:
    """The bundle of the demo that ships; to be read only."""
    return ROOT / "assets" / "demo" / "dermoscopy.csp"


GROUPS = {
    "tests/engine/test_demo_build.py": "demo",
    "tests/pages/test_shipped_demo.py": "demo",
    "tests/browser": "browser",
}
"""Tests that share more than a file does: the small demo, or a server and a browser."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What takes longest begins first, or one process would wait for the other at the end."""
    slow = {_group(item.nodeid) for item in items if item.get_closest_marker("slow")}
    ranks = [*dict.fromkeys(GROUPS.values())]

    def rank(item: pytest.Item) -> int:
        group = _group(item.nodeid)
        return ranks.index(group) if group in ranks else len(ranks) + (group not in slow)

    alone = [item.nodeid for item in items if item.get_closest_marker("alone")]
    lost = [nodeid for nodeid in alone if _group(nodeid) != "browser"]  # see the Makefile
    if lost:
        raise pytest.UsageError(f"tests to run alone belong in tests/browser: {lost}")
    if config.pluginmanager.hasplugin("rerunfailures"):
        for item in items:
            if item.get_closest_marker("browser"):
                item.add_marker(pytest.mark.flaky(reruns=1))
    items.sort(key=rank)  # stable: within a rank as they are written


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """A test that passed at the second try has failed once: say how."""
    for report in terminalreporter.stats.get("rerun", ()):
        terminalreporter.section(f"failed once: {report.nodeid}")
        terminalreporter.write_line(report.longreprtext[-4000:])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Several processes: tests that share something stay in one of them, see ``_group``."""
    from xdist.scheduler import LoadScopeScheduling

    class GroupScheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _group(nodeid)

    config.option.loadscopereorder = False  # they come in the order of above
    return GroupScheduling(config, log)


def _group(nodeid: str) -> str:
    """Tests of a file share its fixtures; some share more."""
    file = nodeid.split("::")[0]
    return GROUPS.get(file) or GROUPS.get(file.rpartition("/")[0]) or file


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
    from tests.worlds.shapes import make_world

    return make_world(tmp_path_factory.mktemp("shapes") / "world", quick=True)


@pytest.fixture(scope="session")
def quick_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo made small: its work folder in ``work``, what ships of it in ``shipped``.

    Made once, also where tests run in several processes.
    """
    from csp_engine.demo.shipping.packing import ship
    from tests.worlds import small_demo

    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "quick-demo"
    with FileLock(f"{folder}.lock"):
        if not (folder / "shipped").exists():
            ship(small_demo.make(folder / "work"), folder / "shipped")
    return folder


@pytest.fixture(scope="session")
def toy_images(toy_world: Path) -> Path:
    """Its 96 drawings, one folder per shape."""
    return toy_world / "images"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server of our own, or a skip that says what is not here."""
    from tests.worlds import postgres

    folder = postgres.programs()
    if folder is None:
        pytest.skip("PostgreSQL is not installed (Debian's package postgresql)")
    with postgres.running(folder) as server:
        yield server
