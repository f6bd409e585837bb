"""Pairs of images: attribution and swaps against weights edited by hand, figures against loops."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats as scipy_stats
from torch import nn

from csp_engine import pipeline
from csp_engine.bundle import Bundle, verify
from csp_engine.demo.simulator.neutral import neutral
from csp_engine.errors import InputError
from csp_engine.evaluation.paired_effects import (
    evenly,
    halves,
    matched_sets,
    mean_effect,
    mean_within,
    ratio,
    strongest,
)
from csp_engine.networks.autoencoders.directions import write_directions
from csp_engine.networks.intervening.pairs import PairRuns, log_odds
from csp_engine.networks.layers import select_layers
from csp_engine.networks.models import target_model
from csp_engine.pipeline.intervening import measuring
from csp_engine.pipeline.intervening.rows import ON_THE_REST
from csp_engine.pipeline.recipe import Recipe
from csp_engine.trust import TRUST
from csp_engine.views.audit import interventions as view
from csp_engine.views.audit.driving import every_neuron
from csp_engine.views.audit.gate import judge, read_condition
from csp_engine.words.concepts import find_concept_set
from tests.engine.test_cli import run
from tests.worlds import damage, toys

RECIPE = {"resize": [6, 6], "crop": None, "interpolation": "bilinear", "mean": 0.5, "std": 0.5}


class Net(nn.Module):
    """A convolution, an in-place ReLU, tokens or vectors behind it, and a head."""

    def __init__(self, layout="map"):
        super().__init__()
        torch.manual_seed(2)
        self.layout = layout
        self.first = nn.Conv2d(3, 4, 3)
        self.relu = nn.ReLU(inplace=True)
        self.second = nn.Linear(4, 6) if layout != "map" else nn.Conv2d(4, 6, 2)
        self.act = nn.Tanh()
        self.fc = nn.Linear(6, 3)

    def body(self, x):
        x = self.relu(self.first(x))
        if self.layout == "map":
            return self.second(x)
        x = x.flatten(2).transpose(1, 2)  # n t c
        return self.second(x.transpose(0, 1) if self.layout == "tnc" else x)

    def tail(self, x):
        x = self.act(x)
        if self.layout == "map":
            return self.fc(x.mean((2, 3)))
        return self.fc(x.mean(0 if self.layout == "tnc" else 1))

    def forward(self, x):
        return self.tail(self.body(x))


def wrapped(network, n_classes=3):
    names = [f"c{i}" for i in range(n_classes)]
    return target_model(network.eval(), RECIPE, name="net", class_names=names)


@pytest.fixture
def pixels():
    rng = np.random.default_rng(0)
    return [rng.normal(size=(7, 3, 6, 6)).astype(np.float32) for _ in range(2)]


def by_hand(logit_nc, output):
    p_nc = np.exp(logit_nc - logit_nc.max(1, keepdims=True))
    p_n = p_nc[:, output] / p_nc.sum(1)
    return np.log(p_n / (1 - p_n))


@pytest.mark.parametrize("n_outputs", [2, 3, 7])
def test_log_odds_are_those_of_the_softmax(n_outputs):
    logit_nc = np.random.default_rng(1).normal(size=(5, n_outputs))
    found = log_odds(torch.tensor(logit_nc), n_outputs - 1).numpy()
    np.testing.assert_allclose(found, by_hand(logit_nc, n_outputs - 1), rtol=1e-5)


def test_one_output_is_its_own_log_odds():
    assert log_odds(torch.tensor([[1.5], [-2.0]]), 0).tolist() == [1.5, -2.0]


class Several(nn.Module):
    """Outputs that are each a yes or no of their own."""

    def __init__(self):
        super().__init__()
        self.net = Net()

    def forward(self, x):
        return self.net(x).sigmoid()


@pytest.mark.parametrize("way", ["a sigmoid inside", "a sigmoid behind", "as transformers say it"])
def test_outputs_that_are_each_a_yes_or_no_have_log_odds_of_their_own(pixels, way):
    """The log-odds of p are log p / (1 - p), whatever the other outputs say."""
    net = Several().net
    made = {"a sigmoid inside": Several(), "a sigmoid behind": nn.Sequential(net, nn.Sigmoid())}
    network = made.get(way, net)
    network.load_state_dict({k: v * 3 for k, v in network.state_dict().items()})
    if way == "as transformers say it":
        network.config = type("Config", (), {"problem_type": "multi_label_classification"})()
    layer = {"a sigmoid inside": "net.act", "a sigmoid behind": "0.act"}.get(way, "act")
    model = wrapped(network)
    runs = PairRuns(model, select_layers(model, [layer]), "c1", batch=3)
    x, foil = pixels
    with torch.no_grad():
        given_nc = network(torch.tensor(x)).numpy().astype(np.float64)
    p_nc = 1 / (1 + np.exp(-given_nc)) if way == "as transformers say it" else given_nc
    score_n, is_called_n = runs.scores(x)
    np.testing.assert_allclose(score_n, np.log(p_nc[:, 1] / (1 - p_nc[:, 1])), rtol=1e-3)
    assert is_called_n.tolist() == (p_nc[:, 1] > 0.5).tolist()
    assert is_called_n.tolist() != (p_nc.argmax(1) == 1).tolist()
    # Parts of the effect are of the same scale: swapped whole, the layer takes all of it.
    (whole_n,) = runs.swapped(layer, x, foil, [np.arange(6)])
    np.testing.assert_allclose(whole_n, runs.scores(foil)[0], rtol=1e-4)
    (found,) = runs.attributed(x, foil).values()
    change_n = score_n - runs.scores(foil)[0]  # what follows the layer is linear up to the logit
    np.testing.assert_allclose(found.effect_nu.sum(1), change_n, rtol=1e-3, atol=1e-5)
    told = "Each of its outputs is taken for a yes or no"
    assert sum(told in each for each in model.steadiness.notices) == 1
    assert "by as much" in view.one_of(["a", "b"], "net", "a")
    assert "by as much" not in view.one_of(["a", "b"], "net", "a", are_apart=True)


@pytest.mark.parametrize("layout", ["map", "ntc", "tnc"])
def test_swaps_equal_a_network_run_by_hand(pixels, layout):
    net = Net(layout)
    model = wrapped(net)
    runs = PairRuns(model, select_layers(model, ["second"], layout=None), "c1", batch=3)
    version, foil = map(torch.tensor, pixels)
    along = np.random.default_rng(3).normal(size=6)
    along = (along / np.linalg.norm(along)).astype(np.float32)
    units = np.array([0, 4])
    basis = np.linalg.qr(np.random.default_rng(4).normal(size=(6, 2)))[0].astype(np.float32)
    found_sn = runs.swapped("second", *pixels, [units, along, np.arange(6), basis])
    axis = 1 if layout == "map" else -1
    with torch.no_grad():
        a, b = (net.body(x.clone()).movedim(axis, -1) for x in (version, foil))
        taken = a.clone()
        taken[..., [0, 4]] = b[..., [0, 4]]
        v = torch.tensor(along)
        projected = a + ((b - a) @ v)[..., None] * v
        spanned = a.clone()  # one direction of the basis after the other
        for w in torch.tensor(basis).T:
            spanned = spanned + ((b - a) @ w)[..., None] * w
        for found_n, mixed in zip(found_sn, (taken, projected, b, spanned), strict=True):
            logits = net.tail(mixed.movedim(-1, axis)).numpy()
            np.testing.assert_allclose(found_n, by_hand(logits, 1), rtol=2e-4, atol=1e-5)
    # the whole layer taken over is the foil itself, and hooks leave nothing behind
    np.testing.assert_allclose(found_sn[2], runs.scores(pixels[1])[0], rtol=1e-4, atol=1e-5)
    assert not any(m._forward_hooks for m in net.modules())


def test_a_pass_that_fails_leaves_no_hook(pixels):
    net = Net()
    model = wrapped(net)
    runs = PairRuns(model, select_layers(model, ["second"]), "c1")
    with pytest.raises(IndexError):
        runs.swapped("second", *pixels, [np.array([99])])
    assert not any(m._forward_hooks for m in net.modules())


def test_attribution_is_exact_where_what_follows_is_linear(pixels):
    class Linear(Net):
        def tail(self, x):
            return self.fc(x.mean((2, 3)))[:, :1]

    net = Linear()
    model = wrapped(net, 1)
    runs = PairRuns(model, select_layers(model, ["second@max"]), 0, batch=2)
    (found,) = runs.attributed(*pixels).values()
    with torch.no_grad():
        a, b = (net.body(torch.tensor(x)).mean((2, 3)) for x in pixels)
        expected = ((a - b) * net.fc.weight[0]).numpy()
    np.testing.assert_allclose(found.effect_nu, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.change_nu, (a - b).numpy(), rtol=1e-4, atol=1e-6)
    score_n = runs.scores(pixels[0])[0] - runs.scores(pixels[1])[0]
    np.testing.assert_allclose(found.effect_nu.sum(1), score_n, rtol=1e-3, atol=1e-5)
    # a swap of one unit removes exactly what is attributed to it
    removed = runs.scores(pixels[0])[0] - runs.swapped("second", *pixels, [np.array([2])])[0]
    np.testing.assert_allclose(removed, found.effect_nu[:, 2], rtol=1e-3, atol=1e-5)


def test_attribution_of_several_layers_equals_finite_differences(pixels):
    net = Net()
    model = wrapped(net)
    runs = PairRuns(model, select_layers(model, ["first", "second"]), "c2")
    found = runs.attributed(*pixels)
    assert list(found) == ["first", "second"]
    version, foil = (torch.tensor(x, dtype=torch.float64) for x in pixels)
    net.double()
    expected = np.zeros((7, 6))
    with torch.no_grad():
        ends = [net.body(version.clone()), net.body(foil.clone())]
        for unit in range(6):
            step = torch.zeros_like(ends[0])
            step[:, unit] = 1e-4 * (ends[0] - ends[1])[:, unit]
            for at in ends:
                up, down = (by_hand(net.tail(at + s * step).numpy(), 2) for s in (1, -1))
                expected[:, unit] += (up - down) / 2e-4 / 2
    np.testing.assert_allclose(found["second"].effect_nu, expected, rtol=2e-3, atol=2e-5)


# ------------------------------------------------------------------ figures


def test_intervals_agree_with_scipy_and_cover():
    rng = np.random.default_rng(5)
    change_n = rng.normal(1.0, 2.0, 150)
    found = mean_effect(change_n, np.arange(150))
    other = scipy_stats.bootstrap(
        (change_n,), np.mean, method="percentile", n_resamples=4000, rng=np.random.default_rng(1)
    ).confidence_interval
    assert found.value == pytest.approx(change_n.mean())
    assert (found.low, found.high) == pytest.approx((other.low, other.high), abs=0.06)


def test_pairs_of_one_group_are_drawn_together():
    group_n = np.repeat(np.arange(20), 10)
    shift_g = np.random.default_rng(0).normal(size=20)
    change_n = shift_g[group_n]
    clustered, apart = mean_effect(change_n, group_n), mean_effect(change_n, np.arange(200))
    assert clustered.high - clustered.low > 2 * (apart.high - apart.low)
    alone = mean_effect(shift_g, np.arange(20))
    assert (clustered.low, clustered.high) == pytest.approx((alone.low, alone.high))


@pytest.mark.slow
def test_intervals_cover_at_their_nominal_level():
    n_inside = 0
    for seed in range(200):
        change_n = np.random.default_rng(seed).normal(0.3, 1.0, 60)
        found = mean_effect(change_n, np.arange(60), seed)
        n_inside += found.low <= 0.3 <= found.high
    assert 180 <= n_inside <= 199


def test_ratios_are_of_sums_and_nothing_is_unknown():
    found = ratio(np.array([1.0, 3.0]), np.array([2.0, 2.0]), np.array([0, 1]))
    assert found.value == 1.0
    assert (found.low, found.high) == (0.5, 1.5)
    assert np.isnan(ratio(np.zeros(0), np.zeros(0), np.zeros(0, int)).value)
    assert np.isnan(ratio(np.ones(3), np.zeros(3), np.arange(3)).value)


def test_halves_keep_groups_whole_and_differ_by_seed():
    group_n = np.random.default_rng(0).integers(0, 31, 200)
    chosen = halves(group_n, 1)
    sides = pd.DataFrame({"g": group_n, "c": chosen}).groupby("g")["c"].nunique()
    assert (sides == 1).all()
    assert len(set(group_n[chosen])) == len(set(group_n)) // 2
    assert (halves(group_n, 2) != chosen).any()


def test_intervals_of_neurons_are_paired_ts_of_groups():
    """Of groups of one size scipy's t of their means, else that of the ratio, group by group."""
    rng = np.random.default_rng(3)
    shared_gu = rng.normal(size=(30, 4))
    value_nu = np.repeat(shared_gu, 5, axis=0) + rng.normal(size=(150, 4)) + 0.3
    group_n = np.repeat(np.arange(30), 5)
    mean_u, within_u = mean_within(value_nu, group_n)
    of_group = scipy_stats.ttest_1samp(value_nu.reshape(30, 5, 4).mean(1), 0)
    bounds = of_group.confidence_interval(0.95)
    np.testing.assert_allclose(mean_u - within_u, bounds.low, rtol=1e-9)
    np.testing.assert_allclose(mean_u + within_u, bounds.high, rtol=1e-9)
    uneven_n = rng.integers(0, 30, 150)
    mean_u, within_u = mean_within(value_nu, uneven_n)
    groups = np.unique(uneven_n)
    for u in range(4):
        off = 0.0
        for group in groups:
            own = value_nu[uneven_n == group, u]
            off += (own - value_nu[:, u].mean()).sum() ** 2
        error = np.sqrt(off * len(groups) / (len(groups) - 1)) / 150
        t = scipy_stats.t.ppf(0.975, len(groups) - 1)
        assert mean_u[u] == pytest.approx(value_nu[:, u].mean())
        assert within_u[u] == pytest.approx(t * error)
    _, few_u = mean_within(value_nu[:45], np.repeat(np.arange(9), 5))
    assert np.isnan(few_u).all()


