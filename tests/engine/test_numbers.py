"""Numbers and flags in the tables of several countries, against values written by hand."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from csp_engine.errors import InputError
from csp_engine.probe import read_probe_set

N = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("numbers")
    for number in range(N):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(place / f"{number}.png")
    return place


def column(folder, cells, separator=",", beside=None, encoding="utf-8"):
    """A column as the probe set has it; ``beside`` is another column of the same table."""
    held = {"file": [f"{number}.png" for number in range(N)], "x": cells}
    if beside is not None:
        held["y"] = beside
    text = pd.DataFrame(held).to_csv(sep=separator, index=False)
    (folder / "t.csv").write_bytes(text.encode(encoding))
    probe = read_probe_set(folder / "t.csv")
    return probe.table["x"].tolist(), "x" in probe.concepts


@pytest.mark.parametrize(
    ("cells", "separator", "beside", "expected"),
    [
        (["61,5", "2,25", "7"], "\t", None, [61.5, 2.25, 7]),  # Excel's "Unicode text" in German
        (["61,5", "NA", "-0,5"], ";", None, [61.5, None, -0.5]),
        (["1.234", "2.500", "999"], ";", ["0,5", "1,5", "2"], [1234, 2500, 999]),
        (["1.234,50", "2,5", "3"], ";", None, [1234.5, 2.5, 3]),
        (["1.234", "2.500", "3.125"], ";", None, [1.234, 2.5, 3.125]),  # written with points
        (["0.125", "2.500", "3.125"], ";", ["0,5", "1,5", "2"], [0.125, 2.5, 3.125]),
        (["1.5", "2,5", "3"], ";", None, ["1.5", "2,5", "3"]),
        (["1,234", "2,500", "3,125"], "\t", None, ["1,234", "2,500", "3,125"]),  # who knows
        (["1,234", "2,500", "3,125"], "\t", ["0,5", "1,5", "2"], [1.234, 2.5, 3.125]),
        (["0,5", "1,5", "2"], "\t", ["0.5", "1.5", "2.5"], ["0,5", "1,5", "2"]),
        (["0,5", "1,5", "2"], ",", None, ["0,5", "1,5", "2"]),
        (["1e-05", "0.5", "2.5E+3"], ",", None, [1e-05, 0.5, 2500]),
        (["1,5E-03", "2", "0,1"], ";", None, [0.0015, 2, 0.1]),
        (["−1", "-0.5", "1."], ",", None, [-1, -0.5, 1]),
        (["1e5", "2e7", "3e9"], ",", None, ["1e5", "2e7", "3e9"]),  # may be codes
        (["007", "012", "100"], ",", None, ["007", "012", "100"]),
        (["2020-01-01", "1.2.2020", "3"], ";", None, ["2020-01-01", "1.2.2020", "3"]),
        (["192.168.1", "10.0.0", "1"], ";", ["0,5", "1,5", "2"], ["192.168.1", "10.0.0", "1"]),
    ],
)
def test_a_column_is_what_its_table_writes(folder, cells, separator, beside, expected):
    found, is_concept = column(folder, cells, separator, beside)
    assert [None if v is None or v != v else v for v in found] == expected
    assert not is_concept


def test_utf16_from_a_german_spreadsheet(folder):
    assert column(folder, ["0,5", "1,5", "2"], "\t", encoding="utf-16")[0] == [0.5, 1.5, 2]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-1e6, 1e6, allow_nan=False).map(float), min_size=N, max_size=N),
    st.sampled_from([(",", "."), (";", "."), (";", ","), ("\t", ".")]),
)
def test_what_pandas_writes_comes_back(folder, values, form):
    separator, point = form
    held = pd.DataFrame({"file": [f"{number}.png" for number in range(N)], "x": values})
    held.to_csv(folder / "t.csv", sep=separator, decimal=point, index=False)
    found = read_probe_set(folder / "t.csv").table["x"].tolist()
    assert [float(v) for v in found] == pytest.approx(values, rel=1e-12)


@pytest.mark.parametrize(
    "words",
    [
        *[("0", "1"), ("0.0", "1.0"), ("0.00", "1.00"), ("False", "True"), ("FALSE", "TRUE")],
        *[("No", "Yes"), ("n", "y"), ("F", "T"), ("FALSCH", "WAHR"), ("nein", "ja")],
    ],
)
def test_flags(folder, words):
    found, is_concept = column(folder, [words[1], "", words[0]])
    assert is_concept
    assert [None if math.isnan(v) else v for v in found] == [1, None, 0]


def test_words_for_nothing_in_other_languages(folder):
    assert column(folder, ["ja", "nein", "k. A."], ";")[1]
    assert column(folder, ["0,5", "unbekannt", "2"], ";")[0][2] == 2


def test_flags_with_decimal_commas(folder):
    assert column(folder, ["1,0", "0,0", "1"], ";") == ([1, 0, 1], True)


@pytest.mark.parametrize("cells", [["no"] * N, ["f", "m", "f"], ["yes", "no", "maybe"], ["n"] * N])
def test_words_that_are_no_flags_stay_words(folder, cells):
    assert column(folder, cells) == (cells, False)


# --- other forms ---------------------------------------------------------------------------------


def test_a_table_indexed_by_its_images(folder):
    held = pd.DataFrame({"file": [f"{n}.png" for n in range(N)], "x": [5, 6, 7]})
    for frame in (
        held.set_index("file"),
        held.iloc[::-1].iloc[::-1].set_index(pd.Index([4, 2, 9])),
    ):
        frame.to_parquet(folder / "t.parquet")
        assert read_probe_set(folder / "t.parquet").table["x"].tolist() == [5, 6, 7]


def test_lists_in_cells_are_text(folder):
    held = pd.DataFrame({"file": [f"{n}.png" for n in range(N)], "x": [[1], [2, 3], []]})
    held.assign(a=[np.inf, 1.0, np.nan]).to_parquet(folder / "t.parquet")
    assert read_probe_set(folder / "t.parquet").table["x"].tolist() == ["[1]", "[2, 3]", None]


@pytest.mark.parametrize("orient", ["records", "split", "columns"])
def test_json_as_pandas_writes_it(folder, orient):
    held = pd.DataFrame({"file": [f"{n}.png" for n in range(N)], "x": [5, 6, 7]})
    held.to_json(folder / "t.json", orient=orient)
    assert read_probe_set(folder / "t.json").table["x"].tolist() == [5, 6, 7]


@pytest.mark.parametrize("text", ["0.png,cat\n1.png,dog\n", "0.png;cat\n1.png;dog\n"])
def test_a_table_without_a_header_is_said_to_be_one(folder, text):
    (folder / "t.csv").write_text(text)
    with pytest.raises(InputError, match=r"begins with an image .* add one such as file,class"):
        read_probe_set(folder / "t.csv")


def test_the_option_is_named_and_messages_stay_short(folder):
    (folder / "t.csv").write_text("id,label\n0,a\n")
    with pytest.raises(InputError, match="name one of them with --path-column"):
        read_probe_set(folder / "t.csv")
    (folder / "t.csv").write_text("file\n" + "x" * 9000 + ".png\n")
    with pytest.raises(InputError) as caught:
        read_probe_set(folder / "t.csv")
    assert len(str(caught.value)) < 500
