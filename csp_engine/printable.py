"""Text from anywhere, made fit for a terminal and a log.

A terminal obeys what it is sent: escape sequences recolour, retitle or move, a carriage return
writes over what stands in the line, and marks of direction turn letters around. Names, notices and
errors come from files, so all that is printed passes here.
"""

from __future__ import annotations

import logging
import re
import traceback
from typing import Any

_SEQUENCES = re.compile(r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|\x1b[ -/]*[0-~]")
"""What a sequence carries (a title, the target of a link) stays, so that it can be seen."""
_BREAKS = re.compile(r"[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]+")
_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u2028\u2029\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
_HALVES = re.compile("[\ud800-\udfff]")
_ESCAPED = re.compile(_UNPRINTABLE.pattern.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))


def encodable(text: str) -> str:
    """A text with a sign of replacement for what has no place in UTF-8.

    File systems and JSON give such text: bytes of a name that is in another encoding, half a pair.
    """
    return text if text.isascii() else _HALVES.sub("\ufffd", text)


def one_line(text: str) -> str:
    """A text without control characters, escape sequences and marks of direction, in one line."""
    if text.isascii() and text.isprintable():
        return text
    return _UNPRINTABLE.sub("", _BREAKS.sub(" ", _SEQUENCES.sub("", text)))


def lines(text: str) -> str:
    """The same of each line of a text."""
    return "\n".join(one_line(line) for line in text.split("\n"))


def escaped(json_text: str) -> str:
    """JSON of the same value, with what a terminal would obey written as its number."""
    return _ESCAPED.sub(_numbered, json_text)


def _numbered(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


class _Record(logging.LogRecord):
    """A line of a log, whoever formats it."""

    def getMessage(self) -> str:
        return one_line(super().getMessage())


def guard_logs() -> None:
    """Have every log of the process pass here, tracebacks included."""

    def record(*given: Any, **more: Any) -> logging.LogRecord:
        made = _Record(*given, **more)
        if made.exc_info and made.exc_info[0] is not None:
            made.exc_text = lines("".join(traceback.format_exception(*made.exc_info)).rstrip())
        return made

    logging.setLogRecordFactory(record)


def shown_spec(spec: str) -> str:
    """What names a model or an encoder, for people elsewhere: of a folder its name alone."""
    kind, slash, rest = spec.partition("/")
    if not slash or kind.startswith("python:"):
        return spec
    path = rest.replace("\\", "/").rstrip("/")
    is_folder = (
        kind == "precomputed"
        or path.startswith(("/", "~", "./", "../"))
        or re.match(r"[A-Za-z]:/", path) is not None
        or path.count("/") > 1
    )
    return f"{kind}/{path.rpartition('/')[2]}" if is_folder else spec
