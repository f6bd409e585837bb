"""Factors that push wrong decisions: against loops, a planted shortcut, forgeries, the command."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file

from csp_engine import pipeline
from csp_engine.bundle import Bundle, verify
from csp_engine.bundle.checks.factored import called_in_turn, leading
from csp_engine.errors import InputError
from csp_engine.evaluation.directions import factors
from csp_engine.evaluation.paired_effects import mean_gap
from csp_engine.networks.intervening.ablation import Cut
from csp_engine.networks.intervening.pushing import PushRuns, margins
from csp_engine.networks.layers import select_layers
from csp_engine.networks.models import target_model
from csp_engine.pipeline import Target
from csp_engine.pipeline.added.fixing import Trials
from csp_engine.pipeline.added.photographs import Photographs, listed_photographs
from csp_engine.pipeline.factoring.finding import find_factors
from csp_engine.pipeline.factoring.keeping import add_factors, read_factors
from csp_engine.pipeline.recipe import Recipe
from csp_engine.trust import TRUST
from csp_engine.views.audit import factors as view
from tests.engine.test_cli import run
from tests.worlds import damage, misled, toys


def test_margins_are_those_of_a_loop():
    rng = np.random.default_rng(0)
    logit_nc = rng.normal(size=(40, 4))
    truth_n = rng.integers(0, 4, 40)
    found = margins(torch.tensor(logit_nc), torch.tensor(truth_n)).numpy()
    for row, truth, margin in zip(logit_nc, truth_n, found, strict=True):
        best, next_ = np.argsort(-row)[:2]
        against = next_ if best == truth else truth
        assert margin == pytest.approx(row[best] - row[against], rel=1e-5)
    one = torch.tensor([[2.0], [-3.0], [0.5]])
    told = margins(one, torch.tensor([1, 1, 0])).tolist()
    assert told == pytest.approx([2.0, 3.0, 0.5])


def test_a_push_is_what_projecting_out_takes_where_what_follows_is_linear(tmp_path):
    of = misled.target()
    rng = np.random.default_rng(1)
    pixels = rng.random((37, 3, 16, 16)).astype(np.float32)  # more than one batch, one left over
    truth_n = rng.integers(0, 2, 37)
    directions = np.linalg.qr(rng.normal(size=(5, 3)))[0].astype(np.float32)
    runs = PushRuns(of.model, of.taps, "red")
    push_nk, called_n = runs.pushes(pixels, truth_n, "seen", directions)
    net = of.model.network
    x = torch.tensor(pixels)
    with torch.no_grad():
        seen = net.seen(net.mix(x))
        before = net.head(seen.mean((2, 3)))
        for k, v in enumerate(torch.tensor(directions).T):
            along = torch.einsum("nuhw,u->nhw", seen, v)
            after = net.head((seen - along[:, None] * v[:, None, None]).mean((2, 3)))
            sign = 1 - 2 * before.argmax(1).float()  # of logit 0 less logit 1
            margin = [sign * (each[:, 0] - each[:, 1]) for each in (before, after)]
            np.testing.assert_allclose(push_nk[:, k], margin[0] - margin[1], atol=1e-4)
    assert called_n.tolist() == before.argmax(1).tolist()
    cut = Cut("seen", directions[:, 0], np.zeros(5, np.float32))
    _, plain = runs.ablated(pixels, [(), (cut,)])
    assert plain[0].tolist() == called_n.tolist()


def test_places_are_places_of_the_layer():
    of = misled.target()
    pixels = np.random.default_rng(2).random((5, 3, 16, 16)).astype(np.float32)
    runs = PushRuns(of.model, of.taps, "red")
    found = runs.places(pixels, "seen", 9, 0)
    with torch.no_grad():
        net = of.model.network
        seen = net.seen(net.mix(torch.tensor(pixels))).flatten(2).numpy()
    assert found.shape == (45, 5)
    for i, rows in enumerate(np.split(found, 5)):
        own = seen[i].T
        far = np.abs(rows[:, None] - own[None]).max(-1)
        assert (far.min(1) < 1e-5).all()
        assert len(set(far.argmin(1))) == 9
    assert runs.places(pixels, "seen", 10_000, 0).shape == (5 * 256, 5)


@pytest.mark.slow
def test_a_gap_is_that_of_a_loop_and_its_interval_covers():
    rng = np.random.default_rng(3)
    group_n = np.repeat(np.arange(30), 2)
    value_n, first_n = rng.normal(size=60), rng.random(60) < 0.3
    found = mean_gap(value_n, first_n, group_n, 5)
    assert found.value == pytest.approx(value_n[first_n].mean() - value_n[~first_n].mean())
    drawn = []
    counts = np.random.default_rng(5).multinomial(30, np.full(30, 1 / 30), 2000)
    for count_g in counts:
        rows = np.repeat(np.arange(60), count_g[group_n])
        own, other = rows[first_n[rows]], rows[~first_n[rows]]
        if len(own) and len(other):
            drawn.append(value_n[own].mean() - value_n[other].mean())
    np.testing.assert_allclose((found.low, found.high), np.percentile(drawn, [2.5, 97.5]))
    n_inside = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        first_n = rng.random(150) < 0.25
        found = mean_gap(rng.normal(size=150) + 0.4 * first_n, first_n, np.arange(150), seed)
        n_inside += found.low <= 0.4 <= found.high
    assert 88 <= n_inside <= 100
    assert np.isnan(mean_gap(value_n, np.zeros(60, bool), group_n).value)


def test_chance_is_seldom_called():
    """Twelve factors that push nothing: the first by the choosing half is tested on the other."""
    n_called = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        push_nk, wrong_n = rng.standard_t(4, size=(240, 12)), rng.random(240) < 0.2
        order, _ = leading(push_nk[:120], wrong_n[:120])
        gap = mean_gap(push_nk[120:, order[0]], wrong_n[120:], np.arange(120), seed)
        n_called += bool(called_in_turn(np.array([gap.low]))[0])
    assert n_called <= 8  # of 100, at 2.5 % each; more has a chance of 1 in 1,000
    assert called_in_turn(np.array([0.2, -0.1, 0.3])).tolist() == [True, False, False]


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("misled")
    shots = listed_photographs(misled.photographs(folder))
    of = misled.target()
    images = toys.draw_images(folder / "images")
    made = toys.request(
        images, folder / "own.csp", targets=(of, misled.target("fair")), n_influence_images=0
    )
    bundle = pipeline.build(made)
    stored = find_factors(Trials(of, shots, "red"), "seen@mean", 3, n_random=6)
    return add_factors(bundle.path, "misled", "seen@mean", stored, 0), shots, stored


def test_the_planted_shortcut_is_called_and_mends(planted):
    bundle, _, _ = planted
    found = view.factored(bundle, "misled", "seen@mean", "csp")
    assert [each.is_called for each in found.factors] == [True, False, False]
    direction_u = bundle.factors("misled", "seen@mean").direction_uk[:, 0]
    blue_u = np.linalg.pinv(np.array(misled.MIX))[2]
    assert direction_u @ blue_u / np.linalg.norm(blue_u) > 0.95
    turning = found.factors[0].turning
    assert turning.net > max(each.net for each in found.random)
    assert turning.n_mended >= 4
    assert "pushes wrong decisions of misled more than right ones" in found.sentence
    assert found.factors[0].neurons[0][0].unit == 2


def test_a_network_that_does_not_see_it_has_none(planted):
    shots = planted[1]
    trials = Trials(misled.target("fair"), shots, "red")
    stored = find_factors(trials, "seen@mean", 3, n_random=0)
    assert not stored.factors["is_called"].any()


def test_the_stage_holds_what_a_loop_finds(planted):
    bundle, _shots, _ = planted
    stored = bundle.factors("misled", "seen@mean")
    assert verify(bundle) == []
    table = stored.photographs
    told = ~table["is_choosing"].to_numpy()
    wrong = (table["decided"] != table["class"]).to_numpy()
    assert 10 <= wrong[told].sum() < told.sum()
    for k, row in stored.factors.iterrows():
        push_n = stored.push_nk[told, k]
        assert row["gap"] == pytest.approx(
            push_n[wrong[told]].mean() - push_n[~wrong[told]].mean(), abs=1e-5
        )
    found = view.factored(bundle, "misled", "seen@mean", "csp")
    right = [
        [stored.classes[i] == c for i, c in zip(called, table["class"][told], strict=True)]
        for called in stored.called_vi
    ]
    mended = sum(not was and now for was, now in zip(right[0], right[1], strict=True))
    assert found.factors[0].turning.n_mended == mended
    assert found.n_wrong == right[0].count(False)
    shown = stored.shown[stored.shown["factor"] == 0]["row"].tolist()
    rows = np.flatnonzero(told & wrong)
    assert shown == rows[np.argsort(-stored.push_nk[rows, 0], kind="stable")][:6].tolist()


def test_what_cannot_be_is_refused(planted, tmp_path):
    shots = planted[1]
    trials = Trials(misled.target(), shots, "red")
    with pytest.raises(InputError, match=r"'deep' cannot be factored; it can be seen@mean"):
        find_factors(trials, "deep", 3)
    with pytest.raises(InputError, match="use 1 to 5 for this layer"):
        find_factors(trials, "seen@mean", 9)
    few = listed_photographs(misled.photographs(tmp_path, 30))
    with pytest.raises(InputError, match="at least 10 wrong and 10 right"):
        find_factors(Trials(misled.target(), few, "red"), "seen@mean", 3)
    signed = toys.target(["first"], factory="lively")
    drawn = listed_photographs(toys.photographs(tmp_path))
    with pytest.raises(InputError, match="has negative activations"):
        find_factors(Trials(signed, drawn, "red"), "first@mean", 3)


def test_factors_of_nothing_are_left_out():
    """A stage holds directions of length 1, so a factor for which nothing is left is none."""
    rng = np.random.default_rng(0)
    little_un = np.zeros((8, 200))
    little_un[0], little_un[1, :3] = rng.random(200), 1e-9
    readout_uk, share_k = factors(little_un, 6)
    assert readout_uk.shape[1] == len(share_k) < 6
    assert (np.linalg.norm(readout_uk, axis=0) > 0).all()
    assert readout_uk[0, 0] > 0
    assert share_k[0] > 0.99
    with pytest.raises(InputError, match="is 0 wherever it was looked at"):
        factors(np.zeros((6, 100)), 3)
    with pytest.raises(InputError, match="activations that are not finite"):
        factors(np.full((6, 100), np.nan), 3)


class _Rare(misled.Misled):
    """Units that are 0 but for one, so that a layer has fewer factors than are asked for."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        kept = torch.tensor([0.0, 1.0, 0, 0, 0])[:, None, None]
        return self.head(self.seen(self.mix(pixels) * kept).mean((2, 3))) + torch.tensor([1.0, 0])


