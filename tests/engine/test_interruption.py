"""Builds killed at every kind of write: the next one ends with the same bundle as a clean one.

Children are forked before any network runs, so each costs a second, not an import of torch.
"""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from csp_engine import pipeline
from csp_engine.bundle import Bundle, verify
from csp_engine.bundle.verifying.whole import altered
from csp_engine.errors import CspError, InputError
from tests.worlds import toys
from tests.worlds.killing import die_at_write, in_child

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")


def build_killed_at(folder: Path, out: Path, number: int) -> int:
    def work() -> None:
        request = toys.request(folder, out)
        die_at_write(number)
        pipeline.build(request)

    return in_child(work)


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> tuple[Path, dict[str, Any], int]:
    """A world, the content of its undisturbed bundle, and how many writes that took."""
    folder = tmp_path_factory.mktemp("world")
    toys.draw_images(folder / "images")
    assert in_child(lambda: pipeline.build(toys.request(folder, folder / "clean.csp"))) == 0

    def count() -> None:
        request = toys.request(folder, folder / "count.csp")
        n_writes = die_at_write(1 << 40)
        pipeline.build(request)
        (folder / "n_writes").write_text(str(n_writes()))

    assert in_child(count) == 0
    content = toys.content(folder / "clean.csp")
    return folder, content, int((folder / "n_writes").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("share", [i / 24 for i in range(24)])
def test_killed_at_a_write_then_built_again(clean, tmp_path, share):
    folder, content, n_writes = clean
    out = tmp_path / "a.csp"
    number = 1 + int(share * n_writes)
    assert build_killed_at(folder, out, number) == -signal.SIGKILL
    try:
        problems = altered(Bundle.open(out))
    except CspError:
        problems = []  # nothing committed yet, and it says so
    assert problems == []
    assert in_child(lambda: pipeline.build(toys.request(folder, out))) == 0
    assert toys.content(out) == content
    assert verify(Bundle.open(out)) == []
    left = {p.name for p in out.iterdir() if p.name.startswith(".")}
    assert left <= {".lock"}


@pytest.mark.slow
def test_killed_again_and_again(clean, tmp_path):
    folder, content, n_writes = clean
    out = tmp_path / "a.csp"
    step = n_writes // 4  # the largest stage must fit, or no run could ever commit it
    n_kills = 0
    while build_killed_at(folder, out, step) != 0:
        n_kills += 1
        assert n_kills < 20
    assert n_kills >= 2
    assert toys.content(out) == content


@pytest.mark.slow
def test_a_killed_pass_loses_at_most_one_batch(tmp_path):
    toys.draw_images(tmp_path / "images")
    out = tmp_path / "a.csp"
    request = toys.request(tmp_path, out, batch_size=4)

    class StopHereError(Exception):
        pass

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "images" and done == 16:
            raise StopHereError

    with pytest.raises(StopHereError):
        pipeline.build(request, stop)
    seen: list[int] = []
    pipeline.build(request, lambda s, done, t: seen.append(done) if s == "images" else None)
    assert seen[0] == 16
    pipeline.build(toys.request(tmp_path, tmp_path / "b.csp", batch_size=4))
    assert toys.content(out) == toys.content(tmp_path / "b.csp")


@pytest.mark.slow
def test_a_full_disk_is_one_sentence_and_resumes(tmp_path, monkeypatch):
    toys.draw_images(tmp_path / "images")
    out = tmp_path / "a.csp"
    plain = os.fsync
    calls = 0

    def full(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 9:
            raise OSError(28, "No space left on device")
        plain(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"disk that holds .* is full; free some space"):
        pipeline.build(toys.request(tmp_path, out))
    monkeypatch.setattr(os, "fsync", plain)
    pipeline.build(toys.request(tmp_path, out))
    pipeline.build(toys.request(tmp_path, tmp_path / "b.csp"))
    assert toys.content(out) == toys.content(tmp_path / "b.csp")


@pytest.mark.slow
def test_a_really_full_disk(tmp_path):
    """The same on a file system of 200 kB, where writes, not syncs, fail first."""
    toys.draw_images(tmp_path / "images")
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(small)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small file system")
    try:
        with pytest.raises(InputError, match="is full; free some space"):
            pipeline.build(toys.request(tmp_path, small / "a.csp"))
        grow = ["mount", "-o", "remount,size=20m", str(small)]
        subprocess.run(grow, check=True)
        pipeline.build(toys.request(tmp_path, small / "a.csp"))
        pipeline.build(toys.request(tmp_path, tmp_path / "b.csp"))
        assert toys.content(small / "a.csp") == toys.content(tmp_path / "b.csp")
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=False)


def test_unwritable_output(tmp_path):
    toys.draw_images(tmp_path / "images")
    (tmp_path / "file.csp").write_text("I am a file")
    with pytest.raises(InputError, match=r"Cannot write to .*file\.csp"):
        pipeline.build(toys.request(tmp_path, tmp_path / "file.csp"))


@pytest.mark.slow
def test_an_image_that_changes_while_it_is_measured(tmp_path):
    toys.draw_images(tmp_path / "images")
    request = toys.request(tmp_path, tmp_path / "a.csp", batch_size=4)
    late = tmp_path / "images" / "red" / "0024.png"
    late.write_bytes((tmp_path / "images" / "red" / "0000.png").read_bytes())
    with pytest.raises(InputError, match=r"red/0024\.png is another image now than when it"):
        pipeline.build(request)
    pipeline.build(toys.request(tmp_path, tmp_path / "a.csp", batch_size=4))
    pipeline.build(toys.request(tmp_path, tmp_path / "b.csp", batch_size=4))
    assert toys.content(tmp_path / "a.csp") == toys.content(tmp_path / "b.csp")
