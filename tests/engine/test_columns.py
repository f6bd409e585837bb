"""Concept columns in bundles: measured in every build that has some, shown wherever neurons are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from csp_engine.bundle import Bundle, BundleWriter, copy_slim, kinds, verify
from csp_engine.exports.html import of_layers, write_folder
from csp_engine.pipeline import build, relabel
from csp_engine.pipeline.recipe import Recipe, changed
from csp_engine.types import NeuronRef
from csp_engine.views import lists
from csp_engine.views.address import read_view
from csp_engine.views.memo import Memo
from csp_engine.views.neuron.columns import column_fits
from csp_engine.views.table.rows import neuron_table
from tests.engine.test_cli import run
from tests.worlds import toys

FIRST = ("small", "first@mean")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("columns")
    build(toys.request(folder, folder / "a.csp", probe=toys.with_columns(folder)))
    return folder


@pytest.fixture
def bundle(folder, tmp_path) -> Bundle:
    return Bundle.open(shutil.copytree(folder / "a.csp", tmp_path / "a.csp"))


def test_a_build_compares_every_neuron_with_every_column(bundle):
    probe = bundle.table("probe", "probe")
    for place in ((FIRST), ("small", "second@mean")):
        held = bundle.columns(*place)
        assert held is not None
        assert held.columns["name"].tolist() == list(toys.CONCEPTS)
        assert held.columns["n_known"].tolist() == [28, 21, 28]
        assert held.columns["n_positive"].tolist() == [7, 5, 0]
        known = probe["sometimes"].notna().to_numpy()
        for unit, values_n in enumerate(bundle.activations(*place)):
            own = roc_auc_score(probe["sometimes"][known], values_n[known])
            assert held.auroc_uc[unit, 1] == pytest.approx(own, abs=1e-6)
        assert np.isnan(held.auroc_uc[:, 2]).all(), "no image shows it"
    assert verify(bundle) == []


@pytest.mark.slow
def test_builds_without_columns_have_no_such_stage(tmp_path):
    plain = build(toys.request(tmp_path, tmp_path / "plain.csp"))
    assert not list(kinds.COLUMNS.among(plain.manifest.stages))
    assert plain.columns(*FIRST) is None
    assert column_fits(plain, NeuronRef(*FIRST, 0)) == ()
    assert neuron_table(plain, Memo(), "csp")["column_auroc"].isna().all()


def test_other_stages_are_known_by_the_same_keys_and_an_older_bundle_is_completed(folder, bundle):
    """As a bundle from before: the stage is taken away; the same build adds it and no more."""
    with BundleWriter(bundle.path) as writer:
        writer.drop([n for n in writer.manifest.stages if kinds.COLUMNS.is_of(n)])
    older = Bundle.open(bundle.path)
    assert older.columns(*FIRST) is None
    before = toys.content(bundle.path)
    done = build(toys.request(folder, bundle.path, probe=toys.with_columns(folder)))
    after = toys.content(done.path)
    assert {name: after[name] for name in before} == before
    assert {name.partition(":")[0] for name in set(after) - set(before)} == {"columns"}
    assert after == toys.content(folder / "a.csp")


@pytest.mark.slow
def test_labelling_again_and_slim_copies_keep_the_figures(bundle, tmp_path):
    before = np.array(bundle.columns(*FIRST).auroc_uc)
    slim = copy_slim(bundle, tmp_path / "slim.csp")
    again = relabel(slim.path, changed(Recipe.from_json(slim.manifest.recipe), {"n_labels": 3}))
    np.testing.assert_array_equal(again.columns(*FIRST).auroc_uc, before)
    assert verify(again) == []


def test_figures_that_do_not_follow_from_the_activations_are_found_out(bundle):
    stage = kinds.COLUMNS.name(*FIRST)
    record = bundle.stage(stage)
    held = bundle.columns(*FIRST)
    with BundleWriter(bundle.path) as writer:
        identity = {k: getattr(record, k) for k in ("version", "params", "needs", "inputs")}
        writer.drop([stage])
        with writer.stage(stage, **identity) as folder:
            folder.table("columns", held.columns)
            folder.array("auroc_uc", 1 - np.asarray(held.auroc_uc))
            folder.array("pearson_uc", np.asarray(held.pearson_uc))
            folder.array("auprc_uc", np.asarray(held.auprc_uc))
            folder.facts.update(record.facts)
    problems = verify(Bundle.open(bundle.path))
    assert len(problems) == 1
    assert "auroc_uc" in problems[0]


def test_the_table_shows_the_best_column_or_the_one_asked_for(bundle):
    rows = neuron_table(bundle, Memo(), "csp")
    held = [bundle.columns("small", layer) for layer in bundle.layers("small")]
    pearson_uc = np.concatenate([each.pearson_uc for each in held])
    auroc_uc = np.concatenate([each.auroc_uc for each in held])
    for row, pearson_c, auroc_c in zip(rows.to_dict("records"), pearson_uc, auroc_uc, strict=True):
        best = int(np.nanargmax(pearson_c))
        if pearson_c[best] > 0:
            assert row["column"] == toys.CONCEPTS[best]
            assert row["column_auroc"] == pytest.approx(float(auroc_c[best]))
        else:
            assert pd.isna(row["column"])
            assert np.isnan(row["column_auroc"])
    asked = lists.found_neurons(bundle, Memo(), "csp", column="sometimes")
    np.testing.assert_array_equal(asked["column_auroc"], auroc_uc[:, 1])
    assert set(asked["column"]) == {"sometimes"}
    view = read_view({"column": "sometimes"}, "a", bundle)
    ordered = lists.ordered(lists.searched(bundle, Memo(), view), view, lists.Narrowing())
    assert (np.diff(ordered["column_auroc"]) <= 0).all()
    queue = lists.queue_of(bundle, Memo(), view, {"column": "sometimes"})
    assert queue.rows["unit"].tolist() == ordered["unit"].tolist()


def test_columns_that_are_not_there_are_said(bundle, tmp_path):
    view = read_view({"column": "some times"}, "a", bundle)
    assert view.column == "sometimes"
    assert any("some times" in note for note in view.notes)


def test_the_command_finds_neurons_by_column(bundle, capsys):
    code, out, _ = run(capsys, "search", bundle.path, "--column", "reddish", "-n", "3", "--json")
    assert code == 0
    said = json.loads(out)
    held = [bundle.columns("small", layer).auroc_uc for layer in bundle.layers("small")]
    figures = np.concatenate(held)
    best = np.sort(figures[:, 0])[::-1][:3]
    assert [each["auroc"] for each in said["found"]] == pytest.approx(best.tolist(), abs=1e-4)
    code, out, _ = run(capsys, "search", bundle.path, "--column", "never")
    assert code == 0
    assert "–" in out
    code, _, err = run(capsys, "search", bundle.path, "--column", "redish")
    assert code == 2
    assert "'redish'" in err
    assert "reddish, sometimes, never" in err
    assert run(capsys, "search", bundle.path, "red", "--column", "never")[0] == 2
    assert run(capsys, "search", bundle.path, "--not", "red", "--column", "never")[0] == 2
    code, out, _ = run(capsys, "info", bundle.path, "--json")
    assert json.loads(out)["layers"][0]["columns"] == list(toys.CONCEPTS)


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
def test_the_figures_go_to_a_table(bundle, tmp_path, capsys, ending):
    out = tmp_path / f"columns.{ending}"
    code, said, _ = run(capsys, "export", bundle.path, out, "--columns")
    assert code == 0, said
    read = {"csv": pd.read_csv, "parquet": pd.read_parquet}.get(
        ending, lambda path: pd.read_json(path, lines=True)
    )
    rows = read(out)
    assert len(rows) == 3 * sum(bundle.n_units("small", layer) for layer in bundle.layers("small"))
    one = rows[(rows["layer"] == FIRST[1]) & (rows["unit"] == 2)].set_index("column")
    held = bundle.columns(*FIRST)
    assert one.loc["sometimes", "auprc"] == pytest.approx(float(held.auprc_uc[2, 1]), abs=1e-6)
    assert one["auroc"].isna().tolist() == [False, False, True]
    assert run(capsys, "export", bundle.path, out, "--columns", "-n", "2")[0] == 2


@pytest.mark.slow
def test_static_pages_show_them(bundle, tmp_path):
    write_folder(bundle, of_layers(bundle), tmp_path / "pages")
    [table] = [p for p in (tmp_path / "pages" / "tables").iterdir() if "first" in p.name]
    assert "Column AUROC" in table.read_text("utf-8")
    page = next((tmp_path / "pages" / "neurons").glob("*first*/2.html")).read_text("utf-8")
    assert "Concept columns" in page
    held = bundle.columns(*FIRST)
    assert f"{held.auroc_uc[2, 1]:.3f}" in page
    assert "0 of 28" in page
