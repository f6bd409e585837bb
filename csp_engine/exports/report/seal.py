"""The seal at the end of every file of a report: hashes by which any altered byte is noticed.

It stands where readers of the format pass over it: in a comment of HTML and PDF, in the last member
of JSON, in the last row of CSV. What is hashed is every byte before it.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from csp_engine.cells import csv_text
from csp_engine.errors import InputError
from csp_engine.exports.report import keys
from csp_engine.hashing import canonical_json

COLUMNS = (
    "section", "evidence", "block", "row", "column", "text", "value", "low", "high", "n", "file",
    "sha256",
)  # fmt: skip
"""Of the CSV, whose last row is the seal."""
MARKS = {"html": b"\n<!-- seal ", "pdf": b"\n%seal ", "json": b',\n"seal": ', "csv": b"\nseal,"}
"""What begins the seal, by format."""
_HEX64, _HEX128 = re.compile("[0-9a-f]{64}"), re.compile("[0-9a-f]{128}")


@dataclass(frozen=True, slots=True)
class Seal:
    """What a seal says.

    ``sha256`` is that of all bytes before it; ``document`` that of all that the report says, the
    same in every format; ``own`` that of the seal. ``key`` and ``signature`` are empty where nobody
    signed. ``concepts`` is the concept set as a link carries it, and ``concepts_sha256`` that of
    its file; reports of earlier versions have neither, for they knew only one set.
    """

    sha256: str
    document: str
    bundle: str
    engine: str
    model: str
    method: str
    headings: str
    until: int
    key: str = ""
    own: str = ""
    signature: str = ""
    concepts: str = ""
    concepts_sha256: str = ""

    @property
    def said(self) -> dict[str, Any]:
        """What is written: all members, without the concept set where there is none."""
        held = asdict(self)
        if not self.concepts_sha256:
            del held["concepts"], held["concepts_sha256"]
        return held

    @property
    def message(self) -> bytes:
        """What is hashed and signed: all of it but the hash and the signature."""
        said = self.said
        del said["own"], said["signature"]
        return b"neuron browser report\n" + canonical_json(said).encode()

    @property
    def is_own(self) -> bool:
        """Whether the seal is as it was written."""
        return hashlib.sha256(self.message).hexdigest() == self.own


def sealed(content: bytes, file_format: str, seal: Seal, key: Path | None = None) -> bytes:
    """The bytes of a file with its seal.

    Args:
        content: all before the seal.
        file_format: a key of ``MARKS``.
        seal: what is known but the hash of the content.
        key: a private key to sign with.

    Raises:
        InputError: if the key is none.
        MissingModelError: if the package that signs is not installed.
    """
    seal = replace(seal, sha256=hashlib.sha256(content).hexdigest())
    if key is not None:
        seal = replace(seal, key=keys.sign(b"", key)[0])
        seal = replace(seal, signature=keys.sign(seal.message, key)[1])
    seal = replace(seal, own=hashlib.sha256(seal.message).hexdigest())
    return content + _written(seal, file_format)


def split(data: bytes, file_format: str) -> tuple[bytes, Seal]:
    """What comes before the seal, and the seal, which must be written as ``sealed`` writes it.

    Raises:
        InputError: if there is none, or it was altered.
    """
    at = data.rfind(MARKS[file_format])
    if at < 0:
        raise InputError("There is no seal at its end: it was cut off or altered, or never there.")
    content, written = data[:at], data[at:]
    found = _READERS[file_format](written)
    seal = None if found is None else _seal(found)
    if seal is None or not seal.is_own or _written(seal, file_format) != written:
        raise InputError("The seal at its end was altered.")
    return content, seal


def _written(seal: Seal, file_format: str) -> bytes:
    # No name in it may end the comment that it stands in.
    text = json.dumps(seal.said).replace("<", "\\u003c").replace(">", "\\u003e")
    if file_format == "html":
        return MARKS["html"] + text.encode() + b" -->\n"
    if file_format == "pdf":
        return MARKS["pdf"] + text.encode() + b"\n"
    if file_format == "json":
        return MARKS["json"] + text.encode() + b"}\n"
    row = dict.fromkeys(COLUMNS, "") | {"section": "seal", "text": text, "sha256": seal.sha256}
    table = csv_text(pd.DataFrame([row], columns=pd.Index(COLUMNS), dtype=object))
    return b"\n" + table.partition("\n")[2].encode()


def _of_csv(written: bytes) -> str | None:
    text = written[1:].decode("utf-8", "replace")
    try:
        rows = list(csv.reader(io.StringIO(text, newline="")))
    except csv.Error:
        return None
    return rows[0][COLUMNS.index("text")] if rows and len(rows[0]) == len(COLUMNS) else None


_READERS: dict[str, Callable[[bytes], str | None]] = {
    "html": lambda w: w[len(MARKS["html"]) : -len(b" -->\n")].decode("utf-8", "replace"),
    "pdf": lambda w: w[len(MARKS["pdf"]) : -1].decode("utf-8", "replace"),
    "json": lambda w: w[len(MARKS["json"]) : -len(b"}\n")].decode("utf-8", "replace"),
    "csv": _of_csv,
}


def _seal(text: str) -> Seal | None:
    """A seal from its JSON; None where a member is missing, of another type, or no hash."""
    try:
        held = json.loads(text)
    except (ValueError, RecursionError):
        return None
    names = list(Seal.__dataclass_fields__)
    if not isinstance(held, dict) or list(held) not in (names, names[:-2]):
        return None
    if not all(isinstance(held[n], int if n == "until" else str) for n in held):
        return None
    hashes = [held["sha256"], held["document"], held["bundle"], held["own"]]
    hashes += [held[n] for n in names[-1:] if n in held]
    is_sound = all(map(_HEX64.fullmatch, hashes)) and isinstance(held["until"], int)
    if held["key"] or held["signature"]:
        is_sound &= bool(_HEX64.fullmatch(held["key"]) and _HEX128.fullmatch(held["signature"]))
    return Seal(**held) if is_sound else None
