"""Whole builds of a toy world: what is redone, what is kept, what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from csp_engine import pipeline
from csp_engine.bundle import Bundle, verify
from csp_engine.errors import BundleError, InputError, StaleError
from csp_engine.networks.layers import select_layers
from csp_engine.networks.models import target_model
from csp_engine.pipeline.passing import image_pass
from csp_engine.pipeline.recipe import PRESETS, Recipe, changed
from csp_engine.probe import decoding
from csp_engine.probe.listing import read_probe_set
from tests.worlds import toys


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with images, and one finished bundle that tests may read but not change."""
    folder = tmp_path_factory.mktemp("world")
    pipeline.build(toys.request(folder, folder / "done.csp"))
    return folder


def test_activations_equal_a_plain_forward_pass(world):
    bundle = Bundle.open(world / "done.csp")
    network = toys.network().eval()
    model = toys.target().model
    pixels = []
    for file in bundle.images()["file"]:
        with Image.open(world / "images" / file) as image:
            pixels.append(model.preprocess(image.convert("RGB")))
    with torch.no_grad():
        first = network.first(torch.from_numpy(np.stack(pixels)))
        second = network.second(torch.relu(first))
    np.testing.assert_allclose(
        bundle.activations("small", "first@mean"), first.mean((2, 3)).T.numpy(), atol=1e-5
    )
    np.testing.assert_allclose(
        bundle.activations("small", "second@mean"), second.mean((2, 3)).T.numpy(), atol=1e-5
    )


def test_exemplars_are_the_strongest_and_partners_are_quiet(world):
    bundle = Bundle.open(world / "done.csp")
    for layer in bundle.layers("small"):
        acts = np.asarray(bundle.activations("small", layer))
        chosen, contrast = bundle.exemplars("small", layer), bundle.contrast("small", layer)
        for unit, row in enumerate(acts):
            order = sorted(range(len(row)), key=lambda i: (-row[i], i))
            count = chosen.count_u[unit]
            assert list(chosen.image_uk[unit, :count]) == order[:count]
            for rank in range(count):
                for j in range(contrast.n_partner_uk[unit, rank]):
                    partner = contrast.image_ukj[unit, rank, j]
                    assert row[partner] < row.mean()
                    assert contrast.activation_ukj[unit, rank, j] == row[partner]


@pytest.mark.slow
def test_each_image_is_decoded_once(world, tmp_path, monkeypatch):
    decoded = []

    def counting(content):
        decoded.append(len(content))
        return decoding.decode(content)

    monkeypatch.setattr(image_pass, "decode", counting)
    request = toys.request(world, tmp_path / "a.csp", n_influence_images=0)
    pipeline.build(request)
    assert len(decoded) == len(request.probe.table)


@pytest.mark.slow
def test_building_again_runs_nothing(world, tmp_path):
    out = tmp_path / "a.csp"
    request = toys.request(world, out)
    pipeline.build(request)
    before = toys.content(out)
    stages: list[str] = []
    pipeline.build(request, lambda stage, done, total: stages.append(stage))
    assert stages == []
    assert toys.content(out) == before


@pytest.mark.slow
def test_same_input_gives_the_same_bytes(world, tmp_path):
    pipeline.build(toys.request(world, tmp_path / "b.csp"))
    assert toys.content(tmp_path / "b.csp") == toys.content(world / "done.csp")


@pytest.mark.slow
def test_adding_a_layer_keeps_the_rest(world, tmp_path):
    out = tmp_path / "a.csp"
    pipeline.build(toys.request(world, out, targets=(toys.target(["first"]),)))
    before = toys.content(out)
    pipeline.build(toys.request(world, out, targets=(toys.target(["second"]),)))
    after = toys.content(out)
    for name, entry in before.items():
        if not name.startswith(("index:", "projection:")):
            assert after[name] == entry, name
    assert Bundle.open(out).layers("small") == ("first@mean", "second@mean")
    both = toys.content(world / "done.csp")
    assert set(after) == set(both)
    assert after["contrast:small/second@mean"] == both["contrast:small/second@mean"]
    assert verify(Bundle.open(out)) == []


