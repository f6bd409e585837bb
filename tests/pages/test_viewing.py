"""An installation without the extra ``networks``: what shows bundles works, the rest says why not.

The packages are hidden from the processes that a test starts, not taken away.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from csp_engine import errors
from csp_engine.demo.shipping.opening import BUNDLE, SHIPPED
from tests.pages.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
WANTED = PROJECT["optional-dependencies"]["networks"]
EXTRA = {canonicalize_name(Requirement(line).name) for line in WANTED}
PACKAGES = sorted(
    package
    for package, owners in packages_distributions().items()
    if {canonicalize_name(owner) for owner in owners} & EXTRA and re.fullmatch(r"[a-z_]+", package)
)
HIDE = f"""
import sys
from importlib.machinery import PathFinder

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] not in {PACKAGES}:
            return PathFinder.find_spec(name, path, target)

sys.meta_path = [Without if each is PathFinder else each for each in sys.meta_path]
"""
SENTENCE = errors.NO_NETWORKS.format("torch")
DEMO = SHIPPED / BUNDLE


@pytest.fixture(scope="module")
def hidden(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process that cannot import those packages, nor what it starts."""
    folder = tmp_path_factory.mktemp("hidden")
    (folder / "sitecustomize.py").write_text(HIDE, "utf-8")
    path = os.pathsep.join([str(folder), str(ROOT)])
    return {**os.environ, "PYTHONPATH": path}


def run(hidden: dict[str, str], code: str, folder: Path) -> object:
    """What lines of Python give as ``said``."""
    code += "\nimport json; print(json.dumps(said))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=hidden, cwd=folder, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout.splitlines()[-1])


COMMANDS = """
import contextlib, io
from csp_engine.cli import main
said = []
for line in {lines}:
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        try:
            main(line)
        except SystemExit as stop:
            said.append([stop.code, out.getvalue(), error.getvalue()])
"""


def test_the_words_of_the_sentence_name_what_the_extra_brings():
    assert {"torch", "transformers", "open_clip", "timm"} <= set(PACKAGES)
    assert set(PACKAGES) - errors.OF_NETWORKS <= {"functorch", "open_clip_train", "torchgen"}
    assert not (errors.OF_NETWORKS - set(PACKAGES))
    assert "csp-neuron-browser[networks]" in SENTENCE
    assert errors.no_networks(ModuleNotFoundError("no", name="torch.nn")) is not None
    assert errors.no_networks(ModuleNotFoundError("no", name="torchless")) is None


@pytest.mark.slow
def test_commands_that_show_work(hidden, small_bundle, tmp_path):
    small = str(small_bundle)
    lines = [
        ["info", small],
        ["verify", small],
        ["search", small, "red"],
        ["export", small, "labels.csv"],
        ["export", small, "pages", "--format", "html"],
        ["report", str(DEMO), "--output", "report", "--formats", "json"],
        ["doctor"],
    ]
    said = run(hidden, COMMANDS.format(lines=lines), tmp_path)
    assert [code for code, _, _ in said] == [0] * len(lines), said
    assert (tmp_path / "labels.csv").stat().st_size > 100
    assert (tmp_path / "pages" / "index.html").is_file()
    assert (tmp_path / "report" / "report.json").is_file()
    assert errors.GET_NETWORKS in said[-1][1]


@pytest.mark.slow
def test_commands_that_run_networks_say_what_to_install(hidden, small_bundle, tmp_path):
    (tmp_path / "words.txt").write_text("red\n", "utf-8")
    encoder = "open_clip/ViT-B-32/laion2b_s34b_b79k"
    build = ["--model", "torchvision/resnet18", "--layer", "layer4", "--encoder", encoder]
    lines = [
        ["build", str(ROOT / "docs" / "img"), *build, "--out", "mine.csp"],
        ["layers", "torchvision/resnet18"],
        ["search", str(DEMO), "violet elephant"],
        ["label", str(small_bundle), "--gamma", "0.5"],
    ]
    said = run(hidden, COMMANDS.format(lines=lines), tmp_path)
    assert [(code, error.splitlines()) for code, _, error in said] == [
        (2, [f"csp: {SENTENCE}"])
    ] * len(lines)
    assert not (tmp_path / "mine.csp").exists()


@pytest.mark.slow
def test_every_page_opens_and_a_free_search_says_what_is_missing(hidden, small_bundle, tmp_path):
    pages = sorted(path.stem for path in (ROOT / "pages").glob("*.py") if path.stem != "__init__")
    code = f"""
import app, csp_engine.http.api.app
from streamlit.testing.v1 import AppTest
said = {{}}
def show(page, **params):
    at = AppTest.from_file({str(ROOT / "pages" / "ui" / "main.py")!r}, default_timeout=60)
    for key, value in params.items():
        at.query_params[key] = value
    at.switch_page(f"{ROOT / "pages"}/{{page}}.py").run()
    assert not at.exception, (page, at.exception)
    bodies = (element.proto.body for element in at.get("html"))
    return "".join(body for body in bodies if "csp-problem" in body and "<style" not in body)
for page in {pages}:
    said[page] = show(page, bundle="small")
said["shipped"] = show("audit", bundle="dermoscopy")
said["free"] = show("search", bundle="dermoscopy", q="violet elephant")
"""
    shown = os.pathsep.join([str(small_bundle), str(DEMO)])
    free_to_all = {"CSP_TOKEN": "", "CSP_READ_ONLY": "0", "CSP_BUNDLES": shown}
    said = run({**hidden, **free_to_all}, code, tmp_path)
    free, build = said.pop("free"), said.pop("build")
    told = SENTENCE.replace("'", "&#x27;")
    assert told in free
    assert told in build
    assert set(said.values()) == {""}
