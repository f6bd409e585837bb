"""Label files that are no plain tables, and cells as Python, numpy and torch print them.

Every expectation is written by hand: unit, label, score, weight and group, in order of rank.
"""

from __future__ import annotations

import json
import math
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from csp_engine.errors import InputError
from csp_engine.exchange import import_labels, read_label_table
from csp_engine.pipeline import build
from csp_engine.reading.literals import NotWholeError, literal
from tests.worlds import toys

ONE = [("first", 0, "dog"), ("first", 1, "cat")]
SCORED = [("first", 0, "dog", 0.5), ("first", 1, "cat", 0.25)]
SEVERAL = [("first", 0, "dog"), ("first", 0, "cat")]
RANKED = [("first", 0, "dog", 0.5), ("first", 0, "cat", 0.25)]
SUM = [("first", 0, "dog", None, 0.5), ("first", 0, "cat", None, -0.25)]
LAYERS = [("a.1", 0, "dog"), ("a.1", 1, "cat"), ("b", 0, "sky"), ("b", 1, "sea")]
LAYERS_SCORED = [(*row, score) for row, score in zip(LAYERS, (0.5, 0.25, 0.5, 0.25), strict=True)]
GROUP = [
    ("first", unit, text, score, None, "1, 4")
    for unit in (1, 4)
    for text, score in (("gas", 0.5), ("flame", 0.25))
]


def in_file(path: Path, held) -> list[tuple]:
    """What is read of a file, without what is not known at the ends of its rows."""
    path.write_text(held if isinstance(held, str) else json.dumps(held), "utf-8")
    return read(path)


def read(path: Path, layer: str | None = "first") -> list[tuple]:
    try:
        rows = read_label_table(path, layer=layer)
    except InputError as error:
        if "several layers" not in str(error):
            raise
        rows = read_label_table(path)
    found = []
    for row in rows.itertuples():
        values = [row.layer, row.unit, row.description, round(row.score, 9), row.weight, row.group]
        values = [None if isinstance(v, float) and math.isnan(v) else v for v in values]
        while values[-1] in (None, ""):
            values.pop()
        found.append(tuple(values))
    return found


# --- records by layer and unit -------------------------------------------------------------------

