"""Units that fire together: against loops and scipy, on planted factors, and by name."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr

from csp_engine import pipeline
from csp_engine.bundle import Bundle
from csp_engine.cli.auditing.fixing import _pieces
from csp_engine.cli.auditing.intervening import given_parts
from csp_engine.errors import CspError, InputError
from csp_engine.evaluation.associations import cofiring
from csp_engine.evaluation.associations.cofiring import Cofiring, Cofirings, cofirings
from csp_engine.evaluation.paired_effects import Bounded, group_draws, halves
from csp_engine.views.address import View
from csp_engine.views.audit import interventions
from csp_engine.views.audit.figures import Figure
from csp_engine.views.audit.groups import FiringGroup, firing, firing_json
from csp_engine.views.memo import Memo
from pages.ui.audit.carrying import firing_table
from pages.ui.parts.cards import plain
from tests.engine.test_cli import run
from tests.worlds import toys

DEMO = Path(__file__).resolve().parents[2] / "assets" / "demo" / "dermoscopy.csp"


def planted(seed: int = 0, n: int = 300) -> np.ndarray:
    """Six units that one factor drives, four that another does, twenty of noise, one constant."""
    rng = np.random.default_rng(seed)
    first, second = rng.normal(size=(2, n))
    rows = [first * rng.uniform(0.5, 3) + rng.normal(size=n) * 0.2 for _ in range(6)]
    rows += [np.exp(second) + rng.normal(size=n) * 0.05 for _ in range(4)]
    rows += list(rng.normal(size=(20, n)))
    return np.maximum(np.array([*rows, np.full(n, 2.0)]), -1).astype(np.float32)


def clusters_by_loop(activation_un: np.ndarray, least: float) -> set[frozenset[int]]:
    """Average linkage as it is defined: the two closest become one, until none are close."""
    rho = spearmanr(activation_un.T).statistic
    held = [[unit] for unit in range(len(activation_un))]
    while len(held) > 1:
        pairs = list(itertools.combinations(range(len(held)), 2))
        mean = [np.mean([rho[u, v] for u in held[a] for v in held[b]]) for a, b in pairs]
        best = int(np.argmax(mean))
        if mean[best] < least:
            break
        a, b = pairs[best]
        held[a] += held.pop(b)
    return {frozenset(each) for each in held if len(each) >= cofiring.LEAST_UNITS}


@pytest.mark.parametrize("seed", range(3))
def test_groups_and_their_figures_are_those_of_a_loop(seed):
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(3, 120))
    activation_un = rng.normal(size=(18, 120)) * 0.7 + shared[rng.integers(0, 3, 18)]
    group_n = np.repeat(np.arange(60), 2)
    found = cofirings(activation_un, group_n, least_together=0.4, seed=seed)
    is_choosing_n = halves(group_n, seed)
    chosen, told = activation_un[:, is_choosing_n], activation_un[:, ~is_choosing_n]
    wanted = clusters_by_loop(chosen, 0.4)
    assert found.n_found == len(wanted)
    assert {frozenset(each.unit_k.tolist()) for each in found.groups} <= wanted
    assert found.groups
    _, place_n = np.unique(group_n[~is_choosing_n], return_inverse=True)
    counts_rg = group_draws(int(place_n.max()) + 1, seed)
    for each in found.groups:
        pairs = list(itertools.combinations(each.unit_k.tolist(), 2))
        rho = np.mean([spearmanr(told[u], told[v]).statistic for u, v in pairs])
        assert each.together.value == pytest.approx(rho, abs=1e-9)
        rank_kn = rankdata(told[each.unit_k], axis=1)
        drawn = []
        for counts_g in counts_rg:
            drawn_kn = np.repeat(rank_kn, counts_g[place_n].astype(int), axis=1)
            corr = np.corrcoef(drawn_kn)
            drawn.append(corr[np.triu_indices(len(corr), 1)].mean())
        ends = np.percentile(drawn, [2.5, 97.5])
        assert (each.together.low, each.together.high) == pytest.approx(tuple(ends), abs=1e-9)
        assert each.together.low >= 0.4
        first = [np.mean([spearmanr(chosen[u], chosen[v]).statistic for v in each.unit_k if v != u])
                 for u in each.unit_k]  # fmt: skip
        assert first[0] == pytest.approx(max(first))
    missing = wanted - {frozenset(each.unit_k.tolist()) for each in found.groups}
    for units in missing:
        rank_kn = rankdata(told[sorted(units)], axis=1)
        assert np.corrcoef(rank_kn)[np.triu_indices(len(units), 1)].mean() < 0.5


@pytest.mark.parametrize("seed", range(5))
def test_units_of_one_planted_factor_are_found_and_noise_is_not(seed):
    found = cofirings(planted(seed), np.arange(300))
    assert [sorted(each.unit_k.tolist()) for each in found.groups] == [
        [0, 1, 2, 3, 4, 5],
        [6, 7, 8, 9],
    ]
    assert found.n_still == 1
    assert found.n_choosing + found.n_confirming == 300
    own = found.of_unit(8)
    assert own is found.groups[1]
    assert own.name == f"firing with {own.unit_k[0]}"
    assert found.of_unit(15) is None


def test_the_same_whatever_the_scale_of_a_unit():
    activation_un = planted().astype(np.float64)
    squeezed = np.exp(activation_un * np.linspace(0.2, 1, len(activation_un))[:, None])
    one, other = (cofirings(each, np.arange(300)) for each in (activation_un, squeezed))
    assert [g.unit_k.tolist() for g in one.groups] == [g.unit_k.tolist() for g in other.groups]
    assert [g.together for g in one.groups] == [g.together for g in other.groups]


def test_what_holds_in_one_half_alone_is_no_group():
    rng = np.random.default_rng(0)
    group_n = np.repeat(np.arange(50), 4)
    is_choosing_n = halves(group_n, 0)
    activation_un = rng.normal(size=(12, 200))
    activation_un[:5, is_choosing_n] = rng.normal(size=int(is_choosing_n.sum()))
    found = cofirings(activation_un, group_n)
    assert found.n_found == 1
    assert found.groups == ()


def test_one_odd_image_makes_no_group():
    """By values every two units would correlate; their ranks do not."""
    rng = np.random.default_rng(1)
    activation_un = rng.normal(size=(10, 80))
    activation_un[:, 3] = activation_un[:, 40] = 1e4
    assert np.corrcoef(activation_un)[0, 1] > 0.99
    assert cofirings(activation_un, np.arange(80)).n_found == 0


@pytest.mark.parametrize(
    ("group_n", "said"),
    [
        (np.arange(19), "19 images are of 19 groups"),
        (np.zeros(90, int), "90 images are of 1 group "),
        (np.repeat(np.arange(10), 9), "90 images are of 10 groups"),
    ],
)
def test_few_images_are_refused(group_n, said):
    activation_un = np.random.default_rng(0).normal(size=(5, len(group_n)))
    with pytest.raises(InputError, match=f"The {said}.*and 20 are needed"):
        cofirings(activation_un, group_n)


@pytest.mark.parametrize("n_units", [0, 1, 2])
def test_hardly_any_units_make_no_group(n_units):
    rng = np.random.default_rng(0)
    found = cofirings(np.tile(rng.normal(size=60), (n_units, 1)), np.arange(60))
    assert (found.groups, found.n_found) == ((), 0)


def test_units_that_never_change_are_left_out():
    found = cofirings(np.ones((7, 60)), np.arange(60))
    assert (found.groups, found.n_found, found.n_still) == ((), 0, 7)


def test_too_many_units_are_refused(monkeypatch):
    monkeypatch.setattr(cofiring, "MOST_UNITS", 29)
    with pytest.raises(InputError, match="30 units of the layer vary, and at most 29 can"):
        cofirings(planted(), np.arange(300))


def test_of_very_many_images_some_are_drawn(monkeypatch):
    monkeypatch.setattr(cofiring, "MOST_IMAGES", 100)
    found = cofirings(planted(), np.arange(300))
    assert (found.n_choosing, found.n_confirming) == (50, 50)
    assert sorted(found.groups[0].unit_k.tolist()) == [0, 1, 2, 3, 4, 5]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A bundle with activations, some of which rise and fall together."""
    folder = tmp_path_factory.mktemp("cofiring")
    images = toys.draw_images(folder / "images", 60)
    pipeline.build(toys.request(images, folder / "own.csp", n_influence_images=0))
    return folder / "own.csp"


