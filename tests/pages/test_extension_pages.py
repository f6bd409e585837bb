"""Pages that an extension brings: what cannot be added, or fails, is told on the page."""

from __future__ import annotations

import html
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

MAIN = Path(__file__).resolve().parents[2] / "pages" / "ui" / "main.py"


@pytest.fixture
def extended(tmp_path, monkeypatch):
    """Where the pages of an extension lie, on a server without bundles."""
    monkeypatch.setenv("CSP_EXTENSIONS", str(tmp_path))
    monkeypatch.setenv("CSP_BUNDLES", str(tmp_path))
    monkeypatch.setenv("CSP_REVIEWS", str(tmp_path / "reviews.sqlite"))
    (tmp_path / "pages").mkdir()
    return tmp_path / "pages"


def said(page: Path | None = None) -> str:
    """What stands in the place of problems."""
    at = AppTest.from_file(str(MAIN), default_timeout=60)
    if page is not None:
        at.switch_page(str(page))
    at.run()
    assert not at.exception, at.exception
    return " ".join(element.proto.body for element in at.get("html"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("map.py", "has the name of"),
        ("My page.py", "A page is called &#x27;My page&#x27;; a name is small letters"),
    ],
)
def test_a_page_that_cannot_be_added_is_told_on_every_page(extended, name, words):
    (extended / name).write_text("")
    assert words in said()


@pytest.mark.parametrize("code", [b"a = 1\0\n", b"a = '\xe9'\n"])
def test_a_page_that_is_no_text_is_told(extended, code):
    (extended / "mine.py").write_bytes(code)
    assert "mine.py cannot be read as text; save it in UTF-8." in said()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero)"),
        ("import no_such_module", "ModuleNotFoundError: No module named"),
        ("a = ", "SyntaxError: invalid syntax"),
        ("    a = 2", "IndentationError: unexpected indent"),
        ("", ""),
    ],
)
def test_a_page_that_fails_is_blamed_by_file_and_line(extended, text, reason):
    page = extended / "mine.py"
    page.write_text(f"a = 1\n{text}\n")
    told = html.unescape(said(page))
    assert (f"mine.py fails in line 2 ({reason}" in told) == bool(reason)
