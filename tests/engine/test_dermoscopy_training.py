"""Training and pictures go on where they stopped, and end as if nothing had happened."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from csp_engine.demo.simulator.cases import draw_cases
from csp_engine.demo.simulator.render import GRID, MASKS
from csp_engine.demo.training import pictures, steps
from csp_engine.types import silent

N_STEPS = 12


class StoppedError(Exception):
    """Stands for a power cut."""


def tiny_network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
            nn.Flatten(), nn.Linear(4, 2),
        )  # fmt: skip


def train_tiny(network: nn.Module, checkpoint: Path, progress=silent) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(0)
    image_nhwc = rng.integers(0, 256, (30, 16, 16, 3), np.uint8)
    target_n = torch.from_numpy(rng.integers(0, 2, 30))

    def loss_at(step: int) -> torch.Tensor:
        rows = steps.batch_rows(3, step, len(image_nhwc), 8)
        pixels, _ = steps.varied(image_nhwc[rows], step)
        return nn.functional.cross_entropy(network(pixels), target_n[rows])

    steps.train(
        network, loss_at, N_STEPS,
        rate=1e-2, checkpoint=checkpoint, stage="tiny", progress=progress,
    )  # fmt: skip
    return network.state_dict()


@pytest.fixture
def checkpoints_at_every_step(monkeypatch):
    monkeypatch.setattr(steps, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)


@pytest.mark.usefixtures("checkpoints_at_every_step")
@pytest.mark.parametrize("stops", [(1,), (5,), (4, 9), (N_STEPS,)])
def test_an_interrupted_training_ends_as_an_undisturbed_one(tmp_path, stops):
    undisturbed = train_tiny(tiny_network(), tmp_path / "a.checkpoint")
    checkpoint = tmp_path / "b.checkpoint"
    seen = []
    for stop in stops:

        def progress(stage: str, done: int, n: int, stop: int = stop) -> None:
            seen.append(done)
            if done == stop:
                raise StoppedError

        with pytest.raises(StoppedError):
            train_tiny(tiny_network(), checkpoint, progress)
    resumed = train_tiny(tiny_network(), checkpoint, lambda _s, done, _n: seen.append(done))
    assert resumed.keys() == undisturbed.keys()
    for name, tensor in undisturbed.items():
        assert torch.equal(tensor, resumed[name]), name
    # The step in which it stopped is done again, no other.
    assert len(seen) == N_STEPS + len(stops)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("checkpoints_at_every_step")
def test_a_cut_off_checkpoint_never_bears_the_final_name(tmp_path):
    """State is written beside and renamed: whatever is at the checkpoint's path is whole."""
    checkpoint = tmp_path / "c.checkpoint"

    def progress(stage: str, done: int, n: int) -> None:
        if done == 3:
            raise StoppedError

    with pytest.raises(StoppedError):
        train_tiny(tiny_network(), checkpoint, progress)
    assert int(torch.load(checkpoint, weights_only=True)["step"]) == 2
    (tmp_path / ".tmp-c.checkpoint").write_bytes(checkpoint.read_bytes()[:100])
    train_tiny(tiny_network(), checkpoint)
    assert not checkpoint.exists()


def test_batches_show_every_picture_once_per_round_in_changing_order():
    n, size = 24, 8
    rounds = [
        [steps.batch_rows(0, step, n, size) for step in range(3 * r, 3 * r + 3)] for r in range(2)
    ]
    for batches in rounds:
        assert sorted(np.concatenate(batches).tolist()) == list(range(n))
    assert any(not np.array_equal(a, b) for a, b in zip(rounds[0], rounds[1], strict=True))
    assert np.array_equal(steps.batch_rows(0, 4, n, size), rounds[1][1])


def test_the_eight_ways_of_a_square_are_distinct_and_keep_its_cells():
    square = torch.arange(9.0).view(1, 1, 3, 3)
    ways = [steps.turned(square, way) for way in range(8)]
    assert len({tuple(w.flatten().tolist()) for w in ways}) == 8
    for way in ways:
        assert sorted(way.flatten().tolist()) == list(range(9))


