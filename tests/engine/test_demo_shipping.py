"""The demo from seed to shipped folder: made, stopped anywhere, shipped whole, checked, damaged."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from safetensors.numpy import load_file, save_file
from torch import nn

from csp_engine.bundle import Bundle
from csp_engine.cli import demo as demo_command
from csp_engine.demo import shipped
from csp_engine.demo.dermoscopy import shipping, training
from csp_engine.demo.dermoscopy.parts import QUICK, World
from csp_engine.demo.dermoscopy.world import build_world
from csp_engine.errors import BundleError, CspError, InputError, MissingModelError
from csp_engine.types import silent
from tests import toys
from tests.engine.test_cli import run

pytestmark = pytest.mark.slow


@pytest.fixture
def demo(quick_demo, tmp_path) -> Path:
    """A shipped demo that a test may damage: files are links, so replace them, never write into."""
    return Path(shutil.copytree(quick_demo / "shipped", tmp_path / "demo", copy_function=os.link))


@pytest.fixture
def world(quick_demo) -> World:
    """The finished work folder; other tests look at it too."""
    with FileLock(quick_demo / ".lock"):
        return World(quick_demo / "work", QUICK)


def replaced(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


# ---------------------------------------------------------------- shipping


def test_the_shipped_demo_is_whole_and_small(quick_demo):
    folder = quick_demo / "shipped"
    record = shipped.read_record(folder)
    assert record["settings"]["n_probe"] == QUICK.n_probe
    assert len(record["pixels"]) == 2  # 120 photographs in blocks of 100
    named = {path.split("/")[0] for path in record["files"]}
    assert named == {"dermoscopy.csp", "cases.csv.gz", *shipping.PARTS}
    bundle = Bundle.open(shipped.require_shipped(folder))
    assert {name.partition(":")[0] for name in bundle.omitted} == {"activations"}
    assert "not a medical device" in bundle.notice
    # Nothing shipped may remember the machine that it was made on.
    text = (bundle.path / "manifest.json").read_text() + json.dumps(record)
    assert str(quick_demo) not in text
    assert bundle.manifest.inputs["encoder"]["spec"] == "open_clip/./encoder"


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


def test_shipping_twice_gives_the_same_bytes_and_replaces_the_older(world, demo):
    before = {p.relative_to(demo): p.read_bytes() for p in demo.rglob("*") if p.is_file()}
    (demo / "stray").write_text("of an older version")
    shipping.ship(world, demo)
    after = {p.relative_to(demo): p.read_bytes() for p in demo.rglob("*") if p.is_file()}
    assert after == before
    assert [p.name for p in demo.parent.iterdir()] == ["demo"]


def test_what_cannot_be_shipped_leaves_the_older_demo(world, demo, tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="holds no demo"):
        shipping.ship(world, tmp_path / "other")
    (tmp_path / "file").write_text("")
    for target in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError):
            shipping.ship(world, target)
    monkeypatch.setattr(shipping, "MAX_BYTES", 1000)
    with pytest.raises(InputError, match="most it may be"):
        shipping.ship(world, demo)
    assert shipping.verify_shipped(demo, is_quick=True).problems == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["demo", "file", "other"]


@pytest.mark.parametrize("moment", ["filling", "between the renames", "before tidying"])
def test_a_kill_while_shipping_costs_nothing(world, demo, moment):
    """What a killed process leaves behind at each of three moments."""
    new, old = (demo.with_name(f".{name}-demo") for name in ("new", "old"))
    if moment == "filling":
        new.mkdir()
        (new / "encoder").write_text("half")
    else:
        demo.rename(old)
        shutil.copytree(old, new if moment == "between the renames" else demo)
    shipping.ship(world, demo)
    assert shipping.verify_shipped(demo, is_quick=True).problems == []
    assert [p.name for p in demo.parent.iterdir()] == ["demo"]


# ---------------------------------------------------------------- damage


def parts_of(demo: Path) -> list[Path]:
    """Every file beside the bundle, and one of the bundle's own."""
    names = list(shipped.read_record(demo)["files"])
    bundle = Bundle.open(demo / shipped.BUNDLE)
    inside = bundle.path / bundle.stage("images").directory / "thumbs.bin"
    return [*(demo / name for name in names), inside]


