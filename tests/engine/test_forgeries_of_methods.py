"""Verify follows every label method that comes with the program: forgeries whose hashes agree."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import false_discovery_control

from csp_engine.bundle import Bundle, copy_slim, verify
from csp_engine.bundle.verifying.scored import scores
from csp_engine.bundle.verifying.whole import altered, unchecked
from csp_engine.captioners.speaking import Speaking
from csp_engine.methods import METHODS, OwnLabel
from csp_engine.methods.method import Written
from csp_engine.methods.scoring.written import rank_written
from csp_engine.pipeline import build
from csp_engine.pipeline.recipe import changed
from tests.engine.test_cli import run
from tests.worlds import toys
from tests.worlds.damage import change_array, edit, place, redo
from tests.worlds.small_captioner import small_captioner

LAYER = "small/second@mean"
WRITING = ("invert", "linear_explanations", "falcon", "milan")
SETTINGS = {
    "methods": f"csp,{','.join(WRITING)}",
    "falcon.terms": "words",
    "falcon.neighbours": "model",
    "invert.smallest": "0.05",
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All methods that write their labels; INVERT reads concept columns, and FALCON the layer."""
    folder = tmp_path_factory.mktemp("forgeries")
    toys.draw_images(folder / "images", n_images=90)
    captioner = small_captioner(
        folder / "captioner", encoder_fingerprint=toys.ColourEncoder().fingerprint
    )
    recipe = changed(replace(toys.SMALL, n_candidates=3, n_beams=8), SETTINGS)
    return build(
        toys.request(
            folder,
            folder / "whole.csp",
            probe=toys.with_columns(folder),
            recipe=recipe,
            captioner=captioner,
        )
    ).path


@pytest.fixture(scope="module")
def speaker(whole: Path) -> Speaking:
    from csp_engine.captioners import load_captioner

    captioner: Any = load_captioner(whole.parent / "captioner")
    return Speaking(captioner)


@pytest.fixture
def path(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "a.csp"))


def told(path: Path, method: str, speaker: Speaking) -> str:
    """What is found in one stage, its hashes being right."""
    bundle = Bundle.open(path)
    assert altered(bundle) == []
    model, layer = LAYER.split("/")
    return " ".join(said for _, said in scores(bundle, model, layer, method, speaker=speaker))


def stage(method: str) -> str:
    return f"scores:{LAYER}/{method}"


@pytest.mark.slow
def test_a_whole_bundle_has_nothing_that_is_not_computed_again(
    path: Path, speaker: Speaking
) -> None:
    bundle = Bundle.open(path)
    assert verify(bundle, speaker=speaker) == []
    assert unchecked(bundle, speaker) == []
    # What the forgeries below need in order to mean something.
    assert bundle.score_array(*LAYER.split("/"), "invert", "from_columns").any()
    for method in ("invert", "linear_explanations"):
        assert bundle.scores(*LAYER.split("/"), method).reliable_u.any()
    assert set(WRITING) == {name for name, method in METHODS.items() if method.writes}


CHANGES: dict[str, Callable[[np.ndarray], Any]] = {
    "label_uk": lambda values: values[:, ::-1].copy(),
    "score_uk": lambda values: values + np.float32(0.1),
    "margin_uk": lambda values: values + np.float32(0.1),
    "raw_uk": lambda values: values + np.float32(0.1),
    "percentile_uk": lambda values: np.full_like(values, 0.5),
    "best_percentile_u": lambda values: np.where(values > 0.5, 0, 1 - 1e-3).astype(np.float32),
    "reliable_u": lambda values: ~values,
}
# All arrays go the same way for every method; what differs is how the methods come to them.
CASES = [("invert", array) for array in CHANGES]
CASES += [(method, array) for method in WRITING[1:] for array in ("label_uk", "best_percentile_u")]
CASES += [(method, array) for method in WRITING for array in METHODS[method].stores.arrays]
CASES += [(method, "vector_ud") for method in ("falcon", "milan")]


def others(values: np.ndarray) -> np.ndarray:
    """Other values of the same kind and range."""
    if values.dtype.kind == "b":
        return ~values
    return values[::-1].copy() if values.ndim > 1 else (1 - values).astype(values.dtype)