def test_random_sets_are_others_and_alike():
    rng = np.random.default_rng(0)
    activation_u, influence_u = rng.gamma(1, size=(2, 200)).astype(np.float32)
    chosen = np.argsort(-activation_u)[:10]
    sets = matched_sets(chosen, activation_u, influence_u, 30, 1)
    assert len(sets) == 30
    for each in sets:
        assert len(np.unique(each)) == 10
        assert not set(each) & set(chosen)
    mean = np.mean([activation_u[each].mean() for each in sets])
    rest = np.delete(activation_u, chosen)
    assert mean > np.quantile(rest, 0.7)  # as near to the strongest as others can be
    assert len({tuple(each) for each in sets}) == 30
    assert matched_sets(np.arange(150), activation_u, influence_u, 3) == []


@pytest.mark.parametrize(("n_units", "n_chosen", "n_sets"), [(40, 20, 1), (5, 3, 0), (7, 3, 4)])
def test_one_set_is_not_told_as_twenty(n_units, n_chosen, n_sets):
    """Of as many others as chosen ones there is one set, whoever draws."""
    value_2u = np.random.default_rng(1).random((2, n_units)).astype(np.float32)
    sets = matched_sets(np.arange(n_chosen), *value_2u, 20)
    assert len(sets) == len({tuple(each) for each in sets}) == n_sets


