"""Columns that nearly hold flags are named, with what they hold, wherever a bundle is described."""

from __future__ import annotations

import json
import re
import shutil

import pandas as pd
import pytest

from csp_engine import pipeline
from csp_engine.bundle import Bundle, verify
from csp_engine.cli import main
from csp_engine.cli.building.told import report
from csp_engine.errors import BundleError
from csp_engine.probe.listing import read_probe_set
from csp_engine.views.overview.concepts import concept_sentences
from csp_engine.views.overview.provenance import provenance
from tests.worlds import toys
from tests.worlds.damage import place, redo

N = 28
# What people have, what each is taken for, and what is said of it where it is no concept column.
COLUMNS = {
    "plain": ([0, 1], "concept", ""),
    "with blanks": ([1, "", 0, 1], "concept", ""),
    "true or nothing": (["true", ""], "same", ""),
    "all present": ([1], "same", ""),
    "all absent": ([0], "same", ""),
    "yes no uncertain": (["yes", "no", "Uncertain"], "concept", ""),
    "true false unsure": (["true", "false", "not sure"], "concept", ""),
    "floats of flags": (["1.0", "0.0"], "concept", ""),
    "positive": (["Positive", "negative", ""], "concept", ""),
    "present": (["present", "ABSENT"], "concept", ""),
    "Italian": (["si\u0300", "no"], "concept", ""),
    "Portuguese": (["sim", "não"], "concept", ""),
    "Dutch": (["ja", "nee"], "concept", ""),
    "minus nought": (["-0", "1", "0.0"], "concept", ""),
    "chexpert": ([1, 0, -1, ""], "nearly", "-1, 0 and 1"),
    "chexpert floats": (["1.0", "0.0", "-1.0", ""], "nearly", "-1, 0 and 1"),
    "minus": ([1, -1], "nearly", "-1 and 1"),
    "grades": ([0, 1, 2], "nearly", "0, 1 and 2"),
    "sex coded": ([1, 2], "nearly", "1 and 2"),
    "sex": (["male", "female"], "nearly", "female and male"),
    "plus or minus": (["+", "-"], "nearly", "+"),
    "two spellings": (["sí", "no", "si"], "nearly", "no, si and sí"),
    "crosses": (["x", ""], "nearly", "x"),
    "only yes": (["yes", ""], "nearly", "yes"),
    "yes no maybe": (["yes", "no", "maybe"], "nearly", "maybe, no and yes"),
    "mixed": (["yes", "no", "1", "0"], "nearly", "0, 1, no and yes"),
    "probability": ([0.13, 0.5, 0.77, 0.2, 0.9, 1.0, 0.0], "nearly", "fractions from 0 to 1"),
    "few probabilities": ([0.25, 0.5, 0.75], "nearly", "0.25, 0.5 and 0.75"),
    "age": ([31, 42, 53, 64, 75, 86], "other", ""),
    "three sites": (["arm", "leg", "back"], "other", ""),
    "constant text": (["A100"], "other", ""),
    "empty": ([""], "other", ""),
    "identifier": ([f"id{i}" for i in range(N)], "other", ""),
}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("concepts")
    root = toys.draw_images(folder / "images", N)
    files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))
    rows = {name: (held * N)[:N] for name, (held, _, _) in COLUMNS.items()}
    pd.DataFrame({"file": files, **rows}).to_csv(root / "table.csv", index=False)
    probe = read_probe_set(root / "table.csv")
    return pipeline.build(toys.request(folder, folder / "a.csp", probe=probe))


@pytest.mark.slow
def test_every_column_is_what_it_is_said_to_be(built):
    concepts = [n for n, (_, kind, _) in COLUMNS.items() if kind in ("concept", "same")]
    assert built.manifest.inputs["probe"]["concepts"] == concepts
    found, same, nearly = concept_sentences(built)
    assert found == f"{len(concepts)} concept columns: {', '.join(concepts)}."
    alike = [name for name, (_, kind, _) in COLUMNS.items() if kind == "same"]
    assert same.startswith(f"Neurons are not compared with {', '.join(alike)}, because ")
    assert nearly.startswith(
        "Not taken for concept columns: chexpert, chexpert floats (hold -1, 0 and 1); minus (holds "
    )
    named = nearly.removeprefix("Not taken for concept columns: ").rpartition(": ")[0]
    told = {
        name: what
        for names, what in re.findall(r"(?:^|; )([^()]+) \(holds? ([^)]*)\)", named)
        for name in names.split(", ")
    }
    assert told == {name: what for name, (_, kind, what) in COLUMNS.items() if kind == "nearly"}
    assert "nothing where nobody knows" in nearly
    assert verify(built) == []


def test_uncertain_is_what_nobody_knows(built):
    held = built.table("probe", "probe")["yes no uncertain"]
    assert held[:3].isna().tolist() == [False, False, True]
    assert held[:2].tolist() == [1, 0]


def test_build_output_info_and_overview_say_it(built, capsys):
    sentences = concept_sentences(built)
    report(built, False)
    said = capsys.readouterr().out
    assert all(sentence in said for sentence in sentences)
    report(built, True)
    assert json.loads(capsys.readouterr().out)["concepts"] == sentences
    with pytest.raises(SystemExit):
        main(["info", str(built.path), "--json"])
    assert json.loads(capsys.readouterr().out)["concepts"] == sentences
    assert [text for name, text in provenance(built) if name == "Concepts"] == sentences


@pytest.mark.slow
def test_where_there_is_no_table_nothing_is_said(tmp_path):
    toys.draw_images(tmp_path / "images")
    assert concept_sentences(pipeline.build(toys.request(tmp_path, tmp_path / "a.csp"))) == []


@pytest.mark.parametrize("value", [[1], "x"])
def test_a_concept_column_that_holds_no_numbers_is_refused(built, value, tmp_path):
    path = shutil.copytree(built.path, tmp_path / "a.csp")
    file = place(path, "probe", "probe.parquet")
    rows = pd.read_parquet(file)
    rows["plain"] = pd.Series([value] * len(rows), dtype=object)
    rows.to_parquet(file, index=False)
    redo(path)
    with pytest.raises(BundleError, match="concept column 'plain' that holds more than numbers"):
        concept_sentences(Bundle.open(path))


def test_a_concept_column_that_is_not_there_is_refused(built, tmp_path):
    """It ended Audit in an error: the manifest names it, and the table calls it otherwise."""
    path = shutil.copytree(built.path, tmp_path / "a.csp")
    file = place(path, "probe", "probe.parquet")
    pd.read_parquet(file).rename(columns={"plain": "plain_"}).to_parquet(file, index=False)
    redo(path)
    with pytest.raises(BundleError, match="has no concept column 'plain'"):
        Bundle.open(path).images()


@pytest.mark.slow
def test_of_many_columns_that_hold_the_same_some_are_named(tmp_path):
    root = toys.draw_images(tmp_path / "images", N)
    files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))
    rows = {f"share {i}": [(7 * i + n) % 11 / 10 for n in range(N)] for i in range(9)}
    pd.DataFrame({"file": files, **rows}).to_csv(root / "table.csv", index=False)
    probe = read_probe_set(root / "table.csv")
    bundle = pipeline.build(toys.request(tmp_path, tmp_path / "a.csp", probe=probe))
    (told,) = concept_sentences(bundle)
    assert told.startswith(
        "Not taken for concept columns: share 0, share 1, share 2, share 3, 5 more (hold fractions "
        "from 0 to 1): "
    )