A, B = {"0": "dog", "1": "cat"}, {"0": "sky", "1": "sea"}
NESTED = {
    "units of layers": ({"a.1": A, "b": B}, LAYERS),
    "one for each unit": ({"a.1": ["dog", "cat"], "b": ["sky", "sea"]}, LAYERS),
    "layers in records": (
        [{"layer": "a.1", "labels": ["dog", "cat"]}, {"layer": "b", "units": B}], LAYERS
    ),
    "records of layers": (
        {"a.1": [{"unit": 0, "label": "dog"}, {"unit": 1, "label": "cat"}],
         "b": [{"unit": 0, "label": "sky"}, {"unit": 1, "label": "sea"}]}, LAYERS
    ),
    "pairs": ({"a.1": [["dog", 0.5], ["cat", 0.25]], "b": {"0": ["sky", 0.5], "1": ["sea", 0.25]}},
              LAYERS_SCORED),
    "columns": ({"a.1": {"unit": [0, 1], "label": ["dog", "cat"], "score": [0.5, 0.25]},
                 "b": {"0": {"sky": 0.5}, "1": {"label": "sea", "score": 0.25}}}, LAYERS_SCORED),
    "addresses": ({"a.1/0": "dog", "a.1:1": "cat", "('b', 0)": "sky", "b/unit1": "sea"}, LAYERS),
    "scores beside": (
        {"labels": {"a.1": A, "b": B},
         "scores": {"a.1": {"0": 0.5, "1": 0.25}, "b": {"0": 0.5, "1": 0.25}}}, LAYERS_SCORED
    ),
    "numbered layers": ({"3": A, "4": B}, [(str(3 + at // 2), *row[1:]) for at, row in
                                          enumerate(LAYERS)]),
    "lists of lists": ([["dog", "cat"], ["sky"]], [*SEVERAL, ("first", 1, "sky")]),
    "texts": (["dog", None, "cat"], [("first", 0, "dog"), ("first", 2, "cat")]),
    "nothing known": ({"0": "dog", "1": None, "2": [], "3": ""}, [("first", 0, "dog")]),
    "named units": ({"unit_0": "dog", "neuron 1": "cat"}, ONE),
    "beside remarks": ({"config": {"k": 3}, "date": "May", "results": A}, ONE),
    "columns alone": ({"unit": [0, 1], "label": ["dog", "cat"], "score": [0.5, 0.25]}, SCORED),
    "Network Dissection": (
        {"netname": "x", "layers": [{"layer": "first", "units": [
            {"unit": 0, "label": "dog", "iou": 0.5}, {"unit": 1, "label": "cat", "iou": 0.25}]}]},
        SCORED,
    ),
    "a matrix": ([["unit", "label"], [0, "dog"], [1, "cat"]], ONE),
    "a group by its name": ({"g0": {"features": [1, 4], "concepts": [["gas", 0.5],
                                                                      ["flame", 0.25]]}}, GROUP),
    "a group as a key": ({"(1, 4)": {"gas": 0.5, "flame": 0.25}}, GROUP),
    "weights": ({"0": {"concepts": ["dog", "cat"], "weights": [0.5, -0.25], "bias": 1}}, SUM),
    "weights in records": (
        [{"unit": 0, "concepts": [{"concept": "dog", "weight": 0.5},
                                  {"concept": "cat", "weight": -0.25}]}], SUM
    ),
    "several descriptions": (
        [{"unit": 0, "descriptions": ["dog", "cat"], "mean_activations": [0.5, 0.25]}], RANKED
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", NESTED)
def test_labels_by_layer_and_unit_in_json(tmp_path, form):
    held, expected = NESTED[form]
    assert in_file(tmp_path / "t.json", held) == expected


def test_a_model_around_the_layers(tmp_path):
    path = tmp_path / "t.json"
    path.write_text(json.dumps({"resnet": {"layer4": {"7": "dog"}}}))
    rows = read_label_table(path)
    assert rows[["model", "layer", "unit"]].to_numpy().tolist() == [["resnet", "layer4", 7]]


@pytest.mark.parametrize(
    ("held", "named"),
    [
        ('{"0": "dog", "0": "cat"}', "has '0' twice"),
        ('{"a": {"0": "dog"}, "a": {"1": "cat"}}', "has 'a' twice"),
        ({"units": [0, 1], "labels": ["dog", "cat"]}, "one group of which all texts hold"),
        ({"labels": ["dog", "cat"], "scores": [0.5]}, "2 of 'labels', 1 of 'scores'"),
        ({"labels": A, "scores": [0.5, 0.25]}, "in different shapes"),
        ({"dog": [0, 5]}, "a list of numbers where labels"),
        ({"x": {"m": {"l": {"0": "dog"}}}}, "a model and a layer are understood"),
        ([1, 2], "a list of numbers"),
        ({"0": {"dog": "much"}}, "no list of texts"),
        ({"0": ["dog", ["cat", 1, 2]]}, "no list of texts"),
        ({"neurons": [{"id": 4, "label": "dog"}]}, "needs 'layer', 'unit'"),
        ({}, "needs"),
        ("[" * 3000, "cannot be read"),
    ],
)  # fmt: skip
def test_what_may_mean_two_things_is_refused(tmp_path, held, named):
    with pytest.raises(InputError, match=named):
        in_file(tmp_path / "t.json", held)


def test_a_list_without_units_has_one_for_each_of_the_layer(tmp_path):
    built = build(toys.request(tmp_path, tmp_path / "own.csp"))
    bundle, n = built.path, built.n_units("small", built.layers("small")[0])
    (tmp_path / "t.json").write_text(json.dumps({"first": [f"label {at}" for at in range(n)]}))
    assert import_labels(tmp_path / "t.json", bundle) == n
    (tmp_path / "t.json").write_text(json.dumps({"first": ["dog", "cat"]}))
    with pytest.raises(InputError, match=rf"list of 2 labels without units .* has {n} units"):
        import_labels(tmp_path / "t.json", bundle)


# --- cells ---------------------------------------------------------------------------------------

CELLS = {
    "['dog' 'cat']": SEVERAL,
    "['dog'\n 'cat']": SEVERAL,
    "array(['dog', 'cat'], dtype='<U3')": SEVERAL,
    "array(['dog', 'cat'], dtype=object)": SEVERAL,
    "[array(['dog'], dtype='<U3'), array(['cat'], dtype='<U3')]": SEVERAL,
    "[np.str_('dog'), np.str_('cat')]": SEVERAL,
    "('dog', 'cat')": SEVERAL,
    "[dog, cat]": SEVERAL,
    "1. dog\n2) cat": SEVERAL,
    "- dog\n• cat": SEVERAL,
    "dog; cat": SEVERAL,
    "[('dog', np.float64(0.5)), ('cat', np.float32(0.25))]": RANKED,
    "[('dog', tensor(0.5000)), ('cat', tensor(0.2500, device='cuda:0'))]": RANKED,
    "[('dog', 0.5) ('cat', 0.25)]": RANKED,
    "[['dog' '0.5']\n ['cat' '0.25']]": RANKED,
    "Counter({'dog': 0.5, 'cat': 0.25})": RANKED,
    "OrderedDict([('dog', 0.5), ('cat', 0.25)])": RANKED,
    "[('dog', '50 %'), ('cat', '25 %')]": RANKED,
    "[('dog', 0.5), ('cat', nan)]": [("first", 0, "dog", 0.5), ("first", 0, "cat")],
    "0.5*dog - 0.25*cat": SUM,
    "0.5 · dog − 0.25 · cat": SUM,
    "('dog', 0.5)": RANKED[:1],
    "{'dog'}": SEVERAL[:1],
    "[\"dog's toy\" 'cat']": [("first", 0, "dog's toy"), ("first", 0, "cat")],
    # texts that only look like lists
    "(dog)": [("first", 0, "(dog)")],
    "[MASK]": [("first", 0, "[MASK]")],
    "3 * 4 grid": [("first", 0, "3 * 4 grid")],
    "- dog": [("first", 0, "- dog")],
    "a dog\nin grass": [("first", 0, "a dog\nin grass")],
    "(dog OR cat)": [("first", 0, "(dog OR cat)")],
    "[__import__('os').getcwd()]": [("first", 0, "[__import__('os').getcwd()]")],
}


def table_of(path: Path, columns: dict[str, str]) -> list[tuple]:
    head, row = (",".join('"{}"'.format(v.replace('"', '""')) for v in part)
                 for part in (columns.keys(), columns.values()))  # fmt: skip
    return in_file(path, f"{head}\n{row}\n")


@pytest.mark.parametrize("cell", CELLS)
def test_cells_as_they_are_printed(tmp_path, cell):
    assert table_of(tmp_path / "t.csv", {"unit": "0", "labels": cell}) == CELLS[cell]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"labels": "['dog' 'cat']", "scores": "[0.5  0.25]"}, RANKED),
        ({"concepts": "['dog' 'cat']", "weights": "[ 0.5  -0.25]"}, SUM),
        ({"concept_1": "dog", "coef_1": "0.5", "concept_2": "cat", "coef_2": "-0.25"}, SUM),
        ({"w0": "0.5", "concept0": "dog", "w1": "-0.25", "concept1": "cat"}, SUM),
        (
            {
                "label_1": "dog",
                "label_1_weight": "0.5",
                "label_2": "cat",
                "label_2_weight": "−0.25",
            },
            SUM,
        ),
        ({"top1": "dog", "top2": "cat", "top2_score": "0.25", "top1_score": "0.5"}, RANKED),
        ({"Label 1 (best)": "dog", "Label 2": "cat"}, SEVERAL),
        ({"caption_1": "dog", "caption_2": "cat"}, SEVERAL),
        ({"label": "dog", "score": "50 %"}, RANKED[:1]),
        ({"label": "dog", "score": "50\u202f%"}, RANKED[:1]),
        ({"label": "dog", "score (%)": "50"}, RANKED[:1]),
        ({"label": "dog", "score": "tensor(0.5000)"}, RANKED[:1]),
        ({"label": "dog", "score": "[0.5]"}, RANKED[:1]),
        ({"label": "dog", "cos_sim": "0.5"}, RANKED[:1]),
        ({"label": "dog", "alignment": "0.5"}, RANKED[:1]),
        ({"feature": "dog", "iou": "0.5"}, RANKED[:1]),
        ({"best_label": "17", "best_name": "dog", "best_iou": "0.5"}, RANKED[:1]),
        ({"label": "dog", "activations": "[3.1, 2.2, 1.0]"}, SEVERAL[:1]),
        ({"label": "dog", "top1": "17", "top2": "25"}, SEVERAL[:1]),
    ],
)
def test_scores_and_weights_are_found_beside_their_texts(tmp_path, columns, expected):
    assert table_of(tmp_path / "t.csv", {"unit": "0", **columns}) == expected