def test_variation_is_decided_by_the_seed():
    image_nhwc = np.random.default_rng(0).integers(0, 256, (3, 20, 20, 3), np.uint8)
    first, way = steps.varied(image_nhwc, 5)
    again, same_way = steps.varied(image_nhwc, 5)
    other, _ = steps.varied(image_nhwc, 6)
    assert way == same_way
    assert first.shape == (3, 3, 20, 20)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_variation_keeps_a_picture_recognisable():
    """Turned back, a varied picture still resembles itself more than any other picture."""
    noise = np.random.default_rng(1).integers(0, 256, (6, 5, 5, 3), np.uint8)
    image_nhwc = noise.repeat(8, 1).repeat(8, 2)
    plain = steps.as_pixels(image_nhwc)
    for seed in range(10):
        pixels, way = steps.varied(image_nhwc, seed)
        flat = pixels.reshape(6, -1).numpy()
        same = steps.turned(plain, way).reshape(6, -1).numpy()
        similar = np.corrcoef(flat, same)[:6, 6:]
        assert similar.argmax(1).tolist() == list(range(6))
        assert similar.diagonal().min() > 0.8


PICTURES = """
import os, signal, sys
from pathlib import Path
from csp_engine.demo.training import pictures

pictures.CHUNK = 3
os.cpu_count = lambda: 1  # no pool: its start is not what is tested

def progress(stage, done, n):
    print(done, flush=True)
    if len(sys.argv) > 2 and done >= int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    pictures.pictures(Path(sys.argv[1]), "words", 8, 4, 32, progress)
"""


@pytest.mark.slow
def test_pictures_go_on_after_a_kill(tmp_path):
    script = tmp_path / "make_pictures.py"
    script.write_text(PICTURES)
    folder = tmp_path / "pictures"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    killed = subprocess.run(
        [sys.executable, str(script), str(folder), "3"],
        env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    (home,) = folder.iterdir()
    kept = {file: file.stat().st_mtime_ns for file in home.glob("0*.npz")}
    assert len(kept) == 1
    # What a kill in mid-write leaves behind: a cut-off file under a temporary name.
    (home / ".tmp-000003.npz").write_bytes(b"PK\x03\x04 cut off")
    resumed = subprocess.run(
        [sys.executable, str(script), str(folder)],
        env=env, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert resumed.stdout.split() == ["6", "8"]
    for file, written in kept.items():
        assert file.stat().st_mtime_ns == written
    assert sorted(p.name for p in home.iterdir()) == ["000000.npz", "000003.npz", "000006.npz"]

    parts = [np.load(file) for file in sorted(home.iterdir())]
    image_nhwc = np.concatenate([part["image"] for part in parts])
    grid_nmyx = np.concatenate([part["grid"] for part in parts])
    assert image_nhwc.shape == (8, 32, 32, 3)
    assert grid_nmyx.shape == (8, len(MASKS), GRID, GRID)
    for i, case in enumerate(draw_cases("words", 8, 4).to_dict("records")):
        image, grid = pictures.picture(case, 32)
        assert np.array_equal(image_nhwc[i], image)
        assert np.array_equal(grid_nmyx[i], grid)


@pytest.mark.slow
def test_pictures_of_other_settings_lie_elsewhere(tmp_path, monkeypatch):
    """A picture is found again only by everything that decides it."""
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    first = pictures.pictures(tmp_path, "clean", 2, 0, 16, silent)
    pictures.pictures(tmp_path, "clean", 2, 1, 16, silent)
    pictures.pictures(tmp_path, "clean", 2, 0, 24, silent)
    pictures.pictures(tmp_path, "probe", 2, 0, 16, silent)
    assert len(list(tmp_path.iterdir())) == 4
    again = pictures.pictures(
        tmp_path, "clean", 2, 0, 16, lambda *_: pytest.fail("rendered a second time")
    )
    assert np.array_equal(first.image_nhwc, again.image_nhwc)
    assert first.cases.equals(again.cases)
