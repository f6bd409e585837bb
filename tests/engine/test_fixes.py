"""Fixes in a bundle: figures against loops and scikit-learn, sentences, forgeries, the command."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from csp_engine import pipeline
from csp_engine.bundle import Bundle, verify
from csp_engine.errors import InputError
from csp_engine.evaluation.paired_effects import Drawn, bounded, difference
from csp_engine.networks.autoencoders.directions import read_directions, write_directions
from csp_engine.pipeline.added.choosing import choose, joined
from csp_engine.pipeline.added.fixes import Piece, leave_fix, read_fix
from csp_engine.pipeline.added.fixing import Trials, try_fix
from csp_engine.pipeline.added.photographs import listed_photographs
from csp_engine.pipeline.passing.image_pass import Target
from csp_engine.pipeline.recipe import Recipe
from csp_engine.trust import TRUST
from csp_engine.views.audit import fixes as view
from tests.engine.test_cli import run
from tests.worlds import damage, toys

# ------------------------------------------------------------------ figures


def test_areas_are_those_of_scikit_learn_with_ties_and_weights():
    rng = np.random.default_rng(0)
    group_n = rng.integers(0, 25, 80)
    score_n = rng.integers(0, 9, 80).astype(float)  # ties
    positive_n, among_n = rng.random(80) < 0.4, rng.random(80) < 0.8
    drawn = Drawn(group_n, 3)
    value, drawn_r = drawn.auroc(score_n, positive_n, among_n)
    assert value == pytest.approx(roc_auc_score(positive_n[among_n], score_n[among_n]))
    place_n = np.unique(group_n, return_inverse=True)[1]
    for draw in (0, 7, 1999):
        weight_n = drawn._counts_rg[draw][place_n]
        expected = roc_auc_score(
            positive_n[among_n], score_n[among_n], sample_weight=weight_n[among_n]
        )
        assert drawn_r[draw] == pytest.approx(expected)


def test_shares_are_counted_and_the_same_draws_serve_both_sides():
    rng = np.random.default_rng(1)
    group_n = np.repeat(np.arange(20), 3)
    hit_n, among_n = rng.random(60) < 0.6, np.ones(60, bool)
    drawn = Drawn(group_n)
    value, drawn_r = drawn.share(hit_n, among_n)
    assert value == hit_n.mean()
    picked = np.concatenate(
        [np.repeat(hit_n[group_n == g], int(drawn._counts_rg[5][g])) for g in range(20)]
    )
    assert drawn_r[5] == pytest.approx(picked.mean())
    nothing = bounded(*difference(drawn.share(hit_n, among_n), drawn.share(hit_n, among_n)))
    assert (nothing.value, nothing.low, nothing.high) == (0, 0, 0)
    assert np.isnan(bounded(*drawn.share(hit_n, np.zeros(60, bool))).value)


@pytest.mark.slow
def test_intervals_of_paired_differences_cover():
    n_inside = 0
    for seed in range(150):
        rng = np.random.default_rng(seed)
        before_n = rng.random(120) < 0.7
        after_n = np.where(rng.random(120) < 0.15, rng.random(120) < 0.9, before_n)
        truth = 0.15 * (0.9 - 0.7)
        drawn = Drawn(np.arange(120), seed)
        every = np.ones(120, bool)
        found = bounded(*difference(drawn.share(after_n, every), drawn.share(before_n, every)))
        n_inside += found.low <= truth <= found.high
    assert 132 <= n_inside <= 149


# ------------------------------------------------------------------ a bundle


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fixed")
    images = toys.draw_images(folder / "images")
    target = toys.target(["first", "last"], factory="lively")
    path = pipeline.build(toys.request(images, folder / "small.csp", targets=(target,))).path
    stored = toys.tried_fix(folder, target, beside=[toys.target(["second"], name="other")])
    shots = listed_photographs(folder / "shots.csv")
    bundle = pipeline.add_fix(path, "small", "three neurons", stored)
    return bundle, target, shots, stored


def unit_vector(n, seed=0):
    along = np.random.default_rng(seed).normal(size=n)
    return (along / np.linalg.norm(along)).astype(np.float32)


def test_halves_share_no_group(made):
    table = made[2].table
    chosen = table["is_choosing"].to_numpy()
    assert 0 < chosen.sum() < len(table)
    assert not set(table["group"][chosen]) & set(table["group"][~chosen])


def test_the_stage_holds_what_a_loop_finds(made):
    bundle, target, shots, _ = made
    stored = bundle.fix("small", "three neurons")
    net = target.model.network
    inputs = [
        torch.tensor(target.model.preprocess(shots.image(i))) for i in range(len(shots.table))
    ]
    x = torch.stack(inputs)
    chosen = torch.tensor(shots.table["is_choosing"].to_numpy())
    with torch.no_grad():
        first = net.first(x)
        mean_first = first[chosen].mean((0, 2, 3))
        along = torch.tensor(unit_vector(8))
        gap = ((mean_first[None, :, None, None] - first) * along[:, None, None]).sum(1)
        held = first + gap[:, None] * along[:, None, None]
        plain = net.last(net.second(torch.relu(first)))
        last = net.last(net.second(torch.relu(held)))
        units = [0, 5, 7]
        last[:, units] = plain[chosen].mean((0, 2, 3))[units][:, None, None]
        logits = [net.head(maps.mean((2, 3)))[~chosen].numpy() for maps in (plain, last)]
    red = stored.classes.index("red")
    for run_, logit_nc in enumerate(logits):
        p_n = torch.tensor(logit_nc).softmax(1)[:, red].numpy()
        np.testing.assert_allclose(stored.score_wi[run_], np.log(p_n / (1 - p_n)), atol=2e-4)
        assert stored.called_vi[run_].tolist() == logit_nc.argmax(1).tolist()
    assert list(stored.runs["what"]) == ["before", "after", "beside", *["random"] * 4]
    assert stored.called_vi.shape == (7, int((~chosen).sum()))
    assert verify(bundle) == []


def test_figures_are_counted_from_the_decisions(made):
    bundle = made[0]
    stored = bundle.fix("small", "three neurons")
    found = view.figures(stored)
    rows = stored.photographs[~stored.photographs["is_choosing"]].reset_index(drop=True)
    truth = rows["class"].map(stored.classes.index).to_numpy()
    for each in found.slices:
        own = (rows["slice"] == each.name).to_numpy()
        right = [(stored.called_vi[i] == truth)[own] for i in range(2)]
        assert each.right.n == own.sum()
        assert (each.right.before.n_hits, each.right.after.n_hits) == tuple(map(sum, right))
        assert each.n_mended == (~right[0] & right[1]).sum()
        assert each.n_broken == (right[0] & ~right[1]).sum()
        assert each.right.change.value == pytest.approx(right[1].mean() - right[0].mean())
        red = truth[own] == stored.classes.index("red")
        called = stored.called_vi[1][own] == stored.classes.index("red")
        assert (each.found.n, each.found.after.n_hits) == (red.sum(), (red & called).sum())
        assert each.cleared.after.n_hits == (~red & ~called).sum()
        assert each.ranked.after == pytest.approx(roc_auc_score(red, stored.score_wi[1][own]))
        assert sum(c.n for _, c in each.classes) == own.sum()
        random = [(v == truth)[own].mean() - right[0].mean() for v in stored.called_vi[3:]]
        assert each.random == pytest.approx((min(random), max(random)))
    by = {each.name: each for each in found.slices}
    gap = by["clean"].right.before.share - by["marked"].right.before.share
    assert found.gap.before.value == pytest.approx(gap)
    assert found.n_random == 4
    assert any(each.n_mended or each.n_broken for each in found.slices)
    assert [h.words for h in found.held] == [
        "3 neurons of last@mean",
        "a direction of first@mean",
    ]


def test_random_controls_are_of_the_same_kind(made):
    stored = made[3]
    for _, rows in stored.cuts[stored.cuts["run"] > 1].groupby("run"):
        units = rows[~rows["is_direction"]]
        assert len(units) == 3
        assert not set(units["unit"]) & {0, 5, 7}
        weights = np.sort(rows[rows["is_direction"]]["weight"])
        np.testing.assert_allclose(weights, np.sort(unit_vector(8)), rtol=1e-6)


def test_pictures_are_of_decisions_that_turn(made):
    stored = made[0].fix("small", "three neurons")
    for each in view.turned(stored):
        assert each.before != each.after
        assert stored.thumbs[each.picture][:4] == b"RIFF"
    assert len(stored.thumbs) == len(stored.shown)


def test_it_stays_while_the_network_does_and_leaves_a_folder_as_it_was(made, tmp_path):
    bundle, _, _, stored = made
    key = bundle.manifest.stages["fix:small/three neurons"].key
    again = pipeline.add_fix(bundle.path, "small", "three neurons", stored)
    assert again.manifest.stages["fix:small/three neurons"].key == key
    relabelled = pipeline.relabel(bundle.path, Recipe.restated(bundle.manifest.recipe, {}))
    assert relabelled.fixes("small") == ("three neurons",)
    leave_fix(tmp_path / "left", stored)
    back = read_fix(tmp_path / "left")
    assert view.as_json(view.figures(back)) == view.as_json(view.figures(stored))
    assert back.thumbs == stored.thumbs


def test_choosing_helps_and_costs_no_more_than_it_may(made):
    _, target, shots, _ = made
    trials = Trials(target, shots, "red")
    options = [Piece("last@mean", np.array([u])) for u in range(12)]
    rows = trials.choosing
    truth, slices = trials.truth(rows), shots.table["slice"].to_numpy()[rows]

    def shares(pieces):
        _, called = trials.decided(rows, [trials.cuts(pieces, "zero")], "")
        return {s: (called[0] == truth)[slices == s].mean() for s in ("clean", "marked")}

    start = shares([])
    best = max(
        (min(found.values()) for each in options
         if (found := shares([each]))["clean"] >= start["clean"] - 0.01),
        default=0,
    )  # fmt: skip
    if best < min(start.values()) + 0.005:
        with pytest.raises(InputError, match="nothing was chosen"):
            choose(trials, options, "zero")
        return
    chosen = choose(trials, options, "zero")
    after = shares(chosen.pieces)
    assert chosen.before == min(start.values())
    assert chosen.after == pytest.approx(min(after.values()))
    assert chosen.after >= best
    assert after["clean"] >= start["clean"] - 0.01


def test_units_of_one_layer_are_one_piece():
    a, b = Piece("x", np.array([3, 1])), Piece("x", np.array([1, 2]))
    along = Piece("x", unit_vector(4))
    found = joined([a, along, b, along])
    assert [p.part.tolist() for p in found[:1]] == [[1, 2, 3]]
    assert len(found) == 2


# ------------------------------------------------------------------ words


def outcome(name, n, before, after, **more):
    def points(value, reach=0.02):
        return view.Points(value, value - reach, value + reach)

    right = view.Counted(
        n, view.share_of(before, n), view.share_of(after, n), points((after - before) / n)
    )
    own = {"n_mended": max(0, after - before), "n_broken": max(0, before - after)}
    ranked = view.Ranked(0.8, 0.9, points(0.1))
    return view.SliceOutcome(name, n, right, right, right, ranked, (), random=None, beside=(),
                             **{**own, **more})  # fmt: skip


def of_two(clean, worst):
    gap = view.Points(0.2, 0.1, 0.3), view.Points(0.05, 0.0, 0.1)
    return view.Tested(
        "net", "melanoma", "photographs", "clean", "zero", "a test",
        (view.Held("layer", (1, 2), False),), 0, (clean, worst),
        view.Gap("hard", *gap, 0.75, None, ()),
    )  # fmt: skip


def test_the_verdict_never_rests_on_the_gap_alone():
    helps = of_two(outcome("clean", 1000, 900, 896), outcome("hard", 1000, 700, 800))
    assert helps.verdict.startswith("It helps. What it costs")
    assert "finds 800 of the 1,000 photographs of melanoma in hard instead of 700" in helps.sentence
    assert "80.0 %" in helps.sentence
    assert "On clean it costs 0.4 points (−1.6 to 2.4)." in helps.details  # the interval of a cost
    assert "75 % of the gap is gone" in helps.gap_sentence
    destroyed = of_two(outcome("clean", 1000, 900, 650), outcome("hard", 1000, 700, 660))
    assert destroyed.verdict == "No gain was shown where artefacts mislead."
    dear = of_two(outcome("clean", 1000, 900, 850), outcome("hard", 1000, 700, 800))
    assert "costs more than a point" in dear.verdict
    clean = outcome("clean", 1000, 900, 896)
    right = replace(clean.right, change=view.Points(-0.004, np.nan, np.nan))
    of_few = of_two(replace(clean, right=right), outcome("hard", 1000, 700, 800))
    assert "On clean it costs 0.4 points (no interval)." in of_few.details


def of_groups(stored, changed):
    """The same decisions, with other groups of the photographs that are reported on."""
    table = stored.photographs.copy()
    is_told = ~table["is_choosing"].to_numpy(bool)
    told = table[is_told].reset_index(drop=True)
    table.loc[is_told, "group"] = changed(told).astype(np.int32)
    return view.figures(replace(stored, photographs=table))


def test_no_interval_comes_of_few_groups(made):
    """Nine of ten patients are in one slice, the other slice is of two; then each has enough."""
    stored = made[3]
    own = view.figures(stored)

    def is_marked(table):
        return (table["slice"] == "marked").to_numpy()

    few = of_groups(
        stored, lambda t: np.where(is_marked(t), np.arange(len(t)) % 2, 2 + np.arange(len(t)))
    )
    marked = few.of("marked")
    assert marked.n_groups == 2
    assert marked.right.change.value == own.of("marked").right.change.value
    assert np.isnan(marked.right.change.low)
    assert marked.right.change.signed.endswith("(no interval)")
    assert few.of("clean").right.change.has_interval
    assert few.verdict == "Photographs are of too few groups to tell a fix from chance."
    assert "(lesions, patients, photographs) or more; marked has 2. Give more" in few.details
    assert "no interval" in few.gap_sentence
    assert "of the gap is gone" not in few.gap_sentence
    assert "nan" not in f"{few.sentence} {few.details} {few.gap_sentence}".lower()
    told = json.loads(json.dumps(view.as_json(few)), parse_constant=pytest.fail)
    (row,) = (each for each in told["slices"] if each["slice"] == "marked")
    assert (row["right"]["change"]["low"], row["n_groups"]) == (None, 2)
    # One patient with most photographs and nine with one each: ten groups are enough.
    for n, has in ((9, False), (10, True)):
        lopsided = of_groups(
            stored, lambda t, n=n: np.where(is_marked(t), np.minimum(np.cumsum(is_marked(t)), n), 0)
        )
        assert lopsided.of("marked").n_groups == n
        assert lopsided.of("marked").right.change.has_interval == has


def test_areas_need_groups_of_either_kind():
    group_n = np.arange(60)
    score_n = np.random.default_rng(0).normal(size=60)
    every_n, few_n = np.ones(60, bool), group_n < 9
    value, drawn_r = Drawn(group_n).auroc(score_n, few_n, every_n)
    assert value == pytest.approx(roc_auc_score(few_n, score_n))
    assert np.isnan(drawn_r).all()
    assert np.isfinite(Drawn(group_n).auroc(score_n, group_n < 10, every_n)[1]).all()


def test_a_slice_of_one_kind_has_no_area(made):
    stored = made[3]
    table = stored.photographs
    name = table["slice"].iloc[0]
    others = table["class"].where(table["slice"] != name, "blue").astype(table["class"].dtype)
    found = view.figures(replace(stored, photographs=table.assign(**{"class": others})))
    assert found.of(name).ranked.words == ("–", "–")
    assert found.of(name).ranked.change.signed == "–"
    rest = [each for each in found.slices if each.name != name]
    assert all(re.fullmatch(r"[01]\.\d{3}", text) for s in rest for text in s.ranked.words)


@pytest.mark.parametrize("n_groups", [2, 19, 20])
def test_photographs_of_few_groups_are_refused(made, tmp_path, n_groups):
    table = pd.read_csv(toys.photographs(tmp_path))
    # A patient with most of the photographs, the others with one each.
    table["group"] = np.minimum(np.arange(len(table)), n_groups - 1)
    table.to_csv(tmp_path / "few.csv", index=False)
    shots = listed_photographs(tmp_path / "few.csv")
    if n_groups < 20:
        with pytest.raises(InputError, match=rf"are of {n_groups} groups .*need 20, .*--images"):
            Trials(made[1], shots, "red")
    else:
        assert Trials(made[1], shots, "red").output == "red"


# ------------------------------------------------------------------ refusals and forgeries


def test_what_cannot_be_is_refused(made, tmp_path):
    bundle, target, shots, stored = made
    trials = Trials(target, shots, "red")
    with pytest.raises(InputError, match="Nothing to take out"):
        try_fix(trials, [], "zero", chosen_on="")
    with pytest.raises(InputError, match="There is no neuron 99 in last@mean; it has 0 to 11"):
        try_fix(trials, [Piece("last@mean", np.array([99]))], "zero", chosen_on="")
    with pytest.raises(InputError, match="'deep' cannot be cut; it can be in first@mean"):
        try_fix(trials, [Piece("deep", np.array([1]))], "zero", chosen_on="")
    with pytest.raises(InputError, match="'some' is not a mode"):
        trials.held("some")
    with pytest.raises(InputError, match="No photograph is of the slice 'dirty'"):
        Trials(target, shots, "red", clean="dirty")
    with pytest.raises(InputError, match="cannot name a fix"):
        pipeline.add_fix(bundle.path, "small", "../up", stored)
    with pytest.raises(InputError, match="Model 'big' is not in"):
        pipeline.add_fix(bundle.path, "big", "x", stored)
    table = toys.photographs(tmp_path)
    rows = pd.read_csv(table)
    rows.assign(**{"class": "violet"}).to_csv(tmp_path / "violet.csv", index=False)
    with pytest.raises(InputError, match="'violet' is no class of small; its classes are blue"):
        Trials(target, listed_photographs(tmp_path / "violet.csv"), "red")
    rows.drop(columns="class").to_csv(tmp_path / "none.csv", index=False)
    with pytest.raises(InputError, match="does not say the class"):
        listed_photographs(tmp_path / "none.csv")
    rows.iloc[:1].to_csv(tmp_path / "one.csv", index=False)
    with pytest.raises(InputError, match="one photograph or group"):
        listed_photographs(tmp_path / "one.csv")


@pytest.mark.parametrize(("column", "clean"), [("Slice", "Clean"), ("SLICE", "CLEAN")])
def test_slices_count_however_the_column_and_the_clean_one_are_spelt(tmp_path, column, clean):
    rows = pd.read_csv(toys.photographs(tmp_path))
    rows = rows.drop(columns="slice", errors="ignore")
    rows[column] = np.where(np.arange(len(rows)) % 4 < 2, "Marked", clean)
    rows.to_csv(tmp_path / "spelt.csv", index=False)
    shots = listed_photographs(tmp_path / "spelt.csv")
    assert set(shots.table["slice"]) == {"Marked", clean}
    trials = Trials(toys.target(["last"], factory="lively"), shots, "red")
    assert trials.clean == clean
    with pytest.raises(InputError, match="No photograph is of the slice 'spotless'"):
        Trials(toys.target(["last"], factory="lively"), shots, "red", clean="spotless")


def one_output(tmp_path, classes, names=("red",)):
    """A network with one output, high for red photographs, and a table of two classes."""
    of = toys.target(["last"], factory="lively")
    head = torch.nn.Linear(12, 1)
    with torch.no_grad():
        head.weight.copy_(of.model.network.head.weight[3:4])
        head.bias.copy_(of.model.network.head.bias[3:4] - 3)
    of.model.network.head = head
    rows = pd.read_csv(toys.photographs(tmp_path))
    rows["class"] = rows["class"].map(classes)
    rows.to_csv(tmp_path / "two.csv", index=False)
    target = Target(replace(of.model, class_names=names), of.taps)
    return target, listed_photographs(tmp_path / "two.csv")


@pytest.mark.parametrize("other", ["another", "zebra"])  # before and after it in the alphabet
@pytest.mark.parametrize("asked", ["red", "0"])
def test_one_output_decides_between_its_class_and_the_other(tmp_path, other, asked):
    target, shots = one_output(tmp_path, lambda name: "red" if name == "red" else other)
    trials = Trials(target, shots, asked)
    stored = try_fix(trials, [Piece("last@mean", np.array([1]))], "zero", chosen_on="a test",
                     n_random=2)  # fmt: skip
    assert (stored.output, stored.classes) == ("red", (other, "red"))
    rows = shots.table[~shots.table["is_choosing"]]
    x = torch.stack([torch.tensor(target.model.preprocess(shots.image(i))) for i in rows.index])
    with torch.no_grad():
        logit_n = target.model.network(x)[:, 0].numpy()
    is_red_n = (rows["class"] == "red").to_numpy()
    right = int(((logit_n > 0) == is_red_n).sum())
    assert 0 < (logit_n > 0).sum() < len(rows)
    found = view.figures(stored)
    assert sum(each.right.before.n_hits for each in found.slices) == right
    assert sum(each.found.before.n_hits for each in found.slices) == int(
        ((logit_n > 0) & is_red_n).sum()
    )


def test_what_decisions_stand_for_is_never_guessed(tmp_path):
    target, shots = one_output(tmp_path, lambda name: name)
    with pytest.raises(InputError, match=r"has one output, 'red'.*3 other classes: blue, green"):
        Trials(target, shots, "red")
    target, shots = one_output(tmp_path, lambda name: name, names=None)
    with pytest.raises(InputError, match="outputs of small have no names"):
        Trials(target, shots, "0")


def put(column, value, row=0):
    def change(rows):
        rows[column] = rows[column].astype(object)
        rows.loc[rows.index[row], column] = value
        return rows.infer_objects()

    return change


FORGERIES = {
    "class": ("photographs", put("class", "violet"), "names class 'violet'"),
    "group": (
        "photographs",
        lambda rows: rows.assign(group=np.zeros(len(rows), np.int32)),
        "some photographs choose and others are reported on",
    ),
    "what": ("runs", put("what", "dreamt"), "ran 'dreamt'"),
    "order": ("runs", lambda rows: rows.iloc[::-1], "does not begin with before and after"),
    "another model": ("runs", lambda rows: rows.assign(model="else"), "another model"),
    "unit": ("cuts", put("unit", 99), "names unit 99"),
    "layer": ("cuts", put("layer", "deep"), "which there is not"),
    "run": ("cuts", put("run", 99), "names run 99"),
    "as it is": ("cuts", put("run", 0), "runs as it is"),
    "weight": (
        "cuts",
        lambda rows: rows.assign(weight=rows["weight"] * 2),
        "direction that is not of length 1",
    ),
    "own unit": (
        "cuts",
        lambda rows: rows.assign(unit=rows["unit"].where(rows["is_direction"], 5)),
        "",
    ),
    "at": ("cuts", put("at", 3.5, row=-1), "at several values"),
    "shown": ("shown", lambda rows: pd.DataFrame({"row": np.array([999], np.int32)}), "999"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_forged_tables_are_told(made, tmp_path, name):
    table, change, said = FORGERIES[name]
    path = tmp_path / "forged.csp"
    shutil.copytree(made[0].path, path)
    file = damage.place(path, "fix:small/three neurons", f"{table}.parquet")
    change(pd.read_parquet(file)).to_parquet(file, index=False)
    damage.redo(path)
    problems = verify(Bundle.open(path))
    assert any(said in each for each in problems), problems
    assert problems


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("score", lambda v: -v - 5, "are not those of its scores"),
        ("score", lambda v: v * np.nan, "not numbers"),
        ("called", lambda v: (v + 1) % 4, "are not those of its scores"),
        ("called", lambda v: v + 9, "decides for class"),
        ("called", lambda v: v[:-1], "is of shape"),
    ],
)
def test_forged_decisions_are_told(made, tmp_path, name, change, said):
    path = tmp_path / "forged.csp"
    shutil.copytree(made[0].path, path)
    damage.change_array(path, "fix:small/three neurons", name, lambda v: change(v).astype(v.dtype))
    problems = verify(Bundle.open(path))
    assert any(said in each for each in problems), problems


# ------------------------------------------------------------------ the command


@pytest.mark.slow
def test_the_command_tries_keeps_and_shows(made, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv(TRUST, "1")
    bundle = tmp_path / "own.csp"
    shutil.copytree(made[0].path, bundle)
    table = toys.photographs(tmp_path)
    pixels = tmp_path / "pixels.json"
    pixels.write_text(json.dumps(toys.PREPROCESSING))
    own = ("--images", table, "--preprocessing", pixels, "--random", "2")
    for wrong, said in (
        (("--units", "last"), "names no neurons; write --units LAYER:3,14,15"),
        (("--units", "deep:1"), "names no neurons; write --units LAYER:3,14,15"),
        (("--units", "last@mean:snow"), "last@mean of small has no family 'snow'; "),
        (("--units", "last@mean:40"), "last@mean of small has no unit 40; it has 0 to 11"),
        (("--units", "last@mean:1"), "Which output? Name one with --output: blue"),
        (("--from", "ruler"), "No pairs of images were tried on small"),
        (("--search",), "nothing is known to choose from"),
        (("--search", "--from", "x"), "--search chooses by itself"),
        (("--keep", "x"), "Nothing to keep"),
        (("--units", "last@mean:1", "--output", "red", "--mode", "some"), "'some' is not a mode"),
        (
            ("--units", "last@mean:1", "--output", "mauve"),
            "has no output 'mauve'; --output can be one of 4: blue",
        ),
    ):
        code, _, complaint = run(capsys, "fix", bundle, *own, *wrong)
        assert (code, said in complaint) == (2, True), (wrong, complaint)
    code, _, said = run(
        capsys,
        "fix",
        bundle,
        "--units",
        "last@mean:1",
        "--output",
        "red",
        "--preprocessing",
        pixels,
    )
    assert (code, "Which photographs? Give a table of them with --images" in said) == (2, True)
    asked = ("--units", "last@mean:1,2", "--units", "first@mean:3", "--output", "red")
    left = tmp_path / "left"
    code, shown, said = run(
        capsys, "fix", bundle, *own, *asked, "--keep", "mine", "--leave", left, "--json"
    )
    assert code == 0, said
    told = json.loads(shown)
    assert [(h["layer"], h["units"]) for h in told["held"]] == [
        ("last@mean", [1, 2]),
        ("first@mean", [3]),
    ]
    stored = Bundle.open(bundle).fix("small", "mine")
    assert json.dumps(view.as_json(view.figures(stored))) == json.dumps(told)
    assert json.dumps(view.as_json(view.figures(read_fix(left)))) == json.dumps(told)
    assert verify(Bundle.open(bundle)) == []
    file = tmp_path / "two.safetensors"
    weight_uk = np.random.default_rng(2).normal(size=(12, 2)).astype(np.float32)
    write_directions(file, weight_uk, None, ["a", "b"])
    basis_uk = read_directions(file, 12)
    np.testing.assert_allclose(basis_uk.T @ basis_uk, np.eye(2), atol=1e-6)
    np.testing.assert_allclose(basis_uk @ (basis_uk.T @ weight_uk), weight_uk, atol=1e-5)
    code, shown, said = run(
        capsys, "fix", bundle, *own, "--project", f"last@mean={file}", "--output", "red", "--json"
    )
    assert code == 0, said
    assert [(h["layer"], h["is_direction"]) for h in json.loads(shown)["held"]] == 2 * [
        ("last@mean", True)
    ]
    for wrong, said_of in ((f"deep={file}", "names no directions"), ("last@mean", "names no dir"),
                           (f"first@mean={file}", "of 12 units, and the layer has 8"),
                           (f"last@mean={pixels}", "cannot be read as directions")):  # fmt: skip
        code, _, said = run(capsys, "fix", bundle, *own, "--project", wrong, "--output", "red")
        assert (code, said_of in said) == (2, True), said
    code, shown, _ = run(capsys, "fix", bundle, "--json")
    assert {each["name"] for each in json.loads(shown)} == {"mine", "three neurons"}
    code, shown, _ = run(capsys, "fix", bundle)
    assert (code, told["sentence"] in shown) == (0, True)
    other = tmp_path / "other.json"
    other.write_text(json.dumps({**toys.PREPROCESSING, "mean": [0.4] * 3}))
    strange = ("--images", table, "--preprocessing", other)
    code, _, said = run(capsys, "fix", bundle, *strange, *asked)
    assert (code, "Give the same weights and preprocessing" in said) == (2, True)
    code, _, said = run(capsys, "fix", bundle, "--model", "nobody")
    assert (code, "'nobody' is not in the bundle" in said) == (2, True)
