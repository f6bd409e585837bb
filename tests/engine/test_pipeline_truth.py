"""Ground truth in bundles: written once, read back, gone when the neurons change."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from csp_engine import pipeline
from csp_engine.bundle import Bundle, BundleWriter, verify
from csp_engine.errors import BundleError, InputError
from tests.worlds import toys

LAYER = "second@mean"


def texts(column):
    return column.astype(object).where(column.notna(), None).tolist()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("truth")
    pipeline.build(toys.request(folder, folder / "a.csp"))
    return folder


@pytest.fixture
def bundle(folder, tmp_path) -> Bundle:
    return Bundle.open(shutil.copytree(folder / "a.csp", tmp_path / "a.csp"))


def test_what_was_measured_can_be_read_back(bundle):
    assert bundle.truth("small", LAYER) is None
    opened = toys.with_truth(bundle, planted_layer=LAYER)
    truth = opened.truth("small", LAYER)
    assert truth is not None
    assert texts(truth.units["true_concept"]) == ["red", "square", *[None] * 10]
    assert (truth.units["auroc_low"][:2] >= truth.rule["auroc_min"]).all()
    assert texts(truth.units["planted"]) == ["red", "red or square", "noise", *[None] * 9]
    assert truth.wordings()["square"] == ("square", "box")
    assert truth.concepts["kind"].tolist() == ["colour", "", ""]
    assert truth.pearson_uc.shape == truth.auroc_uc.shape == truth.auprc_uc.shape == (12, 3)
    assert (truth.n_image, truth.n_group) == (120, 120)
    assert truth.rule["provenance"] == {"images": "random numbers"}
    assert "planted" not in opened.truth("small", "first@mean").units
    assert not verify(opened)


def test_the_same_truth_is_not_measured_again_and_another_is(bundle):
    before = toys.content(toys.with_truth(bundle).path)
    calls = []
    after = toys.with_truth(bundle, progress=lambda *call: calls.append(call))
    assert toys.content(after.path) == before
    assert calls == []
    moved = toys.with_truth(bundle, provenance={"images": "others"})
    stage = f"truth:small/{LAYER}"
    assert toys.content(moved.path)[stage][0] != before[stage][0]


def test_truth_stays_when_labels_or_exemplars_change(bundle):
    toys.with_truth(bundle)
    pipeline.relabel(bundle.path, replace(toys.SMALL, gamma=0.5, n_exemplars=5), None)
    assert Bundle.open(bundle.path).truth("small", LAYER) is not None


def test_truth_leaves_with_the_activations_it_was_measured_for(bundle):
    toys.with_truth(bundle)
    with BundleWriter(bundle.path) as writer:
        record = writer.manifest.stages[f"activations:small/{LAYER}"]
        identity = {
            "version": record.version,
            "params": {**record.params, "changed": True},
            "needs": dict(record.needs),
            "inputs": dict(record.inputs),
        }
        with writer.stage(f"activations:small/{LAYER}", **identity) as folder:
            folder.array("activation", np.zeros((12, 28), np.float32))
    opened = Bundle.open(bundle.path)
    assert opened.truth("small", LAYER) is None
    assert opened.truth("small", "first@mean") is not None


def test_a_build_again_keeps_it(bundle, folder):
    toys.with_truth(bundle)
    assert pipeline.build(toys.request(folder, bundle.path)).truth("small", LAYER) is not None


def table(**columns):
    whole = {"unit": [0], "kind": ["single"], "formula": ["red"], "concepts": [["red"]]}
    return {("small", LAYER): pd.DataFrame(whole | columns)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"truth_nc": np.zeros((120, 2), bool)}, r"shape \(120, 2\)"),
        ({"truth_nc": np.zeros((120, 3))}, "must be boolean"),
        ({"truth_nc": np.zeros((90, 3), bool)}, r"\(8, 90\) is needed"),
        ({"concept_names": ["red", "red", "stripe"]}, "named twice"),
        ({"phrases": {"red": ["red"], "square": []}}, "'square' has no wording"),
        ({"phrases": {"red": "red", "square": ["box"], "stripe": ["stripe"]}}, "not one text"),
        ({"groups": [1, 2]}, "Groups are given for 2 images"),
        ({"planted": table(unit=[99])}, "unit 99 is not among the 12"),
        ({"planted": table(concepts=[["violet"]])}, "'violet', which is not a concept"),
        ({"planted": {("small", LAYER): pd.DataFrame({"unit": [0]})}}, "no column 'kind'"),
        ({"planted": {("other", LAYER): pd.DataFrame()}}, "other/second@mean, activations only"),
    ],
)
def test_what_does_not_fit_is_told_and_changes_nothing(bundle, change, words):
    before = toys.content(bundle.path)
    with pytest.raises(InputError, match=words):
        toys.with_truth(bundle, **change)
    kept = {n: c for n, c in toys.content(bundle.path).items() if not n.startswith("truth")}
    assert kept == before


def test_a_layer_the_bundle_lacks_is_told(bundle):
    with pytest.raises(BundleError, match="has no stage 'neurons:small/third@mean'"):
        toys.with_truth(bundle, truth={("small", "third@mean"): np.zeros((3, 120), np.float32)})


def test_groups_may_be_any_names_and_some_may_be_missing(bundle):
    groups = [f"lesion {i // 2}" for i in range(118)] + [None, None]
    truth = toys.with_truth(bundle, groups=groups).truth("small", LAYER)
    assert truth.n_group == 61
    assert truth.units["true_concept"].tolist()[:2] == ["red", "square"]
