"""The wheel, installed where there is no repository, does what the README promises."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tarfile
import time
import urllib.request
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.worlds import toys

ROOT = Path(__file__).resolve().parents[2]
MOST_MB = 65
pytestmark = pytest.mark.slow


def pack(kind: str, source: Path, folder: Path) -> Path:
    """What hatch makes of a source tree; nothing is fetched."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (made,) = folder.iterdir()
    return made


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


class Installed:
    """An environment with our wheel in it, and a folder to work in.

    All that the wheel needs is taken from the environment of the tests. Its site-packages are
    named in a ``.pth`` file, and the ``.pth`` files of a folder named so are not read: our own
    editable install is not seen.
    """

    def __init__(self, wheel: Path, folder: Path) -> None:
        self.home = folder / "venv"
        self.work = folder / "work"
        self.work.mkdir()
        venv.create(self.home, symlinks=True, with_pip=False)
        paths = {"base": str(self.home), "platbase": str(self.home)}
        self.packages = Path(sysconfig.get_path("purelib", "venv", paths))
        needed = sysconfig.get_path("purelib")
        (self.packages / "needed.pth").write_text(f"{needed}\n", "utf-8")
        self.python = Path(sysconfig.get_path("scripts", "venv", paths)) / "python"
        install = ["install", "--quiet", "--no-deps", "--no-index", "--no-compile", str(wheel)]
        pip = [sys.executable, "-m", "pip", "--python", str(self.python), *install]
        subprocess.run(pip, check=True, capture_output=True)
        own = {"PYTHONPATH", "CSP_BUNDLES", "CSP_REVIEWS", "CSP_SHARED_DATA"}
        self.environment = {name: text for name, text in os.environ.items() if name not in own}
        self.environment |= {"PYTHONDONTWRITEBYTECODE": "1", "CSP_TRUST_PYTHON": "1"}

    def csp(self, *arguments: str) -> str:
        """What a command prints."""
        return self._run([str(self.python.with_name("csp")), *arguments])

    def run(self, code: str) -> str:
        """What lines of Python print."""
        return self._run([str(self.python), "-c", code])

    def files(self) -> set[str]:
        """Everything that lies in the environment's own packages."""
        return {str(path) for path in self.packages.rglob("*") if path.suffix != ".pyc"}

    def _run(self, command: list[str]) -> str:
        ran = subprocess.run(
            command, cwd=self.work, env=self.environment, capture_output=True, text=True
        )
        assert ran.returncode == 0, ran.stderr[-3000:]
        return ran.stdout


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """The environment; at the end nothing may have been added to the packages in it."""
    made = Installed(wheel, tmp_path_factory.mktemp("installed"))
    toys.draw_images(made.work / "photos")
    shutil.copy(toys.__file__, made.work / "toy_parts.py")
    (made.work / "pixels.json").write_text(json.dumps(toys.PREPROCESSING), "utf-8")
    before = made.files()
    yield made
    assert made.files() == before


@pytest.fixture(scope="module")
def built(installed: Installed) -> Path:
    """A bundle that the installed command made from the words that it ships with."""
    installed.csp(
        *("build", "photos", "--model", "python:toy_parts:network", "--layer", "second"),
        *("--preprocessing", "pixels.json", "--encoder", "python:toy_parts:ColourEncoder"),
        *("--vocabulary", "general", "--exemplars", "6", "--out", "bundles/toy.csp"),
    )
    return installed.work / "bundles" / "toy.csp"


def test_the_wheel_is_small_and_holds_no_more_than_it_needs(wheel):
    assert wheel.stat().st_size < MOST_MB * 1e6
    names = zipfile.ZipFile(wheel).namelist()
    kept = [name for name in names if not name.startswith(("csp_engine/", "csp_neuron_browser-"))]
    assert kept == []
    assert [name for name in names if "__pycache__" in name or "secrets" in name] == []


def test_the_source_archive_makes_the_same_wheel(wheel, tmp_path):
    archive = pack("sdist", ROOT, tmp_path / "sdist")
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    again = pack("wheel", source, tmp_path / "wheel")
    assert sorted(zipfile.ZipFile(again).namelist()) == sorted(zipfile.ZipFile(wheel).namelist())


