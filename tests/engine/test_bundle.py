"""Bundles: stages appear whole or not at all, and damage is named."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from csp_engine.bundle import Bundle, BundleWriter, PassJournal, stage_key, verify
from csp_engine.bundle.manifest import MANIFEST_NAME
from csp_engine.errors import BundleError, InputError


def write(writer, name="images", *, params=None, needs=None, value=1.0):
    identity = {
        "version": 1,
        "params": params or {},
        "needs": needs or {},
        "inputs": {"probe": "00"},
    }
    with writer.stage(name, **identity) as folder:
        folder.array("x", np.full((3, 2), value, np.float32))
        folder.table("rows", pd.DataFrame({"a": [1, 2]}))
        folder.facts["n_images"] = 3
    return stage_key(name, **identity)


def write_half(writer):
    with writer.stage("probe", version=1, params={}, needs={}, inputs={}) as folder:
        folder.array("half", np.zeros(4))
        raise TypeError


def test_stage_round_trip(tmp_path):
    with BundleWriter(tmp_path / "a.csp") as writer:
        key = write(writer)
        assert writer.is_fresh("images", key)
        assert not writer.is_fresh("images", "0" * 64)
        writer.describe(recipe={"preset": "default"}, inputs={})
    bundle = Bundle.open(tmp_path / "a.csp")
    np.testing.assert_array_equal(bundle.array("images", "x"), np.ones((3, 2), np.float32))
    assert list(bundle.table("images", "rows")["a"]) == [1, 2]
    assert bundle.n_images == 3
    (told,) = verify(bundle)  # every file is right, but a stage of images has a table of them
    assert "has no file 'images.parquet'" in told


def test_keys_follow_content_not_order():
    one = stage_key("a:x", 1, {"p": 1, "q": 2}, {"m": "1"}, {})
    assert one == stage_key("a:y", 1, {"q": 2, "p": 1}, {"m": "1"}, {})
    assert one != stage_key("a:x", 2, {"p": 1, "q": 2}, {"m": "1"}, {})
    assert one != stage_key("a:x", 1, {"p": 1, "q": 3}, {"m": "1"}, {})
    assert one != stage_key("a:x", 1, {"p": 1, "q": 2}, {"m": "2"}, {})
    assert one != stage_key("b:x", 1, {"p": 1, "q": 2}, {"m": "1"}, {})


def test_failed_stage_leaves_nothing(tmp_path):
    with BundleWriter(tmp_path / "a.csp") as writer:
        write(writer)
        before = sorted(p.name for p in writer.path.iterdir())
        with pytest.raises(TypeError):
            write_half(writer)
        assert sorted(p.name for p in writer.path.iterdir()) == before
        assert "probe" not in writer.manifest.stages


def test_replacing_a_stage_drops_what_was_made_from_it(tmp_path):
    with BundleWriter(tmp_path / "a.csp") as writer:
        key = write(writer)
        child = write(writer, "neurons:m/l@mean", needs={"images": key})
        write(writer, "scores:m/l@mean/csp", needs={"neurons:m/l@mean": child})
        write(writer, params={"new": 1}, value=2.0)
        assert list(writer.manifest.stages) == ["images"]
        folders = [p for p in writer.path.iterdir() if p.is_dir()]
        assert [p.name for p in folders] == [writer.manifest.stages["images"].directory]


def test_two_writers_refuse_each_other(tmp_path):
    with (
        BundleWriter(tmp_path / "a.csp"),
        pytest.raises(BundleError, match="Another process"),
    ):
        BundleWriter(tmp_path / "a.csp")
    BundleWriter(tmp_path / "a.csp").close()


def test_foreign_folder_is_not_touched(tmp_path):
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "photo.jpg").write_bytes(b"x")
    with pytest.raises(InputError, match="not a bundle and not empty"):
        BundleWriter(tmp_path / "holiday")
    assert (tmp_path / "holiday" / "photo.jpg").read_bytes() == b"x"


def test_unknown_schema_is_refused_with_the_version_that_wrote_it(tmp_path):
    with BundleWriter(tmp_path / "a.csp") as writer:
        write(writer)
    path = tmp_path / "a.csp" / MANIFEST_NAME
    body = json.loads(path.read_text())
    body["schema"], body["engine_version"] = 99, "7.0.0"
    path.write_text(json.dumps(body))
    with pytest.raises(BundleError, match=r"schema 99.*7\.0\.0.*reads schema 1"):
        Bundle.open(tmp_path / "a.csp")


@pytest.mark.parametrize("where", [0.0, 0.3, 0.6, 0.99])
def test_every_altered_manifest_byte_is_noticed(tmp_path, where):
    with BundleWriter(tmp_path / "a.csp") as writer:
        write(writer)
    path = tmp_path / "a.csp" / MANIFEST_NAME
    content = bytearray(path.read_bytes())
    place = int(where * (len(content) - 2))
    while chr(content[place]) in " \n":
        place += 1
    content[place] = ord("7") if content[place] != ord("7") else ord("8")
    path.write_bytes(bytes(content))
    with pytest.raises(BundleError):
        Bundle.open(tmp_path / "a.csp")


@pytest.mark.parametrize("keep", [0, 1, 50, -2])
def test_cut_off_manifest_is_noticed(tmp_path, keep):
    with BundleWriter(tmp_path / "a.csp") as writer:
        write(writer)
    path = tmp_path / "a.csp" / MANIFEST_NAME
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(BundleError, match="damaged"):
        Bundle.open(tmp_path / "a.csp")


def test_verify_names_the_altered_file(tmp_path):
    with BundleWriter(tmp_path / "a.csp") as writer:
        write(writer)
        writer.describe(recipe={"preset": "default"}, inputs={})
    bundle = Bundle.open(tmp_path / "a.csp")
    path = bundle.file("images", "x.npy")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    (problem,) = verify(bundle)
    assert "x.npy" in problem
    assert "altered" in problem


def test_cut_off_file_is_refused_when_read(tmp_path):
    with BundleWriter(tmp_path / "a.csp") as writer:
        write(writer)
    bundle = Bundle.open(tmp_path / "a.csp")
    path = bundle.path / bundle.stage("images").directory / "x.npy"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BundleError, match=r"damaged.*x\.npy has"):
        bundle.array("images", "x")
    path.unlink()
    with pytest.raises(BundleError, match="is missing"):
        bundle.array("images", "x")


def test_pickled_array_is_never_loaded(tmp_path):
    with BundleWriter(tmp_path / "a.csp") as writer:
        write(writer)
    bundle = Bundle.open(tmp_path / "a.csp")
    path = bundle.file("images", "x.npy")
    size = path.stat().st_size
    np.save(path, np.array([{"x": 1}], object), allow_pickle=True)
    with path.open("r+b") as handle:
        handle.truncate(size)
        handle.seek(0, os.SEEK_END)
        handle.write(b"\0" * (size - handle.tell()))
    with pytest.raises(BundleError, match="damaged"):
        bundle.array("images", "x")


def test_missing_stage_names_what_exists(tmp_path):
    with BundleWriter(tmp_path / "a.csp") as writer:
        write(writer)
    with pytest.raises(BundleError, match="no stage 'contrast:m/l@mean'; it has images"):
        Bundle.open(tmp_path / "a.csp").array("contrast:m/l@mean", "pool")


def test_no_bundle_there(tmp_path):
    with pytest.raises(BundleError, match="no bundle"):
        Bundle.open(tmp_path / "none.csp")
    (tmp_path / "empty.csp").mkdir()
    with pytest.raises(BundleError, match="no finished stage"):
        Bundle.open(tmp_path / "empty.csp")


def test_transposed_array_in_small_blocks(tmp_path):
    rng = np.random.default_rng(0)
    values_nu = rng.normal(size=(23, 7)).astype(np.float32)
    source = tmp_path / "rows.part"
    source.write_bytes(values_nu.tobytes())
    with BundleWriter(tmp_path / "a.csp") as writer:
        for block_bytes in (1, 7 * 4 * 5, 1 << 20):
            with writer.stage(
                "probe", version=1, params={"b": block_bytes}, needs={}, inputs={}
            ) as folder:
                folder.transposed_array("t", (7, 23), source, block_bytes)
                folder.raw_array("r", (23, 7), source)
            bundle = Bundle.open(tmp_path / "a.csp")
            np.testing.assert_array_equal(bundle.array("probe", "t"), values_nu.T)
            np.testing.assert_array_equal(bundle.array("probe", "r"), values_nu)


def test_streamed_reads_are_copies_with_the_same_values(tmp_path):
    with BundleWriter(tmp_path / "a.csp") as writer:
        write(writer)
    bundle = Bundle.open(tmp_path / "a.csp")
    plain, streamed = bundle.array("images", "x"), bundle.streamed("images", "x")
    assert streamed.shape == plain.shape
    for key in (1, slice(0, 2), (slice(None), 1), np.array([2, 0])):
        read = streamed[key]
        np.testing.assert_array_equal(read, plain[key])
        assert not np.shares_memory(read, plain)
        assert type(read) is np.ndarray
    np.testing.assert_array_equal(np.stack(list(streamed)), plain)


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="memory is read from /proc")
def test_a_sample_of_a_large_array_leaves_no_pages_of_it_in_memory(tmp_path):
    """Sixteen pages are mapped around each that is read, so a sample of rows maps them all."""
    rows_nd = np.tile(np.eye(64, dtype=np.float32), (1 << 10, 8))[:, :512] / np.sqrt(np.float32(8))
    with BundleWriter(tmp_path / "a.csp") as writer:
        with writer.stage("images", version=1, params={}, needs={}, inputs={}) as folder:
            folder.facts["n_images"] = len(rows_nd)
        with writer.stage("embeddings", version=1, params={}, needs={}, inputs={}) as folder:
            folder.array("image", rows_nd)
    found = Bundle.open(tmp_path / "a.csp").image_vectors()
    assert isinstance(found, np.memmap)
    assert found.nbytes > 100_000_000
    resident = resident_kb(tmp_path)
    assert resident < 200
    np.testing.assert_array_equal(found[::9], rows_nd[::9])
    assert resident_kb(tmp_path) > 50_000


def resident_kb(folder: Path) -> int:
    """How much of the files of a folder this process has mapped and read."""
    here, total = False, 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, *rest = line.split()
        if "-" in name and not name.endswith(":"):
            here = str(folder) in line
        elif here and name == "Rss:":
            total += int(rest[0])
    return total


# ---------------------------------------------------------------- the pass journal


def journal(folder, header=None):
    return PassJournal(folder, header or {"a": 1}, ["x", "rows"])


def test_journal_continues_after_the_last_whole_batch(tmp_path):
    first = journal(tmp_path / "p")
    first.append({"x": b"1234", "rows": b"r\n"}, n_listed=4, n_rows=3)
    first.append({"x": b"56", "rows": b""}, n_listed=4, n_rows=1)
    first.close()
    with (tmp_path / "p" / "x.part").open("ab") as handle:
        handle.write(b"half a batch")
    with (tmp_path / "p" / "journal.jsonl").open("ab") as handle:
        handle.write(b"0badc0de {half a li")
    again = journal(tmp_path / "p")
    assert (again.n_listed, again.n_rows) == (8, 4)
    again.append({"x": b"78", "rows": b"q\n"}, n_listed=2, n_rows=2)
    again.close()
    assert (tmp_path / "p" / "x.part").read_bytes() == b"12345678"
    assert (tmp_path / "p" / "rows.part").read_bytes() == b"r\nq\n"


def test_journal_does_not_trust_lines_beyond_the_streams(tmp_path):
    first = journal(tmp_path / "p")
    first.append({"x": b"1234", "rows": b""}, n_listed=4, n_rows=4)
    first.append({"x": b"5678", "rows": b""}, n_listed=4, n_rows=4)
    first.close()
    os.truncate(tmp_path / "p" / "x.part", 6)  # a power cut lost the end of a stream
    again = journal(tmp_path / "p")
    assert again.n_listed == 4
    again.close()
    assert (tmp_path / "p" / "x.part").read_bytes() == b"1234"


def test_journal_of_another_pass_is_emptied(tmp_path):
    first = journal(tmp_path / "p")
    first.append({"x": b"1234", "rows": b""}, n_listed=4, n_rows=4)
    first.close()
    other = journal(tmp_path / "p", {"a": 2})
    assert other.n_listed == 0
    other.close()
    assert (tmp_path / "p" / "x.part").read_bytes() == b""
