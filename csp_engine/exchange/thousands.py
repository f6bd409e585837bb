"""Marks between thousands in the numbers of a label table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from csp_engine.errors import InputError
from csp_engine.reading.numbers import grouping_mark
from csp_engine.reading.tables import Table

_NUMBER = re.compile(r"-?[\d.,]*\d[\d.,]*(e[-+]?\d+)?", re.IGNORECASE)
_GROUPED = re.compile(r"-?[1-9]\d{0,2}([.,]\d{3})+([.,]\d+)?")


def ungrouped(table: Table, columns: Sequence[str]) -> Table:
    """The table with 1031 for 1,031 (or for 1.031, where its other numbers say so).

    Raises:
        InputError: if a number may be a thousand or little more than one; it names the row.
    """
    cells = {
        column: [
            re.sub(r"\s*%$", "", each.replace("−", "-")) if isinstance(each, str) else ""
            for each in table.rows[column]
        ]
        for column in columns
    }
    found = [each for own in cells.values() for each in own if _NUMBER.fullmatch(each)]
    mark = grouping_mark(found, decimal_commas=table.has_decimal_commas)
    if mark == "":
        return table
    rows = table.rows.copy()
    for column, own in cells.items():
        for row, cell in enumerate(own):
            if _GROUPED.fullmatch(cell):
                if mark is None:
                    raise InputError(
                        f"{table.place(row)} of {table.name} has the {column.replace('_', ' ')} "
                        f"{cell!r:.40}, which may be a thousand or little more than one; write it "
                        "without a mark between thousands."
                    )
                own[row] = cell.replace(mark, "")
        rows[column] = [
            new + " %" * old.endswith("%") if isinstance(old, str) else old
            for old, new in zip(table.rows[column], own, strict=True)
        ]
    return replace(table, rows=rows)
