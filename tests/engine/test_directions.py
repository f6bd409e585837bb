"""Directions: against scikit-learn and planted mixtures, and as neurons of a real build."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import save_file
from sklearn.linear_model import LinearRegression
from sklearn.metrics import roc_auc_score

from csp_engine import pipeline
from csp_engine.bundle import Bundle, verify
from csp_engine.errors import InputError
from csp_engine.evaluation.directions import concept_direction, factors, marked_direction
from csp_engine.evaluation.paired_effects import halves
from csp_engine.networks.autoencoders.directions import write_directions
from csp_engine.networks.autoencoders.sae import load_sae
from csp_engine.networks.layers import select_layers
from csp_engine.pipeline.factoring.marking import find_marked
from csp_engine.probe import read_probe_set
from tests.engine.test_cli import run
from tests.worlds import toys


def planted(n=400, n_units=30, seed=0, size=1.2):
    """A concept spread over all units, each of which is mostly noise."""
    rng = np.random.default_rng(seed)
    has = rng.random(n) < 0.3
    along = rng.normal(size=n_units)
    along /= np.linalg.norm(along)
    activation = rng.normal(size=(n_units, n)) + size * 2 * along[:, None] * has
    return activation.astype(np.float32), has.astype(float), along


def test_a_spread_concept_has_a_direction_and_no_neuron():
    activation, flag, along = planted()
    found = concept_direction(activation, flag, np.arange(400), "patch")
    assert abs(float(found.weight_u @ along)) > 0.9
    assert np.linalg.norm(found.weight_u) == pytest.approx(1, abs=1e-5)
    assert found.held_out.value > 0.9
    assert found.held_out.low > found.best_held_out.high
    assert (found.n_with, found.n_without) == (int(flag.sum()), int(400 - flag.sum()))


def test_what_is_held_out_did_not_choose():
    """On noise the half that was not fitted says so, however well the other half is told."""
    values = []
    for seed in range(40):
        rng = np.random.default_rng(1000 + seed)
        found = concept_direction(
            rng.normal(size=(60, 120)), (rng.random(120) < 0.4).astype(float), np.arange(120),
            "x", seed,
        )  # fmt: skip
        values.append((found.held_out.value, found.best_held_out.value))
    assert np.abs(np.mean(values, axis=0) - 0.5).max() < 0.06


def test_held_out_areas_are_those_of_scikit_learn():
    activation, flag, _ = planted(300, 8, 3)
    flag[:20] = np.nan
    groups = np.arange(300) // 2
    found = concept_direction(activation, flag, groups, "x", seed=5)
    known = ~np.isnan(flag)
    fits = halves(groups[known], 5)
    held = activation.T[known][~fits]
    area = roc_auc_score(flag[known][~fits], held[:, found.best_unit])
    assert found.best_held_out.value == pytest.approx(area, abs=1e-6)
    chosen = [roc_auc_score(flag[known][fits], activation.T[known][fits][:, u]) for u in range(8)]
    assert found.best_unit == int(np.argmax(chosen))


def test_with_many_images_it_is_least_squares():
    activation, flag, _ = planted(6000, 4, 1, size=0.3)
    found = concept_direction(activation, flag, np.arange(6000), "x")
    oracle = LinearRegression().fit(activation.T, flag).coef_
    assert float(found.weight_u @ oracle) / np.linalg.norm(oracle) > 0.999


def test_units_of_any_scale_and_dead_units():
    activation, flag, _ = planted()
    plain = concept_direction(activation, flag, np.arange(400), "x")
    scaled = activation * np.float32(1e4)
    scaled[3] = 7  # varies no more
    with_dead = np.concatenate([activation, np.zeros((1, 400), np.float32)])
    dead = concept_direction(with_dead, flag, np.arange(400), "x").weight_u
    assert dead[-1] == 0
    np.testing.assert_allclose(dead[:-1], plain.weight_u, atol=1e-5)
    assert concept_direction(scaled, flag, np.arange(400), "x").weight_u[3] == 0


def test_too_few_are_not_held_out_and_nothing_is_refused():
    activation, flag, _ = planted(40)
    few = concept_direction(activation, flag, np.arange(40), "x")
    assert np.isnan(few.held_out.value)
    assert few.best_unit == -1
    with pytest.raises(InputError, match="0 have 'x' and 40 have not"):
        concept_direction(activation, np.zeros(40), np.arange(40), "x")
    with pytest.raises(InputError, match="No unit of the layer varies"):
        concept_direction(np.ones((3, 40)), flag, np.arange(40), "x")


def test_five_marked_images_rank_the_others():
    activation, flag, _ = planted(600, 20, 2, size=2.5)
    like = np.flatnonzero(flag)[:5]
    found = marked_direction(activation, like, np.array([], int), "marked")
    rest = np.setdiff1d(np.arange(600), like)
    first = roc_auc_score(flag[rest], (found.weight_u @ activation)[rest])
    assert first > 0.9
    # marking more of it and of what is not it makes it better
    more = marked_direction(activation, np.flatnonzero(flag)[:40], np.flatnonzero(flag == 0)[:80],
                            "marked")  # fmt: skip
    assert roc_auc_score(flag[rest], (more.weight_u @ activation)[rest]) >= first - 0.02
    with pytest.raises(InputError, match="mark 3 or more"):
        marked_direction(activation, like[:2], np.array([], int), "x")
    with pytest.raises(InputError, match="marked with --like and --unlike"):
        marked_direction(activation, like, like[:1], "x")


def test_factors_find_what_was_mixed():
    rng = np.random.default_rng(0)
    w, h = rng.random((200, 3)) * (rng.random((200, 3)) < 0.3), np.zeros((3, 12))
    for k in range(3):
        h[k, 4 * k : 4 * k + 4] = rng.random(4) + 0.5
    readout, share = factors((w @ h).T, 3)
    code = np.maximum((w @ h) @ readout, 0)
    similar = np.abs(np.corrcoef(code.T, w.T)[:3, 3:])
    assert (similar.max(axis=1) > 0.99).all()
    assert (np.diff(share) <= 0).all()
    with pytest.raises(InputError, match="negative activations"):
        factors(rng.normal(size=(4, 9)), 2)
    with pytest.raises(InputError, match="use 1 to 4"):
        factors(rng.random((4, 9)), 5)


def test_a_file_of_directions_reads_as_written(tmp_path):
    rng = np.random.default_rng(0)
    weight, mean, x = rng.normal(size=(6, 2)), rng.normal(size=6), rng.normal(size=(5, 7, 6))
    weight, mean, x = (each.astype(np.float32) for each in (weight, mean, x))
    write_directions(tmp_path / "two.safetensors", weight, mean, ["ruler", "a <b> patch"])
    read = load_sae(tmp_path / "two.safetensors")
    np.testing.assert_allclose(read(torch.tensor(x)).numpy(), (x - mean) @ weight, atol=1e-5)
    assert read.description["latents"] == ["ruler", "a <b> patch"]
    write_directions(tmp_path / "f.safetensors", weight, None, ["one", "two"])
    factored = load_sae(tmp_path / "f.safetensors")
    np.testing.assert_allclose(factored(torch.tensor(x)).numpy(), np.maximum(x @ weight, 0),
                               atol=1e-5)  # fmt: skip
    save_file({"W_enc": weight}, tmp_path / "bad.safetensors",
              metadata={"activation": "linear", "latents": '["one"]'})  # fmt: skip
    with pytest.raises(InputError, match="names latents, but not 2"):
        load_sae(tmp_path / "bad.safetensors")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A bundle whose table says which images are red."""
    folder = tmp_path_factory.mktemp("directions")
    images = toys.draw_images(folder / "images", 60)
    rows = [
        {"file": str(path.relative_to(images)), "class": path.parent.name,
         "is_red": int(path.parent.name == "red")}
        for path in sorted(images.rglob("*.png"))
    ]  # fmt: skip
    pd.DataFrame(rows).to_csv(images / "images.csv", index=False)
    probe = read_probe_set(images / "images.csv")
    return pipeline.build(toys.request(folder, folder / "small.csp", probe=probe)), folder, probe


