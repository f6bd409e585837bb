"""Tables as spreadsheets, scripts and other computers write them, against the csv module."""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import json
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csp_engine.cells import original
from csp_engine.errors import InputError
from csp_engine.reading.tables import NOT_KNOWN, key_of, known_text, parse_delimited, read_table

ROWS = [["im1", "nv", "flat"], ["im2", "mel", "a, b; c"], ["im3", "nv", 'wide "ruler"']]
HEADER = ["image", "dx", "note"]


def written(rows: list[list[str]], separator: str = ",", end: str = "\n", quoting: int = 0) -> str:
    out = io.StringIO()
    csv.writer(out, delimiter=separator, lineterminator=end, quoting=quoting).writerows(rows)
    return out.getvalue()


def save(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


# --- what is read --------------------------------------------------------------------------------


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_every_spelling_gives_the_same_rows(tmp_path, separator, end, encoding):
    table = read_table(save(tmp_path / "t.csv", written([HEADER, *ROWS], separator, end), encoding))
    assert table.rows.columns.tolist() == HEADER
    assert table.rows.to_numpy().tolist() == ROWS
    assert table.lines == (2, 3, 4)


@pytest.mark.parametrize("stated", ["sep=;\n", "SEP=;\r\n", '"sep=;"\n', "sep=;;;\n"])
def test_excels_own_first_line_is_no_row(stated):
    table = parse_delimited(stated.replace("\r", "") + written([HEADER, *ROWS], ";"), "t.csv")
    assert table.rows.to_numpy().tolist() == ROWS
    assert table.lines == (3, 4, 5)


def test_a_stated_tab_is_one_even_where_commas_are_more():
    table = parse_delimited("sep=\t\na,b,c\td\n1,2,3\t4\n", "t.csv")
    assert table.rows.to_dict("list") == {"a,b,c": ["1,2,3"], "d": ["4"]}


@pytest.mark.parametrize("mark", [codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF32_LE])
def test_a_mark_is_no_letter_of_the_first_column(tmp_path, mark):
    name = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le"}.get(mark, "utf-32-le")
    (tmp_path / "t.csv").write_bytes(mark + "unit,description\n1,é\n".encode(name))
    assert read_table(tmp_path / "t.csv").rows.to_dict("list") == {
        "unit": ["1"], "description": ["é"]
    }  # fmt: skip


def test_windows_letters_are_those_of_windows(tmp_path):
    save(tmp_path / "t.csv", "unit,description\n1,“naïve” – €\n", "cp1252")
    assert read_table(tmp_path / "t.csv").rows["description"].tolist() == ["“naïve” – €"]


def test_trailing_separators_and_empty_lines_mean_nothing():
    text = "a,b,,\n1,2,,\n\n,,,\n3,4,,\n   ,\n,,\n"
    table = parse_delimited(text, "t.csv")
    assert table.rows.to_dict("list") == {"a": ["1", "3"], "b": ["2", "4"]}
    assert table.lines == (2, 5)
    longer = parse_delimited("a,b\n1,2,,,\n3\n", "t.csv")
    assert longer.rows.to_dict("list") == {"a": ["1", "3"], "b": ["2", ""]}


def test_a_nameless_column_goes_by_its_place_as_in_pandas(tmp_path):
    path = save(tmp_path / "t.csv", ",a\n0,x\n1,y\n")
    assert read_table(path).rows.columns.tolist() == pd.read_csv(path).columns.tolist()


def test_cells_of_several_lines_stay_one_cell():
    rows = [["im1", "nv", "first line\nsecond, line\n\nthird"], ["im2", "mel", "one\ntwo"]]
    table = parse_delimited(written([HEADER, *rows]), "t.csv")
    assert table.rows.to_numpy().tolist() == rows
    assert table.lines == (2, 6)


@pytest.mark.parametrize(
    "name", ["Image ID", "image_id", " IMAGE-ID ", "image.id", "Image  Id", "ｉmage id"]
)
def test_headers_in_any_case_and_with_spaces_are_one(name):
    assert key_of(name) == "image_id"


def test_words_for_nothing():
    assert {known_text(w) for w in ("", " ", "NA", "N/A", "NaN", "null", "#N/A", None)} == {None}
    assert known_text(float("nan")) is None
    assert known_text("none") == "none"
    assert known_text("none", NOT_KNOWN) is None
    assert known_text(7.0) == "7"


cell = st.text(
    st.characters(exclude_categories=["C", "Z"], exclude_characters="\0\n\r\ufeff"), max_size=8
)


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(st.lists(cell, min_size=3, max_size=3), min_size=1, max_size=6),
    separator=st.sampled_from([",", ";", "\t", "|"]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_what_the_csv_module_writes_comes_back(
    tmp_path_factory, rows, separator, end, encoding, quoting
):
    path = tmp_path_factory.mktemp("t") / "t.csv"
    save(path, written([["id", "b", "c"], *rows], separator, end, quoting), encoding)
    expected = [[original(cell) for cell in row] for row in rows if any(row)]
    assert read_table(path).rows.to_numpy().tolist() == expected


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("separator", [",", "\t", ";"])
@pytest.mark.parametrize("column", [0, 1, 2])
@pytest.mark.parametrize("form", ['"{}', '{}"', 'x "{}', '"{}" y', '5" {}'])
def test_stray_quotes_never_swallow_a_row(separator, column, form):
    """One or two marks in any rows: each other cell is as it was, or the line is named."""
    plain = [[f"im{i:02d}", ["nv", "mel"][i % 2], f"note {i}"] for i in range(6)]
    for hit in [(i,) for i in range(6)] + list(itertools.combinations(range(6), 2)):
        rows = [list(row) for row in plain]
        for at in hit:
            rows[at][column] = form.format(rows[at][column])
        text = "\n".join(separator.join(row) for row in [HEADER, *rows]) + "\n"
        refused, cells = "", plain
        try:
            cells = parse_delimited(text, "t.csv").rows.to_numpy().tolist()
        except InputError as error:
            refused = str(error)
        if refused:
            assert any(f"line {at + 2}" in refused for at in hit), refused
            assert "quotation mark" in refused
        assert len(cells) == 6
        for at in set(range(6)) - set(hit):
            assert cells[at] == plain[at]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "it is empty"),
        ("\n ,\n", "it is empty"),
        ("a,b\n1,2\n3,4,5\n", r"line 3 has 3 cells and the header has 2.*commas"),
        ("sep=;\na;b\n\n3;4;5\n", r"line 4 has 3 cells"),
        ('a,b\n1,2\n3,"4\n5,6\n', r"line 3 has a quotation mark"),
    ],
)
def test_what_cannot_be_told_is_refused_with_its_line(text, named):
    with pytest.raises(InputError, match=named) as caught:
        parse_delimited(text, "t.csv")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("t.csv", b"\xff\xfea", "not a text file"),
        ("t.csv", b"a,b\n\0,2\n", "not a text file"),
        ("t.csv", b"a,a\n1,2\n", "two columns named 'a'"),
        ("t.csv", b"a, a \n1,2\n", "two columns named 'a'"),
        ("t.jsonl", b'{"a": 1}\n{"a": \n', "line 2 is not JSON"),
        ("t.jsonl", b"[1]\n", "each row must be one JSON object"),
        ("t.json", b"[" * 100_000, "cannot be read as JSON"),
        ("t.json", b"3", "each row must be one JSON object"),
        ("t.parquet", b"PAR1", "cannot be read as PARQUET"),
        ("t.xlsx", b"PK", "is not a table; give a file that ends in csv"),
    ],
)
def test_files_that_are_no_tables(tmp_path, name, content, named):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=named) as caught:
        read_table(tmp_path / name)
    assert len(str(caught.value)) < 300


def test_json_and_parquet_keep_what_they_hold(tmp_path):
    rows = [{"unit": 1, "words": ["a", "b"]}, {"unit": 2, "words": ["c"]}]
    save(tmp_path / "t.json", json.dumps(rows))
    save(tmp_path / "t.jsonl", "\n\n".join(json.dumps(row) for row in rows))
    pd.DataFrame(rows).to_parquet(tmp_path / "t.parquet")
    for ending in ("json", "jsonl", "parquet"):
        got = read_table(tmp_path / f"t.{ending}").rows
        assert got["unit"].tolist() == [1, 2]
        assert [list(each) for each in got["words"]] == [["a", "b"], ["c"]]
    assert read_table(tmp_path / "t.jsonl").lines == (1, 3)