@pytest.mark.parametrize(("method", "array"), CASES)
def test_forged_arrays_are_told(method: str, array: str, path: Path, speaker: Speaking) -> None:
    change_array(path, stage(method), array, CHANGES.get(array, others))
    assert stage(method) in told(path, method, speaker)


@pytest.mark.parametrize(
    ("n_units", "step", "is_told"), [(1, 0.01, False), (1, 0.1, True), (5, 0.01, True)]
)
def test_one_image_on_the_other_side_of_a_threshold_is_no_forgery(
    n_units: int, step: float, is_told: bool, path: Path, speaker: Speaking
) -> None:
    """Rounding differs between machines; INVERT asks of every image whether a label is above."""

    count_u = Bundle.open(path).scores(*LAYER.split("/"), "invert").count_u
    some = np.flatnonzero(count_u)[:n_units]

    def moved(values: np.ndarray) -> None:
        if values.dtype.kind == "f":
            values[some] -= values.dtype.type(step)
        else:
            values[some] += 1

    for array in ("score_uk", "raw_uk", "held_out", "n_shown"):
        change_array(path, stage("invert"), array, moved)
    said = told(path, "invert", speaker)
    assert bool(said) is is_told, said


@pytest.mark.parametrize(
    ("array", "k", "value"),
    [("margin_uk", 0, 7.0), ("margin_uk", 0, 0.9), ("margin_uk", -1, 7.0), ("margin_uk", -1, -1.0),
     ("score_uk", 1, 0.999), ("score_uk", -1, 0.999), ("raw_uk", 0, 0.1), ("raw_uk", -1, 0.1)],
)  # fmt: skip
def test_one_number_of_one_unit_is_told_though_few_units_may_differ(
    array: str, k: int, value: float, path: Path, speaker: Speaking
) -> None:
    """What rounding turns moves by an image or two, and margins with their scores."""
    count_u = Bundle.open(path).scores(*LAYER.split("/"), "invert").count_u
    unit = int(np.flatnonzero(count_u == count_u.max())[0])

    def forge(values: np.ndarray) -> None:
        values[unit, k % count_u[unit]] = value

    change_array(path, stage("invert"), array, forge)
    assert stage("invert") in told(path, "invert", speaker)


@pytest.mark.parametrize("method", ["invert", "linear_explanations"])
def test_a_percentile_that_is_not_1_less_its_p_value_is_told(
    method: str, path: Path, speaker: Speaking
) -> None:
    """Of every unit, though a quarter of them may differ by more between machines."""
    unit = int(np.argmax(Bundle.open(path).scores(*LAYER.split("/"), method).best_percentile_u))

    def forge(values: np.ndarray) -> None:
        values[unit] -= np.float32(0.01)

    change_array(path, stage(method), "best_percentile_u", forge)
    said = told(path, method, speaker)
    assert f"best_percentile_u of {stage(method)} is not 1 less its p-values" in said


@pytest.mark.parametrize("method", WRITING)
def test_labels_with_other_texts_are_told(method: str, path: Path, speaker: Speaking) -> None:
    file = place(path, stage(method), "labels.parquet")
    rows = pd.read_parquet(file)
    rows["text"] = rows["text"].to_numpy()[::-1]
    rows.to_parquet(file, index=False)
    redo(path)
    assert f"of {stage(method)} are not those with its scores" in told(path, method, speaker)


@pytest.mark.parametrize(
    ("method", "becomes"), [("invert", False), ("invert", True), ("linear_explanations", False)]
)
def test_one_false_discovery_is_told(
    method: str, becomes: bool, path: Path, speaker: Speaking
) -> None:
    def forge(reliable_u: np.ndarray) -> None:
        reliable_u[np.flatnonzero(reliable_u != becomes)[0]] = becomes

    change_array(path, stage(method), "reliable_u", forge)
    edit(path, lambda body: body["stages"][stage(method)]["facts"].pop("n_reliable"))
    assert "reliable_u" in told(path, method, speaker)