@pytest.mark.slow
def test_a_second_model_joins_the_bundle(world, tmp_path):
    out = tmp_path / "a.csp"
    pipeline.build(toys.request(world, out))
    pipeline.build(toys.request(world, out, targets=(toys.target(["second"], name="other"),)))
    bundle = Bundle.open(out)
    assert bundle.model_names == ("small", "other")
    assert len(bundle.index_rows("csp")) == 8 + 12 + 12
    assert verify(bundle) == []


@pytest.mark.slow
def test_other_images_under_another_model_are_refused(world, tmp_path):
    out = tmp_path / "a.csp"
    pipeline.build(toys.request(world, out))
    before = toys.content(out)
    fewer = read_probe_set(world / "images", limit=20)
    with pytest.raises(InputError, match="measured on other images"):
        pipeline.build(toys.request(world, out, probe=fewer, targets=(toys.target(name="other"),)))
    assert toys.content(out) == before


@pytest.mark.slow
def test_changed_images_rebuild_everything(world, tmp_path):
    out = tmp_path / "a.csp"
    pipeline.build(toys.request(world, out))
    pipeline.build(toys.request(world, out, probe=read_probe_set(world / "images", limit=20)))
    bundle = Bundle.open(out)
    assert bundle.n_images == 20
    assert bundle.activations("small", "first@mean").shape == (8, 20)
    assert verify(bundle) == []


@pytest.mark.slow
def test_other_weights_under_the_same_name_are_measured_anew(world, tmp_path):
    """A published cache knew a model by its name and shape only, and kept stale activations."""
    out = tmp_path / "a.csp"
    pipeline.build(toys.request(world, out))
    before = toys.content(out)
    network = toys.network()
    with torch.no_grad():
        network.second.weight[3, 2, 1, 1] += 0.5
    model = target_model(network, toys.PREPROCESSING, name="small", spec="python:other:network")
    target = pipeline.Target(model, tuple(select_layers(model, ["first", "second"])))
    pipeline.build(toys.request(world, out, targets=(target,)))
    after = toys.content(out)
    assert before["images"] == after["images"]
    assert before["embeddings"] == after["embeddings"]
    changed_stages = [n for n in after if before.get(n) != after[n]]
    assert "activations:small/second@mean" in changed_stages
    assert "scores:small/second@mean/csp" in changed_stages
    bundle = Bundle.open(out)
    assert bundle.manifest.inputs["models"]["small"]["fingerprint"] == model.fingerprint
    assert verify(bundle) == []


@pytest.mark.slow
def test_poolings_of_one_module_are_different_neurons(world, tmp_path):
    """A published cache mixed up the tokens of one layer, because its key left the choice out."""
    out = tmp_path / "a.csp"
    pipeline.build(toys.request(world, out, targets=(toys.target(["first@mean", "first@max"]),)))
    bundle = Bundle.open(out)
    assert bundle.layers("small") == ("first@mean", "first@max")
    mean, peak = (bundle.activations("small", layer) for layer in bundle.layers("small"))
    assert np.all(peak >= mean)
    assert not np.allclose(peak, mean)
    keys = {bundle.stage(f"activations:small/{layer}").key for layer in bundle.layers("small")}
    assert len(keys) == 2


def test_networks_run_in_evaluation_mode(world, tmp_path):
    """A published tool never called eval(), so that dropout and batch norm drifted."""
    bundle = Bundle.open(world / "done.csp")
    first = np.asarray(bundle.activations("small", "second@mean"))
    model = toys.target().model
    assert not any(module.training for module in model.network.modules())
    again = pipeline.build(toys.request(world, tmp_path / "a.csp", batch_size=5))
    np.testing.assert_allclose(again.activations("small", "second@mean"), first, atol=1e-6)


