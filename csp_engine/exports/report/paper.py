"""A report as PDF, set by typst; texts are data there too, never markup."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

from csp_engine.errors import MissingModelError
from csp_engine.exports.report.document import Document, Pictures, picture_sha256
from csp_engine.exports.report.page import TEMPLATES
from csp_engine.printable import one_line

_DRAWN = re.compile(
    "[^\u0020-\u052f\u0590-\u05ff\u0600-\u06ff\u1e00-\u1fff\u2000-\u206f\u2070-\u209f"
    "\u20a0-\u20bf\u2100-\u214f\u2190-\u22ff\u25a0-\u25ff\ufb00-\ufb06]"
)
"""What the fonts that come with typst lack."""


def as_pdf(document: Document) -> bytes:
    """The PDF, without its seal; the same document gives the same bytes on every machine.

    It uses the fonts that come with typst and no others. A character that they lack is written as
    its number, ``U+4F60``.

    Raises:
        MissingModelError: if the package typst is not installed.
    """
    try:
        import typst
    except ImportError:
        raise MissingModelError(
            "PDF needs the package typst; install it with: pip install typst, or leave pdf out of "
            "--formats."
        ) from None
    said = _drawable(document.as_json())
    with tempfile.TemporaryDirectory(prefix="csp-report-") as name:
        root = Path(name)
        for block in document.blocks():
            if isinstance(block, Pictures):
                for strip in block.strips:
                    for picture in strip.pictures:
                        path = root / f"{picture_sha256(picture)}.webp"
                        path.write_bytes(picture.content)
        (root / "report.json").write_text(json.dumps(said), "utf-8")
        (root / "main.typ").write_bytes((TEMPLATES / "report.typ").read_bytes())
        fonts = typst.Fonts(include_system_fonts=False)
        compiler = typst.Compiler(
            input=root / "main.typ", root=root, font_paths=fonts, ignore_system_fonts=True
        )
        made = compiler.compile(format="pdf", timestamp=0)
    assert isinstance(made, bytes)
    return made.rstrip(b"\n")


def _drawable(value: Any) -> Any:
    if isinstance(value, str):
        text = one_line(value.encode("utf-8", "replace").decode("utf-8"))
        return _DRAWN.sub(lambda found: f"[U+{ord(found[0]):04X}]", text)
    if isinstance(value, list):
        return [_drawable(each) for each in value]
    if isinstance(value, dict):
        return {name: _drawable(each) for name, each in value.items()}
    return value
