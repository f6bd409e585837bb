"""What a build from the browser may read: nothing outside, whatever leads there."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from csp_engine import files, jobs
from csp_engine.errors import InputError
from csp_engine.jobs.allowed import named_folders
from csp_engine.probe.listing import read_probe_set
from tests.engine.test_jobs import ORDER, a_past_job
from tests.worlds import toys


@pytest.fixture
def world(tmp_path) -> Path:
    """``inside`` holds all that a build needs, ``outside`` the same, with links from one there."""
    for name in ("inside", "outside"):
        folder = tmp_path / name
        toys.draw_images(folder / "images")
        toys.words(folder)
        (folder / "pixels.json").write_text(json.dumps(toys.PREPROCESSING))
        (folder / "classes.txt").write_text("\n".join(sorted(toys.COLOURS)))
        (folder / "table.csv").write_text("file,mask\nred_0.png,\n")
        for empty in ("captioner", "encoder", "vectors"):
            (folder / empty).mkdir()
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    (inside / "way").symlink_to(outside)
    (inside / "near").symlink_to(inside / "images")
    (inside / "words-there.txt").symlink_to(outside / "words.txt")
    return tmp_path


def wrong(world: Path, **changes) -> dict[str, str]:
    allowed = jobs.Allowed((world.resolve() / "inside",))
    order = replace(ORDER, out="a.csp", exemplars=6, **changes)
    return order.problems(world / "inside", allowed)


def ways_out(world: Path, name: str) -> tuple[str, ...]:
    return (f"../outside/{name}", str(world / "outside" / name), f"way/{name}",
            f"images/../../outside/{name}", f"way/../outside/{name}")  # fmt: skip


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("images", "images"),
        ("images", "table.csv"),
        ("images", "pixels.json"),
        ("weights", "pixels.json"),
        ("preprocessing", "pixels.json"),
        ("class_names", "classes.txt"),
        ("captioner", "captioner"),
        ("image_root", "images"),
        ("images", "not-there"),
        ("weights", "not-there"),
    ],
)
def test_no_field_reaches_outside_and_none_tells_what_is_there(world, field, name):
    for path in ways_out(world, name):
        said = wrong(world, **{field: path})[field]
        assert said.startswith(f"{path!r} is not below {world.resolve() / 'inside'}"), path
        assert "--allow FOLDER" in said


def test_words_models_and_encoders_stay_inside_as_well(world):
    for path in (*ways_out(world, "words.txt"), "words-there.txt", "../outside/no.txt"):
        assert "--allow" in wrong(world, vocabulary=("general", path))["vocabulary"]
    for path in ways_out(world, "encoder"):
        for field, kind in (("encoder", "transformers/"), ("encoder", "open_clip/"),
                            ("encoder", "precomputed/"), ("model", "transformers/"),
                            ("model", "hf-hub:"), ("model", "open_clip/")):  # fmt: skip
            assert "--allow" in wrong(world, **{field: kind + path})[field], kind + path


def test_what_lies_inside_is_read_as_before_links_too(world, monkeypatch):
    monkeypatch.setenv("CSP_TRUST_PYTHON", "1")
    assert wrong(world, images="images") == {}
    assert wrong(world, images="near") == {}
    assert wrong(world, images=str(world / "inside" / "images")) == {}
    for encoder in ("open_clip/ViT-B-32/laion2b_s34b_b79k", "transformers/google/siglip"):
        assert wrong(world, encoder=encoder) == {}


def test_folders_that_are_named_are_open_and_so_is_what_our_bundles_name(world, monkeypatch):
    monkeypatch.setenv("CSP_TRUST_PYTHON", "1")
    inside, outside = (world.resolve() / name for name in ("inside", "outside"))
    order = replace(ORDER, out="a.csp", images="../outside/images")
    assert order.problems(inside, jobs.Allowed((inside, outside))) == {}
    assert order.problems(inside) == {}
    spec = f"open_clip/{outside}/encoder"
    held = replace(ORDER, out="a.csp", encoder=spec)
    assert "encoder" in held.problems(inside, jobs.Allowed((inside,)))
    assert held.problems(inside, jobs.Allowed((inside,), frozenset({spec}))) == {}
    # A folder whose name begins like an allowed one is another folder.
    outside.rename(inside.with_name("inside2"))
    assert "images" in replace(order, images="../inside2/images").problems(
        inside, jobs.Allowed((inside,))
    )


def test_a_build_that_was_stopped_is_not_resumed_beyond_what_may_be_read(world, monkeypatch):
    monkeypatch.setenv("CSP_TRUST_PYTHON", "1")
    order = replace(ORDER, images=str(world / "outside" / "images")).to_json()
    home = a_past_job(world / "inside" / "a.csp.job", "", folder=str(world / "inside"), order=order)
    with pytest.raises(InputError, match="--allow"):
        jobs.resume(jobs.read_job(home), jobs.Allowed((world.resolve() / "inside",)))


@pytest.mark.parametrize("kind", ["folder", "file", "listed", "beside"])
def test_links_among_the_images_are_found_by_the_build_itself(world, monkeypatch, kind):
    images = world / "inside" / "images"
    source = images
    if kind == "folder":
        (images / "more").symlink_to(world / "outside" / "images")
    elif kind == "file":
        there = next((world / "outside" / "images").rglob("*.png"))
        (images / "there.png").symlink_to(there)
    elif kind == "beside":
        there = next(images.rglob("*.png")).relative_to(images).as_posix()
        (world / "outside" / "secrets.csv").write_text(f"file,said\n{there},hidden\n")
        (images / "metadata.csv").symlink_to(world / "outside" / "secrets.csv")
    else:
        (images / "deep").symlink_to(world / "outside" / "images")
        there = next((world / "outside" / "images").rglob("*.png"))
        source = images / "list.csv"
        file = there.relative_to(world / "outside" / "images").as_posix()
        source.write_text(f"file\ndeep/{file}\n")
    monkeypatch.setenv(files.ALLOWED, str(world / "inside"))
    with pytest.raises(InputError, match="outside of the folders that may be read"):
        read_probe_set(source)
    monkeypatch.setenv(files.ALLOWED, os.pathsep.join(map(str, (world / "inside", world))))
    assert len(read_probe_set(source))
    monkeypatch.delenv(files.ALLOWED)
    assert len(read_probe_set(source))


def test_a_folder_to_allow_has_to_be_there(world):
    assert named_folders([world / "inside" / "way"]) == [world.resolve() / "outside"]
    with pytest.raises(InputError, match="--allow"):
        named_folders([world / "nowhere"])


def test_what_a_bundle_names_as_its_model_is_allowed_as_a_model_alone(world):
    """A bundle comes from anywhere, and could name a file to be read as words or weights."""
    inside, words = world.resolve() / "inside", str(world.resolve() / "outside" / "words.txt")
    allowed = jobs.Allowed((inside,), frozenset({words}))
    for field, value in (("vocabulary", (words,)), ("weights", words), ("images", words)):
        order = replace(ORDER, out="a.csp", exemplars=6, **{field: value})
        assert "--allow" in order.problems(inside, allowed)[field]


def test_a_model_that_is_a_file_beside_the_allowed_folders_is_outside(world):
    """``transformers`` reads a file of that name as a configuration."""
    inside = world.resolve() / "inside"
    allowed = jobs.Allowed((inside / "images",))
    for field in ("model", "encoder"):
        order = replace(ORDER, out="a.csp", exemplars=6, **{field: "transformers/pixels.json"})
        assert "--allow" in order.problems(inside, allowed)[field]


def test_a_name_that_no_place_can_have_lies_outside(world):
    for field in ("images", "weights", "captioner"):
        assert "--allow" in wrong(world, **{field: "images\0"})[field]
