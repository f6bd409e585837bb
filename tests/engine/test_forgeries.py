"""What follows from other stages is computed again by verify: forgeries whose hashes all agree."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from csp_engine.bundle import Bundle, copy_slim, verify
from csp_engine.bundle.verifying.whole import unchecked
from csp_engine.networks.layers import select_layers
from csp_engine.networks.models import target_model
from csp_engine.pipeline import Target, build
from csp_engine.pipeline.recipe import changed
from tests.engine.test_cli import run
from tests.worlds import toys
from tests.worlds.damage import change_array, edit, place, redo

LAYER = "small/second@mean"
NEURONS = f"neurons:{LAYER}"
PLUS = f"scores:{LAYER}/csp_plus"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("forgeries")
    recipe = changed(toys.SMALL, {"methods": "csp_plus"})
    return build(toys.request(folder, folder / "whole.csp", recipe=recipe)).path


@pytest.fixture
def path(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "a.csp"))


def problems(path: Path) -> str:
    return " ".join(verify(Bundle.open(path)))


def change_table(path: Path, stage: str, name: str, change: Callable[[pd.DataFrame], Any]) -> None:
    file = place(path, stage, f"{name}.parquet")
    change(pd.read_parquet(file)).to_parquet(file, index=False)
    redo(path)


def change_facts(path: Path, stage: str, **facts: Any) -> None:
    edit(path, lambda body: body["stages"][stage]["facts"].update(facts))


def test_a_whole_bundle_has_nothing_that_is_not_computed_again(path: Path) -> None:
    assert problems(path) == ""
    assert unchecked(Bundle.open(path)) == []


# ------------------------------------------------------------------ texts that separate images

FACTS = {
    "is_separated": False, "auroc": 0.5, "auroc_p": 0.6, "auroc_p_least": 0.6, "shuffled": 0.9,
    "lean": 3.0, "lean_p": 0.9, "n_named": 2, "n_images": 4000, "n_texts": 1,
}  # fmt: skip


@pytest.mark.parametrize("fact", FACTS)
def test_forged_facts_of_separation_are_told(fact: str, path: Path) -> None:
    change_facts(path, "separation", **{fact: FACTS[fact]})
    assert f"{fact} of stage separation is" in problems(path)


@pytest.mark.parametrize("column", ["auroc", "shuffled"])
def test_forged_figures_of_names_are_told(column: str, path: Path) -> None:
    change_table(
        path, "separation", "names", lambda rows: rows.assign(**{column: rows[column] / 2})
    )
    assert f"{column} of the names" in problems(path)


def test_names_that_are_left_out_or_others_are_told(path: Path) -> None:
    change_table(path, "separation", "names", lambda rows: rows[1:])
    change_array(path, "separation", "name", lambda values: values[1:])
    assert "does not list the names" in problems(path)


def test_vectors_of_other_names_are_told(path: Path) -> None:
    change_array(path, "separation", "name", lambda values: np.roll(values, 1, axis=0))
    assert "are not those of the same labels" in problems(path)


@pytest.mark.slow
def test_an_older_version_cannot_claim_a_verdict_against_its_figures(path: Path) -> None:
    def older(body: dict[str, Any]) -> None:
        from csp_engine.bundle.manifest import stage_key

        record = body["stages"]["separation"]
        record["version"] = 2
        parts = (record[part] for part in ("version", "params", "needs", "inputs"))
        record["key"] = stage_key("separation", *parts)

    edit(path, older)
    assert problems(path) == ""
    (said,) = unchecked(Bundle.open(path))
    assert said == "Whether texts separate the images: another version of this program measured it."
    change_facts(path, "separation", is_separated=True, auroc=0.5)
    assert "contradicts its auroc" in problems(path)


# ------------------------------------------------------------------ methods that see activations


def rolled(values: np.ndarray) -> np.ndarray:
    return np.roll(values, 1, axis=0)


PLUS_ARRAYS: dict[str, Callable[[np.ndarray], Any]] = {
    "label_uk": lambda values: values[:, ::-1].copy(),
    "score_uk": lambda values: values + np.float32(0.1),
    "margin_uk": lambda values: values + np.float32(0.1),
    "raw_uk": lambda values: values + np.float32(0.1),
    "vector_ud": rolled,
    "fit": lambda values: np.ones_like(values),
    "reach": lambda values: values + np.float32(0.1),
    "depth": lambda values: values / 2,
    "halves_agree": lambda values: ~values,
    "next": lambda values: values / 2,
    "two_words": lambda values: values + np.float32(0.1),
    "null_fit": lambda values: values + np.float32(0.1),
    "best_percentile_u": lambda values: np.where(values > 0.5, 0, 1 - 1e-3).astype(np.float32),
    "reliable_u": lambda values: ~values,
}


@pytest.mark.parametrize("array", PLUS_ARRAYS)
def test_forged_labels_of_csp_plus_are_told(array: str, path: Path) -> None:
    change_array(path, PLUS, array, PLUS_ARRAYS[array])
    assert PLUS in problems(path)


def test_what_a_slim_copy_cannot_be_asked_is_said(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slim = copy_slim(Bundle.open(path), tmp_path / "slim.csp")
    assert verify(slim) == []
    wanted = [
        "Exemplars and statistics of 2 layers: this copy leaves activations out.",
        "Labels by csp_plus of 2 layers: this copy leaves activations out.",
    ]
    assert unchecked(slim) == wanted
    _, out, _ = run(capsys, "verify", slim.path)
    assert all(f"Not computed again: {each}" in out for each in wanted)
    _, out, _ = run(capsys, "verify", slim.path, "--json")
    assert json.loads(out)["unchecked"] == wanted


# ------------------------------------------------------------------ statistics of exemplars

AUDIT = f"audit:{LAYER}"
FIGURES: dict[str, Callable[[pd.Series], Any]] = {
    "clarity": lambda values: 1 - values,
    "polysemanticity": lambda values: 1 - values,
    "cluster_0": lambda values: values + 1,
    "cluster_1": lambda values: values + 1,
    "silhouette": lambda values: 1 - values,
    "nearest_unit": lambda values: (values + 1) % len(values),
    "redundancy": lambda values: values - 0.5,
}


@pytest.mark.parametrize("column", FIGURES)
def test_forged_statistics_of_exemplars_are_told(column: str, path: Path) -> None:
    def change(rows: pd.DataFrame) -> pd.DataFrame:
        return rows.assign(**{column: FIGURES[column](rows[column]).astype(rows[column].dtype)})

    change_table(path, AUDIT, "units", change)
    assert AUDIT in problems(path)


def test_forged_groups_of_exemplars_are_told(path: Path) -> None:
    change_array(path, AUDIT, "image_group", lambda values: 1 - values)
    assert f"image_group of {AUDIT}" in problems(path)


@pytest.mark.slow
def test_units_that_are_alike_and_units_of_nothing_are_no_contradiction(tmp_path: Path) -> None:
    """Two equal units are each other's nearest, and a dead one has none."""

    class Doubled(toys.SmallNet):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            maps = self.second(torch.relu(self.first(pixels)))
            return self.last(maps * torch.tensor([1.0, 1, 0, *[1] * 9])[:, None, None])

    torch.manual_seed(3)
    network = Doubled()
    with torch.no_grad():
        for parameter in (network.second.weight, network.second.bias):
            parameter[1] = parameter[0]
    model = target_model(network, toys.PREPROCESSING, name="doubled")
    target = Target(model, tuple(select_layers(model, ["last"])))
    bundle = build(toys.request(tmp_path, tmp_path / "a.csp", targets=(target,)))
    units = bundle.units("doubled", "last@mean")
    assert units["nearest_unit"].tolist()[:3] == [1, 0, 2]
    assert verify(bundle) == []


