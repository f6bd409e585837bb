"""Ablation curves: against networks edited by hand, orders by labels, names printed in corners."""

from __future__ import annotations

import json
import shutil
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from csp_engine import pipeline
from csp_engine.bundle import Bundle, verify
from csp_engine.bundle.checks import held
from csp_engine.bundle.checks.held import RANDOM
from csp_engine.errors import InputError
from csp_engine.evaluation.paired_effects import mean_effect
from csp_engine.pipeline.added.curves import Left, add_curves, leave_curves, read_curves
from csp_engine.pipeline.added.deleting import random_orders, ranked_alone, sizes_of, try_orders
from csp_engine.pipeline.added.fixing import Trials
from csp_engine.pipeline.added.photographs import (
    PRINTED,
    listed_photographs,
    with_name,
    with_names_printed,
)
from csp_engine.pipeline.recipe import Recipe, changed
from csp_engine.trust import TRUST
from csp_engine.types import NeuronRef
from csp_engine.views.curves import told
from csp_engine.views.curves.steps import steps
from csp_engine.views.neuron.label import best_label
from csp_engine.words.word_kinds import kind_of_label, units_by_label
from tests.engine.test_cli import run
from tests.worlds import toys
from tests.worlds.damage import redo


@pytest.fixture(scope="module")
def tried(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ablating")
    target = toys.target(["second", "last"], factory="lively")
    shots = listed_photographs(toys.photographs(folder))
    return target, shots, Trials(target, shots, "red")


def curves(*asked, **more):
    return steps(try_orders(*asked, **more))


def right_by_hand(target, shots, rows, dead):
    """Whether each photograph is decided rightly with outgoing weights of some units at 0."""
    net = target.model.network
    x = torch.stack([torch.tensor(target.model.preprocess(shots.image(i))) for i in rows])
    names = sorted(toys.COLOURS)
    truth = shots.table["class"].iloc[rows].map({n: i for i, n in enumerate(names)}).to_numpy()
    with torch.no_grad():
        maps = net.last(net.second(torch.relu(net.first(x)))).mean((2, 3))
        maps[:, dead] = 0
        return (net.head(maps).argmax(1).numpy() == truth).astype(float)


def test_every_step_is_the_network_with_those_weights_at_zero(tried):
    target, shots, trials = tried
    orders = {RANDOM: random_orders(range(12), 3, 4), "words": [np.array([7, 2, 9])]}
    found = curves(trials, "last@mean", orders, [1, 3, 6], "zero")
    rows = trials.reported
    slice_n = shots.table["slice"].iloc[rows].to_numpy()
    group_n = shots.table["group"].iloc[rows].to_numpy()
    before_n = right_by_hand(target, shots, rows, [])
    assert {(s.order, s.n_units) for s in found} == {
        (RANDOM, 1), (RANDOM, 3), (RANDOM, 6), ("words", 1), ("words", 3)
    }  # fmt: skip
    differs = False
    for step in found:
        is_in = slice_n == step.slice
        each = {
            name: np.stack([right_by_hand(target, shots, rows, order[: step.n_units].tolist())
                            for order in own])[:, is_in]
            for name, own in orders.items()
        }  # fmt: skip
        own = each[step.order]
        assert step.n_photographs == is_in.sum()
        assert step.right == pytest.approx(own.mean())
        assert (step.least, step.most) == (own.mean(1).min(), own.mean(1).max())
        change = mean_effect(own.mean(0) - before_n[is_in], group_n[is_in])
        against = mean_effect(own.mean(0) - each[RANDOM].mean(0), group_n[is_in])
        for figure, wanted in ((step.change, change), (step.against, against)):
            assert astuple(figure) == pytest.approx(astuple(wanted))
        differs |= step.change.value != 0
        if step.order == RANDOM:
            assert step.against.value == step.against.low == step.against.high == 0
    assert differs


def test_a_slice_of_few_groups_has_no_interval(tried):
    """Of nine patients in one slice, most photographs are of the first."""
    target, shots, _ = tried
    table = shots.table.copy()
    is_marked = (table["slice"] == "marked").to_numpy() & ~table["is_choosing"].to_numpy()
    assert is_marked.sum() > 9
    table.loc[is_marked, "group"] = np.minimum(
        np.arange(900, 900 + is_marked.sum(), dtype=np.int32), 908
    )
    few = Trials(target, replace(shots, table=table), "red")
    found = curves(few, "last@mean", {RANDOM: random_orders(range(12), 2)}, [3], "zero")
    clean, marked = sorted(found, key=lambda step: step.slice)
    assert marked.n_groups == 9
    for figure in (marked.change, marked.against):
        assert np.isfinite(figure.value)
        assert np.isnan([figure.low, figure.high]).all()
    assert clean.change.low <= clean.change.value <= clean.change.high


def test_units_are_ranked_by_what_each_does_alone_on_photographs_that_choose(tried):
    target, shots, trials = tried
    order = ranked_alone(trials, "last@mean", range(12), "zero", "marked")
    assert sorted(order) == list(range(12))
    rows = [i for i in trials.choosing if shots.table["slice"].iloc[i] == "marked"]
    right = [right_by_hand(target, shots, rows, [int(unit)]).mean() for unit in order]
    assert right == sorted(right, reverse=True)
    with pytest.raises(InputError, match="'none' is among those that choose"):
        ranked_alone(trials, "last@mean", [0], "zero", "none")


def test_sizes_and_orders_are_as_promised():
    assert sizes_of(1000, 0.2, 10) == list(range(20, 201, 20))
    assert sizes_of(8, 0.2, 10) == [1, 2]
    first, again = (random_orders([3, 5, 9, 11, 20], 4, seed=2) for _ in range(2))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert all(sorted(each) == [3, 5, 9, 11, 20] for each in first)
    assert len({tuple(each) for each in first}) > 1


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("ruler", "category"), ("golden retriever", "attribute"), ("blue patch", "attribute"),
        ("striped", "attribute"), ("edge of the gel", "relation"), ("dog on a sofa", "relation"),
        ("bed", "category"), ("weed", "category"), ("in", "category"), ("", "category"),
        ("finger-like projections at the edge", "relation"), ("Reddish Skin", "attribute"),
        ("polka dots", "category"), ("漢字", "category"),
    ],
)  # fmt: skip
def test_kinds_of_labels(text, kind):
    assert kind_of_label(text) == kind