class _Torn(misled.Misled):
    """It decides otherwise wherever no gradient is asked for, as a tie may."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        logit_nc = super().forward(pixels)
        return logit_nc if torch.is_grad_enabled() else logit_nc.flip(1)


class _Unwell(misled.Misled):
    """What it makes of very blue pictures is not finite."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        logit_nc = super().forward(pixels)
        return torch.where(pixels[:, 2].mean((1, 2))[:, None] > 0.15, torch.nan, logit_nc)


def network(of: type[misled.Misled], names: list[str] | None = None) -> Target:
    """A network of this file, with the layer ``seen``."""
    side = misled.SIDE
    read = {"resize": side, "crop": side, "interpolation": "bilinear"}
    recipe = read | {"mean": [0.0] * 3, "std": [1.0] * 3}
    names = names or ["red", "green"]
    model = target_model(of(1.0).eval(), recipe, name="misled", class_names=names)
    return Target(model, tuple(select_layers(model, ["seen"])))


def test_a_layer_with_fewer_factors_makes_a_whole_stage(planted, tmp_path):
    bundle, shots, _ = planted
    stored = find_factors(Trials(network(_Rare), shots, "red"), "seen@mean", 4, n_random=3)
    assert len(stored.factors) == stored.push_nk.shape[1] == stored.n_tried < 4
    np.testing.assert_allclose(np.linalg.norm(stored.direction_uk, axis=0), 1, atol=1e-6)
    path = tmp_path / "own.csp"
    shutil.copytree(bundle.path, path)
    assert verify(add_factors(path, "misled", "seen@mean", stored, 0)) == []