def test_controls_are_of_all_groups_and_show_what_they_are_a_share_of():
    rng = np.random.default_rng(2)
    group_n = np.repeat(np.arange(20), 15)
    few = measuring._controls(rng.normal(-2, 1, 300), group_n, 0)
    assert (len(few), len(np.unique(group_n[few]))) == (40, 20)
    weak_n = np.where(np.arange(300) % 15 < 2, rng.normal(0, 1, 300), -0.5)
    assert measuring._controls(weak_n, group_n, 0).tolist() == list(range(300))
    alone = measuring._controls(rng.normal(-2, 1, 300), np.arange(300), 0)
    assert alone.tolist() == list(range(40))


def test_strongest_follow_the_sign_of_the_effect():
    effect_u = np.array([0.1, -0.5, 0.3, 0.0])
    assert strongest(effect_u, -2.0).tolist() == [1, 3, 0, 2]
    assert strongest(effect_u, 1.0).tolist() == [2, 0, 3, 1]


def test_shown_pairs_run_from_end_to_end():
    value_n = np.random.default_rng(0).normal(size=50)
    shown = evenly(value_n, 6)
    assert value_n[shown[0]] == value_n.max()
    assert value_n[shown[-1]] == value_n.min()
    assert all(value_n[a] >= value_n[b] for a, b in pairwise(shown))
    assert evenly(np.array([2.0, 1.0, 3.0]), 6).tolist() == [2, 0, 1]


