"""Shards and merges killed at every kind of write: the bundle in the end is the same."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from csp_engine import pipeline
from csp_engine.bundle import Bundle, verify
from csp_engine.pipeline.sharding.measuring import measure_shard
from csp_engine.pipeline.sharding.merging import merge
from csp_engine.pipeline.sharding.shards import Shard
from tests.worlds import toys
from tests.worlds.killing import die_at_write, in_child

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
N_SHARDS = 3


def work_on(folder: Path, out: Path, number: int, dies_at: int = 1 << 40) -> Any:
    """Measure a shard, or merge where its number is 0; how many writes that takes."""
    asked = toys.request(folder, out, batch_size=3)
    n_writes = die_at_write(dies_at)
    if number:
        measure_shard(asked, Shard(number, N_SHARDS))
    else:
        merge(asked)
    return n_writes()


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> tuple[Path, dict[str, Any], list[int]]:
    """A world, the content of its undisturbed bundle, and the writes of a merge and each shard."""
    folder = tmp_path_factory.mktemp("world")
    toys.draw_images(folder / "images")
    whole = folder / "clean.csp"
    assert in_child(lambda: pipeline.build(toys.request(folder, whole, batch_size=3))) == 0
    counts = {}
    for number in (1, 2, 3, 0):

        def count(number: int = number) -> None:
            (folder / f"{number}").write_text(str(work_on(folder, folder / "count.csp", number)))

        assert in_child(count) == 0
        counts[number] = int((folder / f"{number}").read_text())
    return folder, toys.content(whole), [counts[number] for number in range(N_SHARDS + 1)]


def killed_and_finished(clean: Any, out: Path, seed: int, n_kills: int) -> None:
    """Kill whoever is at work, at random; then let everyone finish, in any order."""
    folder, content, n_writes = clean
    rng = random.Random(seed)
    order = rng.sample(range(1, N_SHARDS + 1), N_SHARDS)
    for number in [*order, 0]:
        for _ in range(n_kills):
            # Later than the end now and then, because what is finished is not written again.
            dies_at = rng.randint(1, n_writes[number])
            status = in_child(lambda n=number, at=dies_at: work_on(folder, out, n, at))
            assert status in (0, -signal.SIGKILL)
        assert in_child(lambda n=number: work_on(folder, out, n)) == 0
    assert toys.content(out) == content
    assert verify(Bundle.open(out)) == []
    left = {p.name for p in out.parent.iterdir()}
    assert left == {out.name}
    assert {p.name for p in out.iterdir() if p.name.startswith(".")} <= {".lock"}


@pytest.mark.slow
def test_everyone_is_killed_once(clean, tmp_path):
    killed_and_finished(clean, tmp_path / "a.csp", seed=1, n_kills=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_everyone_is_killed_again_and_again(clean, tmp_path, seed):
    killed_and_finished(clean, tmp_path / "a.csp", seed=seed, n_kills=4)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in /proc")
def test_launchers_whose_processes_are_killed_at_random_moments():
    command = [sys.executable, "-m", "tests.worlds.kills", "--kills", "8", "--each", "4"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 images lost, 0 doubled, the same digests every time" in done.stdout
