"""Stopped before any write, a bundle is whole as what it was, or said to be unfinished."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from csp_engine import pipeline
from csp_engine.bundle import Bundle, BundleWriter, verify
from csp_engine.errors import BundleError
from tests.worlds import toys


class Stopped(BaseException):
    """As if the process was killed."""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unfinished")
    toys.draw_images(folder / "images")
    return folder, pipeline.build(toys.request(folder, folder / "done.csp"))


@pytest.fixture
def stopped(monkeypatch):
    """Runs something until the stage of a number would be written, or to its last line."""
    stage, describe = BundleWriter.stage, BundleWriter.describe

    def run(work, n):
        n_written = 0

        def count(self, *given, **more):
            nonlocal n_written
            if n_written == n:
                raise Stopped
            n_written += 1
            return stage(self, *given, **more)

        def last(self, **given):
            raise Stopped

        monkeypatch.setattr(BundleWriter, "stage", count)
        monkeypatch.setattr(BundleWriter, "describe", last)
        with pytest.raises(Stopped):
            work()
        monkeypatch.setattr(BundleWriter, "stage", stage)
        monkeypatch.setattr(BundleWriter, "describe", describe)

    return run


def keys(bundle: Bundle) -> dict[str, str]:
    return {name: record.key for name, record in bundle.manifest.stages.items()}


@pytest.mark.slow
@pytest.mark.parametrize("n", [0, 9, 22, 99])
def test_a_first_build(world, stopped, tmp_path, n):
    folder, done = world
    request = toys.request(folder, tmp_path / "a.csp")
    stopped(lambda: pipeline.build(request), n)
    if n == 0:
        with pytest.raises(BundleError):
            Bundle.open(request.out)
    else:
        problems = verify(Bundle.open(request.out))
        assert "again to continue" in problems[0]
    again = pipeline.build(request)
    assert verify(again) == []
    assert keys(again) == keys(done)


@pytest.mark.slow
@pytest.mark.parametrize("n", [0, 12])
@pytest.mark.parametrize("is_relabel", [False, True])
def test_a_change_of_a_finished_bundle(world, stopped, tmp_path, n, is_relabel):
    folder, done = world
    out = tmp_path / "a.csp"
    shutil.copytree(done.path, out)
    recipe = replace(toys.SMALL, n_exemplars=5, n_labels=3)
    request = toys.request(folder, out, recipe=recipe)
    work = (lambda: pipeline.relabel(out, recipe)) if is_relabel else (
        lambda: pipeline.build(request)
    )  # fmt: skip
    stopped(work, n)
    now = Bundle.open(out)
    assert (keys(now) == keys(done)) == (n == 0)
    assert (
        "again to continue" in verify(now)[0]
    )  # also before the first write: what was asked is not there
    work()
    assert verify(Bundle.open(out)) == []
    assert not (out / ".unfinished").exists()


def test_one_left_by_an_engine_that_made_no_mark(world, stopped, tmp_path):
    folder, _ = world
    request = toys.request(folder, tmp_path / "a.csp")
    stopped(lambda: pipeline.build(request), 20)
    (request.out / ".unfinished").unlink()
    assert "not finished" in verify(Bundle.open(request.out))[0]
