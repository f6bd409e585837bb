"""A report as one page of HTML that opens from disk: nothing is loaded, nothing runs."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from csp_engine.exports.report.document import Document, kind_of
from csp_engine.printable import one_line

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).resolve().parent / "templates"


def as_html(document: Document) -> bytes:
    """The page, without its seal; the same document gives the same bytes."""
    style = (TEMPLATES / "report.css").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; "
        "form-action 'none'"
    )
    page = _environment().get_template("report.html")
    markup = page.render(
        document=document, style=style, policy=policy, kind_of=kind_of, data_uri=data_uri
    )
    return markup.encode("utf-8", "replace").rstrip(b"\n")


def data_uri(content: bytes) -> str:
    """A WebP picture within the page."""
    return f"data:image/webp;base64,{base64.b64encode(content).decode()}"


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # only where pages are made

    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_one_way,
        auto_reload=False,
    )


def _one_way(value: Any) -> Any:
    """Text that cannot turn the line around it; escaping comes after this."""
    is_markup = hasattr(value, "__html__") or value is None
    return value if is_markup else one_line(str(value))
