"""Texts of a whole file, where a name or a label should be: one sentence, or cut and said so."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from csp_engine.bundle import Bundle
from csp_engine.errors import InputError, brief
from csp_engine.exchange import import_labels
from csp_engine.networks.models import read_class_names
from csp_engine.pipeline import build
from csp_engine.probe.listing import read_probe_set
from tests.worlds import toys

LONG = "a label without an end " * 9_000
WORD = "b" * 200_000


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("long")
    return build(toys.request(folder, folder / "a.csp")).path


ROW = {"layer": "first", "unit": 1, "description": "red"}
TABLES = {
    "a label": [ROW | {"description": LONG}],
    "a label in one word": [ROW | {"description": WORD}],
    "one of several": [{"layer": "first", "unit": 1, "label1": "red", "label2": LONG}],
    "one of a list": [ROW | {"description": json.dumps(["red", LONG])}],
    "a formula": [ROW | {"description": " AND NOT ".join(["red"] * 20_000)}],
    "a group": [ROW | {"group": LONG}],
    "a layer": [ROW | {"layer": WORD}],
    "a model": [ROW | {"model": WORD}],
    "what scores are": [ROW | {"score": 1, "score_name": LONG}],
    "a column": [ROW | {LONG: 1}],
    "a unit": [ROW | {"unit": WORD}],
    "a score": [ROW | {"score": WORD}],
    "labels of one neuron": [ROW | {"rank": at} for at in range(1, 1_002)],
}


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("case", TABLES)
def test_a_table_of_labels(bundle: Path, tmp_path: Path, case: str, kind: str) -> None:
    rows, path = pd.DataFrame(TABLES[case]), tmp_path / f"labels.{kind}"
    match kind:
        case "csv":
            rows.to_csv(path, index=False)
        case "jsonl":
            rows.to_json(path, orient="records", lines=True)
        case _:
            rows.to_parquet(path)
    with pytest.raises(InputError) as told:
        import_labels(path, bundle, name="mine")
    assert len(brief(str(told.value))) <= 600
    assert not Bundle.open(bundle).has("scores:small/first@mean/imported-mine")


def test_labels_as_long_as_they_may_be(bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    texts = ["c" * 2_000, *map(str, range(999))]
    pd.DataFrame([ROW | {"description": t} for t in texts]).to_csv(path, index=False)
    assert import_labels(path, bundle, layer="first") == 1
    held = Bundle.open(bundle).method_labels("small", "first@mean", "imported-mine")
    assert held["text"].tolist() == texts


def test_a_long_name_for_labels(bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    pd.DataFrame([ROW]).to_csv(path, index=False)
    with pytest.raises(InputError, match="--name up to 100"):
        import_labels(path, bundle, name="n" * 300)


@pytest.mark.parametrize("role", ["class", "split", "group"])
def test_a_long_class_split_or_group(tmp_path: Path, role: str) -> None:
    images = toys.draw_images(tmp_path / "images", n_images=4)
    table = toys.as_table(images, **{role: ["a", "b", LONG, "a"]})
    with pytest.raises(InputError, match=f"The {role} in row 3 of .* has 20[67],"):
        read_probe_set(table)


def test_other_cells_are_cut_and_it_is_said(tmp_path: Path, caplog) -> None:
    images = toys.draw_images(tmp_path / "images", n_images=4)
    table = toys.as_table(images, caption=["x", LONG, "", "y"], **{"class": list("abab")})
    held = read_probe_set(table).table["caption"]
    assert held.fillna("nothing").tolist() == ["x", LONG[:10_000], "nothing", "y"]
    assert "1 text(s) of column 'caption' are cut at 10000 letters" in caplog.text


def test_a_long_name_of_an_output(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text(f"red\n{LONG}\n", "utf-8")
    with pytest.raises(InputError, match="Class name 2 of 2 has 20"):
        read_class_names(tmp_path / "names.txt", 2)