def test_decisions_are_those_that_were_pushed(planted):
    stored = find_factors(Trials(network(_Torn), planted[1], "red"), "seen@mean", 3, n_random=0)
    named = [stored.classes[i] for i in stored.called_vi[0]]
    assert named == stored.photographs["decided"][stored.is_reported_n].tolist()


def test_values_that_are_not_finite_name_their_photograph(planted):
    trials = Trials(network(_Unwell), planted[1], "red")
    with pytest.raises(InputError, match=r"not finite for misled/\d{3}\.png"):
        find_factors(trials, "seen@mean", 3)


def test_wrong_decisions_of_a_few_groups_tell_nothing(planted, tmp_path):
    """Many photographs of two patients: an interval over groups would be far too close."""
    table = pd.read_csv(misled.photographs(tmp_path))
    decided = planted[1].table.assign(decided=planted[2].photographs["decided"])
    wrong = (decided["decided"] != decided["class"]).to_numpy()
    for name, group in {
        "few": np.where(wrong, np.cumsum(wrong) % 2, 2 + np.arange(len(wrong))),
        "many": np.where(wrong, np.cumsum(wrong) % 40, 40 + np.arange(len(wrong))),
    }.items():
        table.assign(group=group).to_csv(tmp_path / f"{name}.csv", index=False)
    for seed in (1, 2):
        few = Trials(misled.target(), listed_photographs(tmp_path / "few.csv", seed), "red")
        with pytest.raises(InputError, match="wrong and 10 right ones of different groups are"):
            find_factors(few, "seen@mean", 3)
    many = Trials(misled.target(), listed_photographs(tmp_path / "many.csv"), "red")
    assert len(find_factors(many, "seen@mean", 3, n_random=0).factors) == 3


