"""What is read at an address is read once, as long as there is room, and no short answer passes."""

from __future__ import annotations

import io
import random
import tarfile
from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from csp_engine.errors import InputError, UnreadableImageError
from csp_engine.probe.listing import read_probe_set
from csp_engine.probe.remote import kept
from csp_engine.probe.remote.kept import BLOCK, KEPT_GB, Blocks
from tests.worlds import toys

SMALL = 1 << 12


def as_tar(images: list[Path]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for path in images:
            entry = tarfile.TarInfo(path.name)
            entry.size = path.stat().st_size
            tar.addfile(entry, io.BytesIO(path.read_bytes()))
    return file.getvalue()


def as_parquet(images: list[Path]) -> bytes:
    file = io.BytesIO()
    rows = pa.table({"image": [path.read_bytes() for path in images]})
    pq.write_table(rows, file, row_group_size=5, compression="none")
    return file.getvalue()


PACKED: dict[str, Callable[[list[Path]], bytes]] = {"tar": as_tar, "parquet": as_parquet}


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> list[Path]:
    folder = toys.draw_images(tmp_path_factory.mktemp("images"))
    return sorted(folder.rglob("*.png"), key=lambda path: path.name)


@pytest.fixture
def memory(monkeypatch):
    """A file system in memory that counts what is read, in blocks smaller than its files."""
    import fsspec

    system = fsspec.filesystem("memory")
    system.store.clear()
    system.n_read = 0
    cat = type(system).cat_file

    def counted(self, path, start=None, end=None, **more):
        content = cat(self, path, start, end, **more)
        system.n_read += len(content)
        return content

    monkeypatch.setattr(type(system), "cat_file", counted)
    monkeypatch.setattr(kept, "BLOCK", SMALL)
    yield system
    system.store.clear()


@pytest.mark.parametrize("kind", PACKED)
@pytest.mark.parametrize("room", ["whole", "half", "none"])
def test_images_in_large_files_are_read_once(memory, images, monkeypatch, kind, room):
    content = PACKED[kind](images)
    memory.pipe(f"/lab/all/a.{kind}", content)
    assert len(content) > 20 * SMALL
    share = {"whole": 1, "half": 0.5, "none": 0}[room]
    monkeypatch.setenv(KEPT_GB, str(share * (len(content) + SMALL) / 1e9))
    probe = read_probe_set("memory://lab/all")
    for _ in range(2):
        assert [probe.read(row) for row in range(len(probe))] == [p.read_bytes() for p in images]
    if room == "whole":
        assert 0.9 * len(content) < memory.n_read <= len(content)
    elif room == "half":
        assert 1.4 * len(content) < memory.n_read < 3.5 * len(content)
    else:
        assert memory.n_read > 2.5 * len(content)


@pytest.mark.parametrize("seed", range(5))
def test_it_reads_as_a_file_does(memory, monkeypatch, seed):
    rng = random.Random(seed)
    monkeypatch.setenv(KEPT_GB, str(rng.choice([0, 1e-5, 1])))
    content = rng.randbytes(rng.choice([0, 1, SMALL, SMALL + 1, 11 * SMALL - 7]))
    memory.pipe("/lab/a.bin", content)
    ours, plain = Blocks("memory://lab", memory).open("/lab/a.bin"), io.BytesIO(content)
    for _ in range(300):
        where, whence = rng.randint(-50, len(content) + 50), rng.choice([0, 0, 2])
        where = max(0, where) if whence == 0 else -min(abs(where), len(content))
        n = rng.choice([0, 1, 100, SMALL, 3 * SMALL, -1])
        assert ours.seek(where, whence) == plain.seek(where, whence)
        assert ours.read(n) == plain.read(n)
        assert ours.tell() == plain.tell()


@pytest.mark.parametrize("kind", PACKED)
def test_a_connection_that_is_lost_is_no_damaged_image(memory, images, monkeypatch, kind):
    """Leaving out what was not answered would make a smaller bundle that looks whole."""
    memory.pipe(f"/lab/all/a.{kind}", PACKED[kind](images))
    monkeypatch.setenv(KEPT_GB, "0")
    probe = read_probe_set("memory://lab/all")

    def lost(*_: object, **__: object) -> bytes:
        raise ConnectionResetError("Connection reset by peer")

    monkeypatch.setattr(type(memory), "cat_file", lost)
    with pytest.raises(InputError, match=r"stopped answering when '/lab/all/a\.\w+' was") as at:
        [probe.read(row) for row in range(len(probe))]
    assert not isinstance(at.value, UnreadableImageError)
    with pytest.raises(InputError, match="stopped answering"):
        read_probe_set("memory://lab/all")


@pytest.mark.parametrize("error", [PermissionError("The token has expired."), FileNotFoundError()])
def test_rights_that_end_meanwhile_make_no_image_unreadable(memory, images, monkeypatch, error):
    """S3 says of an expired token what it says of one image that may not be read."""
    for path in images:
        memory.pipe(f"/lab/all/{path.name}", path.read_bytes())
    monkeypatch.setenv(KEPT_GB, "0")
    probe = read_probe_set("memory://lab/all")
    cat, refused = type(memory).cat_file, {f"/lab/all/{images[5].name}"}

    def refusing(self, path, start=None, end=None, **more):
        if path in refused:
            raise error
        return cat(self, path, start, end, **more)

    monkeypatch.setattr(type(memory), "cat_file", refusing)
    assert probe.read(0) == images[0].read_bytes()
    with pytest.raises(UnreadableImageError):  # of one that is refused while others are given
        probe.read(5)
    refused |= {f"/lab/all/{path.name}" for path in images}
    with pytest.raises(InputError, match=r"stopped answering when '\d+\.png' was read") as at:
        probe.read(7)
    assert not isinstance(at.value, UnreadableImageError)


@pytest.mark.parametrize("kind", PACKED)
def test_an_answer_that_is_too_short_is_refused(memory, images, monkeypatch, kind):
    memory.pipe(f"/lab/all/a.{kind}", PACKED[kind](images))
    cat = type(memory).cat_file
    monkeypatch.setattr(type(memory), "cat_file", lambda *a, **k: cat(*a, **k)[:-1])
    with pytest.raises(InputError, match=r"gave [\d,]+ bytes of '/lab/all/a\.\w+' instead of"):
        read_probe_set("memory://lab/all")


def test_a_file_that_another_of_its_size_replaces_is_told():
    """By its tag or its time; a part of one and a part of the other would make no image."""
    memory = fsspec.filesystem("memory")
    rng = np.random.default_rng(1)
    first, second = (rng.integers(0, 256, 2 * BLOCK + 7, np.uint8).tobytes() for _ in range(2))
    memory.pipe("/lab/replaced.tar", first)
    opened = Blocks("memory://lab", memory).open("/lab/replaced.tar")
    assert opened.read(10) == first[:10]
    memory.rm("/lab/replaced.tar")
    memory.pipe("/lab/replaced.tar", second)
    opened.seek(BLOCK + 5)
    with pytest.raises(InputError, match=r"replaced.tar' at 'memory://lab' was replaced while"):
        opened.read(10)


@pytest.mark.parametrize(
    ("before", "now", "is_other"),
    [
        ({"ETag": '"a"', "LastModified": "10:00:00.5"}, {"ETag": '"a"', "LastModified": "10"}, 0),
        ({"ETag": '"a"', "LastModified": "10"}, {"ETag": '"b"', "LastModified": "10"}, 1),
        ({"mtime": 1.0, "size": 4}, {"mtime": 2.0, "size": 4}, 1),
        ({"VersionId": None, "name": "x"}, {"VersionId": "7", "name": "y"}, 0),
        ({"generation": "5"}, {"generation": "6"}, 1),
        ({}, {"ETag": "a"}, 0),
    ],
)
def test_what_file_systems_say_of_another_content(before, now, is_other):
    assert kept._is_other(kept._mark(before), kept._mark(now)) == bool(is_other)