@pytest.mark.parametrize("unit", ["unit_7", "Neuron 7", "#7", "tensor(7)", "7.0", "channel7"])
def test_units_that_are_called_so(tmp_path, unit):
    assert table_of(tmp_path / "t.csv", {"unit": unit, "label": "dog"}) == [("first", 7, "dog")]


def test_units_of_layers_and_rows_that_pandas_counted(tmp_path):
    path = tmp_path / "t.csv"
    text = "neuron,label\na.1/0,dog\na.1/1,cat\nb:0,sky\nb:1,sea\n"
    assert in_file(path, text) == LAYERS
    assert in_file(path, ",description\n0,dog\n1,cat\n") == ONE
    assert in_file(path, "layer,index,description\nfirst,0,dog\nfirst,1,cat\n") == ONE
    assert in_file(path, ",neuron,label\n4,0,dog\n5,1,cat\n") == ONE
    with pytest.raises(InputError, match="names the layer 'b' and a unit of 'a'"):
        in_file(path, "layer,unit,label\nb,a/0,dog\n")


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        ({"labels": "['dog' 'cat' ... 'z']"}, "leaves values out"),
        ({"labels": "['dog', ..., 'z']"}, "leaves values out"),
        ({"labels": "['dog' 'cat', 'z']"}, "between some of its texts"),
        ({"labels": "['dog''s toy', 'cat']"}, "that nothing divides"),
        ({"labels": "['dog', cat]"}, "which cannot be read"),
        ({"labels": "['dog' 'cat']", "scores": "[0.5]"}, "1 numbers in 'scores' for 2 texts"),
        ({"concepts": "['dog', 'cat']", "weights": "[0.5]"}, "1 numbers in 'weight' for 2 texts"),
        ({"label": "dog", "score": "0.5 ± 0.1"}, "not a number"),
    ],
)  # fmt: skip
def test_lists_that_are_not_whole_are_refused(tmp_path, columns, named):
    with pytest.raises(InputError, match=named):
        table_of(tmp_path / "t.csv", {"unit": "0", **columns})


