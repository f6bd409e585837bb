"""What ships of the demo: swapped in whole, opened, damaged, compared with a second training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from csp_engine.bundle import Bundle
from csp_engine.cli import demo as demo_command
from csp_engine.demo.shipping import opening as shipped
from csp_engine.demo.shipping import packing, verifying
from csp_engine.demo.shipping.parts import World
from csp_engine.errors import BundleError, CspError, InputError, MissingModelError
from csp_engine.pipeline import build
from tests.engine.test_cli import run
from tests.worlds import small_demo, toys

QUALITY = {
    "accuracy": [{"model": "biased", "slice": "clean", "accuracy": 0.9}],
    "zero_shot": {"names": {"mean": 0.97}},
}


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    """A finished work folder: a small bundle, and a few bytes for every trained part."""
    folder = tmp_path_factory.mktemp("demo")
    world = World(folder / "work", small_demo.QUICK)
    build(toys.request(folder, world.path("dermoscopy.csp"), notice="Drawn squares."))
    rng = np.random.default_rng(0)
    for part in packing.PARTS:
        path = world.path(part)
        if not part.endswith(".safetensors"):
            path.mkdir()
            (path / "config.json").write_text("{}")
            path = path / "weights.safetensors"
        save_file({"w": rng.normal(size=(3, 4)).astype(np.float32)}, path)
    (world.path("probe") / "images").mkdir(parents=True)
    for i in range(3):
        image = Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8))
        image.save(world.path("probe") / "images" / f"{i:05d}.png")
    world.path("quality.json").write_text(json.dumps(QUALITY))
    world.record["parts"] = {"quality.json": {"seconds": 1.5, "sha256": ""}}
    world._write()
    return world


@pytest.fixture(scope="module")
def once_shipped(world, tmp_path_factory) -> Path:
    return packing.ship(world, tmp_path_factory.mktemp("once") / "demo")


@pytest.fixture
def demo(once_shipped, tmp_path) -> Path:
    """A shipped demo that a test may damage."""
    return Path(shutil.copytree(once_shipped, tmp_path / "demo"))


# ---------------------------------------------------------------- shipping


def test_what_ships_is_whole_and_remembers_no_machine(world, demo):
    record = shipped.read_record(demo)
    assert record["settings"] == world.record["settings"]
    assert record["quality"] == QUALITY
    assert record["seconds"] == {"quality.json": 1.5}
    assert len(record["pixels"]) == 1
    assert {path.split("/")[0] for path in record["files"]} == {
        "dermoscopy.csp",
        "cases.csv.gz",
        *packing.PARTS,
    }
    bundle = Bundle.open(shipped.require_shipped(demo))
    assert {name.partition(":")[0] for name in bundle.omitted} == {"activations"}
    assert bundle.notice == "Drawn squares."
    text = (bundle.path / "manifest.json").read_text() + json.dumps(record)
    assert str(world.folder) not in text
    assert verifying.verify_shipped(demo, is_quick=True).problems == []


def test_shipping_twice_gives_the_same_bytes_and_replaces_the_older(world, demo):
    before = {p.relative_to(demo): p.read_bytes() for p in demo.rglob("*") if p.is_file()}
    (demo / "stray").write_text("of an older version")
    packing.ship(world, demo)
    after = {p.relative_to(demo): p.read_bytes() for p in demo.rglob("*") if p.is_file()}
    assert after == before
    assert [p.name for p in demo.parent.iterdir()] == ["demo"]


def test_what_cannot_be_shipped_leaves_the_older_demo(world, demo, tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="holds no demo"):
        packing.ship(world, tmp_path / "other")
    (tmp_path / "file").write_text("")
    for target in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError):
            packing.ship(world, target)
    monkeypatch.setattr(packing, "MAX_BYTES", 1000)
    with pytest.raises(InputError, match="most it may be"):
        packing.ship(world, demo)
    assert verifying.verify_shipped(demo, is_quick=True).problems == []
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
    packing.ship(world, demo)
    assert verifying.verify_shipped(demo, is_quick=True).problems == []
    assert [p.name for p in demo.parent.iterdir()] == ["demo"]


# ---------------------------------------------------------------- damage


def parts_of(demo: Path) -> list[Path]:
    """Every file beside the bundle, and one of the bundle's own."""
    names = list(shipped.read_record(demo)["files"])
    bundle = Bundle.open(demo / shipped.BUNDLE)
    inside = bundle.path / bundle.stage("images").directory / "thumbs.bin"
    return [*(demo / name for name in names), inside]


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["deleted", "cut off", "altered"])
def test_damage_is_named_file_by_file(demo, damage, capsys):
    for path in parts_of(demo):
        content = path.read_bytes()
        if damage == "deleted":
            path.unlink()
        elif damage == "cut off":
            path.write_bytes(content[: len(content) // 2])
        else:
            path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        report = verifying.verify_shipped(demo, is_quick=True)
        assert any(path.name in problem for problem in report.problems), path
        assert all("csp demo build" in problem for problem in report.problems)
        is_own = path.name == "manifest.json" or shipped.BUNDLE not in path.parts
        if is_own and damage != "altered":
            with pytest.raises(CspError, match=path.name):
                shipped.require_shipped(demo)
        code, _, _ = run(capsys, "demo", "verify", demo, "--quick")
        assert code == 1
        path.write_bytes(content)
    assert verifying.verify_shipped(demo, is_quick=True).problems == []


def test_a_damaged_record_is_one_sentence(demo, capsys, monkeypatch):
    monkeypatch.setattr(demo_command, "SHIPPED", demo)
    path = demo / shipped.RECORD
    content = path.read_bytes()
    for wrong in (content[:-50], content.replace(b'"seed": 0', b'"seed": 1'), b"[]", b"\xff"):
        path.write_bytes(wrong)
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
    (problem,) = verifying.verify_shipped(demo, is_quick=True).problems
    assert "extra.bin is not part of the demo" in problem


# ---------------------------------------------------------------- two trainings


def test_weights_are_compared_in_three_steps(world, demo, tmp_path):
    work = Path(shutil.copytree(world.folder, tmp_path / "work"))
    path = work / "biased.safetensors"
    weights = load_file(path)

    def told(share: float, quality: dict = QUALITY) -> tuple[str, list[str]]:
        if share:
            save_file({name: values * (1 + share) for name, values in weights.items()}, path)
        problems: list[str] = []
        holds = verifying.compare_weights(demo, work, quality, problems)
        assert sum("identical bytes" in line for line in holds) == (4 if share else 5)
        return next((line for line in holds if "biased" in line), ""), problems

    assert told(0) == ("biased.safetensors: identical bytes", [])
    assert "tensors differ by at most" in told(np.float32(5e-4))[0]
    line, problems = told(np.float32(0.5))
    assert "other weights of the same worth" in line
    assert problems == []
    other = json.loads(json.dumps(QUALITY))
    other["accuracy"][0]["accuracy"] -= 0.06
    line, problems = told(np.float32(0.5), other)
    assert line == ""
    assert len(problems) == 1
    assert "another result" in problems[0]
    path.unlink()
    problems = []
    verifying.compare_weights(demo, work, QUALITY, problems)
    assert "biased.safetensors is missing" in problems[0]


def test_only_a_finished_build_of_the_same_settings_can_be_compared(world, demo, tmp_path):
    with pytest.raises(InputError, match="not a work folder"):
        verifying.verify_shipped(demo, against=tmp_path)
    record = world.record
    (tmp_path / "world.json").write_text(json.dumps({**record, "settings": {"seed": 5}}))
    with pytest.raises(InputError, match="other settings"):
        verifying.verify_shipped(demo, against=tmp_path)
    (tmp_path / "world.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match="not finished"):
        verifying.verify_shipped(demo, against=tmp_path)


def test_difference_of_tensors_is_a_share_of_their_length():
    one = {"w": np.array([3.0, 4.0], np.float32), "none": np.zeros(3, np.float32)}
    two = {"w": np.array([3.0, 4.5], np.float32), "none": np.zeros(3, np.float32)}
    expected = 0.5 / np.hypot(3, 4.5)
    assert verifying._largest_difference(one, two) == pytest.approx(expected)
    assert verifying._largest_difference(one, one) == 0
    assert verifying._largest_difference(one, {"w": one["w"]}) == np.inf


# ---------------------------------------------------------------- places


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


def test_a_work_folder_that_cannot_be_used_is_one_sentence(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("years of work")
    for folder in ("file", "full"):
        code, _, err = run(capsys, "demo", "build", "--work", tmp_path / folder)
        assert code == 2
        assert "choose another folder" in err