@pytest.mark.slow
def test_changed_metadata_keeps_the_measurements(world, tmp_path):
    out = tmp_path / "a.csp"
    n = len(read_probe_set(world / "images").table)
    table = toys.as_table(world / "images", ruler=[i % 2 for i in range(n)])
    pipeline.build(toys.request(world, out, probe=read_probe_set(table)))
    before = toys.content(out)
    table = toys.as_table(world / "images", ruler=[i % 3 == 0 for i in range(n)])
    pipeline.build(toys.request(world, out, probe=read_probe_set(table)))
    after = toys.content(out)
    (world / "images" / "table.csv").unlink()
    for stage in ("images", "embeddings", "activations:small/first@mean"):
        assert before[stage] == after[stage]
    assert before["probe"] != after["probe"]


@pytest.mark.parametrize("stop", [False, True])
def test_unreadable_images(tmp_path, stop):
    toys.draw_images(tmp_path / "images")
    broken = tmp_path / "images" / "red" / "0000.png"
    broken.write_bytes(broken.read_bytes()[:200])
    (tmp_path / "images" / "red" / "9999.jpg").write_bytes(b"not an image")
    request = toys.request(tmp_path, tmp_path / "a.csp", stop_on_unreadable=stop)
    if stop:
        with pytest.raises(InputError, match=r"red/0000\.png cannot be read"):
            pipeline.build(request)
        return
    bundle = pipeline.build(request)
    assert sorted(bundle.skipped()["file"]) == ["red/0000.png", "red/9999.jpg"]
    assert all(bundle.skipped()["reason"].str.len() > 10)
    assert bundle.n_images == 27
    assert bundle.activations("small", "first@mean").shape == (8, 27)
    assert "red/0000.png" not in set(bundle.images()["file"])
    assert verify(bundle) == []


def test_no_readable_image(tmp_path):
    for i in range(8):
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "images" / f"{i}.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match="None of the 8 images"):
        pipeline.build(toys.request(tmp_path, tmp_path / "a.csp"))
    with pytest.raises(BundleError):
        Bundle.open(tmp_path / "a.csp")


def test_fewer_images_than_exemplars(world, tmp_path):
    recipe = replace(toys.SMALL, n_exemplars=100)
    with pytest.raises(InputError, match="28 images, fewer than the 100 exemplars"):
        pipeline.build(toys.request(world, tmp_path / "a.csp", recipe=recipe))
    assert not (tmp_path / "a.csp").exists()


def test_encoder_that_tells_nothing_apart_is_refused(world, tmp_path):
    class Flat(toys.ColourEncoder):
        def embed_images(self, pixels):
            return np.tile(np.float32([1] + [0] * (self.dim - 1)), (len(pixels), 1))

    with pytest.raises(InputError, match="same vector for every image"):
        pipeline.build(toys.request(world, tmp_path / "a.csp", encoder=Flat()))


@pytest.mark.slow
def test_near_and_exact_duplicates_are_recorded(tmp_path):
    images = toys.draw_images(tmp_path / "images")
    first = images / "red" / "0000.png"
    (images / "red" / "copy.png").write_bytes(first.read_bytes())
    bundle = pipeline.build(toys.request(tmp_path, tmp_path / "a.csp"))
    table = bundle.images()
    place = {file: i for i, file in enumerate(table["file"])}
    assert table["duplicate_of"][place["red/copy.png"]] == place["red/0000.png"]
    assert bundle.stage("images").facts["n_exact_duplicates"] == 1


def test_thumbnails_are_the_images(world):
    bundle = Bundle.open(world / "done.csp")
    import io

    with Image.open(io.BytesIO(bundle.thumbnail(3))) as thumb:
        pixels = np.asarray(thumb.convert("RGB"), np.float32)
    with Image.open(world / "images" / bundle.images()["file"][3]) as image:
        original = np.asarray(image.convert("RGB"), np.float32)
    assert pixels.shape == original.shape
    assert np.abs(pixels - original).mean() < 20
    with pytest.raises(IndexError):
        bundle.thumbnail(bundle.n_images)
    with pytest.raises(IndexError):
        bundle.thumbnail(-1)


