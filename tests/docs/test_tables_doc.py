"""docs/tables.md: every example in it is read as it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from csp_engine.exchange import read_label_table
from csp_engine.exchange.label_reading import TEXT, UNIT
from csp_engine.probe import read_probe_set
from csp_engine.reading.names import read_names
from csp_engine.reading.tables import MISSING, NOT_KNOWN, TABLE_ENDINGS
from csp_engine.words.vocabularies import read_vocabulary

DOC = (Path(__file__).resolve().parents[2] / "docs" / "tables.md").read_text("utf-8")
EXAMPLES = re.findall(r"<!-- example: (\w+) -->\n```\w+\n(.*?)```", DOC, re.S)


def of(kind: str) -> list[str]:
    return [text for name, text in EXAMPLES if name == kind]


def photographs(folder: Path) -> None:
    for number in (1, 2):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"photo_{number}.png")


def test_every_block_is_an_example_of_a_kind_that_is_tested():
    assert len(EXAMPLES) == DOC.count("```") // 2
    assert {kind for kind, _ in EXAMPLES} == {"images", "metadata", "names", "kinds", "labels"}


def test_the_list_of_images(tmp_path):
    photographs(tmp_path)
    (tmp_path / "t.csv").write_text(of("images")[0], "utf-8")
    probe = read_probe_set(tmp_path / "t.csv")
    assert probe.table["class"].tolist() == ["mel", "nv"]
    assert probe.table["group"].tolist() == ["L1", None]
    assert probe.table["age"].fillna(0).tolist() == [61.5, 0]
    assert probe.concepts == ("hair",)


def test_the_table_beside_images(tmp_path):
    photographs(tmp_path)
    (tmp_path / "metadata.csv").write_text(of("metadata")[0], "utf-8")
    probe = read_probe_set(tmp_path)
    assert probe.table["age"].fillna(0).tolist() == [61.5, 0]
    assert probe.concepts == ("ruler",)


@pytest.mark.parametrize("text", of("names"))
def test_lists_of_names(tmp_path, text):
    (tmp_path / "v.txt").write_text(text, "utf-8")
    names = [name.text for name in read_names(tmp_path / "v.txt", what="List")]
    assert names == ["tench", "goldfish", "great white shark"]


@pytest.mark.parametrize("text", of("kinds"))
def test_vocabularies_with_kinds(tmp_path, text):
    (tmp_path / "v.csv").write_text(text, "utf-8")
    table = read_vocabulary([str(tmp_path / "v.csv")]).table
    assert table["parents"].tolist() == ["", "animal", "dog", ""]


@pytest.mark.parametrize("text", of("labels"))
def test_labels_of_other_tools(tmp_path, text):
    path = tmp_path / ("t.json" if text.startswith("{") else "t.csv")
    path.write_text(text, "utf-8")
    rows = read_label_table(path, layer="first")
    assert set(rows["unit"]) == {0, 2}
    assert set(rows["layer"]) == {"first"}
    assert (rows["rank"] >= 1).all()


def test_words_and_endings_are_those_of_the_code():
    said = {each.casefold() for each in re.findall(r"`([^`\s]+)`", DOC)}
    assert {f".{ending}" for ending in TABLE_ENDINGS if ending != "ndjson"} <= said
    assert {"na", "n/a", "nan", "null", "#n/a"} <= MISSING & said
    assert {"none", "unknown", "-", "?"} <= NOT_KNOWN & said
    assert {"unit", "neuron", "feature"} <= set(UNIT) & said
    assert {"description", "label", "concept", "explanation"} <= set(TEXT) & said