@pytest.mark.slow
def test_a_direction_is_a_neuron_of_the_next_build(built, tmp_path, capsys):
    bundle, folder, probe = built
    file = tmp_path / "red.safetensors"
    layer = bundle.layers("small")[1]
    code, shown, said = run(
        capsys, "directions", bundle.path, "--layer", layer, "--column", "is_red", "--output", file
    )
    assert code == 0, said
    assert "15 with, 45 without" in shown
    model = toys.target().model
    module = layer.partition("@")[0]
    taps = tuple(select_layers(model, [module], saes={module: file}))
    again = pipeline.build(
        toys.request(folder, tmp_path / "again.csp", probe=probe,
                     targets=(pipeline.Target(model, taps),))
    )  # fmt: skip
    (own,) = (each for each in again.layers("small") if "+" in each)
    assert own == "second+red@mean"
    scores = np.asarray(again.activations("small", own))[0]
    by_hand = load_sae(file)
    weight, mean = by_hand.weight_il.numpy()[:, 0], by_hand.pre_bias_i.numpy()
    pooled = np.asarray(bundle.activations("small", layer))
    np.testing.assert_allclose(scores, (pooled.T - mean) @ weight, atol=1e-4)
    shown_files = again.table("probe", "probe")["file"].to_numpy()
    strongest = shown_files[again.exemplars("small", own).image_uk[0]]
    assert all(str(each).startswith("red") for each in strongest)
    assert verify(again) == []


