"""What every term means: docs/glossary.md as data."""

from __future__ import annotations

import re
from functools import cache

from csp_engine.files import ROOT

PATH = ROOT / "docs" / "glossary.md"
_ENTRY = re.compile(r"^- \*\*(?P<term>[^*]+)\*\*: (?P<meaning>.+)$", re.MULTILINE)


@cache
def meanings() -> dict[str, str]:
    """Every term with its one sentence; what is typed stands in backquotes."""
    found = _ENTRY.finditer(PATH.read_text("utf-8"))
    return {each["term"]: each["meaning"] for each in found}


@cache
def chapters() -> dict[str, tuple[str, ...]]:
    """The headings of the glossary, each with the terms below it."""
    parts = re.split(r"^## (.+)$", PATH.read_text("utf-8"), flags=re.MULTILINE)[1:]
    return {
        heading: tuple(each["term"] for each in _ENTRY.finditer(body))
        for heading, body in zip(parts[::2], parts[1::2], strict=True)
    }


def as_text(meaning: str) -> str:
    """A meaning without the marks around what is typed."""
    return meaning.replace("`", "")