@pytest.mark.parametrize("damage", ["deleted", "cut off", "altered"])
def test_damage_is_named_file_by_file(demo, damage, capsys):
    for path in parts_of(demo):
        content = path.read_bytes()
        if damage == "deleted":
            path.unlink()
        elif damage == "cut off":
            replaced(path, content[: len(content) // 2])
        else:
            replaced(path, content[:-1] + bytes([content[-1] ^ 1]))
        report = shipping.verify_shipped(demo, is_quick=True)
        assert any(path.name in problem for problem in report.problems), path
        assert all("csp demo build" in problem for problem in report.problems)
        is_own = path.name == "manifest.json" or shipped.BUNDLE not in path.parts
        if is_own and damage != "altered":
            with pytest.raises(CspError, match=path.name):
                shipped.require_shipped(demo)
        code, _, _ = run(capsys, "demo", "verify", demo, "--quick")
        assert code == 1
        path.unlink(missing_ok=True)
        path.write_bytes(content)
    assert shipping.verify_shipped(demo, is_quick=True).problems == []


def test_a_damaged_record_is_one_sentence(demo, capsys, monkeypatch):
    monkeypatch.setattr(demo_command, "SHIPPED", demo)
    path = demo / shipped.RECORD
    content = path.read_bytes()
    for wrong in (content[:-50], content.replace(b'"seed": 0', b'"seed": 1'), b"[]", b"\xff"):
        replaced(path, wrong)
        with pytest.raises(BundleError, match=r"demo\.json .*csp demo build"):
            shipped.read_record(demo)
    path.unlink()
    for arguments in (("demo", "--no-open"), ("demo", "verify", demo)):
        code, _, err = run(capsys, *arguments)
        assert code == 2
        assert "There is no demo in" in err
        assert "csp demo build" in err
    shutil.rmtree(demo)
    with pytest.raises(MissingModelError, match="There is no demo"):
        shipped.require_shipped(demo)


def test_files_that_do_not_belong_are_named(demo):
    (demo / "extra.bin").write_bytes(b"x")
    (problem,) = shipping.verify_shipped(demo, is_quick=True).problems
    assert "extra.bin is not part of the demo" in problem


def resigned(demo: Path, **changes: object) -> None:
    """Change the record as somebody would who also renews its hash."""
    record = {**shipped.read_record(demo), **changes}
    record["self_sha256"] = shipping.sha256_json(record)
    replaced(demo / shipped.RECORD, json.dumps(record).encode())


def test_other_photographs_than_the_shipped_ones_are_noticed(demo):
    record = shipped.read_record(demo)
    resigned(demo, pixels=[record["pixels"][0], "0" * 64])
    problems = shipping.verify_shipped(demo).problems
    assert len(problems) == 1
    assert "Photographs 100 to" in problems[0]
    resigned(demo, settings={**record["settings"], "seed": 1})
    problems = "\n".join(shipping.verify_shipped(demo).problems)
    for what in ("cases.csv.gz", "Photographs 0 to", "other photographs", "probe table", "planted"):
        assert what in problems
    resigned(demo, settings={**record["settings"], "render": 0})
    (problem,) = shipping.verify_shipped(demo).problems
    assert "version 0 of the renderer" in problem


# ---------------------------------------------------------------- two trainings


def test_weights_are_compared_in_three_steps(quick_demo, demo, tmp_path):
    quality = shipped.read_record(demo)["quality"]
    work = tmp_path / "work"
    for name in (*shipping.PARTS, "quality.json"):
        source = quick_demo / "work" / name
        (shutil.copytree if source.is_dir() else _copy)(source, work / name)
    path = work / "biased.safetensors"
    weights = load_file(path)

    def told(share: float) -> tuple[str, list[str]]:
        save_file({n: (v * (1 + share)).astype(v.dtype) for n, v in weights.items()}, path)
        problems: list[str] = []
        holds = shipping.compare_weights(demo, work, quality, problems)
        return next((line for line in holds if "biased" in line), ""), problems

    path.write_bytes((quick_demo / "work" / path.name).read_bytes())
    holds = shipping.compare_weights(demo, work, quality, [])
    assert all("identical bytes" in line for line in holds)
    assert len(holds) == 5
    assert "tensors differ by at most" in told(5e-4)[0]
    line, problems = told(0.5)
    assert "other weights of the same worth" in line
    assert problems == []
    for row in quality["accuracy"]:
        row["accuracy"] = row["accuracy"] - 0.06
    line, problems = told(0.5)
    assert line == ""
    assert len(problems) == 1
    assert "another result" in problems[0]


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def test_only_a_finished_build_of_the_same_settings_can_be_compared(quick_demo, demo, tmp_path):
    with pytest.raises(InputError, match="no work folder"):
        shipping.verify_shipped(demo, against=tmp_path)
    record = json.loads((quick_demo / "work" / "world.json").read_text())
    (tmp_path / "world.json").write_text(json.dumps({**record, "settings": {"seed": 5}}))
    with pytest.raises(InputError, match="other settings"):
        shipping.verify_shipped(demo, against=tmp_path)
    (tmp_path / "world.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match="not finished"):
        shipping.verify_shipped(demo, against=tmp_path)


def test_difference_of_tensors_is_a_share_of_their_length():
    one = {"w": np.array([3.0, 4.0], np.float32), "none": np.zeros(3, np.float32)}
    two = {"w": np.array([3.0, 4.5], np.float32), "none": np.zeros(3, np.float32)}
    expected = 0.5 / np.hypot(3, 4.5)
    assert shipping._largest_difference(one, two) == pytest.approx(expected)
    assert shipping._largest_difference(one, one) == 0
    assert shipping._largest_difference(one, {"w": one["w"]}) == np.inf


# ---------------------------------------------------------------- interruptions


def test_a_build_stopped_inside_every_part_ends_like_one_that_was_not(
    quick_demo, tmp_path, monkeypatch
):
    monkeypatch.setattr(training, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    stopped: list[str] = []

    def stop_once(stage: str, done: int, total: int) -> None:
        if stage not in stopped and done * 2 >= total:
            stopped.append(stage)
            raise KeyboardInterrupt

    for _ in range(60):
        try:
            world = build_world(tmp_path / "work", QUICK, stop_once)
        except KeyboardInterrupt:
            continue
        break
    for stage in ("photographs", "encoder", "classifier biased", "classifier retrained", "masks"):
        assert stage in stopped
    undisturbed = json.loads((quick_demo / "work" / "world.json").read_text())["parts"]
    parts = {name: part["sha256"] for name, part in world.record["parts"].items()}
    assert parts == {name: part["sha256"] for name, part in undisturbed.items()}
    bundles = [folder / shipped.BUNDLE for folder in (tmp_path / "work", quick_demo / "work")]
    assert toys.content(bundles[0]) == toys.content(bundles[1])


def test_a_stopped_build_says_how_to_go_on(tmp_path, capsys, monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("csp_engine.demo.dermoscopy.world.write_photographs", interrupted)
    code, _, err = run(capsys, "demo", "build", "--work", tmp_path / "w", "--out", tmp_path / "o")
    assert code == 1
    assert "continues where it stopped" in err
    assert not list(tmp_path.glob("*o"))


def test_a_place_that_cannot_be_shipped_to_is_refused_before_the_work(tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("years of work")
    for out in ("full", "full/thesis.tex", "full/thesis.tex/below"):
        code, _, err = run(
            capsys, "demo", "build", "--work", tmp_path / "work", "--out", tmp_path / out
        )
        assert code == 2
        assert str(tmp_path / "full") in err
    assert not (tmp_path / "work").exists()


def test_a_checkpoint_of_other_settings_is_not_continued(tmp_path):
    World(tmp_path, QUICK).checkpoint("encoder").write_bytes(b"state")
    assert World(tmp_path, QUICK).checkpoint("encoder").exists()
    assert not World(tmp_path, replace(QUICK, seed=1)).checkpoint("encoder").exists()


def test_a_damaged_file_of_the_work_folder_is_one_sentence(tmp_path):
    pictures = training.pictures(tmp_path, "probe", 2, 0, 16, silent)
    (kept,) = tmp_path.rglob("*.npz")
    again = training.pictures(tmp_path, "probe", 2, 0, 16, silent)
    np.testing.assert_array_equal(pictures.image_nhwc, again.image_nhwc)
    kept.write_bytes(kept.read_bytes()[:-100])
    with pytest.raises(InputError, match=f"{kept.name} is damaged; delete it"):
        training.pictures(tmp_path, "probe", 2, 0, 16, silent)
    (tmp_path / "a.checkpoint").write_bytes(b"not a checkpoint")
    with pytest.raises(InputError, match=r"a\.checkpoint is damaged; delete it"):
        training.train(
            nn.Linear(2, 2),
            lambda _: torch.zeros(()),
            2,
            rate=0.1,
            checkpoint=tmp_path / "a.checkpoint",
            stage="a",
            progress=silent,
        )


def test_a_work_folder_that_cannot_be_used_is_one_sentence(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("years of work")
    for folder in ("file", "full"):
        code, _, err = run(capsys, "demo", "build", "--work", tmp_path / folder)
        assert code == 2
        assert "choose another folder" in err