# ------------------------------------------------------------------ pictures


def test_a_neutral_paste_changes_its_shape_alone():
    rng = np.random.default_rng(0)
    image = rng.integers(90, 110, (40, 50, 3)).astype(np.uint8)
    image[:, 25:] = 200  # not skin
    mask = np.zeros((40, 50), bool)
    mask[5:20, 30:45] = True
    around = np.zeros_like(mask)
    around[:, :25] = True
    pasted = neutral(image, mask, around)
    far = np.ones_like(mask)
    far[1:24, 26:49] = False
    assert (pasted[far] == image[far]).all()
    assert abs(pasted[9:16, 34:41].mean() - np.median(image[:, :25])) < 4
    nowhere = neutral(image, mask, np.zeros_like(mask))
    assert nowhere.shape == image.shape


# ------------------------------------------------------------------ the stage


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("intervened")
    images = toys.draw_images(folder / "images")
    target = toys.target()
    path = pipeline.build(toys.request(images, folder / "small.csp", targets=(target,))).path
    pairs = toys.CornerPairs()
    output = (target.model.class_names or ("0",))[0]
    bundle = pipeline.add_interventions(path, target, pairs, output, n_random=4)
    return bundle, target, pairs, output


def test_the_stage_holds_what_a_loop_finds(made):
    bundle, target, pairs, output = made
    model = target.model
    stored = bundle.intervention("small")
    (row,) = stored.effects.to_dict("records")
    score = {name: [] for name in ("without", "with", "neutral")}
    for i in range(len(pairs.table)):
        for name, image in zip(score, pairs.images(i), strict=True):
            with torch.no_grad():
                x = torch.tensor(model.preprocess(image))[None]
                logit_nc = model.logits(model.run(x)).numpy()
            score[name].append(by_hand(logit_nc, list(model.class_names).index(output))[0])
    score = {name: np.array(values) for name, values in score.items()}
    assert row["foil"] == "neutral"
    assert (row["n_pairs"], row["n_groups"]) == (40, 20)
    assert row["effect"] == pytest.approx((score["with"] - score["neutral"]).mean(), abs=1e-4)
    assert row["change"] == pytest.approx((score["with"] - score["without"]).mean(), abs=1e-4)
    assert row["neutral"] == pytest.approx((score["neutral"] - score["without"]).mean(), abs=1e-4)
    assert stored.pairs["is_choosing"].sum() == 20
    units = stored.units
    assert set(units["layer"]) == set(bundle.layers("small"))
    assert verify(bundle) == []


