"""The shipped demo opens, verifies and says of its first three methods what it always said.

``shipped_demo.json`` holds labels, figures and searches as ``csp`` gave them before modules moved
into rooms (5548205), when the demo had no CSP+ and no comparison with concept columns. What
``csp info`` and ``csp verify`` say is of the demo that was made anew since, from the same networks.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from csp_engine.bundle import Bundle, KeptScores, kinds
from csp_engine.cli import main
from csp_engine.demo.shipping import packing
from csp_engine.demo.training import judge
from csp_engine.views.finding.index import searchable_methods

HERE = Path(__file__).parent
ASSETS = HERE.parents[1] / "assets"
DEMO = ASSETS / "demo" / "dermoscopy.csp"
GOLDEN = json.loads((HERE / "shipped_demo.json").read_text("utf-8"))


@pytest.fixture
def csp(capsys):
    """Run a command, and read its JSON."""

    def run(*arguments: str):
        with pytest.raises(SystemExit) as stopped:
            main([*arguments, "--json"])
        assert stopped.value.code == 0
        return json.loads(capsys.readouterr().out)

    return run


def assert_says(said, golden):
    """Everything that was said before; newer versions may say more."""
    if isinstance(golden, dict):
        for name, value in golden.items():
            assert_says(said[name], value)
    elif isinstance(golden, list):
        assert len(said) == len(golden)
        for one, value in zip(said, golden, strict=True):
            assert_says(one, value)
    else:
        assert said == golden


@pytest.mark.slow
@pytest.mark.parametrize("command", ["info", "verify"])
def test_what_it_is_and_that_it_is_whole(csp, command):
    said = csp(command, str(DEMO))
    assert_says(said, GOLDEN[command])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "arguments"),
    [("search", ("hair", "--not", "ruler")), ("like", ("--like", "biased/layer4@mean/3"))],
)
def test_searches_find_the_same(csp, name, arguments):
    found = csp("search", str(DEMO), *arguments, "--method", "csp", "-n", "4")["found"]
    assert len(found) == len(GOLDEN[name])
    for own, held in zip(found, GOLDEN[name], strict=True):
        assert own["score"] == pytest.approx(held["score"], abs=1e-4)
        assert {**own, **held, "score": 0} == {**own, "score": 0}


@pytest.mark.slow
def test_labels_and_their_figures_are_the_same(csp, tmp_path):
    csp("export", str(DEMO), str(tmp_path / "labels.csv"), "-n", "2")
    table = pd.read_csv(tmp_path / "labels.csv")
    table = table[table["method"] != "csp_plus"].reset_index(drop=True)
    assert len(table) == GOLDEN["n_rows"]
    rows = pd.DataFrame(GOLDEN["rows"])
    said = table[list(rows)].iloc[::487].reset_index(drop=True)
    # Networks run anew, on as many threads, sum in another order: the last digits may differ.
    pd.testing.assert_frame_equal(said, rows, rtol=1e-5, atol=1e-4)


def test_the_default_method_is_csp_plus_and_the_images_were_compared_with_columns():
    bundle = Bundle.open(DEMO)
    for model in bundle.model_names:
        for layer in bundle.layers(model):
            assert bundle.methods(model, layer) == (
                "csp_plus", "csp", "semanticlens", "clip_dissect"
            )  # fmt: skip
            assert bundle.columns(model, layer) is not None
    assert searchable_methods(bundle)[0] == "csp_plus"
    assert bundle.stage("separation").facts["is_separated"] is True


def test_every_label_was_judged_by_an_encoder_that_chose_none():
    bundle = Bundle.open(DEMO)
    for model in bundle.model_names:
        for layer in bundle.layers(model):
            for method in bundle.methods(model, layer):
                table = bundle.faithfulness(model, layer, method)
                assert table is not None
                assert len(table) == bundle.n_units(model, layer)
                facts = bundle.stage(kinds.FAITHFULNESS.name(model, layer, method)).facts
                assert facts["judge"] == judge.SPEC
                assert facts["is_held_out"]
    trust = bundle.trust()
    assert trust is not None
    assert trust["metric"].iloc[0] == "pearson"
    assert bool(trust["is_passed"].iloc[0])


def test_random_image_sets_of_csp_plus_are_here_for_every_layer_and_once_on_the_disk():
    bundle = Bundle.open(DEMO)
    for model in bundle.model_names:
        for layer in bundle.layers(model):
            null_rd = KeptScores(bundle, model, layer, "csp_plus").null_vectors()
            assert null_rd is not None
            lengths_r = np.linalg.norm(null_rd, axis=1)
            assert np.allclose(lengths_r, 1, atol=1e-5)
    assert len(list(DEMO.glob("*/null_vector.npy"))) == 1
    assert len(list(DEMO.glob("*/null_anchor.npy"))) == 1


def test_all_assets_together_are_within_their_size():
    total = sum(path.stat().st_size for path in ASSETS.rglob("*") if path.is_file())
    assert total <= packing.MAX_BYTES


@pytest.mark.slow
def test_csp_plus_is_right_for_as_many_neurons_as_the_documents_say(csp):
    found = csp("evaluate", str(DEMO))["methods"]
    best = found["csp_plus"]["best_over_neurons"]
    assert best["low"] >= 0.92
    assert best["mean"] >= 0.94
    assert found["csp_plus"]["best_by_concept"]["mean"] >= 0.85
    assert found["csp_plus"]["claimed_and_right"]["share"] >= 0.88
    assert found["csp_plus"]["claimed_and_wrong"]["share"] <= 0.032
    assert found["csp_plus"]["silent_by_kind"]["none"]["share"] >= 0.65
    hits = {name: row["best"]["n_hits"] for name, row in found.items() if name != "csp_plus"}
    assert hits == {"csp": 287, "semanticlens": 413, "clip_dissect": 373}