def test_marked_images_and_what_is_refused(built, capsys, tmp_path):
    bundle, _, probe = built
    layer = bundle.layers("small")[1]
    red = [f for f in probe.table["file"] if f.startswith("red")]
    marks = [part for each in red[:5] for part in ("--like", each)]
    own = ("directions", bundle.path, "--layer", layer)
    code, shown, said = run(capsys, *own, *marks, "--json")
    assert code == 0, said
    ranked = json.loads(shown)["ranked"]
    assert len(ranked) == 20
    assert not {row["file"] for row in ranked} & set(red[:5])
    assert sum(row["file"].startswith("red") for row in ranked[:10]) >= 8
    for wrong, sentence in (
        ((*own,), "Name columns with --column"),
        ((*own, *marks, "--column", "is_red"), "Name columns with --column"),
        ((*own, "--column", "nonsense"), "it has is_red"),
        ((*own, "--like", "a.png", "--like", "b", "--like", "c"), "is no image of the bundle"),
        ((*own, "--column", "is_red", "--output", tmp_path / "x.pt"), "end it with .safetensors"),
        (("directions", bundle.path, "--layer", "nope", "--column", "is_red"), "--layer can be"),
        ((*own, "--factors", 3), "non-negative factors need a layer behind a ReLU"),
    ):
        code, _, said = run(capsys, *wrong)
        assert code == 2
        assert sentence in " ".join(said.split()), said
    slim = tmp_path / "slim.csp"
    code, _, said = run(capsys, "export", bundle.path, "--slim", slim)
    if code == 0:
        code, _, said = run(capsys, "directions", slim, "--layer", layer, "--column", "is_red")
        assert code == 2
        assert "left out" in said or "slim" in said, said
    shutil.rmtree(slim, ignore_errors=True)
    assert Bundle.open(bundle.path).layers("small")


def test_copies_of_what_shows_it_are_not_taken_to_lack_it(tmp_path):
    images = toys.draw_images(tmp_path / "images")
    first, *others = sorted((images / "red").iterdir())
    for at in range(6):
        shutil.copy(first, images / "red" / f"copy {at}.png")
    target = toys.target(["second"])
    asked = toys.request(tmp_path, tmp_path / "a.csp", targets=(target,), n_influence_images=0)
    bundle = pipeline.build(asked)
    file_n = bundle.table("probe", "probe")["file"].str.rpartition("/")[2].to_numpy(object)
    like = [int(np.flatnonzero(file_n == each.name)[0]) for each in (first, *others[:2])]
    is_copy_n = np.array([name.startswith("copy") for name in file_n])
    rest = np.setdiff1d(np.flatnonzero(~is_copy_n), like)
    ranking, found, _ = find_marked(bundle, "small", "second@mean", like, [], "red")
    activation_un = np.asarray(bundle.activations("small", "second@mean"))
    by_hand = marked_direction(activation_un, np.array(like), rest, "red")
    np.testing.assert_allclose(found.weight_u, by_hand.weight_u, atol=1e-6)
    assert (found.n_with, found.n_without) == (3, len(rest))
    assert f"all {len(rest)} others" in ranking.note
    with_copies = marked_direction(activation_un, np.array(like), np.array([], int), "red")
    assert not np.allclose(with_copies.weight_u, by_hand.weight_u, atol=0.01)