def test_every_neuron_has_its_change_and_interval_of_the_half_that_ranked_nothing(made):
    bundle, target, pairs, _ = made
    stored = bundle.intervention("small")
    rest = np.flatnonzero(~stored.pairs["is_choosing"].to_numpy())
    images = [pairs.images(int(i)) for i in rest]
    layer = bundle.layers("small")[-1]
    seen = {}
    for at, name in ((1, "with"), (2, "neutral")):
        pixels = np.stack([target.model.preprocess(each[at]) for each in images])
        kept = []
        module = target.model.network.get_submodule(layer.partition("@")[0])
        hook = module.register_forward_hook(lambda _m, _i, out, kept=kept: kept.append(out))
        with torch.no_grad():
            target.model.run(torch.tensor(pixels))
        hook.remove()
        seen[name] = kept[0].flatten(2).mean(-1).numpy() if kept[0].ndim > 2 else kept[0].numpy()
    own = stored.units[stored.units["layer"] == layer]
    change_nu = (seen["with"] - seen["neutral"]).astype(np.float64)
    group_n = stored.pairs["group"].to_numpy()[rest]
    means = pd.DataFrame(change_nu).groupby(group_n).mean().to_numpy()  # two pairs in each group
    bounds = scipy_stats.ttest_1samp(means, 0).confidence_interval(0.95)
    np.testing.assert_allclose(own["moved"], change_nu.mean(0), atol=1e-5)
    np.testing.assert_allclose(own["moved"] - own["moved_within"], bounds.low, atol=1e-5)
    (effect,) = view.effects(stored)
    table = every_neuron(stored, effect)
    assert len(table) == len(stored.units)
    np.testing.assert_allclose(table["moved_high"][table["layer"] == layer], bounds.high, atol=1e-5)
    audited = view.audited(bundle, "small", "red corner", "csp")
    for suspect in audited.suspects:
        (row,) = table[
            (table["layer"] == suspect.neuron.layer) & (table["unit"] == suspect.neuron.unit)
        ].to_dict("records")
        assert suspect.confirmed.low == pytest.approx(row["confirmed_low"])
        assert suspect.moved.value == pytest.approx(row["moved"])


def test_a_bundle_of_before_has_neurons_without_intervals(made, tmp_path):
    bundle = made[0]
    path = shutil.copytree(bundle.path, tmp_path / "old.csp")
    file = damage.place(path, "intervention:small", "units.parquet")
    rows = pd.read_parquet(file)
    rows.drop(columns=[*ON_THE_REST]).to_parquet(file, index=False)
    damage.redo(path)
    old = Bundle.open(path)
    (effect,) = view.effects(old.intervention("small"))
    assert "moved" not in every_neuron(old.intervention("small"), effect)
    audited = view.audited(old, "small", "red corner", "csp")
    assert not any(each.confirmed.is_known or each.moved.is_known for each in audited.suspects)
    rows.assign(moved_within=-1.0).to_parquet(file, index=False)
    damage.redo(path)
    assert any("has a moved_within below 0" in each for each in verify(Bundle.open(path)))


