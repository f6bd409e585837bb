"""A report as JSON, and its figures as a table: one row for each entry of each table."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from csp_engine.cells import csv_text
from csp_engine.exports.report.document import (
    Block,
    Cell,
    Document,
    Pictures,
    Points,
    Section,
    Table,
    Text,
)
from csp_engine.exports.report.seal import COLUMNS


def as_json(document: Document) -> bytes:
    """The whole report, without its seal and the bracket that closes it."""
    return json.dumps(document.as_json(), indent=1).removesuffix("}").rstrip("\n").encode()


def as_csv(document: Document) -> bytes:
    """Every figure and sentence with the files it comes from, without the seal.

    Texts that a spreadsheet would run get an apostrophe in front, see ``csp_engine.cells``.
    """
    rows = [
        row
        for part in document.parts
        for section in part.sections
        for number, block in enumerate(section.blocks, 1)
        for row in _rows(section, number, block)
    ]
    return (
        csv_text(pd.DataFrame(rows, columns=list(COLUMNS), dtype=object))
        .rstrip("\n")
        .encode("utf-8", "replace")
    )


def _rows(section: Section, number: int, block: Block) -> list[dict[str, Any]]:
    shared = {
        "section": section.name,
        "evidence": section.evidence,
        "block": number,
        "file": " ".join(source.file for source in block.sources),
        "sha256": " ".join(source.sha256 for source in block.sources),
    }
    if isinstance(block, Text):
        return [{**shared, "text": block.text}]
    if isinstance(block, Points):
        return [{**shared, "row": at, "text": t} for at, t in enumerate(block.items, 1)]
    if isinstance(block, Table):
        return [
            {**shared, "row": row[0].text, "column": column or "value", **_figure(cell)}
            for row in block.rows
            for column, cell in zip(block.columns[1:], row[1:], strict=True)
        ]
    assert isinstance(block, Pictures)
    return [
        {**shared, "row": s.name, "column": "figure", **_figure(s.figure)} for s in block.strips
    ]


def _figure(cell: Cell) -> dict[str, Any]:
    names = ("text", "value", "low", "high", "n")
    return {name: getattr(cell, name) for name in names}
