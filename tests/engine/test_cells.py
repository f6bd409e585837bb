"""CSV of ours in a spreadsheet: no text runs, no number changes, and everything comes back."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from csp_engine.cells import csv_text, neutral, original
from csp_engine.errors import InputError
from csp_engine.exchange import read_label_table
from csp_engine.probe.listing import read_table

ROOT = Path(__file__).resolve().parents[2]
RUN = [
    "=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\ttext", "\rtext",
    "=cmd|' /C calc'!A0",
    "＝1+1", "＋1", "－1", "＠x", "﹦1", "﹢1", "﹣1", "﹫x", "−1", " =1",
    "\u00a0=1", "\u200b=1", "\ufeff=1",
    "a;=1", "a; +1", "a\n=1", "a\t＝1", "a;'=1", " \t=1", "a;-1", "=1;\x00@x",
    "\x00=1", "'=1", "''=1", "-", "=\r=", '="a","b"', "=1;=2", "\u3000＝1",
]  # fmt: skip
SHOWN = [
    "",
    "red",
    "a=b",
    "a-b",
    "e@mail",
    "'tis",
    "''",
    "1+1",
    "(-1)",
    "x\ry",
    "a;b",
    "a\nb",
    "–",
    "#1",
]
alphabet = st.text(alphabet="'=+-@ \t\r\n＝－−\u200babc,;\"|", max_size=8)


def cells(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


def is_run(cell: str) -> bool:
    """By another road than the code's: what is left of a cell once blanks and widths are gone."""
    return cell[:1] in ("\t", "\r", "\n") or any(
        "".join(c for c in part if unicodedata.category(c)[0] != "C" and not c.isspace())[:1]
        in ("=", "+", "-", "@", "\u2212")
        # A spreadsheet may separate cells by semicolons or tabs, whatever quotes say.
        for part in re.split("[;\t\r\n]", unicodedata.normalize("NFKC", cell))
    )


@pytest.mark.parametrize("text", RUN)
def test_no_cell_runs_and_each_comes_back(text, tmp_path):
    table = pd.DataFrame({"layer": "fc", "unit": [3], "description": [text], text: [-0.5]})
    path = tmp_path / "t.csv"
    path.write_text(csv_text(table), encoding="utf-8", newline="")
    header, row = cells(path.read_bytes().decode())
    assert not any(is_run(cell) for cell in header)
    assert not any(is_run(cell) for cell in row[:-1])
    assert float(row[-1]) == -0.5
    assert original(row[2]) == text
    if "\0" in text:  # no reader takes this for text
        with pytest.raises(InputError, match="not a text file"):
            read_label_table(path)
        return
    read_as = text.replace("\r\n", "\n").replace("\r", "\n").strip()
    (read,) = read_label_table(path)["description"]
    assert read == read_as
    assert read_table(path)["description"].iloc[0].strip() == read_as


@pytest.mark.parametrize("text", SHOWN)
def test_a_text_that_no_spreadsheet_runs_is_left_alone(text):
    assert neutral(text) == original(text) == text
    assert cells(csv_text(pd.DataFrame({"a": [text], "b": "x"})))[1] == [text, "x"]


@given(alphabet)
def test_every_text_comes_back_and_none_runs(text):
    assert original(neutral(text)) == text
    assert not is_run(neutral(text))
    assert neutral(text).replace("'", "") == text.replace("'", "")


@given(st.lists(st.tuples(alphabet, alphabet), min_size=1, max_size=4))
def test_rows_stay_rows_whatever_stands_in_them(rows):
    table = pd.DataFrame(rows, columns=["a", "b"])
    found = cells(csv_text(table))
    assert [tuple(map(original, row)) for row in found] == [("a", "b"), *rows]


def test_numbers_are_written_as_pandas_writes_them():
    table = pd.DataFrame(
        {
            "f4": np.array([-0.1, np.nan, -1e-30], np.float32),
            "f8": [-1 / 3, np.inf, -np.inf],
            "int": [-1, 0, 2**62],
            "maybe": pd.array([-1, None, 3], "Int64"),
            "bool": [True, False, True],
            "mixed": [-1, -2.5, None],
            "when": pd.to_datetime(["2026-01-01", None, "2026-01-03"]),
            "group": pd.Categorical([-1, -2, -1]),
        }
    )
    assert csv_text(table) == table.to_csv(index=False, lineterminator="\n")
    assert csv_text(table.iloc[:0]) == table.iloc[:0].to_csv(index=False, lineterminator="\n")


def test_texts_of_every_column_type_are_made_neutral():
    texts = ["=1", "ok", None]
    for kind in (object, "string", "category"):
        assert cells(csv_text(pd.DataFrame({"a": pd.Series(texts, dtype=kind), "b": 1})))[1:] == [
            ["'=1", "1"], ["ok", "1"], ["", "1"],
        ]  # fmt: skip


def test_nothing_else_of_the_product_writes_csv():
    other = re.compile(r"\.to_csv\(|csv\.writer|DictWriter|text/csv")
    files = [ROOT / "app.py", *(ROOT / "pages").rglob("*.py"), *(ROOT / "csp_engine").rglob("*.py")]
    found = {
        path.relative_to(ROOT).as_posix() for path in files if other.search(path.read_text("utf-8"))
    }
    # Both pages hand out what that one module wrote.
    pages = {"pages/ui/parts/exporting.py", "pages/ui/audit/reporting.py"}
    assert found == {"csp_engine/cells.py", *pages}
    settings = (ROOT / ".streamlit" / "config.toml").read_text("utf-8")
    assert re.search(r"^disableDataExport = true", settings, re.MULTILINE)
