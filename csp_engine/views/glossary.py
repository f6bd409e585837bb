"""What every term means: docs/glossary.md as data."""

from __future__ import annotations

import re
from functools import cache

from csp_engine.files import ROOT
from csp_engine.views.address import pick

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


def find(asked: str) -> tuple[list[str], str | None]:
    """The term asked for; else those that hold it in name or meaning; else the nearest.

    Returns:
        Terms, at least one, and a note where none of them has to do with what was asked.
    """
    known = meanings()
    sought = " ".join(asked.split()).casefold()
    exact = [term for term in known if term.casefold() == sought]
    if exact:
        return exact, None
    naming = [term for term in known if sought in term.casefold()]
    telling = [term for term in known if sought in as_text(known[term]).casefold()]
    if sought and (naming or telling):
        return [term for term in known if term in naming or term in telling], None
    nearest, note = pick("word", asked, list(known))
    return [nearest], note


def as_text(meaning: str) -> str:
    """A meaning without the marks around what is typed."""
    return meaning.replace("`", "")