@pytest.mark.parametrize("method", ["csp", "invert", "falcon"])
def test_percentiles_that_say_nothing_any_more_are_told(
    method: str, path: Path, speaker: Speaking
) -> None:
    """Not known, in place of a verdict: no reading stumbles over it."""
    change_array(
        path, stage(method), "best_percentile_u", lambda values: np.full_like(values, np.nan)
    )
    change_array(path, stage(method), "reliable_u", np.zeros_like)
    edit(path, lambda body: body["stages"][stage(method)]["facts"].update(n_reliable=0))
    assert f"best_percentile_u of {stage(method)} is not what" in told(path, method, speaker)


@pytest.mark.parametrize("method", ["csp", "invert"])
@pytest.mark.parametrize("fact", ["n_units", "n_reliable", "n_without_evidence"])
def test_forged_counts_are_told(method: str, fact: str, path: Path, speaker: Speaking) -> None:
    edit(path, lambda body: body["stages"][stage(method)]["facts"].update({fact: 1}))
    assert f"{fact} of {stage(method)} is 1, and its arrays say" in told(path, method, speaker)


def test_files_that_a_method_does_not_write_are_told(path: Path, speaker: Speaking) -> None:
    """Reading shows labels of a stage's own, and their weights, wherever they lie."""
    folder = place(path, stage("csp"), "")
    n_units, n_labels = np.load(folder / "label_uk.npy").shape
    texts = pd.DataFrame({"text": ["forged"] * 40, "source": ["csp"] * 40})
    texts.to_parquet(folder / "labels.parquet", index=False)
    np.save(folder / "weight_uk.npy", np.ones((n_units, n_labels), np.float32))

    def listed(body: dict[str, Any]) -> None:
        files = body["stages"][stage("csp")]["files"]
        for name in ("labels.parquet", "weight_uk.npy"):
            files[name] = {"sha256": "0" * 64, "bytes": 0, "dtype": None, "shape": None}

    edit(path, listed)
    redo(path)
    assert Bundle.open(path).method_labels(*LAYER.split("/"), "csp")["text"][0] == "forged"
    said = told(path, "csp", speaker)
    assert f"Stage {stage('csp')} brings labels of its own" in said
    assert f"Stage {stage('csp')} has weights of labels" in said


@pytest.mark.slow
def test_what_is_not_at_hand_is_said(
    path: Path, tmp_path: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = "Labels by milan of 2 layers: the captioner that the method asked is not here."
    assert unchecked(Bundle.open(path)) == [missing]
    assert verify(Bundle.open(path)) == []
    _, out, _ = run(capsys, "verify", whole)  # finds its captioner by itself
    assert "Not computed again" not in out
    slim = copy_slim(Bundle.open(path), tmp_path / "slim.csp")
    assert verify(slim) == []
    for method in ("invert", "linear_explanations", "falcon"):
        said = f"Labels by {method} of 2 layers: this copy leaves activations out."
        assert said in unchecked(slim)


@pytest.mark.slow
def test_the_command_asks_the_captioner_and_tells_what_it_finds(
    path: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change_array(path, stage("milan"), "score_uk", lambda values: values + np.float32(0.1))
    shutil.copytree(whole.parent / "captioner", path.parent / "captioner")
    code, out, _ = run(capsys, "verify", path, "--json")
    assert code == 1
    assert any(stage("milan") in each for each in json.loads(out)["problems"])


@pytest.mark.parametrize("n_own", [1, 7, 40])
def test_discoveries_of_some_units_are_those_of_the_whole_layer(n_own: int) -> None:
    rng = np.random.default_rng(n_own)
    p_u = np.where(rng.random(60) < 0.4, rng.random(60) * 1e-3, rng.random(60))
    expected_u = false_discovery_control(p_u) <= 0.05
    own = rng.permutation(60)[:n_own]
    said = Written([[OwnLabel("a", 1.0)]] * n_own, p_u=p_u[own])
    parts = [(np.arange(n_own), said, None)]
    ranking, _ = rank_written(parts, n_own, 2, 3, np.delete(p_u, own))
    np.testing.assert_array_equal(ranking.reliable_u, expected_u[own])
