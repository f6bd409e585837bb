"""Planted units: every stored image is found, values are the formula's, strangers get silence."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from csp_engine import pipeline
from csp_engine.demo.training import planted
from csp_engine.errors import InputError, MissingModelError
from csp_engine.evaluation.ground_truth import TruthRule, association
from csp_engine.networks.layers import select_layers
from csp_engine.networks.models import TargetModel
from csp_engine.pipeline import Target
from csp_engine.probe.listing import read_probe_set
from tests.worlds import toys

NAMES = ["melanoma", "naevus", "keratosis", "ruler", "hair", "gel bubbles", "gel border", "dots"]
CLASSES = NAMES[:3]
PIXELS = {"resize": [64, 64], "interpolation": "bilinear", "crop": None, "mean": 0.5, "std": 0.25}


def record(n: int, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    shows = rng.random((n, len(NAMES))) < 0.35
    shows[:, :3] = np.eye(3, dtype=bool)[rng.integers(3, size=n)]
    shows[:, 6] = rng.random(n) < 0.25
    shows[:, 5] = np.where(shows[:, 6], rng.random(n) < 0.9, rng.random(n) < 0.1)
    strengths = pd.DataFrame(rng.uniform(0.01, 0.3, (n, len(NAMES))), columns=NAMES)
    return strengths.drop(columns=CLASSES), pd.DataFrame(shows, columns=NAMES)


def pictures(n: int, seed: int = 0, side: int = 64) -> list[Image.Image]:
    rng = np.random.default_rng(seed)
    return [
        Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).resize((side, side))
        for _ in range(n)
    ]


def pixels_of(model_or_preprocess, images) -> np.ndarray:
    return np.stack([model_or_preprocess(image) for image in images])


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """300 images, their record, the memory, and the target model read back from disk."""
    from csp_engine.networks.loading.preprocessing import pixel_pipeline, pixel_recipe

    images = pictures(300)
    pixels = pixels_of(pixel_pipeline(pixel_recipe(PIXELS)), images)
    strengths, concepts = record(300)
    memory = planted.plant(
        strengths, concepts, planted.fingerprint(pixels), beside={"gel border": "gel bubbles"}
    )
    folder = tmp_path_factory.mktemp("planted")
    planted.save(folder, memory, CLASSES, PIXELS)
    return images, strengths, concepts, memory, folder, planted.target_model(folder)


def recalled(model: TargetModel, pixels: np.ndarray) -> np.ndarray:
    seen = []
    hook = model.network.planted.register_forward_hook(lambda _, __, out: seen.append(out))
    model.network(torch.from_numpy(pixels))
    hook.remove()
    return seen[0].numpy()


def test_every_stored_image_gives_its_own_row(world):
    images, _, _, memory, _, model = world
    np.testing.assert_array_equal(
        recalled(model, pixels_of(model.preprocess, images)), memory.value_nu
    )


def test_also_decoded_again_in_another_order_and_with_float_noise(world):
    images, _, _, memory, _, model = world
    again = []
    for number, image in enumerate(images):
        buffer = io.BytesIO()
        if number % 2:
            image.save(buffer, "PNG")
        else:
            image.save(buffer, "WEBP", lossless=True)
        again.append(Image.open(buffer).convert("RGB"))
    order = np.random.default_rng(1).permutation(300)
    pixels = pixels_of(model.preprocess, [again[i] for i in order])
    noise = np.random.default_rng(2).uniform(-1e-4, 1e-4, pixels.shape).astype(np.float32)
    np.testing.assert_array_equal(recalled(model, pixels + noise), memory.value_nu[order])
    np.testing.assert_array_equal(recalled(model, pixels[:1]), memory.value_nu[order[:1]])


def test_images_that_differ_in_one_small_spot_are_told_apart():
    images = pictures(20)
    changed = [np.asarray(image).copy() for image in images]
    for pixels in changed:
        pixels[10:16, 20:26] = 255 - pixels[10:16, 20:26]
    images += [Image.fromarray(pixels) for pixels in changed]
    pixels = np.stack([np.asarray(i, np.float32).transpose(2, 0, 1) / 64 - 2 for i in images])
    strengths, concepts = record(40)
    memory = planted.plant(strengths, concepts, planted.fingerprint(pixels), n_pairs=0)
    network = planted.PlantedNetwork.of(memory, CLASSES)
    found = network.memory(torch.from_numpy(pixels)).numpy()
    np.testing.assert_array_equal(found, np.arange(40))


def test_unknown_images_get_silence(world):
    _, _, _, _, _, model = world
    strangers = pixels_of(model.preprocess, pictures(50, seed=9))
    assert not recalled(model, strangers).any()
    assert not model.network(torch.from_numpy(strangers)).any()


def test_values_are_the_formulas_and_the_noise_is_small(world):
    _, strengths, concepts, memory, _, _ = world
    units = memory.units
    levels = {}
    for name in NAMES:  # written out once more, row by row
        strength = list(strengths.get(name, [1.0] * 300))
        shown = [s for s, is_in in zip(strength, concepts[name], strict=True) if is_in]
        levels[name] = [
            0.5 + s / max(shown) / 2 if is_in else 0.0
            for s, is_in in zip(strength, concepts[name], strict=True)
        ]
    for unit, kind, named in zip(units["unit"], units["kind"], units["concepts"], strict=True):
        if kind == "noise":
            continue
        parts = np.array([levels[name] for name in named])
        exact = parts.min(axis=0) if kind == "conjunction" else parts.max(axis=0)
        difference = memory.value_nu[:, unit] - exact
        assert np.abs(difference).max() < 6 * planted.NOISE
        assert difference.std() == pytest.approx(planted.NOISE, rel=0.2)


def test_what_the_kinds_mean(world):
    _, _, concepts, memory, _, _ = world
    units = memory.units
    assert set(units["kind"]) == set(planted.KINDS)
    loud = memory.value_nu > 0.25
    for unit, kind, formula, named in zip(
        units["unit"], units["kind"], units["formula"], units["concepts"], strict=True
    ):
        if kind in ("single", "co-occurring"):
            assert named == [formula]
            expected = concepts[formula]
        elif kind == "conjunction":
            assert formula == " and ".join(named)
            expected = concepts[named[0]] & concepts[named[1]]
            assert expected.sum() >= 20
        elif kind == "either":
            assert formula == " or ".join(named)
            expected = concepts[named[0]] | concepts[named[1]]
        else:
            continue
        np.testing.assert_array_equal(loud[:, unit], expected)
    border = units[units["formula"] == "gel border"].iloc[0]
    assert (border["kind"], border["beside"]) == ("co-occurring", "gel bubbles")
    assert border["beside_share"] == pytest.approx(0.9, abs=0.08)


def test_noise_units_go_with_nothing_and_quiet_images_do_not_tie(world):
    _, _, concepts, memory, _, _ = world
    found = association(np.ascontiguousarray(memory.value_nu.T), concepts.to_numpy())
    noise = (memory.units["kind"] == "noise").to_numpy()
    assert np.abs(found.pearson_uc[noise]).max() < 0.25
    singles = memory.units["kind"].isin(["single", "co-occurring"]).to_numpy()
    own = np.arange(len(NAMES))
    np.testing.assert_allclose(found.auroc_uc[singles][own, own], 1)
    for values in memory.value_nu.T:
        assert len(np.unique(values)) == len(values)


def test_the_same_seed_plants_the_same_and_another_does_not(world):
    _, strengths, concepts, memory, _, _ = world
    again = planted.plant(
        strengths, concepts, memory.fingerprint_nf, beside={"gel border": "gel bubbles"}
    )
    np.testing.assert_array_equal(again.value_nu, memory.value_nu)
    other = planted.plant(strengths, concepts, memory.fingerprint_nf, seed=1)
    assert not np.array_equal(other.value_nu[:, 0], memory.value_nu[:, 0])


def test_named_pairs_are_taken_as_they_are(world):
    _, strengths, concepts, memory, _, _ = world
    made = planted.plant(
        strengths, concepts, memory.fingerprint_nf,
        conjunctions=[("ruler", "hair")], either=[("dots", "ruler")], n_noise=0,
    )  # fmt: skip
    assert made.units["formula"].tolist() == [*NAMES, "ruler and hair", "dots or ruler"]


def test_it_is_a_classifier_of_the_stored_images(world):
    images, _, concepts, _, _, model = world
    logits = model.network(torch.from_numpy(pixels_of(model.preprocess, images)))
    np.testing.assert_array_equal(logits.argmax(1), concepts[CLASSES].to_numpy().argmax(axis=1))


@pytest.mark.slow
def test_it_runs_through_the_pipeline_and_its_truth_is_what_was_planted(world, tmp_path):
    images, _, concepts, memory, folder, model = world
    (tmp_path / "images").mkdir()
    for number, image in enumerate(images[:120]):
        image.save(tmp_path / "images" / f"{number:03d}.png")
    taps = tuple(select_layers(model, [planted.LAYER]))
    assert [str(tap.id) for tap in taps] == ["planted@none"]
    request = replace(
        toys.request(tmp_path, tmp_path / "a.csp"),
        probe=read_probe_set(tmp_path / "images"),
        targets=(Target(model, taps),),
    )
    bundle = pipeline.build(request)
    np.testing.assert_array_equal(
        bundle.activations("planted", "planted@none"), memory.value_nu[:120].T
    )
    influence = bundle.influence("planted", "planted@none")
    assert influence is not None
    assert influence.direct_weight_cu[0, 0] == planted.LOGIT_SCALE
    held_out = recalled(model, pixels_of(model.preprocess, images[120:]))
    key = ("planted", "planted@none")
    bundle = pipeline.add_truth(
        bundle.path, {key: held_out.T}, concepts.to_numpy()[120:], NAMES,
        {name: [name] for name in NAMES}, {"images": "random"},
        planted={key: planted.read_units(folder)}, rule=TruthRule(n_resamples=100, min_positive=5),
    )  # fmt: skip
    truth = bundle.truth(*key)
    assert truth is not None
    singles = truth.units["planted_kind"].isin(["single", "co-occurring"])
    assert (truth.units["true_concept"] == truth.units["planted"])[singles].all()
    assert truth.units["true_concept"][truth.units["planted_kind"] == "noise"].isna().all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"strengths": pd.DataFrame({"dots": [1.0]})}, "Strengths are of 1 images"),
        ({"beside": {"moon": "dots"}}, "no concept 'moon'"),
        ({"conjunctions": [("dots", "sun")]}, "no concept 'sun'"),
        ({"fingerprint_nf": np.zeros((300, 192), np.float32)}, "Images 0 and 1 look the same"),
        ({"strengths": pd.DataFrame({"dots": np.full(300, -1.0)})}, "negative"),
        ({"concepts": record(300)[1].astype(int)}, "must be boolean"),
    ],
)
def test_what_cannot_be_planted_is_told(world, change, words):
    _, strengths, concepts, memory, _, _ = world
    arguments = {
        "strengths": strengths,
        "concepts": concepts,
        "fingerprint_nf": memory.fingerprint_nf,
    }
    with pytest.raises(InputError, match=words):
        planted.plant(**arguments | change)


def test_a_class_needs_a_unit(world):
    with pytest.raises(InputError, match="'acne' is not a concept"):
        planted.PlantedNetwork.of(world[3], ["acne"])


@pytest.mark.parametrize("name", [planted.WEIGHTS_NAME, planted.RECORD_NAME])
@pytest.mark.parametrize("damage", ["missing", "cut off"])
def test_missing_and_cut_off_files_are_told(world, tmp_path, name, damage):
    planted.save(tmp_path, world[3], CLASSES, PIXELS)
    path = tmp_path / name
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    words = f"{name} is {damage}"
    with pytest.raises(MissingModelError, match=words):
        planted.target_model(tmp_path)