def test_both_commands_take_a_group_by_a_neuron_of_it(whole, capsys):
    bundle = Bundle.open(whole)
    model = bundle.model_names[0]
    layers = bundle.layers(model)
    looked = {layer: firing(bundle, Memo(), model, layer, "csp") for layer in layers}
    layer, found = next(each for each in looked.items() if each[1].groups)
    assert found.groups[0].share is None
    group = found.groups[0]
    units = sorted(group.unit_k.tolist())
    for unit in units[:2]:
        (given,) = given_parts(bundle, model, [f"{layer}:firing with {unit}"], "csp")
        assert (given.name, given.part.tolist()) == (group.name, units)
        (piece,), how = _pieces(bundle, model, [f"{layer}:firing with {unit}"], [], [], "csp")
        assert piece.part.tolist() == units
        assert how == f"chosen as those {group.name}"
    code, out, _ = run(capsys, "cofiring", whole, "--layer", layer, "--method", "csp", "--json")
    assert code == 0
    told = json.loads(out)
    assert told == json.loads(json.dumps(firing_json(found)))
    assert sorted(told["groups"][0]["units"]) == units
    assert found.sentence in run(capsys, "cofiring", whole, "--layer", layer)[1]
    alone = set(range(bundle.n_units(model, layer))) - {
        int(u) for each in found.groups for u in each.unit_k
    }
    for unit in sorted(alone)[:1]:
        with pytest.raises(InputError, match=f"that fires together holds neuron {unit}; its lar"):
            given_parts(bundle, model, [f"{layer}:firing with {unit}"], "csp")
    with pytest.raises(CspError, match="has no unit 999"):
        given_parts(bundle, model, [f"{layer}:firing with 999"], "csp")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--layer", "deep"), "Layer 'deep' of "),
        (("--layer", "{layer}", "--artefact", "ruler"), "No pairs of images were tried on "),
        (("--layer", "{layer}", "--model", "x"), "Model 'x' is not in the bundle"),
    ],
)
def test_what_is_not_there_is_said(whole, capsys, arguments, said):
    bundle = Bundle.open(whole)
    layer = bundle.layers(bundle.model_names[0])[0]
    given = [each.format(layer=layer) for each in arguments]
    code, _, told = run(capsys, "cofiring", whole, *given)
    assert code == 2
    assert said in told


