"""Probe sets and bundles at an S3 server of our own."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from csp_engine import pipeline
from csp_engine.errors import InputError, UnreadableImageError
from csp_engine.probe.listing import read_probe_set
from csp_engine.probe.remote.kept import KEPT_GB, kept_bytes
from tests.worlds import toys
from tests.worlds.buckets import BUCKET, Answer, Door, bucket

PHOTOS = f"s3://{BUCKET}/images"


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bucket")
    toys.draw_images(folder / "images")
    return folder


@pytest.fixture(scope="module")
def server(world) -> Iterator[Door]:
    with bucket() as door:
        import fsspec

        fsspec.filesystem("s3").put(str(world / "images"), f"{BUCKET}/images", recursive=True)
        yield door


@pytest.fixture
def door(server) -> Iterator[Door]:
    server.asked.clear()
    yield server
    server.change, server.delay = None, 0.0


def n_reads(door: Door, ending: str = ".png") -> dict[str, int]:
    return {key: n for (method, key), n in door.asked.items()
            if method == "GET" and key.endswith(ending)}  # fmt: skip


def refused(status: int) -> Answer:
    body = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>No</Message></Error>"
    return status, {"Content-Type": "application/xml", "Content-Length": str(len(body))}, body


@pytest.mark.slow
def test_a_build_reads_each_image_once_and_equals_that_of_the_folder(door, world, tmp_path):
    far, near = read_probe_set(PHOTOS), read_probe_set(world / "images")
    pd.testing.assert_frame_equal(far.table, near.table)
    built = [
        pipeline.build(toys.request(world, tmp_path / f"{i}.csp", probe=probe))
        for i, probe in enumerate((far, near))
    ]
    assert set(n_reads(door).values()) == {1}
    assert len(n_reads(door)) == len(near)
    keys = [{name: record.key for name, record in b.manifest.stages.items()} for b in built]
    assert keys[0] == keys[1]


def test_what_is_kept_is_bounded(door, monkeypatch):
    """With room for some images, those are read once and the others each time; with none, all."""
    sizes = {}
    monkeypatch.setenv(KEPT_GB, "0")
    probe = read_probe_set(PHOTOS)
    for _ in range(2):
        for row in range(len(probe)):
            sizes[row] = len(probe.read(row))
    assert set(n_reads(door).values()) == {3}
    door.asked.clear()
    monkeypatch.setenv(KEPT_GB, str(sum(sizes.values()) / 2 / 1e9))
    probe = read_probe_set(PHOTOS)
    first = [probe.read(row) for row in range(len(probe))]
    assert [probe.read(row) for row in range(len(probe))] == first
    counts = list(n_reads(door).values())
    assert set(counts) == {1, 3}
    assert 0.3 < counts.count(1) / len(counts) < 0.7


@pytest.mark.parametrize("said", ["much", "-1", "nan", "1e9"])
def test_a_bound_that_is_none(monkeypatch, said):
    monkeypatch.setenv(KEPT_GB, said)
    with pytest.raises(InputError, match="give a number of gigabytes"):
        kept_bytes()


def test_archives_in_a_bucket(door, world, tmp_path):
    import fsspec

    files = sorted((world / "images").rglob("*.png"))
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for path in files:
            entry = tarfile.TarInfo(path.name)
            entry.size = path.stat().st_size
            tar.addfile(entry, io.BytesIO(path.read_bytes()))
    fsspec.filesystem("s3").put(str(tmp_path / "a.tar"), f"{BUCKET}/tars/a.tar")
    probe = read_probe_set(f"s3://{BUCKET}/tars")
    assert [probe.read(row) for row in range(len(probe))] == [p.read_bytes() for p in files]


def test_marks_of_folders_are_no_images(door):
    """Consoles write an object of no bytes for a folder, also with an ending that images have."""
    import fsspec

    system = fsspec.filesystem("s3")
    for key in ("marked/", "marked/odd.png/", "marked/.DS_Store"):
        system.call_s3("put_object", Bucket=BUCKET, Key=key, Body=b"")
    system.pipe(f"{BUCKET}/marked/odd.png/a.png", b"x")
    assert read_probe_set(f"s3://{BUCKET}/marked").table["file"].tolist() == ["odd.png/a.png"]


SENTENCES = {
    "slow": "Timeout",
    "denied": "PermissionError",
    "failing": "Internal Server Error",
    "no listing": "Error",
}


@pytest.mark.parametrize("fault", SENTENCES)
def test_an_address_that_does_not_answer_is_one_sentence(door, fault):
    if fault == "slow":
        door.delay = 3.0
    answers = {"denied": refused(403), "failing": (500, {"Content-Length": "0"}, b""),
               "no listing": (200, {"Content-Length": "5"}, b"<html")}  # fmt: skip
    if fault in answers:
        door.change = lambda method, path, answer: answers[fault]
    with pytest.raises(InputError, match=f"cannot be reached .*{SENTENCES[fault]}") as caught:
        read_probe_set(PHOTOS)
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


def test_images_that_are_listed_and_not_there_or_denied_are_unreadable(door):
    """A list that is wrong by one costs that one image, and says so."""

    def change(method: str, path: str, answer: Answer) -> Answer:
        if "0001.png" in path:
            return 404, {"Content-Length": "0"}, b""
        return refused(403) if "0002.png" in path else answer

    door.change = change
    probe = read_probe_set(PHOTOS)
    lacking = probe.table[probe.table["sha256"] == ""]
    assert [Path(file).name for file in lacking["file"]] == ["0002.png", "0001.png"]
    for row in lacking.index:
        with pytest.raises(UnreadableImageError):
            probe.read(row)


def test_two_keys_that_differ_in_slashes_alone_are_not_one_image_twice(door):
    import fsspec

    system = fsspec.filesystem("s3")
    for key, body in (("twice/a.png", b"one"), ("twice//a.png", b"other"), ("once//b.png", b"x")):
        system.call_s3("put_object", Bucket=BUCKET, Key=key, Body=body)
    with pytest.raises(InputError, match=r"holds both 'lab/twice/+a\.png' and .* rename one"):
        read_probe_set(f"s3://{BUCKET}/twice")
    assert read_probe_set(f"s3://{BUCKET}/once").table["file"].tolist() == ["b.png"]


def test_a_list_that_repeats_itself_or_leads_elsewhere_adds_nothing(door, monkeypatch):
    from s3fs import S3FileSystem

    whole = read_probe_set(PHOTOS).table["file"].tolist()
    find = S3FileSystem.find

    def wrong(system: S3FileSystem, path: str, **more: object) -> list[str]:
        found = list(find(system, path, **more))
        return [*found, *found[:3], *(each.replace("images/", "images2/") for each in found[:2])]

    monkeypatch.setattr(S3FileSystem, "find", wrong)
    assert read_probe_set(PHOTOS).table["file"].tolist() == whole


@pytest.mark.parametrize("fault", ["cut", "failing"])
def test_a_connection_that_is_lost_stops_the_reading(door, fault):
    """Leaving out what was not answered would make a smaller bundle that looks whole."""

    def change(method: str, path: str, answer: Answer) -> Answer:
        status, headers, body = answer
        if "0005.png" not in path or method != "GET":
            return answer
        return (500, {"Content-Length": "0"}, b"") if fault == "failing" else (
            status, headers, body[: len(body) // 2])  # fmt: skip

    door.change = change
    with pytest.raises(InputError, match=r"stopped answering when '\w+/0005\.png' was read") as at:
        read_probe_set(PHOTOS)
    assert not isinstance(at.value, UnreadableImageError)
    assert len(str(at.value)) < 400


@pytest.mark.slow
def test_a_build_whose_connection_is_lost_goes_on_later(door, world, tmp_path, monkeypatch):
    monkeypatch.setenv(KEPT_GB, "0")
    probe = read_probe_set(PHOTOS)
    door.change = lambda method, path, answer: (
        (500, {"Content-Length": "0"}, b"") if "0020.png" in path else answer
    )
    request = toys.request(world, tmp_path / "a.csp", probe=probe)
    with pytest.raises(InputError, match="stopped answering"):
        pipeline.build(request)
    door.change = None
    whole = pipeline.build(request)
    plain = pipeline.build(toys.request(world, tmp_path / "b.csp"))
    keys = [{n: record.key for n, record in b.manifest.stages.items()} for b in (whole, plain)]
    assert keys[0] == keys[1]