def test_the_package_that_answers_is_the_installed_one(installed):
    printed = installed.run("import csp_engine, csp_engine.files as f; print(f.ROOT)")
    assert Path(printed.strip()).is_relative_to(installed.packages)
    assert "build" in installed.csp("--help")
    assert str(installed.packages) in installed.csp("doctor", "--json")


def test_the_demo_is_inside_and_whole(installed):
    assert "wrong" not in installed.csp("demo", "verify", "--quick")


def test_a_bundle_is_built_with_the_words_that_ship(installed, built):
    assert "general" in installed.csp("info", "bundles/toy.csp", "--json")
    installed.csp("verify", "bundles/toy.csp")
    installed.csp("export", "bundles/toy.csp", "pages", "--format", "html")
    assert (installed.work / "pages" / "table.js").is_file()


PAGES = """
from streamlit.testing.v1 import AppTest
from csp_engine.files import ROOT
for page, params in (
    ("overview", {}), ("search", {"q": "a thin dark hair"}), ("layer", {}), ("map", {}),
    ("compare", {}), ("neuron", {}), ("labels", {}), ("melanoma", {}),
    ("glossary", {}), ("build", {}),
):
    at = AppTest.from_file(str(ROOT / "pages" / "ui" / "main.py"), default_timeout=120)
    if page != "overview":
        at.switch_page(str(ROOT / "pages" / f"{page}.py"))
    at.query_params.update({"bundle": "dermoscopy", **params})
    at.run()
    assert not at.exception, at.exception
from pages.ui.shell import store
assert store.ENCODERS.has_loaded(store.open_bundle("dermoscopy"))  # in a process of its own
store.ENCODERS.close()
print(store.build_folder(), list(store.known_bundles()))
"""


def test_every_page_opens(installed, built):
    printed = installed.run(PAGES)
    assert f"{installed.work}/bundles" in printed
    assert "'toy', 'dermoscopy'" in printed


VERDICT = """
from pathlib import Path
from csp_engine import NeuronRef
from csp_engine.reviews import Place, open_reviews
neuron = NeuronRef("f" * 64, "second@mean", 1)
opened = open_reviews(Place(file=Path("bundles/reviews.sqlite")))
opened.add(neuron, reviewer="ada", verdict="valid", note="")
print([each.reviewer for each in opened.history(neuron)])
"""
LAYERS = """
from pathlib import Path
from csp_engine.jobs.process import ask_for_layers
model = "python:toy_parts:network"
print(ask_for_layers(model, Path.cwd(), preprocessing="pixels.json"))
"""


def test_verdicts_and_processes_of_builds_find_their_files(installed):
    assert "'ada'" in installed.run(VERDICT)
    assert "second" in installed.run(LAYERS)


def talk(port: int, host: str) -> int:
    """How the server answers a browser that wants a page's connection and calls it so."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    wanted = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    key = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    connection.request("GET", "/_stcore/stream", headers={"Host": host, **wanted, **key})
    status = connection.getresponse().status
    connection.close()
    return status


def test_the_server_answers(installed, built):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(installed.python.with_name("csp")), "serve", "--port", str(port)]
    with (installed.work / "server.log").open("wb") as log:
        server = subprocess.Popen(
            command, cwd=installed.work, env=installed.environment, stdout=log, stderr=log
        )
    url = f"http://127.0.0.1:{port}"

    def answer(path: str) -> bytes:
        with urllib.request.urlopen(url + path, timeout=30) as response:
            return response.read()

    try:
        end = time.monotonic() + 60
        while True:
            try:
                assert answer("/csp/ready") == b'{"ready":true,"problems":{}}'
                break
            except OSError:
                assert time.monotonic() < end, (installed.work / "server.log").read_text("utf-8")
                time.sleep(0.2)
        assert b"<html" in answer("/?bundle=toy")
        assert b"probe set" in answer("/csp/docs/glossary.md")
        digest = installed.run(
            "from csp_engine import Bundle; print(Bundle.open('bundles/toy.csp').digest[:16])"
        )
        body = answer(f"/csp/thumbs/toy/{digest.strip()}/0-1")
        assert body[12:16] == b"RIFF", body[:40]
        # Our settings are inside, and found: pages are for our own names only.
        assert (talk(port, f"127.0.0.1:{port}"), talk(port, "elsewhere.example")) == (101, 403)
    finally:
        server.terminate()
        server.wait(20)