# ---------------------------------------------------------------- labelling again


@pytest.fixture
def own(world, tmp_path):
    """A bundle of this test's own."""
    pipeline.build(toys.request(world, tmp_path / "own.csp"))
    return tmp_path / "own.csp"


@pytest.mark.slow
def test_another_encoder_leaves_the_activations_and_equals_a_new_build(world, own, tmp_path):
    class Other(toys.ColourEncoder):
        def __init__(self):
            super().__init__()
            self._projection = self._projection[::-1].copy()
            self.fingerprint = "5" * 64

    before = toys.content(own)
    pipeline.build(toys.request(world, own, encoder=Other()))
    after = toys.content(own)
    assert {n for n in before if before[n] == after[n]} >= {"activations:small/first@mean"}
    assert before["embeddings"] != after["embeddings"]
    pipeline.build(toys.request(world, tmp_path / "new.csp", encoder=Other()))
    assert after == toys.content(tmp_path / "new.csp")


def test_relabel_gamma_touches_no_image_and_no_encoder(own):
    before = toys.content(own)
    bundle = Bundle.open(own)
    recipe = changed(Recipe.from_json(bundle.manifest.recipe), {"gamma": 0.5})
    after = toys.content(pipeline.relabel(own, recipe).path)
    same = {n for n in before if before[n] == after.get(n)}
    assert {"images", "embeddings", "activations:small/first@mean", "vocabulary"} <= same
    assert before["scores:small/first@mean/csp"] != after["scores:small/first@mean/csp"]
    assert (
        before["scores:small/first@mean/semanticlens"]
        == (after["scores:small/first@mean/semanticlens"])
    )
    assert Bundle.open(own).manifest.recipe["gamma"] == 0.5
    assert verify(Bundle.open(own)) == []


def test_relabel_with_new_words_needs_the_same_encoder(own, tmp_path):
    recipe = Recipe.from_json(Bundle.open(own).manifest.recipe)
    words = toys.words(tmp_path, ["red", "blue", "zebra"])
    with pytest.raises(InputError, match="name it with --encoder"):
        pipeline.relabel(own, recipe, words)
    stranger = toys.ColourEncoder()
    stranger.fingerprint = "f" * 64
    with pytest.raises(StaleError, match="not the one this bundle was built with"):
        pipeline.relabel(own, recipe, words, stranger)
    bundle = pipeline.relabel(own, recipe, words, toys.ColourEncoder())
    assert list(bundle.labels()["text"]) == ["red", "blue", "zebra"]
    assert verify(bundle) == []


def test_relabel_equals_a_fresh_build(own, world, tmp_path):
    recipe = changed(toys.SMALL, {"gamma": 0.3, "n_partners": 1, "methods": ("csp",)})
    pipeline.relabel(own, recipe)
    pipeline.build(toys.request(world, tmp_path / "fresh.csp", recipe=recipe))
    assert toys.content(own) == toys.content(tmp_path / "fresh.csp")


def test_gamma_zero_unweighted_is_semanticlens(world, tmp_path):
    recipe = replace(toys.SMALL, gamma=0.0, weighting="none")
    bundle = pipeline.build(toys.request(world, tmp_path / "a.csp", recipe=recipe))
    for layer in bundle.layers("small"):
        csp = bundle.scores("small", layer, "csp")
        lens = bundle.scores("small", layer, "semanticlens")
        np.testing.assert_array_equal(csp.label_uk, lens.label_uk)
        np.testing.assert_allclose(csp.score_uk, lens.score_uk, atol=1e-6)


