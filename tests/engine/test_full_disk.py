"""A sharded build on a disk that is full again and again, each time a little later."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from csp_engine import pipeline
from csp_engine.bundle import Bundle, parts_folder, parts_in, verify
from csp_engine.errors import InputError
from csp_engine.hashing import sha256_file
from csp_engine.pipeline import BuildRequest
from csp_engine.pipeline.sharding.measuring import measure_shard
from csp_engine.pipeline.sharding.merging import merge
from csp_engine.pipeline.sharding.shards import Shard
from csp_engine.pipeline.sharing import dividing
from csp_engine.pipeline.sharing.helping import merging_alone
from tests.worlds import toys

KILOBYTES = (0, 4, 12, 24, 40, 60, 84, 112, 144, 180, 220, 264, 312, 400, 20_000)
"""Sizes of the disk, beside what lies on it."""


def request(folder: Path, out: Path) -> BuildRequest:
    recipe = replace(toys.SMALL, methods=("csp_plus", "csp"))
    return toys.request(folder, out, recipe=recipe, batch_size=4)


def mount(place: Path, option: str) -> bool:
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", option, "tmpfs", str(place)],
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


def require_whole(out: Path) -> None:
    """What has the name of something finished is finished."""
    for part in parts_in(parts_folder(out)):
        assert part.is_there
        assert all(sha256_file(part.file(s)) == sha for s, (_, sha) in part.streams.items())
    if (out / "manifest.json").exists():
        bundle = Bundle.open(out)
        for name, stage in bundle.manifest.stages.items():
            for file, record in stage.files.items():
                directory, held = bundle.manifest.place(name, file)
                assert sha256_file(out / directory / held) == record.sha256


def sentence_of(step: Callable[[], Any]) -> str:
    """What a step is refused with; empty where it ends well."""
    try:
        step()
    except InputError as error:
        return str(error)
    return ""


@pytest.mark.slow
def test_every_step_says_so_and_goes_on_when_there_is_room(tmp_path, monkeypatch):
    monkeypatch.setattr(dividing, "LEAST_PRODUCTS", 0)
    toys.draw_images(tmp_path / "images")
    small = tmp_path / "small"
    small.mkdir()
    if os.geteuid() != 0 or not mount(small, "size=64k"):
        pytest.skip("only root may mount a small file system")
    out = small / "a.csp"
    asked = request(tmp_path, out)

    def merged() -> Any:
        with merging_alone(out, helps=False):
            return merge(asked, n_processes=2)

    steps: list[Callable[[], Any]] = [
        lambda: measure_shard(asked, Shard(1, 2)),
        lambda: measure_shard(asked, Shard(2, 2)),
        merged,
    ]
    failures = [0, 0, 0]
    try:
        for kilobytes in KILOBYTES:
            used = sum(4096 * -(-p.stat().st_size // 4096) for p in small.rglob("*") if p.is_file())
            assert mount(small, f"remount,size={used // 1024 + kilobytes + 4}k")
            for number, step in enumerate(steps):
                said = sentence_of(step)
                require_whole(out)
                if said:
                    assert "is full; free some space and run the same command again" in said
                    failures[number] += 1
                    break
            else:
                break
        whole = pipeline.build(request(tmp_path, tmp_path / "whole.csp"))
        assert toys.content(out) == toys.content(whole.path)
        assert verify(Bundle.open(out)) == []
        assert not parts_folder(out).exists()
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=False)
    assert all(failures), failures