def test_another_class_is_printed_and_nothing_else_changes(tried):
    _, shots, _ = tried
    both = with_names_printed(shots, 3)
    n = len(shots.table)
    assert both.table["class"].tolist() == 2 * shots.table["class"].tolist()
    assert both.table["group"].tolist() == 2 * shots.table["group"].tolist()
    assert both.table["is_choosing"].tolist() == 2 * shots.table["is_choosing"].tolist()
    assert both.table["slice"].tolist() == [*shots.table["slice"], *[PRINTED] * n]
    assert both.fingerprint not in (shots.fingerprint, with_names_printed(shots, 4).fingerprint)
    for row in range(0, n, 7):
        plain, printed = (np.asarray(both.image(i)).astype(int) for i in (row, n + row))
        assert (plain == np.asarray(shots.image(row))).all()
        (y, _) = np.nonzero((plain != printed).any(-1))
        assert len(y)
        assert y.min() >= 0.6 * plain.shape[0]
        names = set(toys.COLOURS) - {both.table["class"].iloc[row]}
        made = [np.asarray(with_name(shots.image(row), name)) for name in names]
        assert sum((printed == each).all() for each in made) == 1
    alone = shots.table.assign(**{"class": "red"})
    with pytest.raises(InputError, match="are all 'red'"):
        with_names_printed(type(shots)("They", alone, "", shots.image))


