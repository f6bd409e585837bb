"""docs/architecture.md draws the rooms that exist, in the order that the import contract keeps."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "architecture.md").read_text("utf-8")
MOST_MODULES = 12
CROWDED: dict[str, str] = {}
"""Folders that may hold more than ``MOST_MODULES``, each with the reason."""


def folders() -> list[Path]:
    """Every folder of the engine and the pages that holds code or what code draws with."""
    return sorted(
        {
            path.parent
            for top in ("csp_engine", "pages")
            for kind in ("*.py", "*.js", "*.html")
            for path in (ROOT / top).rglob(kind)
            if "__pycache__" not in path.parts
        }
    )


def engine_layers() -> list[list[str]]:
    """The rooms of each layer of the contract over the engine, from the top down."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    (contract,) = (
        contract
        for contract in settings["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers" and "csp_engine" in contract.get("containers", [])
    )
    return [re.findall(r"\w+", layer) for layer in contract["layers"]]


def drawn_layers() -> list[list[str]]:
    """The rooms of each line of the picture."""
    (picture,) = re.findall(r"```text\n(.*?)```", TEXT, re.DOTALL)
    rooms = [re.split(r"\s{2,}", line.strip())[0] for line in picture.splitlines()]
    return [re.findall(r"\w+", line) for line in rooms]


def test_the_picture_is_the_import_contract():
    assert drawn_layers() == engine_layers()


@pytest.mark.parametrize("folder", folders(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_folder_is_described(folder):
    name = str(folder.relative_to(ROOT))
    if name.endswith("/templates"):
        return  # what its room fills in
    short = name.removeprefix("csp_engine/")
    assert f"`{short}/`" in TEXT or f"`{folder.name}/`" in TEXT, f"{name} is in no table"


def test_every_file_that_is_named_exists():
    named = re.findall(r"`((?:csp_engine|pages|tests)/[\w/]+\.\w+)`", TEXT)
    assert named
    assert [name for name in named if "NAME" not in name and not (ROOT / name).is_file()] == []


def test_every_folder_that_is_described_exists():
    known = {f"{path.relative_to(ROOT)}/" for path in folders()}
    known |= {name.removeprefix("csp_engine/") for name in known} | {"csp_engine/"}
    known |= {f"{path.name}/" for path in (*folders(), *ROOT.iterdir())}
    named = re.findall(r"`([\w/]+/)`", TEXT)
    assert [name for name in named if name not in known and not (ROOT / name).is_dir()] == []


@pytest.mark.parametrize("folder", folders(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_folder_is_crowded(folder):
    modules = sorted(path.name for path in folder.glob("*.py") if path.name != "__init__.py")
    is_crowded = len(modules) > MOST_MODULES
    assert is_crowded == (str(folder.relative_to(ROOT)) in CROWDED), modules
