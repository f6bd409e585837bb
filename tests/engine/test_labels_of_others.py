"""Label tables in the forms that methods of this field publish, each with what must survive."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from csp_engine.bundle import Bundle, verify
from csp_engine.errors import InputError
from csp_engine.exchange import export_labels, import_labels, label_rows, read_label_table
from csp_engine.exchange.label_reading import is_formula
from csp_engine.exports.html import of_layers, write_folder
from csp_engine.pipeline import build
from csp_engine.types import NeuronRef
from csp_engine.views.neuron.candidates import stored
from tests.worlds import toys

LINEAR = [
    ["layer", "unit", "val correlation", "weight0", "concept0", "weight1", "concept1", "weight2",
     "concept2", "weight3", "concept3", "bias", "sim correlation"],
    ["first", "0", "0.14", "0.0492", "pantry", "0.0397", "kindergarten, indoor", "-0.0403",
     "aquarium", "0.0", "0", "0.36", "0.1715"],
    ["first", "1", "0.05", "0.0530", "fish pond", "0.0", "0", "0.0", "0", "0", "0", "0.35",
     "0.0875"],
    ["first", "2", "0", "0.0", "0", "0.0", "0", "0", "0", "0", "0", "0.1", ""],
]  # fmt: skip
FALCON = [
    ["group", "Unnamed: 0", "concept_set_words", "concept_set_noun_phrases"],
    ["3", "3", "[('water', 0.12), ('shark', 0.067)]",
     "[('water web', 0.045), ('asian carp', 0.9)]"],
    ["1,4", "7", '[("gas", 0.2), ("flame", 0.1)]', "[]"],
]  # fmt: skip
FORMS: dict[str, list[list[str]]] = {
    "clip_dissect": [
        ["layer", "unit", "description", "similarity"],
        ["first", "2", "red", "0.61"], ["first", "5", "polka, dotted", "0.2"],
    ],
    "milan": [["layer", "unit", "description"], ["first", "2", "edges of objects"]],
    "describe_and_dissect": [
        ["Neuron ID", "Label 1", "Label 2", "Label 3"],
        ["6", "black and white patterns", "", ""], ["1", "sky", "cloud", "sky"],
    ],
    "invert": [
        ["neuron", "concept", "concept_id", "metric"],
        ["0", "web site", "n06359193", "0.909"],
        ["1", "(dog OR cat) AND NOT web site", "n02084071", "0.8932"],
    ],
    "falcon": FALCON,
    "linear": LINEAR,
    "prism": [
        ["layer", "unit", "description", "mean_activation", "highlights"],
        ["first", "7", "Locations, often \"outdoor\"", "11.18", "['Text #1: Vegas (4.1)']"],
        ["first", "7", "Names of people", "16.28", "['Text #2: campaign (24.6)', 'x']"],
        ["first", "7", "Words for age", "11.87", "[]"],
    ],
    "cosy": [["neuron", "concept"], ["0", "crane"], ["3", "crane"]],
    "evaluation": [["unit", "description", "sim correlation"], ["0", "green color", "-0.0104"]],
    "netdissect": [
        ["unit", "category", "label", "score", "color-label"],
        ["1", "color", "green-c", "0.01", "green-c"],
    ],
}  # fmt: skip
EXPECTED = {  # (unit, rank, description, score, weight, group), by hand from the rows above
    "clip_dissect": [(2, 1, "red", 0.61, None, ""), (5, 1, "polka, dotted", 0.2, None, "")],
    "milan": [(2, 1, "edges of objects", None, None, "")],
    "describe_and_dissect": [
        (1, 1, "sky", None, None, ""), (1, 2, "cloud", None, None, ""),
        (1, 3, "sky", None, None, ""), (6, 1, "black and white patterns", None, None, ""),
    ],
    "invert": [
        (0, 1, "web site", 0.909, None, ""),
        (1, 1, "(dog OR cat) AND NOT web site", 0.8932, None, ""),
    ],
    "falcon": [
        (1, 1, "gas", 0.2, None, "1, 4"), (1, 2, "flame", 0.1, None, "1, 4"),
        (3, 1, "asian carp", 0.9, None, ""), (3, 2, "water", 0.12, None, ""),
        (3, 3, "shark", 0.067, None, ""), (3, 4, "water web", 0.045, None, ""),
        (4, 1, "gas", 0.2, None, "1, 4"), (4, 2, "flame", 0.1, None, "1, 4"),
    ],
    "linear": [
        (0, 1, "pantry", 0.1715, 0.0492, ""),
        (0, 2, "kindergarten, indoor", 0.1715, 0.0397, ""),
        (0, 3, "aquarium", 0.1715, -0.0403, ""),
        (1, 1, "fish pond", 0.0875, 0.0530, ""),
    ],
    "prism": [
        (7, 1, "Names of people", 16.28, None, ""),
        (7, 2, "Words for age", 11.87, None, ""),
        (7, 3, 'Locations, often "outdoor"', 11.18, None, ""),
    ],
    "cosy": [(0, 1, "crane", None, None, ""), (3, 1, "crane", None, None, "")],
    "evaluation": [(0, 1, "green color", -0.0104, None, "")],
    "netdissect": [(0, 1, "green-c", 0.01, None, "")],  # its first unit is 1
}  # fmt: skip
SCORE_NAMES = {
    "clip_dissect": "similarity", "milan": "score", "describe_and_dissect": "score",
    "invert": "AUROC", "falcon": "score", "linear": "sim correlation", "prism": "mean activation",
    "cosy": "score", "evaluation": "sim correlation", "netdissect": "score",
}  # fmt: skip
FIELDS = ["unit", "rank", "description", "score", "weight", "group"]


def write_form(folder: Path, form: str) -> Path:
    out = io.StringIO()
    csv.writer(out).writerows(FORMS[form])
    path = folder / f"{form}.csv"
    path.write_text(out.getvalue(), "utf-8")
    return path


def plain(rows: pd.DataFrame, fields: list[str] = FIELDS) -> list[tuple]:
    """Rows as tuples, with None for what is missing and scores as text shows them."""
    return [
        tuple(
            None if isinstance(v, float) and math.isnan(v)
            else float(f"{v:.5g}") if isinstance(v, float) else v
            for v in row
        )
        for row in rows[fields].itertuples(index=False)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("others")
    return build(toys.request(folder, folder / "own.csp")).path


@pytest.fixture(scope="module")
def imported(built, tmp_path_factory) -> Bundle:
    """A bundle with the tables of all methods."""
    folder = tmp_path_factory.mktemp("imported")
    path = Path(shutil.copytree(built, folder / "own.csp"))
    for form in FORMS:
        import_labels(write_form(folder, form), path, layer="first")
    return Bundle.open(path)


@pytest.mark.parametrize("form", FORMS)
def test_every_published_form_is_read_as_what_it_is(tmp_path, form):
    rows = read_label_table(write_form(tmp_path, form), layer="first")
    assert plain(rows) == EXPECTED[form]
    assert set(rows["score_name"]) == {SCORE_NAMES[form]}
    assert set(rows["layer"]) == {"first"}


@pytest.mark.parametrize("form", FORMS)
def test_it_survives_bundle_export_and_a_second_import(imported, tmp_path, form):
    rows = label_rows(imported, methods=[f"imported-{form}"], n_labels=20)
    rows = rows.astype({"score": float, "weight": float})
    assert plain(rows) == EXPECTED[form]
    assert set(rows["score_name"]) == {SCORE_NAMES[form]}
    for ending in ("csv", "jsonl", "parquet"):
        path = tmp_path / f"again.{ending}"
        export_labels(imported, path, methods=[f"imported-{form}"], n_labels=20)
        again = read_label_table(path)
        assert plain(again) == EXPECTED[form]
        assert set(again["score_name"]) == {SCORE_NAMES[form]}


def test_the_bundle_is_whole(imported):
    assert verify(imported) == []


def test_the_neuron_page_has_weights_formulas_and_groups(imported):
    def said(form: str, unit: int):
        return stored(imported, NeuronRef("small", "first@mean", unit), f"imported-{form}")

    linear = said("linear", 0)
    assert [round(row.weight, 4) for row in linear.rows] == [0.0492, 0.0397, -0.0403]
    assert linear.has_weights
    assert [share for share, _ in linear.shares()] == pytest.approx(
        [1, 0.0397 / 0.0492, -0.0403 / 0.0492], abs=1e-5
    )
    assert linear.score_name == "sim correlation"
    assert said("invert", 1).rows[0].note == "formula"
    assert said("invert", 0).rows[0].note == ""
    assert said("falcon", 4).rows[1].note == "group of units 1, 4"
    assert not said("linear", 2).rows


def test_the_exported_pages_show_them(imported, tmp_path):
    write_folder(imported, of_layers(imported, layers=["first"]), tmp_path / "pages")
    (page,) = (tmp_path / "pages").glob("neurons/1-*/0.html")
    text = re.sub(r"<[^>]+>", " ", page.read_text("utf-8"))
    assert "−0.0403" in text
    assert "+0.0492" in text
    assert "AUROC" in text
    (page,) = (tmp_path / "pages").glob("neurons/1-*/1.html")
    assert "(dog OR cat) AND NOT web site" in page.read_text("utf-8")
    assert "group of units 1, 4" in page.read_text("utf-8")


def test_formulas_have_no_vector_and_their_parts_do(built, tmp_path):
    path = Path(shutil.copytree(built, tmp_path / "own.csp"))
    table = write_form(tmp_path, "invert")
    import_labels(table, path, layer="first", encoder=toys.ColourEncoder())
    vector_ud = Bundle.open(path).scores("small", "first@mean", "imported-invert").vector_ud
    assert np.any(vector_ud[0])
    assert not np.any(vector_ud[1])


@pytest.mark.parametrize("ending", ["json", "jsonl", "parquet"])
def test_lists_in_json_and_parquet_are_several_labels(tmp_path, ending):
    rows = [
        {"unit": 1, "labels": ["red", "blue"], "score": [0.25, 0.5]},
        {"unit": 0, "labels": ["grey"], "score": [1.0]},
    ]
    rows = [{"unit": r["unit"], "label": r["labels"], "score": r["score"]} for r in rows]
    path = tmp_path / f"t.{ending}"
    if ending == "parquet":
        pd.DataFrame(rows).to_parquet(path)
    else:
        dumped = [json.dumps(row) for row in rows]
        path.write_text(f"[{','.join(dumped)}]" if ending == "json" else "\n".join(dumped))
    assert plain(read_label_table(path, layer="first"))[1:] == [
        (1, 1, "blue", 0.5, None, ""), (1, 2, "red", 0.25, None, "")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"0": "red", "7": "a, b"}', [(0, 1, "red"), (7, 1, "a, b")]),
        ('{"7": ["red", "dark"], "0": ["sky"]}', [(0, 1, "sky"), (7, 1, "red"), (7, 2, "dark")]),
    ],
)
def test_a_record_of_units_in_json_is_a_table_of_them(tmp_path, text, expected):
    path = tmp_path / "units.json"
    path.write_text(text)
    rows = read_label_table(path, layer="first")
    assert plain(rows, ["unit", "rank", "description"]) == expected


@pytest.mark.parametrize(
    ("head", "row", "expected"),
    [
        ("neuron,formula,auroc", "2,red AND NOT blue,0.9", [("red AND NOT blue", 0.9)]),
        ("unit,labels,scores", "2,\"['red', 'dark']\",\"[0.4, 0.9]\"",
         [("dark", 0.9), ("red", 0.4)]),
        ("unit,words,number", "2,red,17", [("red", None)]),
        ("unit,concepts,similarities", '2,"[""red""]","[0.5]"', [("red", 0.5)]),
        ("unit,word,cosine similarity", "2,red,0.5", [("red", 0.5)]),
        ("unit,description,words", "2,red,17", [("red", None)]),
    ],
)  # fmt: skip
def test_other_names_of_the_same_columns(tmp_path, head, row, expected):
    path = tmp_path / "t.csv"
    path.write_text(f"{head}\n{row}\n")
    rows = read_label_table(path, layer="first")
    assert plain(rows, ["description", "score"]) == expected


@pytest.mark.parametrize("word", ["", "NA", "nan", "null", "-", "None", "#N/A"])
def test_words_for_nothing_are_no_scores(tmp_path, word):
    path = tmp_path / "t.csv"
    path.write_text(f"Layer;Unit;Description;Score\nfc;1;null;{word}\nfc;1;none;0,5\n", "utf-8")
    rows = read_label_table(path)
    assert rows["description"].tolist() == ["none", "null"]
    assert rows["score"].tolist()[0] == 0.5
    assert math.isnan(rows["score"][1])


def test_a_layer_that_is_asked_for_stands_for_the_tables_only_one(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("layer,unit,description\n1,0,Spotted slugs.\n1,1,Tiny houses\n", "utf-8")
    assert set(read_label_table(path, layer="layer1@mean")["layer"]) == {"layer1@mean"}
    path.write_text("layer,unit,description\n1,0,slugs\n2,1,houses\n", "utf-8")
    with pytest.raises(InputError, match="several layers"):
        read_label_table(path, layer="layer1")


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("a AND NOT b", True), ("(a | b) & ~c", True), ("black & white", False),
        ("AND", False), ("BLACK AND WHITE", False), ("black and white", False),
        ("dog (or cat)", False), ("¬red", True), ("red | blue", True), ("dog|cat", True),
        ("CAT AND NOT DOG", True), ("NOT (dog OR cat)", True), ("(cat or (not dog))", True),
        ("red &not blue", True), ("not a dog", False), ("KNOT AND NOTCH", False),
        ("red & not blue", True), ("a && b", True), ("salt & pepper", False), ("R&D", False),
    ],
)  # fmt: skip
def test_what_counts_as_a_formula(text, is_one):
    assert is_formula(text) is is_one


# --- tables that nobody published ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        (["0", "999", "1,000"], [0, 999, 1000]),  # as spreadsheets write thousands
        (["7", "1.000", "12.345"], [7, 1000, 12345]),
        (["0.0", "1.0", "12.0"], [0, 1, 12]),
        (["0.000", "1.000", "12.000"], [0, 1, 12]),
        (["3,0", "2,0", "1,000"], [3, 2, 1]),
        (["1,000", "2,000", "3,000"], None),  # 1 or 1000
        (["1.000", "2.000", "3.000"], None),
        (["3", "12.0", "1,000"], None),
        (["3", "4", "1.5"], None),
    ],
)
def test_a_unit_of_thousands_is_that_unit_or_refused(tmp_path, units, expected):
    path = tmp_path / "t.csv"
    path.write_text("unit;label\n" + "".join(f"{unit};dog\n" for unit in units), "utf-8")
    if expected is None:
        with pytest.raises(InputError, match=r"Row \d of t.csv has the unit .*whole number"):
            read_label_table(path, layer="first")
    else:
        assert sorted(read_label_table(path, layer="first")["unit"]) == sorted(expected)


def test_more_forms_in_json(tmp_path):
    """Records by unit, with the same names or not; a record may say its own unit."""
    by_unit = {"3": {"label": "dog", "score": 0.5}, "7": {"label": "cat", "score": 0.25}}
    wanted = [(3, 1, "dog", 0.5), (7, 1, "cat", 0.25)]
    assert rows_of(tmp_path / "t.json", by_unit) == wanted
    assert rows_of(tmp_path / "t.json", {"3": {"dog": 0.5}, "7": {"cat": 0.25}}) == wanted
    both = {"3": {"dog": 0.5, "cat": 0.25}, "4": {"dog": 0.1, "cat": 0.2}}
    assert rows_of(tmp_path / "t.json", both) == [
        (3, 1, "dog", 0.5), (3, 2, "cat", 0.25), (4, 1, "cat", 0.2), (4, 2, "dog", 0.1),
    ]  # fmt: skip
    own = {"0": {"unit": 3, "label": "dog", "score": 0.5}, "1": {"unit": 7, "label": "cat"}}
    assert rows_of(tmp_path / "t.json", own) == [(3, 1, "dog", 0.5), (7, 1, "cat", None)]
    columns = {"unit": {"0": 3, "1": 7}, "label": {"0": "dog", "1": "cat"}}
    assert rows_of(tmp_path / "t.json", columns) == [(3, 1, "dog", None), (7, 1, "cat", None)]


def test_scores_are_found_behind_a_remark_a_number_or_an_exponent(tmp_path):
    path = tmp_path / "t.csv"
    assert rows_of(path, "Unit (0-based),Label,Similarity (CLIP)\n0,dog,0.5\n0,cat,0.25\n") == BOTH
    head = "unit,label_1,label_1_score,label_2,label_2_score\n"
    assert rows_of(path, f"{head}0,dog,0.5,cat,0.25\n") == BOTH
    assert rows_of(path, "unit;label;score\n0;dog;5,0e-1\n0;cat;2,5E-01\n") == BOTH
    with pytest.raises(InputError, match="one name here"):
        rows_of(path, "unit,label,score (a),score (b)\n0,dog,1,2\n")


def test_columns_of_one_name_as_pandas_numbers_them_are_several_labels(tmp_path):
    """``label, label.1`` is what ``to_csv`` gives of a file with two columns ``label``."""
    head = "unit,label,score,label.1,score.1,label.2\n"
    text = head + "0,dog,0.5,cat,0.25,\n1,sky,0.1,,,\n2,,,,,\n"
    assert rows_of(tmp_path / "t.csv", text) == [*BOTH, (1, 1, "sky", 0.1)]
    text = "unit,concept,concept_2\n0,dog,cat\n"
    assert rows_of(tmp_path / "t.csv", text) == [(0, 1, "dog", None), (0, 2, "cat", None)]


def rows_of(path: Path, text: str | list) -> list[tuple]:
    path.write_text(text if isinstance(text, str) else json.dumps(text), "utf-8")
    table = read_label_table(path, layer="first")
    kept = table[["unit", "rank", "description", "score"]].itertuples(index=False)
    return [(u, r, d, None if math.isnan(s) else s) for u, r, d, s in kept]


BOTH = [(0, 1, "dog", 0.5), (0, 2, "cat", 0.25)]


@pytest.mark.parametrize(
    "cell",
    [
        {"cat": 0.25, "dog": 0.5},
        "{'cat': 0.25, 'dog': 0.5}",
        [{"text": "cat", "score": 0.25}, {"text": "dog", "score": 0.5}],
        [{"Description": "cat", "Similarity": 0.25}, {"Description": "dog", "Similarity": 0.5}],
        [["cat", 0.25], ["dog", 0.5]],
    ],
)
def test_records_in_cells_are_labels_with_scores(tmp_path, cell):
    assert rows_of(tmp_path / "t.json", [{"unit": 0, "description": cell}]) == BOTH


@pytest.mark.parametrize(
    "columns", ["label,class_name", "concept,concept_name", "label,text", "concept,name"]
)
def test_numbers_of_classes_are_no_words(tmp_path, columns):
    found = rows_of(tmp_path / "t.csv", f"unit,{columns}\n0,17,cat\n1,5,dog\n")
    assert [row[2] for row in found] == ["cat", "dog"]


def test_numbers_alone_are_the_labels(tmp_path):
    assert [row[2] for row in rows_of(tmp_path / "t.csv", "unit,label\n0,17\n")] == ["17"]


@pytest.mark.parametrize("stem", ["score", "score_", "Similarity ", "sim", "sim_"])
def test_numbered_labels_keep_their_scores(tmp_path, stem):
    text = f"unit,label1,{stem}1,label2,{stem}2\n0,dog,0.5,cat,0.25\n"
    assert rows_of(tmp_path / "t.csv", text) == BOTH


def test_units_with_decimal_commas(tmp_path):
    found = rows_of(tmp_path / "t.csv", "unit;label;score\n2,0;cat;0,25\n")
    assert found == [(2, 1, "cat", 0.25)]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("Neuron ID,neuron_id,label\n0,1,cat\n", "'Neuron ID' and 'neuron_id', which are one"),
        ("unit,label,Score,score\n0,cat,1,2\n", "'Score' and 'score', which are one"),
        ("unit,neuron,label\n3,3,cat\n4,7,dog\n", r"'unit' and 'neuron', .*'4' and '7' in row 2"),
        (
            "unit,weight0,concept0,weight1,concept1\n3,.5,cat,-.25,\n",
            "weight -0.25 and no 'concept1' that",
        ),
        ("unit,label,score\n0,cat,inf\n", "score 'inf', which is not a number that can be kept"),
        ("unit,label,score\n0,cat,1e40\n", "score '1e40', which is not a number"),
    ],
)
def test_what_has_no_meaning_is_refused_in_one_sentence(tmp_path, text, named):
    with pytest.raises(InputError, match=named):
        rows_of(tmp_path / "t.csv", text)


def test_columns_that_say_the_same_unit_and_weights_of_nothing_are_read(tmp_path):
    assert rows_of(tmp_path / "t.csv", "unit,neuron,label\n3,3,cat\n")[0][:3] == (3, 1, "cat")
    empty = "unit,weight0,concept0,weight1,concept1\n3,.5,cat,0,\n4,.5,dog,,\n"
    assert [each[2] for each in rows_of(tmp_path / "u.csv", empty)] == ["cat", "dog"]


def test_a_list_where_one_score_should_be(tmp_path):
    held = pd.DataFrame({"unit": [0], "description": ["cat"], "score": [[0.2, 0.4]]})
    held.to_parquet(tmp_path / "t.parquet")
    with pytest.raises(InputError, match=r"score '\[0.2, 0.4\]', which is not a number"):
        read_label_table(tmp_path / "t.parquet", layer="first")


HEAD = "unit,label,score\n"


@pytest.mark.parametrize(
    ("text", "scores"),
    [
        ('0,a,"1,031"\n1,b,0.5\n', [1031, 0.5]),
        ('0,a,"1,031,200"\n1,b,"2,500"\n', [1031200, 2500]),
        ('0,a,"1,031.25"\n1,b,7\n', [1031.25, 7]),
        ('0,a,"-1,031"\n1,b,.5\n', [-1031, 0.5]),
        ('0,a,"1,031"\n1,b,"0,5"\n', [1.031, 0.5]),
        ('0,a,"0,031"\n1,b,"2,500"\n', [0.031, 2.5]),
        ('0,a,"1.031,5"\n1,b,"0,5"\n', [1031.5, 0.5]),
        ('0,a,"1.031"\n1,b,"0,5"\n', [1031, 0.5]),
        ("0,a,1.031\n1,b,2.5\n", [1.031, 2.5]),
        ("0,a,1.031\n1,b,7\n", [1.031, 7]),
    ],
)
def test_marks_between_thousands_are_told_from_decimal_marks_by_the_other_numbers(
    tmp_path, text, scores
):
    assert [row[3] for row in rows_of(tmp_path / "t.csv", HEAD + text)] == scores


@pytest.mark.parametrize(
    "text",
    [
        HEAD + '0,a,"1,031"\n1,b,7\n',
        HEAD + '0,a,"1,031"\n1,b,"2,500"\n',
        HEAD + '0,a,"1,031"\n1,b,0.5\n2,c,"0,5"\n',
        "unit;label;score\n0;a;1,031\n1;b;0.5\n",
    ],
)
def test_a_number_that_may_be_a_thousand_or_one_is_refused(tmp_path, text):
    with pytest.raises(InputError, match=r"Line 2 .*'1,031', which may be a thousand"):
        rows_of(tmp_path / "t.csv", text)


def test_thousands_in_weights_are_told_by_scores_too(tmp_path):
    text = 'unit,label,weight,score\n0,a,"1,500",0.5\n0,b,"2,000",0.25\n'
    path = tmp_path / "t.csv"
    path.write_text(text, "utf-8")
    assert read_label_table(path, layer="first")["weight"].tolist() == [1500, 2000]
