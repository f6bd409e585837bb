"""docs/architecture.md draws the rooms that exist, in the order that the import contract keeps."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from pages.ui.page_table import PAGES

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


def test_a_page_has_a_row_and_pages_hold_nothing_else():
    """The import contract takes any module beside the pages for a page."""
    held = {path.name for path in (ROOT / "pages").iterdir()} - {"__init__.py", "__pycache__"}
    assert held == {"ui", *(page.file.name for page in PAGES)}


def imports() -> Iterator[tuple[str, str]]:
    """Every module of the product, and what it imports, inside functions too."""
    for path in (
        ROOT / "app.py",
        *(ROOT / "csp_engine").rglob("*.py"),
        *(ROOT / "pages").rglob("*.py"),
    ):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                yield from ((str(path.relative_to(ROOT)), alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield str(path.relative_to(ROOT)), node.module


def test_the_product_imports_nothing_that_lies_beside_it():
    """A wheel does not hold it, and the import contract does not look there."""
    beside = {"app", *(path.name for path in ROOT.iterdir() if path.is_dir())}
    beside -= {"csp_engine", "pages"}
    assert {"tests", "benchmarks", "studies", "tools"} <= beside
    assert [(file, name) for file, name in imports() if name.split(".")[0] in beside] == []


BY_NAME = {
    "csp_engine/__init__.py": "names of the package are found when they are asked for",
    "csp_engine/cli/selftest/__init__.py": "collects the cases of its own folder",
    "csp_engine/encoders/__init__.py": "an encoder that the user names",
    "csp_engine/encoders/making.py": "diffusers is an extra",
    "csp_engine/exchange/__init__.py": "names of the package are found when they are asked for",
    "csp_engine/jobs/on_ray.py": "Ray is an extra",
    "csp_engine/moved.py": "former names",
    "csp_engine/networks/models.py": "a model that the user names",
    "csp_engine/pipeline/__init__.py": "names of the package are found when they are asked for",
    "csp_engine/registry.py": "collects the modules of a room",
    "pages/ui/shell/reviewer.py": "loads a library ahead of the first verdict",
}
"""Modules that import others by a name worked out, which no import contract sees, and why."""


def test_only_a_few_modules_import_by_a_name_worked_out():
    found = {
        str(path.relative_to(ROOT))
        for top in ("csp_engine", "pages")
        for path in (ROOT / top).rglob("*.py")
        if re.search(r"\b(import_module|__import__)\b", path.read_text("utf-8"))
    }
    assert found == set(BY_NAME)


OWN = {"layer": "table", "melanoma": "case"}
"""Rooms of what pages draw that are not called as their page."""
SHARED = {"shell", "parts", "table", "page_table"}
BORROWED = {"overview": {"search"}, "map": {"search"}}
"""Pages that draw the search box too."""


@pytest.mark.parametrize("page", [page.name for page in PAGES])
def test_what_one_page_draws_is_drawn_by_no_other(page):
    """The import contract holds the rooms below the pages, and lets a page take any of them."""
    drawn = {
        name.split(".")[2]
        for file, name in imports()
        if file == f"pages/{page}.py" and name.startswith("pages.ui.")
    }
    assert drawn <= SHARED | {OWN.get(page, page)} | BORROWED.get(page, set())
