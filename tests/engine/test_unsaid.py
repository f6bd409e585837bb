"""Something the words lack: found where a word was taken away, hardly ever where it is there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from csp_engine.bundle import Bundle
from csp_engine.evidence.contrast import ContrastRule
from csp_engine.methods import METHODS, label_units, noise_evidence
from csp_engine.methods.depths.relying import READABLE, SAID
from csp_engine.types import NeuronRef
from csp_engine.views.address import Narrowing
from csp_engine.views.memo import Memo
from csp_engine.views.neuron.label import heading_of
from csp_engine.views.neuron.unsaid import WORDS, unsaid
from csp_engine.views.places import places
from csp_engine.views.table.narrowed import narrowed
from csp_engine.views.table.rows import neuron_table
from tests.worlds import small_layers

DEMO = Path(__file__).parents[2] / "assets" / "demo" / "dermoscopy.csp"


@pytest.fixture(scope="module")
def demo():
    return Bundle.open(DEMO)


def test_by_hand():
    tells = METHODS["csp_plus"].unsaid
    assert tells is not None
    reach_u = np.array([0.9, 0.9, READABLE - 0.01, READABLE, 0.0], np.float32)
    fit_u = np.array([0.9 * SAID - 0.01, 0.9 * SAID + 0.01, 0.0, 0.1, -0.2], np.float32)
    assert tells({"fit": fit_u, "reach": reach_u}).tolist() == [True, False, False, True, False]


def test_units_whose_word_was_taken_away_are_told_from_those_whose_word_is_there():
    """Directions that images share: with a label of that direction, and without."""
    rng = np.random.default_rng(0)
    image_nd = small_layers.unit_rows(rng, 600, 24)
    label_td = np.linalg.qr(rng.standard_normal((24, 24)))[0][:20].astype(np.float32)
    activation_un = label_td @ image_nd.T + 0.05 * rng.standard_normal((20, 600))
    evidence = small_layers.mined(activation_un, image_nd, 20)
    null = noise_evidence(image_nd, n_draws=20, n_exemplars=20, rule=ContrastRule(), seed=1)
    null.given.sources["texts"] = lambda _: small_layers.WORDS
    for held, flagged in ((label_td, 0), (label_td[10:], 10)):
        _, extra = label_units("csp_plus", evidence, null, held, {})
        found_u = METHODS["csp_plus"].unsaid({name: extra[name] for name in ("fit", "reach")})
        assert found_u[:10].sum() == flagged
        assert not found_u[10:].any()
    noise = small_layers.mined(rng.standard_normal((40, 600)), image_nd, 20)
    _, extra = label_units("csp_plus", noise, null, label_td, {})
    assert not METHODS["csp_plus"].unsaid({name: extra[name] for name in ("fit", "reach")}).any()


def test_on_the_demo_neurons_of_no_listed_concept_are_found_and_few_others(demo):
    hits, known = [], []
    for model, layer in places(demo):
        found_u = unsaid(demo, model, layer, "csp_plus")
        truth = demo.truth(model, layer)
        if model != "planted":
            hits.append(found_u)
            known.append(truth.units["true_concept"].notna().to_numpy())
    hit_u, known_u = np.concatenate(hits), np.concatenate(known)
    assert hit_u[known_u].mean() <= 0.05
    assert hit_u[~known_u].mean() >= 0.6


def test_what_does_not_tell_says_nothing(demo):
    model, layer = places(demo)[0]
    assert unsaid(demo, model, layer, "csp") is None
    assert unsaid(demo, model, layer, "nonsense") is None


@pytest.mark.slow
def test_heading_table_and_filter_agree(demo):
    rows = neuron_table(demo, Memo(), "csp_plus")
    kept = narrowed(rows, Narrowing(only="unsaid"))
    assert len(kept) == rows["unsaid"].sum() > 0
    assert not kept["reliable"].any()
    for row, is_unsaid in ((kept.iloc[0], True), (rows[~rows["unsaid"]].iloc[0], False)):
        neuron = NeuronRef(row["model"], row["layer"], int(row["unit"]))
        heading = heading_of(demo, neuron, "csp_plus")
        assert (WORDS in [state.word for state in heading.states]) == is_unsaid
    assert not neuron_table(demo, Memo(), "csp")["unsaid"].any()
