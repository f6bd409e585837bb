"""A report as plain data: sections of texts, tables and pictures, each with what it comes from.

Every form of a report (HTML, PDF, JSON, CSV) is written from this and from nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from csp_engine.hashing import sha256_json
from csp_engine.numbers import plain_json
from csp_engine.words.own_concepts import USUAL

KIND = "neuron browser: audit report"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Source:
    """What a figure was read from: a file inside of the bundle and its sha256."""

    file: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Cell:
    """One entry of a table: as pages write it, and the number unrounded where it is one.

    ``low`` and ``high`` bound its 95 % interval; ``n`` is how many cases are behind it.
    """

    text: str
    value: float | int | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph."""

    text: str
    sources: tuple[Source, ...] = ()


@dataclass(frozen=True, slots=True)
class Points:
    """Sentences, one below the other."""

    items: tuple[str, ...]
    sources: tuple[Source, ...] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells; the first cell names its row."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    sources: tuple[Source, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture: WebP, what stands below it, and whether it is set off from the others."""

    content: bytes
    words: str
    is_marked: bool = False


@dataclass(frozen=True, slots=True)
class Strip:
    """Pictures that belong together, such as the versions of one photograph, and their figure."""

    name: str
    pictures: tuple[Picture, ...]
    figure: Cell


@dataclass(frozen=True, slots=True)
class Pictures:
    """Strips of pictures, and the rule by which they were picked."""

    rule: str
    strips: tuple[Strip, ...]
    sources: tuple[Source, ...] = ()


Block = Text | Points | Table | Pictures


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a report; ``evidence`` is the kind of evidence it holds, empty for none."""

    name: str
    title: str
    evidence: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """Sections below one heading; ``note`` says what of the heading no section covers."""

    heading: str
    sections: tuple[Section, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Options:
    """What a report was asked for; enough, with bundle and verdicts, to make it again.

    ``until`` is the number of the last entry of the history of verdicts that it knows: 0 for none,
    None in a request for all. ``concepts`` is the concept set, as a link carries it.
    """

    model: str
    method: str
    headings: str
    until: int | None = None
    concepts: str = USUAL


@dataclass(frozen=True)
class Document:
    """A whole report; ``digest`` is the sha256 of the bundle, ``concepts`` of the concept set."""

    title: str
    lead: str
    notice: str
    bundle: str
    digest: str
    concepts: str
    engine: str
    built: str
    options: Options
    parts: tuple[Part, ...]
    _numbers: dict[Source, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for block in self.blocks():
            for source in block.sources:
                self._numbers.setdefault(source, len(self._numbers) + 1)

    def blocks(self) -> Iterator[Block]:
        """All blocks, in order."""
        for part in self.parts:
            for section in part.sections:
                yield from section.blocks

    @property
    def sources(self) -> tuple[Source, ...]:
        """All that the report comes from, in the order in which it is first named."""
        return tuple(self._numbers)

    def numbers_of(self, block: Block) -> list[int]:
        """The places of a block's sources in the list of all, from 1."""
        return [self._numbers[source] for source in block.sources]

    def sha256(self) -> str:
        """Hex sha256 over all that the report says."""
        return sha256_json(self.as_json())

    def as_json(self) -> dict[str, Any]:
        """All of it, ready for JSON; pictures by their sha256."""
        return plain_json(
            {
                "kind": KIND,
                "format": FORMAT,
                "title": self.title,
                "lead": self.lead,
                "notice": self.notice,
                "bundle": {"name": self.bundle, "sha256": self.digest, "built": self.built},
                "engine": self.engine,
                "options": {
                    "model": self.options.model,
                    "method": self.options.method,
                    "headings": self.options.headings,
                    "until": self.options.until,
                    "concepts_sha256": self.concepts,
                },
                "parts": [
                    {
                        "heading": part.heading,
                        "note": part.note,
                        "sections": [self._section(each) for each in part.sections],
                    }
                    for part in self.parts
                ],
                "sources": [{"file": s.file, "sha256": s.sha256} for s in self.sources],
            }
        )

    def _section(self, section: Section) -> dict[str, Any]:
        return {
            "name": section.name,
            "title": section.title,
            "evidence": section.evidence,
            "blocks": [
                {
                    "type": type(each).__name__.lower(),
                    **_block(each),
                    "sources": self.numbers_of(each),
                }
                for each in section.blocks
            ],
        }


def kind_of(block: Block) -> str:
    """The name of a block's type, as templates ask for it."""
    return type(block).__name__.lower()


def picture_sha256(picture: Picture) -> str:
    """Hex sha256 of a picture's bytes."""
    return hashlib.sha256(picture.content).hexdigest()


def _block(block: Block) -> dict[str, Any]:
    if isinstance(block, Text):
        return {"text": block.text}
    if isinstance(block, Points):
        return {"items": list(block.items)}
    if isinstance(block, Table):
        return {
            "caption": block.caption,
            "columns": list(block.columns),
            "rows": [[_cell(cell) for cell in row] for row in block.rows],
            "note": block.note,
        }
    return {
        "rule": block.rule,
        "strips": [
            {
                "name": strip.name,
                "pictures": [
                    {"sha256": picture_sha256(p), "words": p.words, "is_marked": p.is_marked}
                    for p in strip.pictures
                ],
                "figure": _cell(strip.figure),
            }
            for strip in block.strips
        ],
    }


def _cell(cell: Cell) -> dict[str, Any]:
    known = {name: getattr(cell, name) for name in ("value", "low", "high", "n")}
    return {"text": cell.text, **{k: v for k, v in known.items() if v is not None}}