def test_it_is_kept_while_the_network_is_and_measured_once(made):
    bundle, target, pairs, output = made
    key = bundle.manifest.stages["intervention:small"].key
    again = pipeline.add_interventions(bundle.path, target, pairs, output, n_random=4)
    assert again.manifest.stages["intervention:small"].key == key
    relabelled = pipeline.relabel(bundle.path, Recipe.restated(bundle.manifest.recipe, {}))
    assert relabelled.manifest.stages["intervention:small"].key == key


def test_other_networks_outputs_and_few_pairs_are_refused(made):
    bundle, target, pairs, _ = made
    other = wrapped(Net())
    with pytest.raises(InputError, match="not the network that"):
        pipeline.add_interventions(
            bundle.path,
            pipeline.Target(other, tuple(select_layers(other, ["second"]))),
            pairs,
            "c0",
        )
    with pytest.raises(InputError, match="has no output called 'nonsense'"):
        pipeline.add_interventions(bundle.path, target, pairs, "nonsense")
    few = toys.CornerPairs(5)
    with pytest.raises(InputError, match=r"red corner has 5 pairs that can be read, of 3 groups"):
        pipeline.add_interventions(bundle.path, target, few, made[3])
    assert "intervention:small" in Bundle.open(bundle.path).manifest.stages


def grouped(group_n, artefact_n=None):
    """Pairs of corners of some groups."""
    pairs = toys.CornerPairs(len(group_n))
    named = ["red corner"] * len(group_n) if artefact_n is None else artefact_n
    pairs.table = pairs.table.assign(group=[f"g{g}" for g in group_n], artefact=named)
    pairs.fingerprint = f"{pairs.fingerprint} {list(group_n)}"
    return pairs


@pytest.mark.parametrize(
    ("group_n", "found"),
    [
        (np.zeros(40, int), "of 1 group"),
        (np.arange(40) % 3, "of 3 groups"),
        (np.minimum(np.arange(60), 18), "of 19 groups"),  # one patient has 42 of the pairs
    ],
)
def test_many_pairs_of_few_groups_are_refused(made, group_n, found):
    """Pairs of one patient are not new cases, however many there are."""
    bundle, target, _, output = made
    key = bundle.manifest.stages["intervention:small"].key
    said = rf"red corner has {len(group_n)} pairs that can be read, {found}\. Intervals need 20 "
    with pytest.raises(InputError, match=said + r".*--pairs"):
        pipeline.add_interventions(bundle.path, target, grouped(group_n), output)
    assert Bundle.open(bundle.path).manifest.stages["intervention:small"].key == key


def test_an_artefact_of_few_groups_is_left_out_and_others_stay(made, tmp_path, caplog):
    bundle, target, _, output = made
    path = shutil.copytree(bundle.path, tmp_path / "own.csp")
    group_n = np.concatenate([np.arange(20) % 3, 100 + np.arange(20)])
    pairs = grouped(group_n, ["mark"] * 20 + ["red corner"] * 20)
    stored = pipeline.add_interventions(path, target, pairs, output, n_random=2)
    assert stored.intervention("small").effects["artefact"].tolist() == ["red corner"]
    assert (
        "mark has 20 pairs that can be read, of 3 groups, and 20 groups are needed" in caplog.text
    )


def test_effects_of_few_groups_are_withheld_wherever_they_are_shown(made, monkeypatch):
    """As bundles of before hold them: their intervals are far too close."""
    bundle, _, _, output = made
    stored = bundle.intervention("small")
    few = replace(stored, effects=stored.effects.assign(n_groups=np.int32(3)))
    (effect,) = view.effects(few)
    told = effect.sentence(output)
    assert "withheld: its 40 pairs are of 3 groups" in told
    assert "and 20 are needed; give more with 'csp intervene --pairs'" in told
    assert view.conclusion(output, (effect,)) == (
        "Pairs of red corner are of too few groups to say anything."
    )
    monkeypatch.setattr(type(bundle), "intervention", lambda *_: few)
    found = view.audited(bundle, "small", "red corner", "csp")
    assert (found.layers, found.suspects) == ((), ())
    (row,) = view.as_json(bundle, "small", "csp")["artefacts"]
    assert "of 3 groups" in row["withheld"]
    with pytest.raises(InputError, match=r"of 3 groups .*cannot be judged"):
        judge(
            bundle,
            "small",
            (),
            [read_condition("effect red corner > 0")],
            find_concept_set("melanoma"),
        )


