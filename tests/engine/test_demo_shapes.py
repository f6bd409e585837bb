"""The world of drawn shapes: what is drawn, written and kept."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from csp_engine.encoders import load_encoder
from csp_engine.errors import InputError, MissingModelError
from csp_engine.networks.models import load_model
from csp_engine.probe.listing import read_probe_set
from csp_engine.words.vocabularies import read_vocabulary
from tests.worlds import shapes


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_world_is_read_as_a_probe_set(toy_world: Path) -> None:
    table = read_probe_set(toy_world / "labels.csv")
    assert table.concepts == shapes.concept_names()
    assert len(table.table) == 96
    tree = read_probe_set(toy_world / "images")
    assert set(tree.table["class"]) == set(shapes.SHAPES)
    image = Image.open(toy_world / table.table["file"][0])
    assert (image.size, image.mode) == ((128, 128), "RGB")


def test_columns_tell_what_is_drawn(toy_world: Path) -> None:
    table = pd.read_csv(toy_world / "labels.csv")
    assert (
        table[list(shapes.SHAPES)].to_numpy().argmax(1)
        == [shapes.SHAPES.index(c) for c in table["class"]]
    ).all()
    for group in (shapes.SHAPES, shapes.COLOURS, shapes.TEXTURES):
        assert (table[list(group)].sum(axis=1) == 1).all()
    # The middle of plain squares has the colour that the table says.
    rng = np.random.default_rng(0)
    for colour, expected in shapes.COLOURS.items():
        values = [1, list(shapes.COLOURS).index(colour), 0, 0, 0]
        pixels = np.asarray(shapes.draw_image(values, rng), float)
        distance = np.abs(pixels - expected).max(axis=2)
        assert (distance < 40).mean() > 0.05, colour
        others = [c for c in shapes.COLOURS.values() if c != expected]
        assert all((np.abs(pixels - o).max(axis=2) < 20).mean() < 0.02 for o in others), colour


def test_rulers_go_with_stars() -> None:
    value_n5 = shapes.draw_attributes(np.random.default_rng(0), 4000)
    is_star = value_n5[:, 0] == shapes.SHAPES.index("star")
    assert 0.6 < value_n5[is_star, 4].mean() < 0.8
    assert 0.03 < value_n5[~is_star, 4].mean() < 0.09


def test_a_ruler_changes_only_an_edge() -> None:
    without, with_ruler = (
        np.asarray(shapes.draw_image([0, 0, 0, 0, mark], np.random.default_rng(3)), int)
        for mark in (0, 1)
    )
    changed = np.abs(without - with_ruler).max(axis=2) > 30
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    assert min(np.ptp(rows), np.ptp(columns)) < 16
    assert max(np.ptp(rows), np.ptp(columns)) > 100


def test_captions_say_only_what_is_true() -> None:
    rng = np.random.default_rng(1)
    words = {
        word: (axis, i)
        for axis, names in enumerate(shapes.ATTRIBUTES)
        for i, name in enumerate(names)
        for word in shapes.SYNONYMS.get(name, ())
    }
    for values in shapes.draw_attributes(rng, 500):
        text, said = shapes.caption(values, rng)
        assert said.any()
        for word, (axis, i) in words.items():
            if f" {word} " in f" {text.replace('-like', '').rstrip('.')} ":
                assert values[axis] == i, (text, word)
                assert said[axis], (text, word)


def test_the_vocabulary_is_long_enough_and_clean(toy_world: Path) -> None:
    vocabulary = read_vocabulary([str(toy_world / "vocabulary.txt")])
    assert len(vocabulary.table) == len(shapes.vocabulary()) >= 60
    for name in ("red", "striped", "star", "ruler", "teal background", "cat"):
        assert name in set(vocabulary.table["text"])


def test_the_encoder_is_a_real_open_clip_folder(toy_world: Path) -> None:
    encoder = load_encoder(f"open_clip/{toy_world / 'encoder'}")
    assert encoder.fingerprint == shapes.encoder(toy_world).fingerprint
    assert encoder.dim == 64
    size = sum(p.stat().st_size for p in (toy_world / "encoder").iterdir())
    assert size < 5_000_000
    scores = shapes.zero_shot_auroc(encoder, n_images=60)
    assert set(scores) <= set(shapes.concept_names())


def test_the_classifier_loads_with_its_classes(
    toy_world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(shapes.WORLD_VARIABLE, str(toy_world))
    model = load_model("python:tests.worlds.shapes:target_model")
    assert (model.name, model.class_names) == ("shapes", shapes.SHAPES)
    pixels = model.preprocess(shapes.draw_image([0] * 5, np.random.default_rng(0)))
    with torch.inference_mode():
        assert model.network(torch.from_numpy(pixels[None])).shape == (1, 6)
    monkeypatch.setenv(shapes.WORLD_VARIABLE, str(toy_world / "nothing"))
    with pytest.raises(MissingModelError, match="no world of shapes"):
        shapes.encoder()


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(
    toy_world: Path, tmp_path: Path
) -> None:
    again = shapes.make_world(tmp_path / "again", quick=True)
    assert contents(again) == contents(toy_world)
    _, images = shapes._practice(1, 3)
    assert not np.array_equal(images, shapes._practice(0, 3)[1])


def test_what_is_there_is_kept_and_what_is_missing_is_made(toy_world: Path, tmp_path: Path) -> None:
    world = shutil.copytree(toy_world, tmp_path / "world")
    before = contents(world)
    calls: list[str] = []
    shapes.make_world(world, quick=True, progress=lambda stage, *_: calls.append(stage))
    assert not calls
    (world / "labels.csv").unlink()
    record = json.loads((world / "world.json").read_text())
    del record["parts"]["model.safetensors"]  # as if stopped before this part was whole
    (world / "world.json").write_text(json.dumps(record))
    (world / ".tmp-model.safetensors").write_bytes(b"half")
    shapes.make_world(world, quick=True, progress=lambda stage, *_: calls.append(stage))
    assert set(calls) == {"classifier"}
    assert contents(world) == before


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(InputError, match="already holds 'images'"):
        shapes.make_world(tmp_path, quick=True)
    assert (tmp_path / "images" / "holiday.jpg").read_bytes() == b"mine"


@pytest.mark.slow
def test_the_full_encoder_knows_its_world(tmp_path: Path) -> None:
    """Half a minute: names of shapes, colours, textures, backgrounds find their fresh drawings."""
    world = shapes.make_world(tmp_path / "world")
    encoder = shapes.encoder(world)
    for template in ("{}", "a photo of a {}."):
        scores = shapes.zero_shot_auroc(encoder, template=template)
        assert len(scores) == 23
        assert np.mean(list(scores.values())) >= 0.95, template
        assert min(scores.values()) > 0.8, template
    table = pd.read_csv(world / "labels.csv")
    model = shapes.target_model(world)
    pixels = [model.preprocess(Image.open(world / f).convert("RGB")) for f in table["file"]]
    with torch.inference_mode():
        answer = model.network(torch.from_numpy(np.stack(pixels))).argmax(1).numpy()
    is_star = (table["class"] == "star").to_numpy()
    has_ruler = table["ruler"].to_numpy() == 1
    star = shapes.SHAPES.index("star")
    # It has learnt the shapes, and it has fallen for the ruler.
    assert (np.array(shapes.SHAPES)[answer] == table["class"]).mean() > 0.65
    assert (answer[has_ruler & ~is_star] == star).mean() > 0.2
    assert (answer[~has_ruler & ~is_star] == star).mean() < 0.05
