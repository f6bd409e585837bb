"""Ground truth and a captioner's answers in forged bundles: a sentence, or what is left of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from csp_engine.bundle import Bundle, verify
from csp_engine.errors import BundleError, CspError
from csp_engine.methods import METHODS
from csp_engine.pipeline import add_performance, build
from csp_engine.views.neuron.proposals import proposal_notices
from tests.fuzz.bundles import make_world
from tests.fuzz.readings import READINGS
from tests.worlds import toys
from tests.worlds.damage import change_array, edit, place, redo

TRUTH = "truth:small/second@mean"
CANDIDATES = "candidates:small/second@mean"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("known")).path


@pytest.fixture
def path(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "a.csp"))


TABLES: dict[str, tuple[str, Callable[[pd.DataFrame], pd.DataFrame], str]] = {
    "wordings no JSON": ("concepts", lambda rows: rows.assign(wordings="red"), "no list of word"),
    "wordings of numbers": ("concepts", lambda rows: rows.assign(wordings="[1]"), "no list of wo"),
    "wordings deep": ("concepts", lambda rows: rows.assign(wordings="[" * 99_999), "no list of wo"),
    "one name": ("concepts", lambda rows: rows.assign(name="red"), "names concept 'red' twice"),
    "another truth": ("units", lambda rows: rows.assign(true_concept="x"), "concept 'x', which"),
    "another choice": ("units", lambda rows: rows.assign(concept="x"), "concept 'x', which"),
    "no truth": ("units", lambda rows: rows.drop(columns="true_concept"), "no column 'true_conc"),
    "no figure": ("units", lambda rows: rows.drop(columns="auroc_low"), "no column 'auroc_low'"),
    "no kind": ("units", lambda rows: rows.drop(columns="planted_kind"), "no column 'planted_k"),
    "kinds null": ("units", lambda rows: rows.assign(planted_kind=None), "a planted unit of"),
    "planted no JSON": (
        "units", lambda rows: rows.assign(planted_concepts="red"), "a planted unit of"
    ),
    "planted others": (
        "units", lambda rows: rows.assign(planted_concepts='["x"]'), "a planted unit of"
    ),
    "planted all": ("units", lambda rows: rows.assign(planted="red"), "a planted unit of"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows.drop(columns="sha256"), "no column 'sha256'"),
        (lambda rows: rows.assign(file=rows["file"].where(rows.index > 0, "b")), ""),
        (lambda rows: rows.assign(file=rows["file"].where(rows.index > 0, rows["file"][1])), "twi"),
    ],
    ids=["no hashes", "another name", "a name twice"],
)
def test_a_table_of_images_that_cannot_be_one(path: Path, change: Any, said: str) -> None:
    file = place(path, "probe", "probe.parquet")
    change(pd.read_parquet(file)).to_parquet(file, index=False)
    redo(path)
    if not said:
        assert len(Bundle.open(path).table("probe", "probe"))
        return
    with pytest.raises(BundleError, match=said):
        Bundle.open(path).table("probe", "probe")


@pytest.mark.slow
@pytest.mark.parametrize("fault", TABLES)
def test_a_table_of_truths_that_cannot_be_one(fault: str, path: Path) -> None:
    name, change, said = TABLES[fault]
    file = place(path, TRUTH, f"{name}.parquet")
    change(pd.read_parquet(file)).to_parquet(file, index=False)
    redo(path)
    for reading in ("labels", "evaluate"):
        with pytest.raises(CspError) as caught:
            READINGS[reading](path)
        assert f"{name}.parquet" in str(caught.value)
        assert said in str(caught.value)
    assert said in " ".join(verify(Bundle.open(path)))


PARAMS: dict[str, tuple[str, dict[str, Any]]] = {
    "least AUROC a text": (TRUTH, {"auroc_min": "high"}),
    "least correlation null": (TRUTH, {"pearson_min": None}),
    "provenance a list": (TRUTH, {"provenance": []}),
    "prompts a list": (CANDIDATES, {"prompts": []}),
    "a prompt a number": (CANDIDATES, {"prompts": {"contrast": 3}}),
    "seed a text": (CANDIDATES, {"seed": "x"}),
    "seed below zero": ("null", {"seed": -1}),
}
FACTS: dict[str, Any] = {
    "cost": "much", "n_unanswered": None, "n_same_answer": None, "n_tokens_in": "x",
}  # fmt: skip


@pytest.mark.parametrize("fault", PARAMS)
def test_parameters_that_cannot_be_any(fault: str, path: Path) -> None:
    stage, change = PARAMS[fault]
    edit(path, lambda body: body["stages"][stage]["params"].update(change))
    with pytest.raises(BundleError):
        Bundle.open(path)


@pytest.mark.parametrize("fact", FACTS)
def test_counts_of_answers_that_cannot_be_any(fact: str, path: Path) -> None:
    edit(path, lambda body: body["stages"][CANDIDATES]["facts"].update({fact: FACTS[fact]}))
    with pytest.raises(BundleError):
        Bundle.open(path)


@pytest.mark.parametrize("fact", FACTS)
def test_counts_of_answers_that_are_not_there_say_nothing(fact: str, path: Path) -> None:
    edit(path, lambda body: body["stages"][CANDIDATES]["facts"].pop(fact))
    assert all("small/" in each for each in proposal_notices(Bundle.open(path)))


@pytest.mark.parametrize("method", ["csp_plus", "invert", "linear_explanations"])
def test_what_a_method_keeps_of_its_own_has_a_row_for_each_unit(method: str, path: Path) -> None:
    """No kind of stage declares these arrays, and the page of labels puts them side by side."""
    stage = f"scores:small/second@mean/{method}"
    for array in METHODS[method].stores.arrays:
        copy = Path(shutil.copytree(path, path.parent / f"{array}.csp"))
        change_array(copy, stage, array, lambda values: values[:-1])
        with pytest.raises(BundleError, match=rf"gives {array}\.npy of .* 11 rows where others"):
            Bundle.open(copy)
    if method == "csp_plus":
        change_array(path, stage, "null_fit", lambda values: values[:-1])
        with pytest.raises(BundleError, match="rows where others"):
            Bundle.open(path)


@pytest.mark.parametrize("column", ["text", "source"])
@pytest.mark.parametrize("change", ["none", "some", "number", "gone"])
def test_labels_of_a_method_have_a_text_and_a_source(column: str, change: str, path: Path) -> None:
    stage = "scores:small/second@mean/invert"
    file = place(path, stage, "labels.parquet")
    rows = pd.read_parquet(file)
    if change == "gone":
        rows = rows.drop(columns=column)
    elif change == "some":
        rows[column] = [None, *rows[column].tolist()[1:]]
    else:
        rows[column] = None if change == "none" else 3
    rows.to_parquet(file, index=False)
    redo(path)
    with pytest.raises(BundleError, match=rf"labels\.parquet .*column '{column}'"):
        Bundle.open(path).method_labels("small", "second@mean", "invert")


@pytest.mark.slow
@pytest.mark.parametrize("n_correct", [-1, 10_000])
def test_more_right_answers_than_images_are_no_figure(tmp_path, n_correct):
    built = build(toys.request(tmp_path, tmp_path / "small.csp"))
    path = add_performance(built.path, {"small": toys.slices()}).path
    file = place(path, "performance:small", "slices.parquet")
    rows = pd.read_parquet(file)
    rows.loc[0, "n_correct"] = n_correct
    rows.to_parquet(file, index=False)
    redo(path)
    with pytest.raises(BundleError, match="more correct answers than images"):
        Bundle.open(path).performance("small")