def test_paper_preset_is_recorded(world, tmp_path):
    recipe = changed(PRESETS["paper"], {"n_exemplars": 6, "n_score": 4, "n_null": 30})
    bundle = pipeline.build(toys.request(world, tmp_path / "a.csp", recipe=recipe))
    params = bundle.stage("scores:small/first@mean/csp").params
    assert params["weighting"] == "raw"
    assert params["gamma"] == 1.0
    contrast = bundle.stage("contrast:small/first@mean").params
    assert contrast["n_partners"] == 1
    assert contrast["threshold"] == "mean"
    assert bundle.stage("vocabulary").params["renormalise"] is False


# ---------------------------------------------------------------- groups and classes


def test_images_of_one_group_are_never_paired(tmp_path):
    images = toys.draw_images(tmp_path / "images")
    n = len(read_probe_set(images).table)
    table = toys.as_table(images, lesion=[f"L{i // 3}" if i % 5 else None for i in range(n)])
    probe = read_probe_set(table, group_column="lesion")
    bundle = pipeline.build(toys.request(tmp_path, tmp_path / "a.csp", probe=probe))
    group = bundle.images()["group"]
    for layer in bundle.layers("small"):
        chosen, contrast = bundle.exemplars("small", layer), bundle.contrast("small", layer)
        for unit in range(len(chosen.count_u)):
            for rank in range(chosen.count_u[unit]):
                mine = group[chosen.image_uk[unit, rank]]
                for j in range(contrast.n_partner_uk[unit, rank]):
                    other = group[contrast.image_ukj[unit, rank, j]]
                    assert pd.isna(mine) or pd.isna(other) or mine != other


def test_class_counts_add_up(world):
    bundle = Bundle.open(world / "done.csp")
    assert list(bundle.classes()["name"]) == sorted(toys.COLOURS)
    counts = bundle.class_counts("small", "second@mean")
    totals = counts.groupby("unit")["count"].sum()
    exemplars = bundle.exemplars("small", "second@mean").count_u
    assert [int(totals.get(u, 0)) for u in range(len(exemplars))] == list(exemplars)


def test_influence_of_the_last_hidden_layer_is_the_head(world):
    bundle = Bundle.open(world / "done.csp")
    found = bundle.influence("small", "second@mean")
    assert found is not None
    assert found.output_names == tuple(sorted(toys.COLOURS))
    assert found.n_image_c.sum() == 12
    assert found.gradient_activation_cu.shape == (4, 12)


@pytest.mark.slow
def test_influence_on_chosen_outputs_of_a_network_without_names(world, tmp_path):
    model = target_model(toys.network(), toys.PREPROCESSING, name="bare")
    target = pipeline.Target(model, tuple(select_layers(model, ["last"])))
    without = pipeline.build(toys.request(world, tmp_path / "a.csp", targets=(target,)))
    assert without.influence("bare", "last@mean") is None
    chosen = pipeline.build(
        toys.request(world, tmp_path / "a.csp", targets=(target,), outputs=(2, 0))
    )
    found = chosen.influence("bare", "last@mean")
    assert found is not None
    assert found.output_names == ("2", "0")
    assert found.is_predicted_class
    weight = toys.network().head.weight.detach().numpy()
    np.testing.assert_array_equal(found.direct_weight_cu, weight[[2, 0]])
    with pytest.raises(InputError, match="no output 9"):
        pipeline.build(toys.request(world, tmp_path / "b.csp", targets=(target,), outputs=(9,)))


# ---------------------------------------------------------------- recipes


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"gamma": 2}, "between 0 and 1"),
        ({"n_partners": 0}, "at least 1"),
        ({"gama": 0.5}, "not a parameter"),
        ({"n_score": 200}, "larger than n_exemplars"),
        ({"methods": ("nope",)}, "does not exist"),
        ({"templates": ("no slot",)}, "exactly one"),
        ({"gamma": "half"}, "cannot be 'half'"),
    ],
)
def test_bad_recipes_are_one_sentence(values, sentence):
    with pytest.raises(InputError, match=sentence):
        changed(Recipe(), values)


def test_recipe_round_trip():
    for recipe in PRESETS.values():
        assert Recipe.from_json(recipe.to_json()) == recipe
