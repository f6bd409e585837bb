"""Labels and search scored against ground truth: by hand, on labels that a test wrote itself."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from csp_engine import pipeline
from csp_engine.bundle import Bundle
from csp_engine.errors import BundleError
from csp_engine.evaluation import label_accuracy as accuracy
from csp_engine.exchange import import_labels
from csp_engine.views import accuracy as read
from studies import demo_truth
from tests.engine.test_cli import run
from tests.worlds import toys

LAYER = "second@mean"


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("accuracy")
    target = toys.target([LAYER])
    pipeline.build(toys.request(folder, folder / "a.csp", targets=(target,)))
    return folder


@pytest.fixture(scope="module")
def bundle(built) -> Bundle:
    """Truth: unit 0 red, unit 1 red or square, unit 2 noise, others none; two sets of labels."""
    known = toys.with_truth(
        Bundle.open(shutil.copytree(built / "a.csp", built / "b.csp")), planted_layer=LAYER
    )
    one = [(0, "Crimson", 3), (0, "box", 2), (1, "noise", 3), (1, "square", 2), (2, "red", 1)]
    two = [(0, "box", 3), (1, "box", 3), (3, "red", 1)]
    for name, said in (("one", one), ("two", two)):
        rows = pd.DataFrame(said, columns=["unit", "description", "score"]).assign(layer=LAYER)
        rows.to_csv(built / f"{name}.csv", index=False)
        import_labels(built / f"{name}.csv", known.path, encoder=toys.ColourEncoder())
    return Bundle.open(known.path)


def test_the_truth_of_every_neuron(bundle):
    neurons = read.known_neurons(bundle)
    assert neurons["kind"].tolist() == ["single", "either", "noise", *["none"] * 9]
    assert neurons["concepts"].tolist()[:3] == [["red"], ["red", "square"], []]
    assert neurons["related"].tolist()[1] == {"red", "square"}
    assert read.wordings_of(bundle)["red"] == ("red", "crimson")


def test_measured_truth_where_nothing_was_planted(built, tmp_path):
    plain = Bundle.open(shutil.copytree(built / "a.csp", tmp_path / "c.csp"))
    with pytest.raises(BundleError, match="has no ground truth"):
        read.known_neurons(plain)
    neurons = read.known_neurons(toys.with_truth(plain))
    assert neurons["kind"].tolist() == ["measured", "measured", *["none"] * 10]
    assert neurons["concepts"].tolist()[:2] == [["red"], ["square"]]


def test_accuracy_by_hand(bundle):
    report = read.label_accuracy(bundle)
    assert (report["n_neurons"], report["n_with_truth"]) == (12, 2)
    one, two = report["methods"]["imported-one"], report["methods"]["imported-two"]
    # "Crimson" is red in other letters; for unit 1 "noise" is wrong and "square", second, is right.
    assert (one["best"]["n_hits"], one["top"]["n_hits"], one["best"]["n"]) == (1, 2, 2)
    assert (two["best"]["n_hits"], two["top"]["n_hits"]) == (1, 1)
    interval = binomtest(1, 2).proportion_ci(method="wilson")
    assert one["best"]["low"] == pytest.approx(interval.low)
    assert one["by_kind"]["single"]["n_hits"] == 1
    assert one["by_kind"]["either"]["n_hits"] == 0
    assert one["by_layer"][f"small/{LAYER}"]["n"] == 2
    assert "silent_where_none" not in one, "imported labels never say how reliable they are"
    # Vocabulary of "one": crimson, box, noise, square, red.
    assert one["chance"] == pytest.approx((2 / 5 + 4 / 5) / 2)
    # Of "two" only box and red are known: unit 0 can be right by one of 2, unit 1 by both.
    assert two["chance"] == pytest.approx((1 / 2 + 2 / 2) / 2)
    difference = next(
        row
        for row in report["differences"]
        if (row["first"], row["second"]) == ("imported-one", "imported-two")
    )
    assert difference["over_neurons"]["n_first_only"] == 1
    assert difference["over_neurons"]["n_second_only"] == 1
    assert difference["over_neurons"]["p"] == 1
    assert difference["by_concept"]["mean"] == 0


def test_methods_with_a_null_say_how_often_they_keep_silent(bundle):
    report = read.label_accuracy(bundle)
    for method in ("csp", "semanticlens", "clip_dissect"):
        row = report["methods"][method]
        reliable = bundle.scores("small", LAYER, method).reliable_u
        assert row["silent_where_none"]["n"] == 10
        assert row["silent_where_none"]["n_hits"] == int((~reliable[2:]).sum())
        assert row["claims_where_true"]["n_hits"] == int(reliable[:2].sum())
        assert row["right_where_claimed"]["n"] == int(reliable[:2].sum())
        right = [_is_right(bundle, method, unit) for unit in (0, 1)]
        claimed = [bool(each) for each in reliable[:2]]
        assert row["claimed_and_right"]["n_hits"] == sum(map(min, claimed, right))
        n_wrong = sum(c and not r for c, r in zip(claimed, right, strict=True))
        assert row["claimed_and_wrong"]["n_hits"] == n_wrong
        assert row["claimed_and_right"]["n"] == row["claimed_and_wrong"]["n"] == 2
        by_kind = row["silent_by_kind"]
        assert {kind: part["n"] for kind, part in by_kind.items()} == {"noise": 1, "none": 9}
        assert by_kind["noise"]["n_hits"] == int(not reliable[2])


def _is_right(bundle, method, unit) -> bool:
    scores = bundle.scores("small", LAYER, method)
    text = bundle.method_labels("small", LAYER, method)["text"][int(scores.label_uk[unit, 0])]
    accepted = {0: {"red", "crimson"}, 1: {"red", "crimson", "square", "box"}}
    return bool(scores.count_u[unit]) and text.casefold() in accepted[unit]


def test_a_share_drawn_anew_is_that_of_neurons_drawn_one_by_one():
    is_hit_u = np.arange(90) % 3 == 0
    found = accuracy.drawn_share(is_hit_u)
    rng = np.random.default_rng(3)
    slow = [is_hit_u[rng.integers(90, size=90)].mean() for _ in range(4000)]
    assert (found.n, found.mean) == (90, pytest.approx(1 / 3))
    assert (found.low, found.high) == pytest.approx(np.percentile(slow, [2.5, 97.5]), abs=0.02)
    assert np.isnan(accuracy.drawn_share(np.zeros(0, bool)).mean)
    assert accuracy.drawn_share(np.ones(12, bool)).low == 1
    assert np.isnan(accuracy.drawn_share(np.ones(9, bool)).low)


def test_a_concept_whose_wordings_nobody_offers_is_counted_as_wrong_and_told(built, tmp_path):
    plain = Bundle.open(shutil.copytree(built / "a.csp", tmp_path / "c.csp"))
    phrases = {"red": ["rubicund"], "square": ["square"], "stripe": ["stripe"]}
    known = toys.with_truth(plain, phrases=phrases)
    row = read.label_accuracy(known)["methods"]["csp"]
    assert row["n_unreachable"] == 1
    assert row["best"]["n"] == 2


def test_search_recall_agrees_with_a_loop_over_all_vectors(bundle):
    encoder = toys.ColourEncoder()
    vector_ud = np.asarray(bundle.scores("small", LAYER, "csp").vector_ud)
    table = read.search_recall(bundle, "csp", encoder)
    # stripe: no neuron answers to it, so there is nothing to find.
    assert list(table["concept"]) == ["red", "red", "square", "square"]
    for row in table.to_dict("records"):
        prompts = [
            t.format(row["wording"]) for t in bundle.manifest.inputs["vocabulary"]["templates"]
        ]
        query = encoder.embed_texts(prompts).mean(axis=0)
        order = sorted(range(12), key=lambda u: (-float(vector_ud[u] @ query), u))
        order = [u for u in order if vector_ud[u].any()]
        wanted = {"red": [0, 1], "square": [1]}[row["concept"]]
        assert row["first_rank"] == min(order.index(u) for u in wanted) + 1
        assert row["is_found"] == (row["first_rank"] <= 5)
        assert row["n_answering"] == len(wanted)
        n = len(order)
        misses = np.prod([(n - len(wanted) - i) / (n - i) for i in range(5)])
        assert row["chance"] == pytest.approx(1 - misses)


def test_recall_summary_by_hand():
    table = pd.DataFrame(
        {
            "concept": ["a"] * 4 + ["b"] * 3 + ["c"],
            "is_found": [1, 1, 1, 0, 0, 1, 1, 1],
            "chance": [0.1] * 8,
        }
    ).astype({"is_found": bool})
    found = accuracy.recall_summary(table)
    assert found["n_concepts"] == 3
    assert (found["wordings"]["n_hits"], found["wordings"]["n"]) == (6, 8)
    assert found["usual_wording"]["n_hits"] == 2
    assert found["every_wording"]["n_hits"] == 1
    assert (found["three_wordings"]["n_hits"], found["three_wordings"]["n"]) == (1, 2)
    assert found["by_concept"]["mean"] == pytest.approx((3 / 4 + 2 / 3 + 1) / 3)


def test_neurons_of_one_concept_do_not_count_as_many():
    """400 neurons of one concept and 9 of others: the interval over concepts stays wide."""
    right = np.r_[np.ones(400), np.zeros(9)]
    found = accuracy.mean_over_concepts(right, ["a"] * 400 + list("bcdefghij"))
    assert found.mean == pytest.approx(0.1)
    assert found.high - found.low >= 0.25
    few = accuracy.mean_over_concepts(right[:-1], ["a"] * 400 + list("bcdefghi"))
    assert few.mean == pytest.approx(1 / 9)
    assert np.isnan([few.low, few.high]).all()


def test_mean_over_concepts_of_nothing_is_nan():
    assert np.isnan(accuracy.mean_over_concepts(np.zeros(0), []).mean)


def test_evaluate_prints_the_figures_and_gives_them_as_json(bundle, capsys):
    code, out, _ = run(capsys, "evaluate", bundle.path)
    assert code == 0
    assert "2 of 12 neurons have a known truth" in out
    assert "not reliable: noise" in out
    line = next(line for line in out.splitlines() if line.startswith("imported-one "))
    assert "0.500 [no interval]" in line  # of two neurons
    assert line.split()[-1] == "–"  # labels of another tool never say how reliable they are
    assert "csp − semanticlens" in out
    code, out, _ = run(capsys, "evaluate", bundle.path, "--json")
    told = json.loads(out)
    assert told["digest"] == bundle.digest
    assert told["methods"]["csp"]["silent_by_kind"]["none"]["n"] == 9


def test_evaluate_refuses_a_bundle_without_truth_in_one_sentence(built, capsys):
    code, _, err = run(capsys, "evaluate", built / "a.csp")
    assert code == 2
    assert "\n" not in err
    assert "has no ground truth" in err


@pytest.mark.slow
def test_the_command_prints_and_stores_the_table(bundle, tmp_path):
    out = tmp_path / "truth.json"
    command = [sys.executable, "-m", "studies", "demo_truth", str(bundle.path)]
    command += ["--encoder", "python:tests.worlds.toys:ColourEncoder", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "| imported-one | 0.500 [" in done.stdout
    stored = json.loads(out.read_text("utf-8"))
    assert stored["labels"]["methods"]["imported-one"]["best"]["n_hits"] == 1
    assert len(stored["search"]["csp"]["texts"]) == 4


def test_a_bundle_without_truth_is_told_in_one_line(built):
    command = [sys.executable, "-m", "studies.demo_truth", str(built / "a.csp")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "has no ground truth" in done.stderr


def test_shown_says_nothing_of_nothing():
    assert demo_truth.shown({"share": float("nan"), "low": 0, "high": 0}) == "–"