# ------------------------------------------------------------------ numbers of exemplars


@pytest.mark.parametrize("is_slim", [False, True])
@pytest.mark.parametrize("tables_too", [False, True])
def test_a_shortened_list_of_exemplars_is_told(
    is_slim: bool, tables_too: bool, path: Path, tmp_path: Path
) -> None:
    shorter = {"n_exemplars": 2}
    change_array(path, NEURONS, "exemplar_count", lambda values: np.minimum(values, 2))
    if tables_too:
        change_table(
            path, NEURONS, "units", lambda rows: rows.assign(**shorter).astype(rows.dtypes)
        )
    if is_slim:
        path = copy_slim(Bundle.open(path), tmp_path / "slim.csp").path
    said = problems(path)
    assert ("n_exemplars of" in said) is not tables_too
    assert "has fewer exemplars than images that excite it" in said
    assert ("has another number of exemplars" in said) is not is_slim


def test_bands_that_samples_were_not_drawn_from_are_told(path: Path) -> None:
    change_array(path, NEURONS, "stratum", lambda values: values[::-1].copy())
    assert "stratum of" in problems(path)


def test_forged_classes_of_exemplars_are_told(path: Path) -> None:
    change_table(path, NEURONS, "class_counts", lambda rows: rows.assign(count=rows["count"] + 1))
    assert "are not those of its exemplars" in problems(path)


@pytest.mark.parametrize("name", ["n_dead", "n_dense", "n_constant", "n_never_positive"])
def test_forged_counts_of_units_are_told(name: str, path: Path) -> None:
    change_facts(path, NEURONS, **{name: 7})
    assert f"{name} of {NEURONS}" in problems(path)


# ------------------------------------------------------------------ random image sets


@pytest.mark.parametrize("array", ["exemplar_image", "exemplar_activation", "exemplar_count"])
def test_random_image_sets_of_another_seed_are_told(array: str, path: Path) -> None:
    change_array(
        path,
        "null",
        array,
        lambda values: rolled(values) if values.ndim > 1 else np.maximum(values - 1, 0),
    )
    assert "are not those of its seed" in problems(path)


@pytest.mark.parametrize("array", ["contrast_image", "contrast_activation", "threshold", "pool"])
def test_random_image_sets_with_other_contrast_are_told(array: str, path: Path) -> None:
    change_array(
        path,
        "null",
        array,
        lambda values: values + 1 if array in ("threshold", "pool") else rolled(values),
    )
    assert "of null" in problems(path)


@pytest.mark.parametrize(
    ("of", "name"), [("vocabulary", "n_labels"), ("probe", "n_images"), ("probe", "n_skipped")]
)
def test_what_a_manifest_counts_is_counted_again(path: Path, of: str, name: str) -> None:
    said = Bundle.open(path).manifest.inputs[of][name]
    edit(path, lambda body: body["inputs"][of].update({name: said + 1}))
    told = problems(path)
    assert name in told
    assert of in told or "probe set" in told
