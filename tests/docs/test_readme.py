"""What the README tells a newcomer to do works."""

from __future__ import annotations

import os
import re
import subprocess

import numpy as np
import pandas as pd
import pytest

from csp_engine.bundle import Bundle
from csp_engine.cli import main
from csp_engine.pipeline import build
from tests.worlds import toys
from tools import cli_reference

ROOT = cli_reference.ROOT
README = (ROOT / "README.md").read_text("utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


@pytest.fixture(scope="module")
def my_bundle(tmp_path_factory):
    """The toy world under the name that the README uses."""
    folder = tmp_path_factory.mktemp("readme")
    build(toys.request(folder, folder / "my.csp"))
    return folder / "my.csp"


def test_the_set_up_commands_are_recipes_that_install_first():
    named = set(re.findall(r"^make ([a-z-]+)", "\n".join(blocks("bash")), re.M))
    assert named == {"run", "view", "test"}
    # Under `make test` this make would be a sub-make, and speak of entering directories.
    outside = {name: value for name, value in os.environ.items() if "MAKE" not in name}
    full, view = "tools/install.py", "install --disable-pip-version-check -r requirements-view.txt"
    for recipe, installs, last in (
        ("run", full, ".venv/bin/csp demo"),
        ("view", view, ".venv/bin/csp demo"),
        ("test", full, "pytest"),
    ):
        plan = subprocess.run(
            ["make", "--always-make", "--dry-run", recipe],
            cwd=ROOT,
            env=outside,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert installs in plan
        assert (full in plan) is (installs == full)
        assert last in plan.strip().splitlines()[-1]


def test_the_python_lines_run(my_bundle, monkeypatch, capsys):
    (code,) = blocks("python")
    monkeypatch.chdir(my_bundle.parent)
    exec(compile(code, "README.md", "exec"), {})
    scores = Bundle.open(my_bundle).scores("small", "first@mean", "csp")
    assert str(scores.score_uk[7, 0]) in capsys.readouterr().out


def own_arrays() -> dict:
    """What the page supposes the reader has: activations, concepts and groups of 200 images."""
    rng = np.random.default_rng(0)
    shows_nc = rng.random((200, 2)) < 0.4
    activation_un = rng.normal(size=(12, 200)).astype(np.float32)
    activation_un[0] += 5 * shows_nc[:, 0]
    return {
        "activation_un": activation_un,
        "shows_nc": shows_nc,
        "lesion_ids": [f"lesion {i // 2}" for i in range(200)],
    }


def test_the_python_page_runs_from_build_to_import(tmp_path, monkeypatch, capsys):
    code = "\n".join(blocks("python", (ROOT / "docs" / "python.md").read_text("utf-8")))
    toys.draw_images(tmp_path / "photos")
    toys.words(tmp_path)
    # The real model and encoder need a download; the toy ones take the same road.
    for real, toy in (
        (
            '"torchvision/resnet50"',
            '"python:tests.worlds.toys:network", preprocessing=PREPROCESSING',
        ),
        ("layer4@mean", "second@mean"),
        ("open_clip/ViT-B-32/laion2b_s34b_b79k", "python:tests.worlds.toys:ColourEncoder"),
        ('["general"]', '["words.txt"]'),
        ('csp.PRESETS["default"]', "SMALL"),
    ):
        assert real in code
        code = code.replace(real, toy)
    monkeypatch.chdir(tmp_path)
    exec(
        compile(code, "python.md", "exec"),
        {"PREPROCESSING": toys.PREPROCESSING, "SMALL": toys.SMALL, **own_arrays()},
    )
    assert "red" in capsys.readouterr().out
    bundle = Bundle.open("my.csp")
    (model,) = bundle.model_names
    assert bundle.manifest.recipe["gamma"] == 0.5
    assert "imported-before" in bundle.methods(model, "second@mean")
    truth = bundle.truth(model, "second@mean")
    assert truth is not None
    assert truth.units["true_concept"][0] == "ruler"


@pytest.mark.parametrize("line", ["csp verify my.csp", "csp export my.csp labels.csv"])
def test_commands_on_a_bundle_run(my_bundle, monkeypatch, line):
    assert line in README
    monkeypatch.chdir(my_bundle.parent)
    with pytest.raises(SystemExit) as stop:
        main(line.split()[1:])
    assert stop.value.code == 0
    if "export" in line:
        rows = pd.read_csv("labels.csv")
        assert list(rows.columns[:4]) == ["layer", "unit", "description", "score"]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    text = page.read_text("utf-8")
    slugs = {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-")
             for h in re.findall(r"^#+ (.+)$", text, re.M)}  # fmt: skip
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        assert not path or (page.parent / path).exists(), target
        assert path or anchor in slugs, target
