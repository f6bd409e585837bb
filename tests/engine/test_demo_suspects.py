"""The study of the demo's suspects: what counts as right, and what the document quotes of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from csp_engine.evaluation.associations.measuring import Rule
from studies import demo_suspects

ROOT = Path(__file__).resolve().parents[2]


def drawn() -> tuple[np.ndarray, pd.DataFrame]:
    """A unit for patches, one for corners, one for melanoma, one of noise; 400 photographs."""
    rng = np.random.default_rng(0)
    names = ["melanoma", "colour patch", "dark corners", "ruler", "ink marks"]
    concepts = pd.DataFrame(rng.random((400, 5)) < 0.3, columns=pd.Index(names))
    own = ["colour patch", "dark corners", "melanoma"]
    units = [concepts[name].to_numpy(float) + rng.normal(0, 0.2, 400) for name in own]
    return np.array([*units, rng.normal(size=400)], np.float32), concepts


def test_a_suspect_is_right_if_it_answers_best_to_its_own_artefact():
    activation_un, concepts = drawn()
    called = {"patch": {0, 2}, "dark corners": set(), "ruler": {3}, "ink marks": set()}
    found = demo_suspects.judged(activation_un, concepts, called, Rule())
    assert found.shape == (4, 4, 4)
    patch, corners, ruler, ink = found
    assert patch.tolist() == [[1, 1, 1, 1], [0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert corners.tolist() == [[0] * 4, [0, 0, 1, 0], [0] * 4, [0] * 4]
    assert ruler.tolist() == [[0] * 4, [0] * 4, [0] * 4, [1, 0, 0, 0]]
    assert not ink.any()


def test_planted_units_are_called_and_shuffled_labels_call_none():
    activation_un, concepts = drawn()
    rule = Rule(n_permutations=99, n_resamples=100)
    called, n = demo_suspects.suspects(activation_un, concepts, rule)
    assert called == {"patch": {0}, "dark corners": {1}, "ruler": set(), "ink marks": set()}
    assert n == 3
    order_n = np.random.default_rng(1).permutation(400)
    assert demo_suspects.suspects(activation_un, concepts, rule, order_n)[1] == 0


def test_shares_are_over_all_seeds_and_families():
    count_sfun = np.zeros((2, 4, 3, 4), int)
    count_sfun[:, 0, 0] = [1, 1, 1, 1]
    count_sfun[0, 1, 1] = [1, 0, 0, 0]
    count_sfun[1, 1, 2] = [0, 0, 1, 0]
    found = demo_suspects.shares(count_sfun)
    assert found["right"]["value"] == pytest.approx(2 / 3)
    assert found["found"]["value"] == pytest.approx(2 / 3)
    assert [each["called"] for each in found["by_seed"]] == [2, 1]
    assert found["by_family"]["patch"] == {"called": 2, "right": 2, "sure": 2, "found": 2}


def test_the_document_quotes_these_figures():
    found = json.loads(demo_suspects.RESULT.read_text("utf-8"))
    text = (ROOT / "docs" / "methods.md").read_text("utf-8")
    told = re.sub(r"\s+", " ", text.partition("*On the demo*, over")[2].partition("*On real")[0])

    def percent(share: dict[str, float], is_missing: bool = False) -> str:
        value, low, high = (100 * share[name] for name in ("value", "low", "high"))
        if is_missing:
            value, low, high = 100 - value, 100 - high, 100 - low
        return f"{value:.1f} % ({low:.1f} to {high:.1f} %)"

    biased, retrained = found["biased"], found["retrained"]
    for own in (biased["seed"], biased["bundle"]):
        assert f"{percent(own['right'], is_missing=True)} are false" in told
        assert f"{percent(own['found'])} was called" in told
    called, right = (
        sum(each[name] for each in biased["seed"]["by_seed"]) for name in ("called", "right")
    )
    assert f"{right} of the biased network's {called} suspects" in told
    assert {own["by_family"][f]["sure"] for own in (biased["seed"], biased["bundle"])
            for f in ("ruler", "ink marks")} == {0}  # fmt: skip
    assert found["biased"]["shuffled"] == found["retrained"]["shuffled"] == 0
    seeds = retrained["seed"]["by_seed"]
    assert {each["called"] for each in seeds} == {8, 9}
    total = f"{sum(e['right'] for e in seeds)} of {sum(e['called'] for e in seeds)} are right"
    assert total in told