def forged(bundle, tmp_path, table, change):
    path = tmp_path / "forged.csp"
    shutil.copytree(bundle.path, path)
    file = damage.place(path, "intervention:small", f"{table}.parquet")
    change(pd.read_parquet(file)).to_parquet(file, index=False)
    damage.redo(path)
    return path


@pytest.mark.parametrize(
    ("table", "column", "value", "said"),
    [
        ("effects", "effect", 9.0, "effect of 'red corner'"),
        ("effects", "neutral_low", -9.0, "neutral of 'red corner'"),
        ("effects", "n_groups", 3, "n_pairs or n_groups"),
        ("effects", "n_gained", 23, "Decisions of"),
        ("pairs", "score_with", 4.0, "is not that of its pairs"),
        ("pairs", "artefact", "ruler", "which has no effect"),
        ("units", "unit", 99, "names unit 99"),
        ("shown", "pair", 99, "shows pair 99"),
    ],
)
def test_forged_figures_are_told(made, tmp_path, table, column, value, said):
    def change(rows):
        rows[column] = rows[column].astype(object if isinstance(value, str) else rows[column].dtype)
        rows.loc[0, column] = value
        return rows.astype({column: "string"}) if isinstance(value, str) else rows

    path = forged(made[0], tmp_path, table, change)
    problems = verify(Bundle.open(path))
    assert any(said in each for each in problems), problems


