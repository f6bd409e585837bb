"""Whether a file of a report is as it was written, and whether its bundle says the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from csp_engine.bundle import ENGINE_VERSION, Bundle
from csp_engine.errors import InputError
from csp_engine.exports.report import keys
from csp_engine.exports.report.assembling import document_of, verdicts_beside
from csp_engine.exports.report.document import Document, Options
from csp_engine.exports.report.seal import MARKS, Seal, split
from csp_engine.exports.report.writing import FORMATS
from csp_engine.files import given_bytes
from csp_engine.hashing import sha256_file
from csp_engine.words.own_concepts import USUAL

MOST_NAMED = 10
MOST_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Verified:
    """What a check found: sentences on what is wrong, none where all is well, and what was checked.

    ``seal`` is None where there is none that can be read.
    """

    seal: Seal | None
    problems: tuple[str, ...]
    checked: tuple[str, ...]


def verify(file: Path, bundle: Path | None = None, key: str | None = None) -> Verified:
    """Check a file of a report.

    Args:
        file: HTML, PDF, JSON or CSV, by its ending.
        bundle: the bundle that it was made from: the report is made again and compared.
        key: the public key that must have signed it, in hexadecimal digits or as a file.

    Raises:
        InputError: if the file, or the key, cannot be read.
        BundleError: if the bundle cannot be.
    """
    file_format = file.suffix.lower().removeprefix(".")
    if file_format not in MARKS:
        raise InputError(
            f"{file.name} is no file of a report by its ending; it is one of {', '.join(MARKS)}."
        )
    wanted = None if key is None else keys.public_key(key)
    try:
        if file.stat().st_size > MOST_BYTES:
            raise InputError(f"{file} is larger than any report.")
        data = given_bytes(file)
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or error
        raise InputError(f"{file} cannot be read: {said}.") from None
    try:
        content, seal = split(data, file_format)
    except InputError as error:
        return Verified(None, (str(error),), ())
    problems: list[str] = []
    checked: list[str] = []
    if hashlib.sha256(content).hexdigest() != seal.sha256:
        problems.append("It is not as it was written: its sha256 is not that of its seal.")
    else:
        checked.append("No byte was altered since it was written.")
    _signed(seal, wanted, problems, checked)
    if bundle is not None and not problems:
        _compared(content, seal, file_format, Bundle.open(bundle), problems, checked)
    return Verified(seal, tuple(problems), tuple(checked))


def _signed(seal: Seal, wanted: str | None, problems: list[str], checked: list[str]) -> None:
    if not seal.signature:
        if wanted is not None:
            problems.append("It is not signed, and --key asks for a signature.")
        else:
            checked.append(
                "It is not signed: whoever alters it can also make a new seal. Compare its sha256 "
                "with one that you got another way, or give --bundle."
            )
        return
    if not keys.is_signed(seal.message, seal.key, seal.signature):
        problems.append("Its signature does not fit: the seal was altered.")
    elif wanted is None:
        checked.append(f"Signed with the key {seal.key}; --key says whether that is the one.")
    elif wanted != seal.key:
        problems.append(f"It is signed with another key: {seal.key}, not {wanted}.")
    else:
        checked.append("Signed with the key that was given.")


def _compared(
    content: bytes,
    seal: Seal,
    file_format: str,
    bundle: Bundle,
    problems: list[str],
    checked: list[str],
) -> None:
    """Make the report again and compare."""
    if bundle.digest != seal.bundle:
        problems.append(
            f"It was made from a bundle with the sha256 {seal.bundle}; this one has "
            f"{bundle.digest}."
        )
        return
    reviews = verdicts_beside(bundle.path) if seal.until else None
    if seal.until and reviews is None:
        problems.append(
            f"It holds verdicts up to entry {seal.until}, and no database of verdicts was found; "
            "name it with CSP_REVIEWS."
        )
        return
    options = Options(seal.model, seal.method, seal.headings, seal.until, seal.concepts or USUAL)
    try:
        document = document_of(bundle, options, reviews)
    except InputError as error:
        problems.append(str(error))
        return
    if seal.concepts_sha256 and document.concepts != seal.concepts_sha256:
        problems.append(
            f"It was made with a concept set of the sha256 {seal.concepts_sha256}; "
            f"“{options.concepts:.40}” has {document.concepts} here."
        )
        return
    altered = list(_altered_sources(bundle, document))
    if altered:
        problems += altered[:MOST_NAMED]
        return
    checked.append(
        f"All {len(document.sources)} files behind its figures have the hashes that it names."
    )
    if FORMATS[file_format](document) == content:
        checked.append("Made again from the bundle, it has the same bytes.")
        return
    if seal.engine != ENGINE_VERSION:
        problems.append(
            f"Engine {seal.engine} wrote it, and this is {ENGINE_VERSION}, which words it "
            "otherwise; check it with that version."
        )
        return
    problems.append("Made again from the bundle, it says something else.")
    if file_format == "json":
        problems += list(_differences(json.loads(content + b"}"), document.as_json()))[:MOST_NAMED]


def _altered_sources(bundle: Bundle, document: Document) -> Iterator[str]:
    """A sentence for each file of the bundle that is not what the report names."""
    for source in document.sources:
        path = bundle.path / source.file
        if not path.is_file():
            continue  # verdicts, checked by their chain, and the concept set, by the seal
        if sha256_file(path) != source.sha256:
            yield f"{source.file} of the bundle is not the file that the report names."


def _differences(theirs: Any, ours: Any, place: str = "") -> Iterator[str]:
    """Where two JSON values differ, the deepest places, in sentences."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for name in sorted({*theirs, *ours}):
            yield from _differences(theirs.get(name), ours.get(name), f"{place}.{name}")
    elif isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        for at, (left, right) in enumerate(zip(theirs, ours, strict=True)):
            yield from _differences(left, right, f"{place}[{at}]")
    elif theirs != ours:
        yield f"{place.removeprefix('.')} is {theirs!r:.60}; the bundle gives {ours!r:.60}."
