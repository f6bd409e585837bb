"""The demo made small from its seed: stopped anywhere, verified, shipped."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from csp_engine.bundle import Bundle, kinds
from csp_engine.demo.shipping import opening as shipped
from csp_engine.demo.shipping import verifying
from csp_engine.demo.shipping.adopting import adopt_parts
from csp_engine.demo.shipping.parts import World, sole_builder
from csp_engine.demo.training import judge, steps
from csp_engine.demo.training.pictures import pictures
from csp_engine.errors import BundleError, InputError
from csp_engine.hashing import sha256_json
from csp_engine.types import silent
from tests.engine.test_cli import run
from tests.worlds import small_demo

pytestmark = pytest.mark.slow

# ---------------------------------------------------------------- the whole way


def test_a_fresh_demo_is_verified_and_compared_with_the_build_it_came_from(quick_demo, capsys):
    folder, work = quick_demo / "shipped", quick_demo / "work"
    code, out, _ = run(capsys, "demo", "verify", folder, "--against", work, "--json")
    answer = json.loads(out)
    assert answer["problems"] == []
    assert code == 0
    told = "\n".join(answer["holds"])
    assert "120 photographs are drawn again bit for bit" in told
    assert "biased.safetensors: identical bytes" in told
    assert "planted units are those of the formulas" in told
    bundle = Bundle.open(shipped.require_shipped(folder))
    assert "not a medical device" in bundle.notice
    inputs = bundle.manifest.inputs
    assert inputs["encoder"]["spec"] == "open_clip/./encoder"
    assert inputs["captioner"]["spec"] == "./captioner"
    assert str(quick_demo) not in (bundle.path / "manifest.json").read_text()
    for model in bundle.model_names:
        for layer in bundle.layers(model):
            for method in bundle.methods(model, layer):
                facts = bundle.stage(kinds.FAITHFULNESS.name(model, layer, method)).facts
                assert (facts["judge"], facts["is_held_out"], facts["n_images"]) == (
                    judge.SPEC, True, small_demo.QUICK.n_held_out
                )  # fmt: skip


def resigned(demo: Path, **changes: object) -> None:
    """Change the record as somebody would who also renews its hash."""
    record = {**shipped.read_record(demo), **changes}
    record["self_sha256"] = sha256_json(record)
    (demo / shipped.RECORD).write_text(json.dumps(record))


def test_other_photographs_than_the_shipped_ones_are_noticed(quick_demo, tmp_path):
    demo = Path(shutil.copytree(quick_demo / "shipped", tmp_path / "demo"))
    record = shipped.read_record(demo)
    resigned(demo, pixels=[record["pixels"][0], "0" * 64])
    problems = verifying.verify_shipped(demo).problems
    assert len(problems) == 1
    assert "Photographs 100 to" in problems[0]
    resigned(demo, settings={**record["settings"], "seed": 1})
    problems = "\n".join(verifying.verify_shipped(demo).problems)
    for what in ("cases.csv.gz", "Photographs 0 to", "other photographs", "probe table", "planted"):
        assert what in problems
    resigned(demo, settings={**record["settings"], "render": 0})
    (problem,) = verifying.verify_shipped(demo).problems
    assert "version 0 of the renderer" in problem


def test_a_demo_around_the_networks_of_another_trains_none(quick_demo, tmp_path, monkeypatch):
    def train(*_: object, **__: object) -> None:
        raise AssertionError("something was trained")

    for name in ("encoder.train_encoder", "captioner.train_captioner", "planted.save",
                 "classifiers.train_classifier"):  # fmt: skip
        monkeypatch.setattr(f"csp_engine.demo.shipping.world.{name}", train)
    world = small_demo.make(tmp_path / "work", parts_of=quick_demo / "shipped")
    undisturbed = json.loads((quick_demo / "work" / "world.json").read_text())["parts"]
    parts = {name: part["sha256"] for name, part in world.record["parts"].items()}
    assert parts == {name: part["sha256"] for name, part in undisturbed.items()}
    bundles = [folder / shipped.BUNDLE for folder in (tmp_path / "work", quick_demo / "work")]
    assert small_demo.content(bundles[0]) == small_demo.content(bundles[1])


def test_networks_of_another_demo_must_be_whole_and_of_the_same_settings(quick_demo, tmp_path):
    demo = Path(shutil.copytree(quick_demo / "shipped", tmp_path / "demo"))
    with pytest.raises(InputError, match=r"was made with .*seed 0.*--parts"):
        adopt_parts(World(tmp_path / "one", replace(small_demo.QUICK, seed=1)), demo)
    (demo / "biased.safetensors").write_bytes(b"altered")
    with pytest.raises(BundleError, match=r"biased\.safetensors is missing or altered"):
        adopt_parts(World(tmp_path / "two", small_demo.QUICK), demo)


# ---------------------------------------------------------------- interruptions


def test_a_build_stopped_inside_every_part_ends_like_one_that_was_not(
    quick_demo, tmp_path, monkeypatch
):
    monkeypatch.setattr(steps, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    stopped: list[str] = []
    own = {"photographs", "pictures", "encoder", "captioner", "classifier", "masks", "held-out",
           "images", "pairs", "judge"}  # fmt: skip

    def stop_once(stage: str, done: int, total: int) -> None:
        kind = stage.split(" ")[0]  # such as all pictures, all trainings of a classifier
        # Of the stages that every build has, which test_interruption.py kills, a few will do.
        is_due = kind in own or len(set(stopped) - own) < 4
        if is_due and kind not in stopped and done * 2 >= total:
            stopped.append(kind)
            raise KeyboardInterrupt

    for _ in range(30):
        try:
            world = small_demo.make(tmp_path / "work", stop_once)
        except KeyboardInterrupt:
            continue
        break
    assert {"photographs", "pictures", "encoder", "classifier", "masks", "images"} <= set(stopped)
    assert len(set(stopped) - own) == 4
    undisturbed = json.loads((quick_demo / "work" / "world.json").read_text())["parts"]
    parts = {name: part["sha256"] for name, part in world.record["parts"].items()}
    assert parts == {name: part["sha256"] for name, part in undisturbed.items()}
    bundles = [folder / shipped.BUNDLE for folder in (tmp_path / "work", quick_demo / "work")]
    assert small_demo.content(bundles[0]) == small_demo.content(bundles[1])


def test_a_stopped_build_says_how_to_go_on(tmp_path, capsys, monkeypatch):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("csp_engine.demo.shipping.world.draw", interrupted)
    code, _, err = run(capsys, "demo", "build", "--work", tmp_path / "w", "--out", tmp_path / "o")
    assert code == 1
    assert "continues where it stopped" in err
    assert not list(tmp_path.glob("*o"))


def test_two_builds_in_one_work_folder_do_not_mix(tmp_path, capsys):
    work = tmp_path / "w"
    World(work, small_demo.QUICK).checkpoint("encoder").write_bytes(b"state")
    before = (work / "world.json").read_bytes()
    with sole_builder(work):
        code, _, err = run(capsys, "demo", "build", "--work", work, "--out", tmp_path / "o")
    assert code == 2
    assert "Another process is making the demo in" in err
    assert (work / "world.json").read_bytes() == before  # of other settings, and still whole
    assert World(work, small_demo.QUICK).checkpoint("encoder").exists()
    with sole_builder(work):
        pass  # the lock was given back


def test_a_folder_of_somebody_else_is_left_as_it_is(tmp_path, capsys):
    (tmp_path / "letter.txt").write_text("dear")
    code, _, err = run(capsys, "demo", "build", "--work", tmp_path, "--out", tmp_path / "o")
    assert code == 2
    assert "is not empty and not of a demo build" in err
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_checkpoint_of_other_settings_is_not_continued(tmp_path):
    World(tmp_path, small_demo.QUICK).checkpoint("encoder").write_bytes(b"state")
    assert World(tmp_path, small_demo.QUICK).checkpoint("encoder").exists()
    assert not World(tmp_path, replace(small_demo.QUICK, seed=1)).checkpoint("encoder").exists()


def test_a_damaged_file_of_the_work_folder_is_one_sentence(tmp_path):
    made = pictures(tmp_path, "probe", 2, 0, 16, silent)
    (kept,) = tmp_path.rglob("*.npz")
    again = pictures(tmp_path, "probe", 2, 0, 16, silent)
    np.testing.assert_array_equal(made.image_nhwc, again.image_nhwc)
    kept.write_bytes(kept.read_bytes()[:-100])
    with pytest.raises(InputError, match=f"{kept.name} is damaged; delete it"):
        pictures(tmp_path, "probe", 2, 0, 16, silent)
    (tmp_path / "a.checkpoint").write_bytes(b"not a checkpoint")
    with pytest.raises(InputError, match=r"a\.checkpoint is damaged; delete it"):
        steps.train(
            nn.Linear(2, 2),
            lambda _: torch.zeros(()),
            2,
            rate=0.1,
            checkpoint=tmp_path / "a.checkpoint",
            stage="a",
            progress=silent,
        )