def test_a_slim_copy_says_what_it_lacks(capsys):
    code, out, told = run(capsys, "cofiring", DEMO, "--layer", "layer2@max", "--model", "biased")
    assert (code, out) == (2, "")
    assert "leaves out activations:biased/layer2@max to stay small" in told


def test_groups_come_by_what_is_attributed_to_them_less_what_works_against():
    """On the shipped demo, whose copy has no activations, with groups made up here."""
    bundle, memo, layer = Bundle.open(DEMO), Memo(), "layer2@max"
    made = [[200, 201, 202], [50, 102, 112], [3, 4, 5, 6]]
    known = [Cofiring(np.array(units), Bounded(0.8, 0.75, 0.85)) for units in made]
    memo.once(
        ("cofiring", bundle.digest, "biased", layer),
        lambda: Cofirings(tuple(known), 3, 1000, 1000, 0),
    )
    audited = interventions.audited(bundle, "biased", "colour patch", "csp_plus")
    found = firing(bundle, memo, "biased", layer, "csp_plus", audited)
    stored = bundle.intervention("biased").units
    own = stored[(stored["artefact"] == "colour patch") & (stored["layer"] == layer)]
    lowers = dict(zip(own["unit"], -own["attribution"].astype(float), strict=True))
    whole = sum(value for value in lowers.values() if value > 0)
    wanted = {f"firing with {u[0]}": sum(lowers[each] for each in u) / whole for u in made}
    assert {each.name: each.share for each in found.groups} == pytest.approx(wanted)
    shares = [each.share for each in found.groups]
    assert shares == sorted(shares, reverse=True)
    best = found.groups[0]
    assert best.name == "firing with 50"
    assert f"{best.part} of what is attributed to the layer's neurons" in found.sentence
    by_effect = sorted(best.unit_k.tolist(), key=lambda unit: -lowers[unit])
    assert [ref.unit for ref, _ in best.members] == by_effect
    truth = bundle.truth("biased", layer).units["true_concept"]
    assert dict(best.truths) == truth.iloc[best.unit_k].fillna("none").value_counts().to_dict()
    shown = firing_table(found.groups, found, View("x", "biased", layer, 0, "csp_plus"))
    for each in found.groups:
        assert each.together.share in shown
        assert plain(each.answers) in shown
        assert all(f"unit={ref.unit}" in shown for ref, _ in each.members)


@pytest.mark.parametrize(
    ("share", "said"),
    [(-0.001, "0 %"), (0.0, "0 %"), (-0.02, "−2 %"), (0.294, "29 %"), (None, "–")],
)
def test_a_part_that_rounds_to_nothing_has_no_sign(share, said):
    bare = FiringGroup("firing with 3", np.arange(3), Figure(0.8, 0.7, 0.9), share, (), ())
    assert bare.part == said