def test_several_columns_that_may_be_scores_are_told(tmp_path, caplog):
    columns = {"unit": "0", "label": "dog", "clip_sim": "0.5", "mpnet_sim": "0.9"}
    assert table_of(tmp_path / "t.csv", columns) == RANKED[:1]
    assert "'clip_sim', 'mpnet_sim' that may be scores; 'clip_sim' is kept" in caplog.text


# --- what numpy and torch save -------------------------------------------------------------------


class _Runs:
    """What a hostile file would do when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_arrays_and_torch_files_of_texts(tmp_path):
    np.save(tmp_path / "t.npy", np.array(["dog", "cat"]))
    assert read(tmp_path / "t.npy") == ONE
    np.save(tmp_path / "t.npy", np.array(["dog", "cat"], "S"))
    assert read(tmp_path / "t.npy") == ONE
    np.savez(tmp_path / "t.npz", **{"a.1": np.array(["dog", "cat"]), "b": np.array(["sky", "sea"])})
    assert read(tmp_path / "t.npz") == LAYERS
    np.savez(tmp_path / "t.npz", labels=np.array(["dog", "cat"]), scores=np.array([0.5, 0.25]))
    assert read(tmp_path / "t.npz") == SCORED
    torch.save({"labels": ["dog", "cat"], "scores": torch.tensor([0.5, 0.25])}, tmp_path / "t.pt")
    assert read(tmp_path / "t.pt") == SCORED
    torch.save({"a.1": {0: "dog", 1: "cat"}, "b": ["sky", "sea"]}, tmp_path / "t.pt")
    assert read(tmp_path / "t.pt") == LAYERS


def test_files_that_could_run_code_do_not(tmp_path):
    ran = tmp_path / "ran"
    evil = np.array(["dog", _Runs(str(ran))], object)
    np.save(tmp_path / "t.npy", evil, allow_pickle=True)
    np.savez(tmp_path / "t.npz", first=evil)
    torch.save({"first": ["dog", _Runs(str(ran))]}, tmp_path / "t.pt")
    (tmp_path / "t.pkl").write_bytes(pickle.dumps(["dog", _Runs(str(ran))]))
    (tmp_path / "t.json").write_bytes(pickle.dumps(_Runs(str(ran))))
    for ending in ("npy", "npz", "pt", "pkl", "json"):
        with pytest.raises(InputError):
            read(tmp_path / f"t.{ending}")
    assert not ran.exists()


def test_files_of_something_else_are_refused(tmp_path):
    torch.save({"conv.weight": torch.zeros(4, 3)}, tmp_path / "t.pt")
    with pytest.raises(InputError, match="list of numbers"):
        read(tmp_path / "t.pt")
    for ending in ("npy", "npz", "pt"):
        (tmp_path / f"t.{ending}").write_bytes(b"PK\x03\x04 no archive")
        with pytest.raises(InputError, match="cannot be read"):
            read(tmp_path / f"t.{ending}")


# --- literals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        ["a", "b"], [0.5, -0.25], [["a", 0.5], ["b", -1]], {"a": [1, 2]}, [None, True, "x"], [],
        ["it's", 'say "x"', "back\\slash", "new\nline"], [[1.5, 2.0], [3.0, -4e-10]],
    ],
)  # fmt: skip
def test_what_python_and_numpy_print_is_read_back(value):
    assert literal(repr(value)) == value
    if isinstance(value, list) and value and all(isinstance(v, str) for v in value):
        assert literal(str(np.array(value))) == value
        assert literal(repr(np.array(value))) == value
    if value and isinstance(value[0] if isinstance(value, list) else None, float):
        assert literal(str(np.array(value))) == value
        assert literal(str(torch.tensor(value))) == pytest.approx(value)


@pytest.mark.parametrize(
    "text", ["[1 - 2]", "f(1)", "[open('x')]", "[b'x']", "[1j]", "[*[1]]", "x"]
)
def test_what_is_no_value_is_none(text):
    with pytest.raises(ValueError, match=r"."):
        literal(text)


def test_a_long_array_is_not_whole():
    with pytest.raises(NotWholeError, match="leaves values out"):
        literal(str(np.arange(5000).astype(str)))
