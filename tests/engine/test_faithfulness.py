"""Faithfulness in bundles: measured by another encoder, kept, shown, and gone with the labels."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import bootstrap

from csp_engine import pipeline
from csp_engine.bundle import Bundle, verify
from csp_engine.errors import InputError
from csp_engine.evaluation.faithfulness.granularity import specificity, spread, utility
from csp_engine.evaluation.faithfulness.label_checks import check_metrics
from csp_engine.evaluation.metrics.registered import METRICS
from csp_engine.evaluation.planted_units import Plan
from csp_engine.probe.listing import read_probe_set
from csp_engine.views.benchmark.faithfulness import about, faithfulness, trusted, which_to_believe
from csp_engine.views.benchmark.trusting import OF_LABELS, trusted_metrics
from csp_engine.views.memo import Memo
from csp_engine.views.neuron.candidates import stored
from csp_engine.views.table.rows import neuron_table
from tests.engine.test_cli import run
from tests.worlds import toys

DEMO = Path(__file__).resolve().parents[2] / "assets" / "demo" / "dermoscopy.csp"
LAYER = "second@mean"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("faithful")
    pipeline.build(toys.request(folder, folder / "a.csp"))
    toys.draw_images(folder / "held", n_images=40, seed=1)
    return folder


@pytest.fixture
def bundle(folder, tmp_path) -> Bundle:
    return Bundle.open(shutil.copytree(folder / "a.csp", tmp_path / "a.csp"))


def held_out(folder, bundle):
    images = read_probe_set(folder / "held")
    return pipeline.judge_held_out(bundle, toys.Judge(), images, [toys.target()])


@pytest.mark.slow
def test_figures_are_kept_beside_the_labels_and_shown_everywhere(folder, bundle):
    assert faithfulness(bundle) is None
    assert about(bundle) == ""
    judged = held_out(folder, bundle)
    found = pipeline.add_faithfulness(bundle.path, judged)
    assert not verify(found)
    assert "40 images that chose no label" in about(found)
    whole = faithfulness(found)
    assert list(whole["methods"]) == ["csp", "semanticlens", "clip_dissect"]
    assert len(whole["differences"]) == 3
    table = found.faithfulness("small", LAYER, "csp")
    scores = found.scores("small", LAYER, "csp")
    texts = found.labels()["text"]
    for unit in range(12):
        has_label = scores.count_u[unit] > 0
        text = texts.iloc[int(scores.label_uk[unit, 0])]
        vectors = toys.Judge().embed_texts([t.format(text) for t in toys.SMALL.templates])
        vector_d = vectors.mean(axis=0) / np.linalg.norm(vectors.mean(axis=0))
        want = np.corrcoef(judged.activations["small", LAYER][unit], judged.image_nd @ vector_d)
        if has_label and not np.isnan(want[0, 1]):
            assert table["pearson"].iloc[unit] == pytest.approx(want[0, 1], abs=1e-4)
            assert table["pearson_low"].iloc[unit] <= table["pearson"].iloc[unit]
    neuron = toys_neuron(3)
    assert stored(found, neuron, "csp").faithful.pearson.value == table["pearson"].iloc[3]
    rows = neuron_table(found, Memo(), "csp")
    own = rows[rows["layer"] == LAYER]
    np.testing.assert_array_equal(own["label_pearson"], table["pearson"])


def toys_neuron(unit):
    from csp_engine.types import NeuronRef

    return NeuronRef("small", LAYER, unit)


def test_nothing_is_measured_twice_and_new_labels_take_the_figures_along(folder, bundle):
    judged = held_out(folder, bundle)
    before = toys.content(pipeline.add_faithfulness(bundle.path, judged).path)
    calls = []
    again = pipeline.add_faithfulness(bundle.path, judged, lambda *call: calls.append(call))
    assert toys.content(again.path) == before
    assert not calls
    pipeline.relabel(bundle.path, replace(toys.SMALL, gamma=0.5))
    changed = Bundle.open(bundle.path)
    assert changed.faithfulness("small", LAYER, "csp") is None
    assert changed.faithfulness("small", LAYER, "semanticlens") is not None


def test_the_probe_set_itself_judges_where_nothing_is_held_out_and_says_so(bundle):
    judged = pipeline.judge_probe(bundle, toys.Judge())
    assert judged.image_nd.shape == (28, 16)
    assert not judged.is_held_out
    found = pipeline.add_faithfulness(bundle.path, judged)
    assert "which chose the labels too" in about(found)


def test_the_encoder_that_chose_the_labels_cannot_judge_them(folder, bundle):
    for call in (
        lambda: pipeline.judge_probe(bundle, toys.ColourEncoder()),
        lambda: trusted_metrics(Bundle.open(DEMO), Plan(n_units=2), own_encoder_of(DEMO)),
    ):
        with pytest.raises(InputError, match=r"chose the labels of .* name another encoder"):
            call()


def own_encoder_of(path):
    encoder = toys.Judge()
    encoder.fingerprint = Bundle.open(path).manifest.inputs["encoder"]["fingerprint"]
    return encoder


def test_images_of_the_probe_set_are_not_held_out_and_a_few_are_too_few(folder, bundle, tmp_path):
    images = read_probe_set(folder / "images")
    with pytest.raises(InputError, match=r"is in the probe set of a too, so it is not held"):
        pipeline.judge_held_out(bundle, toys.Judge(), images, [toys.target()])
    few = read_probe_set(toys.draw_images(tmp_path / "few", n_images=5, seed=3))
    with pytest.raises(InputError, match="has 5 images that can be read, and at least 20"):
        pipeline.judge_held_out(bundle, toys.Judge(), few, [toys.target()])


@pytest.mark.slow
def test_held_out_images_need_a_judge(capsys, folder, tmp_path):
    code, _, err = run(
        capsys, "build", folder / "images", "--model", "python:tests.worlds.toys:network",
        "--layer", "second", "--encoder", "python:tests.worlds.toys:ColourEncoder",
        "--out", tmp_path / "b.csp", "--held-out", folder / "held",
    )  # fmt: skip
    assert (code, "name an encoder with --judge" in err) == (2, True)


def test_csp_evaluate_shows_it_without_any_truth(capsys, folder, bundle):
    pipeline.add_faithfulness(bundle.path, held_out(folder, bundle))
    code, out, err = run(capsys, "evaluate", bundle.path, "--json")
    assert code == 0, err
    assert set(json.loads(out)["faithfulness"]["methods"]) == {
        "csp",
        "semanticlens",
        "clip_dissect",
    }
    code, out, _ = run(capsys, "evaluate", bundle.path)
    assert "p (Holm)" in out
    assert "40 images that chose no label" in out


def test_a_figure_that_sees_everything_passes_and_recall_misses_extra_labels():
    rng = np.random.default_rng(0)
    shows_un = rng.random((30, 400)) < 0.2
    act_un = (shows_un + 0.2 * rng.normal(size=shows_un.shape)).astype(np.float32)
    found = {each.metric: each for each in check_metrics(act_un, shows_un, OF_LABELS)}
    for name in ("pearson", "auprc", "f1", "iou"):
        assert found[name].missing.is_passed, name
        assert found[name].extra.is_passed, name
        assert found[name].missing.falls.share == 1
    assert found["recall"].missing.is_passed
    assert not found["recall"].extra.is_passed
    assert not found["auroc"].missing.is_passed


def test_a_figure_of_chance_is_not_taken_for_one_that_notices():
    rng = np.random.default_rng(0)
    shows_un = rng.random((40, 200)) < 0.3
    noise_un = rng.normal(size=shows_un.shape).astype(np.float32)
    for each in check_metrics(noise_un, shows_un, [METRICS["pearson"], METRICS["auroc"]]):
        assert not each.missing.is_passed
        assert not each.extra.is_passed


@pytest.fixture(scope="module")
def trust():
    return trusted_metrics(Bundle.open(DEMO), Plan(n_units=10, co_occurrences=(0.9,)))


def test_on_planted_units_the_figures_tell_right_labels_from_wrong_ones(trust):
    assert trust["judge"] is None
    rows = {row["metric"]: row for row in trust["rows"]}
    assert set(rows) == {metric.name for metric in OF_LABELS}
    for name in ("pearson", "auprc", "mad"):
        assert rows[name]["is_passed"], name
        assert rows[name]["low"] > 0.5, name
    assert not rows["recall"]["is_passed"]
    passed = [row["is_passed"] for row in trust["rows"]]
    assert passed == sorted(passed, reverse=True)


def test_the_trial_is_kept_and_said_in_words(bundle, trust):
    assert trusted(bundle) == ()
    found = pipeline.add_trust(bundle.path, trust)
    assert not verify(found)
    assert [each.auroc.value for each in trusted(found)] == [r["auroc"] for r in trust["rows"]]
    assert which_to_believe(found).startswith("Believe ")
    assert "chose the labels" in which_to_believe(found)


def test_spread_counts_meanings_and_entropy_by_hand():
    found = spread(["a", "a", "b", "c"])
    assert (found.n_labels, found.n_distinct, found.share) == (4, 3, 0.75)
    assert found.entropy == pytest.approx(1.5)
    assert found.n_effective == pytest.approx(2**1.5)
    assert spread(["a"]).entropy == 0
    assert np.isnan(spread([]).share)


def test_special_labels_stand_deep_and_ahead_of_broader_words():
    found = specificity([2, 0, 4], [0.3, -0.1])
    assert (found.n, found.depth, found.n_below) == (3, 2, 2)
    assert (found.margin, found.broad) == (pytest.approx(0.1), 0.5)
    assert np.isnan([found.depth_low, found.margin_low]).all()  # of three, and of two
    values = np.random.default_rng(4).normal(0.2, 1, 60)
    many = specificity([1] * 60, values.tolist())
    own = bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=1)
    ends = own.confidence_interval
    assert [many.margin_low, many.margin_high] == pytest.approx([*ends], abs=0.04)
    assert (many.depth_low, many.depth_high) == (1, 1)
    none = specificity([], [])
    assert none.n == none.n_below == 0
    assert np.isnan([none.depth, none.margin, none.broad]).all()


def test_utility_is_what_the_named_columns_have_of_the_best():
    pearson_uc = np.array([[0.8, 0.4], [0.2, 0.6], [-0.1, -0.2], [np.nan, 0.5]])
    found = utility(pearson_uc, [0, 0, 1, None])
    assert found.n == 3  # nothing goes with the third
    assert found.mean == pytest.approx((0.8 + 0.2 + 0) / 3)
    assert found.share == pytest.approx((0.8 + 0.2) / (0.8 + 0.6 + 0.5))
    assert np.isnan([found.low, found.high]).all()  # of three
    many = utility(np.tile(pearson_uc, (4, 1)), [0, 0, 1, None] * 4)
    assert (many.n, many.share) == (12, pytest.approx(found.share))
    assert many.low < many.share < many.high
    assert utility(pearson_uc, [0, 1, 1, 1]).share == 1
