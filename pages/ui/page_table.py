"""The pages, in the order of the navigation: one row each, and those of extensions after them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from csp_engine.errors import CspError, InputError
from csp_engine.registry import extension_folders, require_declared
from csp_engine.views.case.audit import layers_of, melanoma
from pages.ui.shell import store
from pages.ui.shell.access import is_read_only

FOLDER = Path(__file__).resolve().parents[1]


def always() -> bool:
    """For pages that everyone sees."""
    return True


@dataclass(frozen=True, slots=True)
class PageRow:
    """One page.

    ``name`` is the end of its address, and that of its file; ``is_listed`` says whether the
    navigation shows it, which may differ from server to server.
    """

    name: str
    title: str
    is_default: bool = False
    is_listed: Callable[[], bool] = always
    folder: Path = FOLDER

    @property
    def file(self) -> Path:
        """The script that draws it."""
        return self.folder / f"{self.name}.py"


def has_case() -> bool:
    """Whether the bundle that is looked at holds a classifier of the melanoma case."""
    try:
        known = store.known_bundles()
        name = st.query_params.get("bundle") or next(iter(known), "")
        if name not in known:
            return False
        bundle, concepts = store.open_bundle(name), melanoma(store.MEMO)
        return store.MEMO.once(
            ("has case", bundle.digest),
            lambda: any(layers_of(bundle, concepts, model) for model in bundle.model_names),
        )
    except CspError:
        return False  # the page itself says what is wrong


PAGES = (
    PageRow("overview", "Overview", is_default=True),
    PageRow("search", "Search"),
    PageRow("layer", "Table"),
    PageRow("map", "Map"),
    PageRow("compare", "Compare"),
    PageRow("labels", "Labels"),
    PageRow("neuron", "Neuron"),
    PageRow("audit", "Audit"),
    PageRow("melanoma", "Melanoma", is_listed=has_case),
    PageRow("glossary", "Words"),
    PageRow("build", "Build", is_listed=lambda: not is_read_only()),
)


def _require_text(file: Path) -> None:
    """Refuse what is no text: no line of it could be blamed.

    Raises:
        InputError: naming the file.
    """
    try:
        is_text = "\0" not in file.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        is_text = False
    if not is_text:
        raise InputError(f"{file} cannot be read as text; save it in UTF-8.")


def every_page() -> dict[str, PageRow]:
    """All pages by name. A page of an extension is called as its file: ``of_mine.py``, "Of mine".

    Raises:
        InputError: if an extension's page has the name of another page, or none for an address,
            or is no text.
    """
    rows = {row.name: row for row in PAGES}
    for folder in extension_folders("pages"):
        for file in sorted(folder.glob("[!_]*.py")):
            require_declared("page", file.stem)
            if file.stem in rows:
                raise InputError(f"{file} has the name of {rows[file.stem].file}; rename it.")
            _require_text(file)
            title = file.stem.replace("_", " ").capitalize()
            rows[file.stem] = PageRow(file.stem, title, folder=folder)
    return rows
