"""A small bundle built for real, and pages run as the server runs them."""

from __future__ import annotations

import functools
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
from starlette.applications import Starlette
from starlette.routing import Router
from starlette.testclient import TestClient
from streamlit.components.v2 import manifest_scanner
from streamlit.testing.v1 import AppTest

from csp_engine.hashing import sha256_json
from csp_engine.pipeline import build
from pages.ui.routes import ours
from pages.ui.shell import loading, server
from tests.worlds import hostile_world, toys
from tests.worlds.hostile_world import HOSTILE

__all__ = ["HOSTILE"]
ROOT = Path(__file__).resolve().parents[2]
HERE = "http://localhost:8501"
MAIN = ROOT / "pages" / "ui" / "main.py"


@pytest.fixture(scope="session", autouse=True)
def no_reviews(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A database of verdicts that is not there; whoever gives some names another."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CSP_REVIEWS", str(tmp_path_factory.mktemp("reviews") / "reviews.sqlite"))
        patch.setenv("CSP_REVIEWER", "ada")
        yield


@pytest.fixture(scope="session", autouse=True)
def packages_are_looked_through_once() -> Iterator[None]:
    """For components that they bring: a test would at every run of a page, a server does once."""
    with pytest.MonkeyPatch.context() as patch:
        scan = functools.cache(manifest_scanner.scan_component_manifests)
        patch.setattr(manifest_scanner, "scan_component_manifests", scan)
        yield


@pytest.fixture(scope="session")
def small_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    build(toys.request(folder, folder / "small.csp"))
    return folder / "small.csp"


@pytest.fixture
def copied(small_bundle: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(small_bundle, tmp_path / "small.csp"))


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Point the pages at some bundles."""

    def point(*paths: Path) -> None:
        monkeypatch.setenv("CSP_BUNDLES", os.pathsep.join(map(str, paths)))

    return point


def visiting(**headers: str) -> TestClient:
    """A browser that asks our own routes, behind the gate that a server has around them."""
    late = loading.Late(lambda: Router(ours.routes()))
    app = Starlette(routes=server.routes(late), middleware=server.middleware())
    return TestClient(app, base_url=HERE, headers=headers, follow_redirects=False)


def open_page(page: str = "overview", /, **params: str) -> AppTest:
    """A page at a URL."""
    at = AppTest.from_file(str(MAIN), default_timeout=60)
    for key in list(at.query_params):
        del at.query_params[key]
    for key, value in params.items():
        at.query_params[key] = value
    return at.switch_page(str(ROOT / "pages" / f"{page}.py")).run()


def html(at: AppTest) -> str:
    """All HTML of a page that is not style."""
    bodies = [element.proto.body for element in at.get("html")]
    return "\n".join(body for body in bodies if not body.startswith("<style>"))


def component(at: AppTest, name: str) -> dict:
    """What Python sends to the component of this key suffix."""
    for element in at.get("bidi_component"):
        if element.proto.component_name.endswith(name):
            return json.loads(element.proto.json)
    raise AssertionError(f"no component {name} on the page")


def follow(at: AppTest) -> AppTest:
    """The view that a page leaves for, opened as the browser would open it."""
    asked = urlsplit(component(at, "csp_go")["href"])
    return open_page(asked.path.strip("/") or "overview", **dict(parse_qsl(asked.query)))


def rewrite_manifest(bundle: Path, **changes: object) -> None:
    """Change members of a manifest and make its hash fit again."""
    path = bundle / "manifest.json"
    body = json.loads(path.read_text())
    body.update(changes)
    body.pop("self_sha256")
    body["self_sha256"] = sha256_json(body)
    path.write_text(json.dumps(body))


@pytest.fixture(scope="session")
def hostile_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hostile_world.make(tmp_path_factory.mktemp("hostile"))