@pytest.fixture(scope="module")
def stored(tried):
    _, _, trials = tried
    orders = {
        RANDOM: random_orders(range(12), 3, 4),
        "influence": [np.arange(12)],
        "category": random_orders([1, 4], 3),
        "words": [np.array([7, 2, 9])],
    }
    return try_orders(trials, "last@mean", orders, [1, 3, 6], "zero", method="csp", words=["patch"])


@pytest.fixture(scope="module")
def built(tmp_path_factory, tried):
    target, *_ = tried
    folder = tmp_path_factory.mktemp("kept-curves")
    return pipeline.build(toys.request(folder, folder / "small.csp", targets=(target,)))


@pytest.fixture(scope="module")
def of_labels(built, tried):
    """Curves of the neurons that labels of the bundle name."""
    _, _, trials = tried
    texts = built.best_texts("small", "last@mean", "csp")
    words = [next(filter(None, texts)).casefold().split()[0]]
    orders = {
        RANDOM: random_orders(range(12), 3, 4),
        "influence": [np.arange(12)],
        **{
            name: random_orders(units, 1 if name == "words" else 3)
            for name, units in units_by_label(texts, words).items()
            if units
        },
    }
    return try_orders(trials, "last@mean", orders, [1, 3, 6], "zero", method="csp", words=words)


@pytest.fixture(scope="module")
def kept(built, of_labels):
    return add_curves(built.path, "small", "last@mean", of_labels)


def test_curves_of_labels_end_with_these_labels(kept, of_labels, tmp_path):
    """Nobody is told of neurons "whose label has red" when their labels are others by now."""
    path = Path(shutil.copytree(kept.path, tmp_path / "again.csp"))
    words = toys.words(tmp_path, ["noise", "a thing", "paper"])
    recipe = Recipe.restated(kept.manifest.recipe, {})
    fresh = pipeline.relabel(path, recipe, words, toys.ColourEncoder())
    assert fresh.curves("small", "last@mean") is None
    with pytest.raises(InputError, match="other neurons than labels by 'csp' say now; draw the"):
        add_curves(path, "small", "last@mean", of_labels)
    orders = of_labels.orders
    by_nobody = replace(
        of_labels,
        words=(),
        orders=orders[orders["order"].isin([RANDOM, "influence"])],
        runs=of_labels.runs[of_labels.runs["order"].isin(["none", RANDOM, "influence"])],
    )
    is_kept = of_labels.runs["order"].isin(["none", RANDOM, "influence"]).to_numpy()
    by_nobody = replace(by_nobody, called_vi=of_labels.called_vi[is_kept])
    assert verify(add_curves(path, "small", "last@mean", by_nobody)) == []
    again = pipeline.relabel(path, changed(recipe, {"gamma": 0.25}))
    assert again.curves("small", "last@mean") is not None  # of no label


def test_other_neurons_than_labels_name_are_told(kept, of_labels, tmp_path):
    path = Path(shutil.copytree(kept.path, tmp_path / "forged.csp"))
    record = kept.stage("curves:small/last@mean")
    file = path / record.directory / "orders.parquet"
    rows = pd.read_parquet(file)
    is_own = (rows["order"] == "words").to_numpy()
    outside = sorted(set(range(12)) - set(rows["unit"][is_own]))
    rows.loc[np.flatnonzero(is_own)[0], "unit"] = np.int32(outside[0])
    rows.to_parquet(file, index=False)
    redo(path)
    assert any("'words' of other neurons" in each for each in verify(Bundle.open(path)))


def test_a_bundle_keeps_what_was_measured(kept, of_labels, tmp_path):
    stored = of_labels
    assert verify(kept) == []
    held = kept.curves("small", "last@mean")
    assert told.figures("small", "last@mean", held) == told.figures("small", "last@mean", stored)
    assert told.layers_curved(kept, "small") == ("last@mean",)
    assert kept.curves("small", "second@mean") is None
    leave_curves(tmp_path / "left", Left("last@mean", stored))
    left = read_curves(tmp_path / "left")
    assert left.layer == "last@mean"
    assert told.figures("small", "last@mean", left.stored) == told.figures(
        "small", "last@mean", stored
    )
    again = add_curves(kept.path, "small", "last@mean", stored)
    assert again.digest == kept.digest
    few = replace(stored, orders=stored.orders[stored.orders["unit"] < 11])
    with pytest.raises(InputError, match="curves are of 11 units, and last@mean has 12"):
        add_curves(kept.path, "small", "last@mean", few)


