"""Figures that cannot be measured again contradict themselves when one is changed: verify tells."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from csp_engine.bundle import Bundle, verify
from csp_engine.errors import BundleError
from csp_engine.pipeline import add_performance, build
from csp_engine.probe.listing import read_probe_set
from tests.worlds import toys
from tests.worlds.damage import change_array, edit, place, redo

LAST = "small/last@mean"
TRUTH, INFLUENCE, FAITH = f"truth:{LAST}", f"influence:{LAST}", f"faithfulness:{LAST}/csp"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("figures")
    targets = (toys.target(("second", "last")),)
    images = toys.draw_images(folder / "images")
    classes = [file.parent.name for file in sorted(images.rglob("*.png"))]
    reddish = [int(name in ("red", "grey")) for name in classes]
    probe = read_probe_set(toys.as_table(images, **{"class": classes, "reddish": reddish}))
    built = build(toys.request(folder, folder / "whole.csp", targets=targets, probe=probe))
    toys.with_faithfulness(toys.with_truth(built, planted_layer="last@mean"))
    return add_performance(built.path, {"small": toys.slices()}).path


@pytest.fixture
def path(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "a.csp"))


def problems(path: Path) -> str:
    return " ".join(verify(Bundle.open(path)))


def test_what_was_measured_agrees_with_itself(path: Path) -> None:
    assert problems(path) == ""
    assert (np.load(place(path, INFLUENCE, "direct_weight.npy")) != 0).any()
    assert pd.read_parquet(place(path, TRUTH, "units.parquet"))["true_concept"].notna().sum() >= 2


def put(column: str, row: int, value: Any) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(rows: pd.DataFrame) -> pd.DataFrame:
        rows.loc[row, column] = value
        return rows

    return change


TABLES = {
    "another true concept": (TRUTH, "units", put("true_concept", 0, "stripe"), "not its concept"),
    "a true concept more": (TRUTH, "units", put("true_concept", 5, "red"), "its bounds say"),
    "a true concept less": (TRUTH, "units", put("true_concept", 0, None), "its bounds say"),
    "a better bound": (TRUTH, "units", put("auroc_low", 0, 0.1), "its bounds say"),
    "bounds turned": (TRUTH, "units", put("pearson_high", 1, -0.5), "pearson_low above"),
    "more images than there are": (TRUTH, "units", put("n_positive", 0, 119), "n_positive of"),
    "a planted unit less": (TRUTH, "units", put("planted", 0, None), "n_planted of"),
    "another count of a concept": (TRUTH, "concepts", put("n_positive", 0, 53), "auroc_uc of"),
    "all are right": ("performance:small", "slices", put("n_correct", 1, 9), "accuracy of"),
    "a better share": ("performance:small", "slices", put("accuracy", 1, 0.6), "accuracy of"),
    "a share outside": ("performance:small", "slices", put("low", 1, 0.45), "low above accuracy"),
    "more right than asked": ("performance:small", "slices", put("n_correct", 0, 11), "more corr"),
    "a figure that passes": ("trust", "metrics", put("is_passed", 1, True), "is_passed of trust"),
    "a fall that was none": ("trust", "metrics", put("missing_by", 0, 0.0), "is_passed of trust"),
    "a prediction turned": (FAITH, "units", put("pearson_low", 0, 1.0), "pearson_low above"),
}


@pytest.mark.parametrize(
    ("stage", "table", "column", "value"),
    [
        (FAITH, "units", "pearson", 1e9),
        (FAITH, "units", "auprc_low", -0.5),
        (TRUTH, "units", "auroc", 1.5),
        ("trust", "metrics", "auroc", np.inf),
        ("performance:small", "slices", "accuracy", 7.0),
    ],
)
def test_a_figure_outside_of_its_range_is_not_read(
    path: Path, stage: str, table: str, column: str, value: float
) -> None:
    file = place(path, stage, f"{table}.parquet")
    put(column, 0, value)(pd.read_parquet(file)).to_parquet(file, index=False)
    redo(path)
    with pytest.raises(BundleError, match=f"'{column}' that holds .* outside of"):
        Bundle.open(path).table(stage, table)


@pytest.mark.parametrize("forgery", TABLES)
def test_a_forged_row_is_told_of(forgery: str, path: Path) -> None:
    stage, name, change, said = TABLES[forgery]
    file = place(path, stage, f"{name}.parquet")
    change(pd.read_parquet(file)).to_parquet(file, index=False)
    redo(path)
    assert said in problems(path)


def add(row: int, column: int, value: float) -> Callable[[np.ndarray], None]:
    def change(values: np.ndarray) -> None:
        values[row, column] += value

    return change


ARRAYS = {
    "an area": (TRUTH, "auroc_uc", add(3, 1, -0.0002), "cannot be counted"),
    "an area that is none": (TRUTH, "auroc_uc", add(3, 1, np.nan), "not defined where"),
    "influence": (INFLUENCE, "gradient_activation", add(1, 4, 0.4), "is not its weights'"),
    "weights": (INFLUENCE, "direct_weight", add(1, 4, 3.0), "is not its weights'"),
    "images behind it": (
        INFLUENCE,
        "n_image",
        lambda v: v + np.arange(4, dtype=np.int32),
        "n_image",
    ),
    "places on the map": ("projection:csp", "xy", add(2, 0, np.nan), "places other neurons"),
}


@pytest.mark.parametrize("forgery", ARRAYS)
def test_a_forged_number_is_told_of(forgery: str, path: Path) -> None:
    stage, name, change, said = ARRAYS[forgery]
    change_array(path, stage, name, change)
    assert said in problems(path)


@pytest.mark.parametrize("kind", ["columns", "audit"])
def test_a_layer_that_lacks_what_others_have_is_told_of(kind: str, path: Path) -> None:
    def cut(body: dict[str, Any]) -> None:
        del body["stages"][f"{kind}:{LAST}"]

    edit(path, cut)
    assert f"Stage {kind}:{LAST} is not there" in problems(path)


def test_an_area_is_a_number_of_pairs() -> None:
    """The check itself, against areas counted pair by pair."""
    rng = np.random.default_rng(4)
    value_n, shows_n = rng.integers(0, 9, 40), rng.random(40) < 0.4
    pairs = np.subtract.outer(value_n[shows_n], value_n[~shows_n])
    halves = 2 * (pairs > 0).sum() + (pairs == 0).sum()
    auroc = np.float32(halves / (2 * pairs.size))
    assert abs(float(auroc) * 2 * pairs.size - halves) < 1e-3 + 2.0**-23 * 2 * pairs.size


TYPED = {
    FAITH: ("units", ("pearson", "pearson_low", "auprc", "auprc_high", "n_said")),
    "trust": ("metrics", ("metric", "auroc", "low", "n_wrong", "extra_by", "is_passed")),
    "performance:small": ("slices", ("slice", "n", "n_correct", "accuracy", "high")),
}


@pytest.mark.parametrize("stage", TYPED)
@pytest.mark.parametrize("value", [None, [1], "x", "gone"])
def test_columns_of_figures_hold_what_they_should(stage: str, value: Any, path: Path) -> None:
    """Pages read them as numbers, and a build elsewhere may have written anything."""
    name, columns = TYPED[stage]
    file = place(path, stage, f"{name}.parquet")
    whole = pd.read_parquet(file)
    for column in columns:
        is_optional = stage.startswith("performance") and column in ("n_correct", "high")
        if (value == "x" and column in ("metric", "slice")) or (value == "gone" and is_optional):
            continue
        rows = whole.copy()
        rows[column] = pd.Series([value] * len(rows), dtype=object)
        (rows.drop(columns=column) if value == "gone" else rows).to_parquet(file, index=False)
        redo(path)
        with pytest.raises(BundleError, match=rf"{name}\.parquet .*column '{column}'"):
            Bundle.open(path).table(stage, name)


def test_figures_have_a_row_for_each_unit(path: Path) -> None:
    file = place(path, FAITH, "units.parquet")
    pd.read_parquet(file)[:-1].to_parquet(file, index=False)
    redo(path)
    with pytest.raises(BundleError, match="rows instead of 12"):
        Bundle.open(path).table(FAITH, "units")
