"""Agreement of reviewers against scikit-learn and loops; the queue against sums by hand."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import bootstrap
from sklearn.metrics import cohen_kappa_score

from csp_engine.bundle import Bundle
from csp_engine.stats.agreement import cohen_kappa, fleiss_kappa
from csp_engine.views.audit.agreement import agreement, pair_in_words, together_in_words
from csp_engine.views.audit.interventions import effects
from csp_engine.views.audit.queue import MOST, positions, queue, with_uncertainty
from csp_engine.views.memo import Memo
from csp_engine.views.places import places
from csp_engine.words.concepts import parse_concept_set
from csp_engine.words.own_concepts import from_link, written
from tests.engine.test_report import DEMO


@pytest.mark.parametrize("n", [2, 7, 60])
@pytest.mark.parametrize("n_kinds", [2, 4])
def test_cohen_is_that_of_scikit_learn(n, n_kinds):
    rng = np.random.default_rng(n + n_kinds)
    first = rng.integers(0, n_kinds, n)
    second = np.where(rng.random(n) < 0.6, first, rng.integers(0, n_kinds, n))
    second[0] = (first[0] + 1) % n_kinds
    found = cohen_kappa(first, second)
    assert found.value == pytest.approx(cohen_kappa_score(first, second), abs=1e-12)
    assert found.n == n
    assert cohen_kappa(second, first).value == pytest.approx(found.value)


def test_few_neurons_have_no_interval_and_many_that_of_scipy():
    """Two that are judged alike would be certain: every draw of them has kappa 1 or none."""
    two = cohen_kappa(np.array([0, 1]), np.array([0, 1]))
    assert (two.value, two.n) == (1, 2)
    assert math.isnan(two.low)
    assert math.isnan(two.high)
    rng = np.random.default_rng(3)
    first = rng.integers(0, 2, 90)
    second = np.where(rng.random(90) < 0.7, first, 1 - first)
    assert math.isnan(cohen_kappa(first[:9], second[:9]).low)
    assert not math.isnan(cohen_kappa(first[:10], second[:10]).low)
    drawn = bootstrap(
        (first, second),
        cohen_kappa_score,
        paired=True,
        vectorized=False,
        method="percentile",
        n_resamples=2000,
        rng=np.random.default_rng(0),
    ).confidence_interval
    found = cohen_kappa(first, second)
    assert (found.low, found.high) == pytest.approx((drawn.low, drawn.high), abs=0.02)


def by_loops(count_nk: np.ndarray) -> float:
    """Fleiss 1971, equations 1 to 7."""
    n_cases, n_kinds = count_nk.shape
    n_raters = count_nk[0].sum()
    extent = []
    for row in count_nk:
        alike = 0
        for count in row:
            alike += count * (count - 1)
        extent.append(alike / (n_raters * (n_raters - 1)))
    chance = 0.0
    for kind in range(n_kinds):
        chance += (sum(row[kind] for row in count_nk) / (n_cases * n_raters)) ** 2
    return (sum(extent) / n_cases - chance) / (1 - chance)


def test_fleiss_is_his_own_formula_and_his_own_example():
    # The table that handbooks copy: 14 raters, 10 cases, 5 ratings, kappa .21.
    count = np.array([[0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0],
                      [2, 2, 8, 1, 1], [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2],
                      [6, 5, 2, 1, 0], [0, 2, 2, 3, 7]])  # fmt: skip
    assert fleiss_kappa(count).value == pytest.approx(0.20993, abs=1e-5)
    rng = np.random.default_rng(0)
    for n_raters in (2, 3, 5):
        drawn = rng.multinomial(n_raters, [0.5, 0.2, 0.2, 0.1], 30)
        assert fleiss_kappa(drawn).value == pytest.approx(by_loops(drawn), abs=1e-12)


def test_where_everybody_says_one_thing_there_is_no_kappa():
    assert math.isnan(cohen_kappa(np.zeros(9, int), np.zeros(9, int)).value)
    assert math.isnan(fleiss_kappa(np.array([[3, 0]] * 5)).value)
    assert math.isnan(cohen_kappa(np.array([], int), np.array([], int)).value)


@pytest.mark.slow
def test_the_interval_covers_what_two_raters_truly_agree():
    """Raters who copy with probability .6 have a kappa of .6 in the long run."""
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(200):
        first = rng.integers(0, 3, 80)
        second = np.where(rng.random(80) < 0.6, first, rng.integers(0, 3, 80))
        found = cohen_kappa(first, second)
        held += found.low <= 0.6 <= found.high
    assert 0.89 <= held / 200 <= 0.99


def row(neuron: str, reviewer: str, verdict: str, is_latest: bool = True) -> dict:
    return {"neuron": neuron, "reviewer": reviewer, "verdict": verdict, "is_latest": is_latest}


def test_agreement_is_over_last_words_of_what_was_judged_in_common():
    rows = [
        row("m/a/1", "ada", "valid", is_latest=False), row("m/a/1", "ada", "spurious"),
        row("m/a/1", "bo", "spurious"), row("m/a/2", "ada", "valid"), row("m/a/2", "bo", "mixed"),
        row("m/a/3", "ada", "valid"), row("m/a/3", "bo", "withdrawn"), row("m/a/4", "bo", "valid"),
        row("m/a/5", "ada", "mixed"), row("m/a/5", "bo", "mixed"), row("n/a/5", "eve", "mixed"),
    ]  # fmt: skip
    found = agreement(rows, "m")
    assert found.reviewers == (("ada", 4), ("bo", 4))
    (pair,) = found.pairs
    assert (pair.n_same, pair.kappa.n) == (2, 3)
    expected = cohen_kappa_score(["s", "v", "m"], ["s", "m", "m"])
    assert pair.kappa.value == pytest.approx(expected)
    assert "judged 3 of the same neurons, 2 of them alike" in pair_in_words(pair)
    assert found.differing == (("m/a/2", (("ada", "valid"), ("bo", "mixed"))),)
    assert together_in_words(found) == ""
    third = [row(f"m/a/{at}", "cy", "mixed") for at in (1, 2, 5)]
    more = agreement([*rows, *third], "m")
    assert more.together is not None
    assert more.together.value == pytest.approx(
        by_loops(np.array([[0, 2, 1, 0], [1, 0, 2, 0], [0, 0, 3, 0]]))
    )
    assert agreement([], "m").pairs == ()
    assert together_in_words(more).startswith("All 3 reviewers judged 3 of the same neurons")
    many = agreement([row(f"m/a/{at}", f"r{who}", "mixed") for at in (1, 2) for who in range(10)],
                     "m")  # fmt: skip
    assert together_in_words(many).startswith("The 8 of 10 reviewers with most verdicts judged 2")


def test_the_queue_is_influence_times_suspicion_times_uncertainty():
    bundle = Bundle.open(DEMO)
    rows = queue(bundle, Memo(), "biased", from_link(""))
    stored = bundle.intervention("biased")
    shown = [e.artefact for e in effects(stored) if e.verdict in ("raises", "lowers")]
    valid = {"streaks", "blue-white veil"}  # criteria of melanoma
    for at in (0, 5, len(rows) - 1):
        one = rows.iloc[at]
        size, part = 0.0, 0.0
        own = (stored.units["layer"] == one["layer"]) & (stored.units["unit"] == one["unit"])
        for _, unit in stored.units[own].iterrows():
            if unit["artefact"] in shown:
                size += abs(float(unit["attribution"]))
                part += 0.0 if unit["artefact"] in valid else abs(float(unit["attribution"]))
        assert one["influence"] == pytest.approx(size)
        assert one["suspicion"] == pytest.approx(part / size)
    assert len(rows) <= MOST
    assert (np.diff(rows["weight"]) <= 0).all()
    assert "layer2@max" in set(rows["layer"])  # where fewest neurons carry the patch
    places_ = places(bundle)
    for at, one in zip(positions(bundle, places_, rows)[:9], rows.itertuples(), strict=False):
        sizes = [bundle.n_units(*place) for place in places_]
        before = sum(sizes[: places_.index(("biased", one.layer))])
        assert at == before + one.unit
    judged = with_uncertainty(rows.head(3), ["valid", "", "disagree"])
    assert judged["uncertainty"].tolist() == [1.0, 1.0, 0.25]
    assert judged["priority"].tolist() == sorted(judged["priority"], reverse=True)


def test_what_is_called_neutral_puts_no_neuron_into_the_queue():
    """As the page says of the list: valid or neutral does not count as suspicious."""
    bundle = Bundle.open(DEMO)
    names = {"valid": ["streaks", "blue-white veil"], "neutral": ["Colour patches"],
             "spurious": ["dark corners"]}  # fmt: skip
    concepts = parse_concept_set(written("own", ["melanoma"], names), "own")
    rows = queue(bundle, Memo(), "biased", concepts)
    stored = bundle.intervention("biased")
    shown = {e.artefact for e in effects(stored) if e.verdict in ("raises", "lowers")}
    settled = {"streaks", "blue-white veil", "colour patch"}
    assert settled < shown
    for at in (0, len(rows) - 1):
        one = rows.iloc[at]
        own = stored.units[
            (stored.units["layer"] == one["layer"]) & (stored.units["unit"] == one["unit"])
        ]
        size = {n: abs(float(a)) for n, a in zip(own["artefact"], own["attribution"], strict=True)}
        whole = sum(size[name] for name in shown)
        part = sum(size[name] for name in shown - settled)
        assert one["weight"] == pytest.approx(part)
        assert one["suspicion"] == pytest.approx(part / whole)


def test_without_pairs_there_is_no_queue():
    rows = queue(Bundle.open(DEMO), Memo(), "planted", from_link(""))
    assert rows.empty
    assert isinstance(rows, pd.DataFrame)