def test_what_is_said_is_counted(stored, tried):
    _, shots, _ = tried
    found = told.figures("small", "last@mean", stored)
    table = shots.table[~shots.table["is_choosing"]]
    truth = table["class"].map({name: i for i, name in enumerate(stored.classes)}).to_numpy()
    shares = {
        name: (stored.called_vi[:, rows] == truth[rows]).mean(1)
        for name in set(table["slice"])
        for rows in [np.flatnonzero(table["slice"] == name)]
    }
    worst = found.slices[0]
    assert shares[worst][0] == min(each[0] for each in shares.values())  # two may be as bad
    assert {name: each.share for name, each in found.before.items()} == pytest.approx(
        {name: each[0] for name, each in shares.items()}
    )
    runs = stored.runs.reset_index()
    own = runs[(runs["order"] == "words") & (runs["n_units"] == 3)]["index"].tolist()
    random = runs[(runs["order"] == RANDOM) & (runs["n_units"] == 3)]["index"].tolist()
    assert found.sentence == (
        "With 3 of 12 neurons of last@mean whose label has patch held at 0, small decides rightly "
        f"for {100 * shares[worst][own].mean():.1f} % of the photographs in {worst} instead of "
        f"{100 * shares[worst][0]:.1f} %; with as many random ones for "
        f"{100 * shares[worst][random].mean():.1f} %."
    )
    for order in ("influence", "category", "words"):
        assert found.name(order) in found.details
    assert [each.n_units for each in found.curve(worst, "category")] == [1]
    assert found.orders[-1] == RANDOM


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda o: o.assign(order="whim"), "an order 'whim', which is none"),
        (lambda o: pd.concat([o, o.iloc[[0]]]), "names a neuron twice"),
        (lambda o: o[o["order"] != RANDOM], "no random order"),
        (lambda o: o.iloc[1:], "leaves neurons of the layer out"),
        (lambda o: o[~((o["order"] == "category") & (o["repeat"] == 1))], "the number of a repeat"),
        (
            lambda o: o[~((o["order"] == "category") & (o["repeat"] == 1) & (o["unit"] == 4))],
            "not of the same neurons",
        ),
    ],
)  # fmt: skip
def test_orders_that_cannot_be_are_told(stored, spoil, said):
    assert held.fault_of_orders(stored.orders, 12) == ""
    assert said in held.fault_of_orders(spoil(stored.orders), 12)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda r: r.iloc[1:], "begin with the network as it is"),
        (lambda r: pd.concat([r, r.iloc[[1]]]), "the same run twice"),
        (lambda r: r.assign(n_units=r["n_units"].replace(1, 13)), "has not so many"),
        (lambda r: r.iloc[[*range(3), *range(4, len(r))]], "other numbers of neurons in one"),
        (lambda r: r[~((r["order"] == RANDOM) & (r["n_units"] == 3))], "no random order was"),
        (lambda r: r[~((r["order"] == "category") & (r["repeat"] == 1))], "leaves out a repeat"),
    ],
)
def test_runs_that_cannot_be_are_told(stored, spoil, said):
    assert held.fault_of_held(stored.runs, stored.orders) == ""
    assert said in held.fault_of_held(spoil(stored.runs), stored.orders)


