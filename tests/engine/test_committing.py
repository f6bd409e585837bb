"""Stages that are committed together: what a kill, a failure and a full disk leave behind."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from csp_engine.bundle import Bundle, BundleWriter, verify
from csp_engine.bundle import writer as writing
from csp_engine.errors import InputError
from csp_engine.files import fsync_all


def write(writer, name, value=1.0):
    with writer.stage(name, version=1, params={"v": value}, needs={}, inputs={}) as folder:
        folder.array("x", np.full(3, value, np.float32))


def held(path):
    return sorted(Bundle.open(path).manifest.stages)


@pytest.fixture
def slow(monkeypatch):
    """Every stage takes less than what is committed at once."""
    monkeypatch.setattr(writing, "TOGETHER_S", 3600.0)


def test_stages_made_together_are_there_for_others_at_the_end(tmp_path, slow):
    path = tmp_path / "a.csp"
    with BundleWriter(path) as writer:
        write(writer, "images")
        assert held(path) == ["images"]  # one by one each counts at once
        with writer.together():
            write(writer, "probe")
            write(writer, "embeddings")
            assert sorted(writer.manifest.stages) == ["embeddings", "images", "probe"]
            read = Bundle(path, writer.manifest, "").array("probe", "x")
            np.testing.assert_array_equal(read, np.ones(3, np.float32))
            assert held(path) == ["images"]
        assert held(path) == ["embeddings", "images", "probe"]
        write(writer, "null")
        assert held(path) == ["embeddings", "images", "null", "probe"]


def test_work_of_longer_than_a_moment_is_committed_at_once(tmp_path, monkeypatch):
    with BundleWriter(tmp_path / "a.csp") as writer, writer.together():
        clock = writing.time.monotonic() + writing.TOGETHER_S
        monkeypatch.setattr(writing.time, "monotonic", lambda: clock)
        write(writer, "images")
        assert held(writer.path) == ["images"]
        write(writer, "probe")
        assert held(writer.path) == ["images"]
        clock += writing.TOGETHER_S
        write(writer, "embeddings")
        assert held(writer.path) == ["embeddings", "images", "probe"]


KILLED = """
import os, sys
from pathlib import Path
from csp_engine.bundle import BundleWriter, writer as writing
from tests.engine.test_committing import write
writing.TOGETHER_S = 3600.0
with BundleWriter(Path(sys.argv[1])) as writer:
    write(writer, "images")
    write(writer, "probe")
    with writer.together():
        write(writer, "probe", 2.0)  # takes the place of the one before
        write(writer, "embeddings")
        os._exit(9)
"""


def test_killed_before_the_commit_the_bundle_is_what_it_was(tmp_path):
    path = tmp_path / "a.csp"
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert done.returncode == 9
    assert held(path) == ["images", "probe"]
    now = Bundle.open(path)
    np.testing.assert_array_equal(now.array("probe", "x"), np.ones(3, np.float32))
    assert not [told for told in verify(now) if "hash" in told or "missing" in told]
    with BundleWriter(path) as writer:  # what nothing points to is gone again
        folders = {each.name for each in path.iterdir() if each.is_dir()}
        assert folders == {record.directory for record in writer.manifest.stages.values()}


def fail_after_two(writer):
    with writer.together():
        write(writer, "images")
        write(writer, "probe")
        raise ZeroDivisionError


def test_what_was_made_before_a_failure_stays(tmp_path, slow):
    with BundleWriter(tmp_path / "a.csp") as writer, pytest.raises(ZeroDivisionError):
        fail_after_two(writer)
    assert held(tmp_path / "a.csp") == ["images", "probe"]


def test_what_the_disk_refused_never_counts(tmp_path, slow, monkeypatch):
    """Asked a second time, a disk may claim to have what it lost: nobody asks again."""
    path, refused = tmp_path / "a.csp", []

    def refuse_once(paths):
        if not refused:
            refused.append(True)
            raise OSError(errno.ENOSPC, "no space left")
        fsync_all(paths)

    with BundleWriter(path) as writer:
        write(writer, "images")
        monkeypatch.setattr(writing, "fsync_all", refuse_once)
        with pytest.raises(InputError, match="is full"), writer.together():
            write(writer, "probe")
        assert sorted(writer.manifest.stages) == ["images"]
        write(writer, "embeddings")
    assert held(path) == ["embeddings", "images"]


def test_every_file_and_folder_is_on_the_disk_before_the_manifest(tmp_path, slow, monkeypatch):
    path, on_disk = tmp_path / "a.csp", []
    sync = os.fsync

    def note(descriptor):
        on_disk.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    with BundleWriter(path) as writer, writer.together():
        write(writer, "images")
        write(writer, "probe")
    manifest = on_disk.index(str(path / ".tmp-manifest.json"))
    before = set(on_disk[:manifest])
    for record in Bundle.open(path).manifest.stages.values():
        folder = path / record.directory
        assert {str(folder), *(str(each) for each in folder.iterdir())} <= before
    assert str(path) in before
    assert on_disk[-1] == str(path)  # the manifest's own name