def test_classes_of_one_name_are_refused(planted):
    """Which output is right for such a photograph, nothing says."""
    with pytest.raises(InputError, match="Outputs 0 and 1 of misled are all called 'red'"):
        Trials(network(misled.Misled, ["red", "red"]), _of_class(planted[1], "red"), "1")


def _of_class(shots: Photographs, name: str) -> Photographs:
    return replace(shots, table=shots.table.assign(**{"class": name}).astype({"class": "string"}))


@pytest.mark.slow
def test_forged_facts_are_told(planted, tmp_path):
    path = tmp_path / "forged.csp"
    stage = "factors:misled/seen@mean"

    def forged(**facts):
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(planted[0].path, path)
        damage.edit(path, lambda body: body["stages"][stage]["facts"].update(facts))
        return verify(Bundle.open(path))

    assert any("n_tried of" in each for each in forged(n_tried=2, n_random=7))
    assert forged(classes=["red"])
    assert forged(n_photographs=3)


FORGERIES = {
    "decided": (
        "photographs",
        lambda t: t.assign(decided=t["class"]),
        "has no wrong or no right decision",
    ),
    "class": ("photographs", lambda t: t.assign(decided="mauve"), "names class 'mauve'"),
    "called": ("factors", lambda t: t.assign(is_called=~t["is_called"]), "calls other factors"),
    "gap": ("factors", lambda t: t.assign(gap_low=t["gap_low"] + 0.1), "is not that of its pushes"),
    "rank": ("factors", lambda t: t.iloc[::-1], "does not list factors by rank"),
    "chosen": ("factors", lambda t: t.assign(chosen=t["chosen"] + 1), "not ranked by their pushes"),
    "share": ("factors", lambda t: t.assign(share=2.0), "has a share outside"),
    "fewer": ("factors", lambda t: t.iloc[:2], "has 2 rows for 3 directions"),
    "shown": ("shown", lambda t: t.iloc[::-1], "pushed most"),
    "photograph": ("shown", lambda t: t.assign(row=np.int32(9999)), "shows photograph 9999"),
    "factor": ("shown", lambda t: t.assign(factor=np.int32(7)), "shows factor 7"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_forged_tables_are_told(planted, tmp_path, name):
    table, change, said = FORGERIES[name]
    path = tmp_path / "forged.csp"
    shutil.copytree(planted[0].path, path)
    file = damage.place(path, "factors:misled/seen@mean", f"{table}.parquet")
    change(pd.read_parquet(file)).to_parquet(file, index=False)
    damage.redo(path)
    problems = verify(Bundle.open(path))
    assert any(said in each for each in problems), problems


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("push", lambda v: v[:, ::-1], "pushes"),
        ("push", lambda v: v * np.nan, "not numbers"),
        ("push", lambda v: v[1:], "is of shape"),
        ("direction", lambda v: v * 2, "not of length 1"),
        ("called", lambda v: 1 - v, "Decisions of"),
        ("called", lambda v: v + 7, "decides for class"),
    ],
)
def test_forged_arrays_are_told(planted, tmp_path, name, change, said):
    path = tmp_path / "forged.csp"
    shutil.copytree(planted[0].path, path)
    damage.change_array(
        path, "factors:misled/seen@mean", name,
        lambda v: np.ascontiguousarray(change(v).astype(v.dtype)),
    )  # fmt: skip
    problems = verify(Bundle.open(path))
    assert any(said in each for each in problems), problems