def test_forged_decisions_are_told(kept, of_labels, tmp_path):
    stored = of_labels
    path = tmp_path / "forged.csp"
    shutil.copytree(kept.path, path)
    called = stored.called_vi.copy()
    runs = stored.runs.reset_index()
    (at,) = runs[(runs["order"] == "influence") & (runs["n_units"] == 6)]["index"]
    assert verify(add_curves(path, "small", "last@mean", replace(stored, called_vi=called))) == []
    three = replace(
        stored,
        runs=pd.concat([stored.runs, stored.runs.assign(n_units=12).iloc[[1, 4, 7]]]),
        called_vi=np.concatenate([called, called[[at]], called[[at]], 1 - called[[at]] // 2]),
    )
    assert any("same neurons" in each for each in verify(
        add_curves(path, "small", "last@mean", three)))  # fmt: skip
    wide = replace(stored, called_vi=called[:, 1:])
    assert any("is of shape" in each for each in verify(
        add_curves(path, "small", "last@mean", wide)))  # fmt: skip


@pytest.mark.slow
def test_the_command_draws_curves_by_kind_words_and_influence(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv(TRUST, "1")
    images = toys.draw_images(tmp_path / "images")
    target = toys.target(["last"], factory="lively")
    path = pipeline.build(toys.request(images, tmp_path / "small.csp", targets=(target,))).path
    table = toys.photographs(tmp_path)
    pixels = tmp_path / "pixels.json"
    pixels.write_text(json.dumps(toys.PREPROCESSING))
    own = ("ablate", path, "--images", table, "--preprocessing", pixels, "--output", "red",
           "--layer", "last@mean")  # fmt: skip
    bundle = Bundle.open(path)
    labels = [best_label(bundle, NeuronRef("small", "last@mean", u), "csp").text for u in range(12)]
    word = labels[0]
    code, shown, said = run(
        capsys, *own, "--words", f"zebra, {word.upper()}", "--print-names", "--most", "0.5",
        "--steps", "3", "--orders", "2", "--json",
    )  # fmt: skip
    assert code == 0, said
    (found,) = json.loads(shown)
    named = sorted(found["orders"]["words"]["units"])
    assert named == [u for u, text in enumerate(labels) if word in text.split()]
    n_of = {name: each["n_units"] for name, each in found["orders"].items()}
    for kind, n in pd.Series(map(kind_of_label, labels)).value_counts().items():
        assert n_of[kind] == n
    assert n_of["random"] == n_of["influence"] == 12
    orders = {step["order"] for step in found["steps"]}
    assert {"random", "influence", "words"} <= orders
    assert {step["slice"] for step in found["steps"]} == {"clean", "marked", PRINTED}
    assert not told.layers_curved(Bundle.open(path), "small")
    code, _, said = run(capsys, "ablate", path)
    assert (code, "keeps no curves" in said) == (2, True)
    code, _, said = run(capsys, "ablate", path, "--keep")
    assert (code, "Hold neurons of which layer?" in said) == (2, True)
    code, shown, _ = run(capsys, *own, "--steps", "2", "--orders", "1", "--keep", "--leave",
                         tmp_path / "left", "--json")  # fmt: skip
    assert code == 0
    code, again, _ = run(capsys, "ablate", path, "--json")
    assert json.loads(again) == json.loads(shown)
    left = read_curves(tmp_path / "left")
    assert told.as_json(told.figures("small", left.layer, left.stored)) == json.loads(shown)[0]
    code, shown, _ = run(capsys, "ablate", path)
    assert "decides rightly for" in shown
    code, shown, _ = run(capsys, *own, "--steps", "2", "--orders", "1")
    assert code == 0
    assert "against random orders" in shown
    shutil.rmtree(tmp_path / "shots")
    for wrong, sentence in (
        (("--words", " , "), "--words names no word"),
        (("--words", "zebra"), "No neuron of last@mean has a label by csp with one of zebra"),
        (("--method", "falcon"), "Method 'falcon' has no labels of last@mean; it has csp"),
        (("--output", "mauve"), "no output 'mauve'"),
    ):
        code, out, said = run(capsys, *own, *wrong)
        assert (code, out, sentence in said) == (2, "", True), said
