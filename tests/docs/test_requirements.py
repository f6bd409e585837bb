"""requirements*.txt fit pyproject.toml, name no machine, and cover what the code imports."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
VIEW = PROJECT["project"]["dependencies"]
RUNTIME = [*VIEW, *PROJECT["project"]["optional-dependencies"]["networks"]]
DEV = PROJECT["dependency-groups"]["dev"]


def pins(name: str) -> dict[str, str]:
    """Package to version, for every line of a compiled file."""
    found = {}
    for line in (ROOT / name).read_text("utf-8").splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            requirement = Requirement(line)
            (specifier,) = requirement.specifier
            assert specifier.operator == "==", line
            found[canonicalize_name(requirement.name)] = specifier.version
    return found


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("requirements.txt", RUNTIME),
        ("requirements-view.txt", VIEW),
        ("requirements-dev.txt", DEV),
    ],
)
def test_every_direct_dependency_is_pinned_to_a_version_that_fits(name, wanted):
    pinned = pins(name)
    for text in wanted:
        requirement = Requirement(text)
        version = pinned.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} is not in {name}; run: make requirements"
        assert requirement.specifier.contains(version), f"{text}: {version}; run: make requirements"


def test_tools_and_runtime_agree_on_versions():
    runtime, dev = pins("requirements.txt"), pins("requirements-dev.txt")
    assert pins("requirements-view.txt").items() < runtime.items()
    assert {name: dev[name] for name in dev.keys() & runtime.keys()} == {
        name: runtime[name] for name in dev.keys() & runtime.keys()
    }


@pytest.mark.parametrize(
    "name", ["requirements.txt", "requirements-view.txt", "requirements-dev.txt"]
)
def test_no_host_and_no_path_of_a_machine_is_in_the_files(name):
    text = (ROOT / name).read_text("utf-8")
    assert (
        re.findall(r"https?:|file:|^\s*-|\s@\s|[\w.]+\.(?:net|org|com|io)\b|\s/\w", text, re.M)
        == []
    )


def imported(path: Path) -> set[str]:
    """Top-level packages that a file imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names.add(node.module.partition(".")[0])
    return names


def test_runtime_code_imports_only_what_the_project_says_it_needs():
    """Not what happens to be there because a dependency, or a test tool, wants it."""
    files = [ROOT / "app.py", *(ROOT / "csp_engine").rglob("*.py"), *(ROOT / "pages").rglob("*.py")]
    extras = PROJECT["project"].get("optional-dependencies", {})
    wanted = [*RUNTIME, *(text for group in extras.values() for text in group)]
    declared = {canonicalize_name(Requirement(text).name) for text in wanted}
    owners = packages_distributions()
    undeclared = {}
    for path in files:
        for name in imported(path) - {"csp_engine", "pages", *sys.stdlib_module_names}:
            distributions = {canonicalize_name(d) for d in owners.get(name, [])}
            if not distributions & declared:
                undeclared[f"{path.relative_to(ROOT)}: {name}"] = sorted(distributions)
    assert undeclared == {}