@pytest.mark.slow
def test_factors_stay_while_the_network_and_its_layer_do(planted, tmp_path):
    bundle = planted[0]
    path = tmp_path / "own.csp"
    shutil.copytree(bundle.path, path)
    kept = pipeline.relabel(path, Recipe.restated(bundle.manifest.recipe, {"n_labels": 3}))
    assert kept.factors("misled", "seen@mean") is not None
    assert verify(kept) == []
    other = toys.request(
        bundle.path.parent / "images", path,
        targets=(misled.target("fair"),), n_influence_images=0,
    )  # fmt: skip
    left = pipeline.build(other)
    assert left.factors("misled", "seen@mean") is not None
    assert verify(left) == []


@pytest.mark.slow
def test_the_command_finds_keeps_and_shows(planted, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv(TRUST, "1")
    bundle = tmp_path / "own.csp"
    shutil.copytree(planted[0].path, bundle)
    table = misled.photographs(tmp_path)
    file = tmp_path / "wrong.safetensors"
    asked = ("--layer", "seen@mean", "--images", table, "--factors", "3", "--random", "2")
    code, shown, said = run(
        capsys, "factors", bundle, *asked, "--model", "misled", "--output", file, "--json"
    )
    assert code == 0, said
    (told,) = json.loads(shown)
    assert (told["model"], told["n_wrong"], len(told["random"])) == (
        "misled", view.factored(planted[0], "misled", "seen@mean", "csp").n_wrong, 2
    )  # fmt: skip
    weight_uk = load_file(file)["W_enc"]
    assert weight_uk.shape == (5, 1)
    code, shown, _ = run(capsys, "factors", bundle)
    assert code == 0
    assert "pushes wrong decisions of misled" in shown
    left = tmp_path / "left"
    code, shown, said = run(capsys, "factors", bundle, *asked, "--model", "misled", "--seed", "3",
                            "--leave", left, "--json")  # fmt: skip
    assert code == 0, said
    found = read_factors(left)
    assert (found.layer, found.seed) == ("seen@mean", 3)
    assert Bundle.open(bundle).stage("factors:misled/seen@mean").params["seed"] == 0  # not kept
    kept = add_factors(bundle, "misled", found.layer, found.stored, found.seed)
    (again,) = json.loads(shown)
    assert view.as_json(view.factored(kept, "misled", "seen@mean", "csp")) == again
    assert verify(kept) == []
    code, _, said = run(capsys, "factors", bundle, *asked, "--model", "fair", "--output", file)
    assert (code, "There is nothing to write into wrong.safetensors" in said) == (2, True)
    for wrong, sentence in (
        (("--images", table), "Look in which layer? Name one with --layer"),
        (("--layer", "deep", "--images", table), "'deep' of fair is not in the bundle"),
        (("--layer", "seen@mean"), "Which photographs? Give a table of them with --images"),
        (("--output", "x.txt"), "is no file of directions; end it with .safetensors"),
        (("--method", "guess"), "'guess' has no labels here"),
        (("--model", "nobody"), "holds no factors of nobody"),
        (("--leave", left), "Look in which layer? Name one with --layer"),
        ((*asked, "--leave", left, "--output", file), "give one of them"),
        ((*asked, "--leave", left), "left is there already and is not empty"),
    ):
        code, _, said = run(capsys, "factors", bundle, *wrong)
        assert (code, sentence in said) == (2, True), (wrong, said)
