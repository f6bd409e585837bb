"""A concept set of one's own: written as the file it would be, and carried by a link as text."""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from collections.abc import Mapping, Sequence

from csp_engine.errors import InputError
from csp_engine.words.concepts import (
    MOST_BYTES,
    SHIPPED,
    ConceptSet,
    Tag,
    parse_concept_set,
    read_concept_set,
)

USUAL = "melanoma"
"""The set that is taken where nobody names one."""
LONGEST_LINK = 44_000
"""Characters of a set in a link: what the largest file takes, were nothing of it to shrink."""
CHOSEN = "chosen by the reader"
"""The source of what somebody chose on a page."""
_ESCAPED = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f",
            "\r": "\\r"}  # fmt: skip


def written(title: str, outputs: Sequence[str], names: Mapping[Tag, Sequence[str]]) -> bytes:
    """The file of a concept set with one group for each tag and one text for each concept.

    Args:
        title: what the set is called.
        outputs: names of the output that it is for.
        names: the concepts of each tag.

    Raises:
        InputError: as ``parse_concept_set``, which reads what was written.
    """
    lines = [f"title = {_quoted(title)}", f"outputs = [{', '.join(map(_quoted, outputs))}]"]
    tags: tuple[Tag, ...] = ("valid", "spurious", "neutral")
    lines += [f"{tag} = []" for tag in tags if not names.get(tag)]
    for tag in tags:
        if names.get(tag):
            concepts = ", ".join(f"[{_quoted(name)}]" for name in names[tag])
            lines += ["", f"[[{tag}]]", f"name = {_quoted(tag)}", f"source = {_quoted(CHOSEN)}"]
            lines += [f"concepts = [{concepts}]"]
    content = ("\n".join(lines) + "\n").encode("utf-8", "surrogatepass")
    parse_concept_set(content, "The list")
    return content


def as_link(content: bytes) -> str:
    """A set as a link carries it: the name of a shipped one, else its compressed file."""
    for name, path in SHIPPED.items():
        if path.read_bytes() == content:
            return name
    return base64.urlsafe_b64encode(zlib.compress(content, 9)).decode().rstrip("=")


def from_link(text: str) -> ConceptSet:
    """The set that a link carries; the usual one where it carries none.

    Raises:
        InputError: if the link was cut off or altered, or as ``parse_concept_set``.
    """
    name = text or USUAL
    if name in SHIPPED:
        return read_concept_set(SHIPPED[name])
    return parse_concept_set(_content(text), "The concept set of this link")


def _content(text: str) -> bytes:
    try:
        if len(text) > LONGEST_LINK or not re.fullmatch(r"[A-Za-z0-9_-]+", text):
            raise ValueError
        packed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        opened = zlib.decompressobj()
        content = opened.decompress(packed, MOST_BYTES + 1)
        if not opened.eof and len(content) <= MOST_BYTES:
            raise ValueError
    except (ValueError, binascii.Error, zlib.error):
        raise InputError(
            "The concept set of this link was cut off or altered; choose the concepts again, or "
            "upload their file."
        ) from None
    return content


def _quoted(text: str) -> str:
    """A basic string of TOML."""
    return '"' + "".join(_ESCAPED.get(c) or _numbered(c) for c in text) + '"'


def _numbered(character: str) -> str:
    is_control = ord(character) < 0x20 or ord(character) == 0x7F
    return f"\\u{ord(character):04x}" if is_control else character