@pytest.mark.slow
def test_the_command_measures_and_shows(made, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv(TRUST, "1")
    bundle, _, pairs, output = made
    rows = []
    for i in range(len(pairs.table)):
        names = {}
        for name, image in zip(("without", "with", "neutral"), pairs.images(i), strict=True):
            names[name] = f"{i}-{name}.png"
            image.save(tmp_path / names[name])
        rows.append({"artefact": "red corner", **names, "group": f"g{i // 2}"})
    table = tmp_path / "pairs.csv"
    pd.DataFrame(rows).to_csv(table, index=False)
    pixels = tmp_path / "pixels.json"
    pixels.write_text(json.dumps(toys.PREPROCESSING))
    own = ("--pairs", table, "--preprocessing", pixels)
    before = bundle.intervention("small").effects
    code, _, said = run(capsys, "intervene", bundle.path, *own)
    assert code == 2
    assert "Name one with --output: " in said
    code, _, said = run(capsys, "intervene", bundle.path, *own, "--output", "nonsense")
    assert code == 2
    assert "has no output 'nonsense'; --output can be one of 4" in said
    other = tmp_path / "other.json"
    other.write_text(json.dumps({**toys.PREPROCESSING, "mean": [0.4] * 3}))
    strange = (*own[:2], "--preprocessing", other, "--output", output)
    code, _, said = run(capsys, "intervene", bundle.path, *strange)
    assert code == 2
    assert "Give the same weights and preprocessing" in said
    code, shown, said = run(capsys, "intervene", bundle.path, *own, "--output", output)
    assert (code, "red corner" in shown) == (0, True), said
    stored = Bundle.open(bundle.path).intervention("small").effects
    pd.testing.assert_frame_equal(stored, before)
    code, shown, _ = run(capsys, "intervene", bundle.path, "--json")
    (row,) = json.loads(shown)["artefacts"]
    assert row["effect"]["value"] == stored["effect"].iloc[0]
    assert row["compared_with"] == "neutral"
    code, _, said = run(capsys, "intervene", bundle.path, "--model", "nobody")
    assert code == 2
    assert "--model can be small" in said


@pytest.mark.slow
def test_given_parts_are_swapped_like_those_that_are_found(made, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv(TRUST, "1")
    bundle, _target, pairs, output = made
    path = tmp_path / "own.csp"
    shutil.copytree(bundle.path, path)
    stored = bundle.intervention("small")
    (effect,) = view.effects(stored)
    layer = bundle.layers("small")[-1]
    n_units = bundle.n_units("small", layer)
    own = stored.units[stored.units["layer"] == layer]["attribution"].to_numpy()
    best = strongest(own, effect.effect.value)[:5]
    file = tmp_path / "everything.safetensors"
    write_directions(file, np.eye(n_units, dtype=np.float32), None, list(map(str, range(n_units))))
    rows = []
    for i in range(len(pairs.table)):
        names = {}
        for name, image in zip(("without", "with", "neutral"), pairs.images(i), strict=True):
            names[name] = f"{i}-{name}.png"
            image.save(tmp_path / names[name])
        rows.append({"artefact": "red corner", **names, "group": f"g{i // 2}"})
    pd.DataFrame(rows).to_csv(tmp_path / "pairs.csv", index=False)
    pixels = tmp_path / "pixels.json"
    pixels.write_text(json.dumps(toys.PREPROCESSING))
    asked = ("--pairs", tmp_path / "pairs.csv", "--preprocessing", pixels, "--output", output)
    units = f"{layer}:{','.join(map(str, best))}"
    code, shown, said = run(
        capsys, "intervene", path, *asked, "--swap", units, "--swap", f"{layer}={file}", "--json"
    )
    assert code == 0, said
    (told,) = json.loads(shown)["artefacts"]
    assert verify(Bundle.open(path)) == []
    if not effect.effect.is_away_from_zero or not told["given"]:
        pytest.fail("the world has no effect whose parts could be swapped")
    by_units, by_file = told["given"]
    found = next(each for each in told["layers"] if each["layer"] == layer)
    same = next(each for each in found["strongest"] if each["n_units"] == 5)
    assert by_units["necessity"] == same["necessity"]
    assert by_units["sufficiency"] == same["sufficiency"]
    assert (by_file["name"], by_file["n_directions"]) == ("everything", n_units)
    for wrong, sentence in (
        ("deep:1", "'deep:1' names no part of a layer; write --swap LAYER:3,14,15"),
        (f"{layer}:{n_units}", f"has no unit {n_units}; it has 0 to"),
        (f"{layer}:no such family", "has no family 'no such family'"),
        (f"{layer}={pixels}", "cannot be read as directions"),
        (units, "is given twice with --swap"),
    ):
        code, _, said = run(capsys, "intervene", path, *asked, "--swap", units, "--swap", wrong)
        assert (code, sentence in said) == (2, True), said
    code, _, said = run(capsys, "intervene", path, "--swap", units)
    assert (code, "--swap needs pairs to swap between" in said) == (2, True)
    told_of = damage.place(path, "intervention:small", "given.parquet")
    given = pd.read_parquet(told_of)
    for change, sentence in (
        (given.assign(name="other").astype({"name": "string"}), "not those of its recipe"),
        (given.assign(necessity=9.0), "lies outside of its bounds"),
        (given.assign(artefact="ruler").astype({"artefact": "string"}), "which has no effect"),
    ):
        change.to_parquet(told_of, index=False)
        damage.redo(path)
        problems = verify(Bundle.open(path))
        assert any(sentence in each for each in problems), problems


def test_the_sentence_says_no_more_than_was_seen():
    def effect(value, low, high, **more):
        unknown = view.Figure(float("nan"), float("nan"), float("nan"))
        own = {"n_called": 10, "n_lost": 4, "n_gained": 1, **more}
        return view.Effect(
            "ruler", 40, 40, False, view.Figure(value, low, high), unknown, unknown, **own
        )

    lowers = effect(-2.0, -2.5, -1.5)
    assert lowers.sentence("melanoma") == (
        "Adding ruler lowers the log-odds of melanoma by 2.00 (1.50 to 2.50), over 40 pairs. Of 10 "
        "photographs called melanoma, 4 are no longer."
    )
    none = effect(0.1, -0.2, 0.4)
    assert "No effect of ruler on melanoma was shown" in none.sentence("melanoma")
    assert "0.40 or more" in none.sentence("melanoma")
    assert view.conclusion("melanoma", (lowers, none)) == (
        "Ruler lowers the score of melanoma. No effect of ruler was shown."
    )


def swapped(n_units, necessity, sufficiency):
    wide = view.Figure(sufficiency, sufficiency - 0.1, sufficiency + 0.1)
    return view.Swapped(n_units, view.Figure(necessity, necessity - 0.1, necessity + 0.1), wide)


def test_the_layer_shown_is_that_in_which_fewest_carry_the_effect():
    low = view.Carried("low", 100, (swapped(5, 0.4, 0.4), swapped(20, 1.0, 0.8)), None, 0.1, 20, 20)
    high = view.Carried("high", 100, (swapped(20, 0.9, 0.9),), None, 0.1, 20, 20)
    needed = view.Carried("needed", 100, (swapped(1, 0.9, 0.1),), None, 0.1, 20, 20)
    assert low.n_carriers == 20
    assert needed.n_carriers is None  # it leaves with one neuron, and does not come with it
    assert view.narrowest((high, low, needed)) is low
    assert view.narrowest((needed,)) is None
