"""Images where people have them: inside of Parquet, Arrow and tar files, in lists, at addresses.

Each source is written by the library that people write it with, or by hand after its format; what
must come out is the folder that it was made from.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from csp_engine import pipeline
from csp_engine.bundle import verify
from csp_engine.errors import InputError, UnreadableImageError
from csp_engine.jobs.order import look_at_images
from csp_engine.probe.decoding import decode
from csp_engine.probe.listing import ProbeSet, read_probe_set
from tests.worlds import toys


def drawn(number: int, kind: str = "PNG") -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


TEN = [drawn(i) for i in range(10)]


def holds(probe: ProbeSet, contents: list[bytes] = TEN) -> None:
    """The images are those, in that order, by hash and by bytes, from several threads at once."""
    assert probe.table["sha256"].tolist() == [hashlib.sha256(c).hexdigest() for c in contents]
    assert probe.table["file"].is_unique
    read: dict[int, bytes] = {}
    order = np.random.default_rng(0).permutation(len(contents)).tolist()
    threads = [
        threading.Thread(target=lambda part=part: read.update({i: probe.read(i) for i in part}))
        for part in (order[::2], order[1::2])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [read[i] for i in range(len(contents))] == contents
    decode(probe.read(0))


def hugging_face_schema() -> pa.Schema:
    """As ``datasets`` writes it: features in the metadata, images as bytes and path."""
    features = {
        "image": {"_type": "Image"},
        "label": {"names": ["cat", "dog"], "_type": "ClassLabel"},
        "age": {"dtype": "int64", "_type": "Value"},
    }
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return pa.schema(
        [
            ("image", kind),
            ("label", pa.int64()),
            ("age", pa.int64()),
            ("boxes", pa.list_(pa.int64())),
        ],
        metadata={b"huggingface": json.dumps({"info": {"features": features}}).encode()},
    )


def hugging_face_table(numbers, path=lambda i: f"im{i}.png") -> pa.Table:
    rows = [
        {
            "image": {"bytes": TEN[i], "path": path(i)},
            "label": i % 2,
            "age": 20 + i,
            "boxes": [1, 2],
        }
        for i in numbers
    ]
    return pa.Table.from_pylist(rows, schema=hugging_face_schema())


class TestParquet:
    @pytest.mark.parametrize("rows_per_group", [1, 3, 100])
    def test_one_file_of_the_hub(self, tmp_path, rows_per_group):
        path = tmp_path / "all.parquet"
        pq.write_table(hugging_face_table(range(10)), path, row_group_size=rows_per_group)
        probe = read_probe_set(path)
        holds(probe)
        assert probe.table["file"].tolist() == [f"im{i}.png" for i in range(10)]
        assert probe.table["class"].tolist() == ["cat", "dog"] * 5
        assert probe.table["age"].tolist() == list(range(20, 30))
        assert "boxes" not in probe.table
        assert look_at_images(path).n_images == 10

    def test_a_folder_of_shards_of_two_splits(self, tmp_path):
        folder = tmp_path / "data"
        folder.mkdir()
        for name, numbers in (
            ("test-00000-of-00001", range(8, 10)),
            ("train-00000-of-00002-1a2b3c", range(0, 5)),
            ("train-00001-of-00002-4d5e6f", range(5, 8)),
        ):
            pq.write_table(hugging_face_table(numbers, lambda i: None), folder / f"{name}.parquet")
        (tmp_path / "README.md").write_text("a card")
        probe = read_probe_set(tmp_path)
        holds(probe, TEN[8:] + TEN[:8])
        assert probe.table["split"].tolist() == ["test"] * 2 + ["train"] * 8
        assert probe.table["file"][0] == "data/test-00000-of-00001.parquet/000000"
        assert look_at_images(tmp_path).n_classes == 2

    @pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
    def test_plain_bytes_under_any_name(self, tmp_path, kind):
        table = pa.table({"jpg": pa.array(TEN, kind), "dx": ["a", "b"] * 5, "flag": [0, 1] * 5})
        pq.write_table(table, tmp_path / "x.parquet")
        probe = read_probe_set(tmp_path / "x.parquet")
        holds(probe)
        assert probe.table["class"].tolist() == ["a", "b"] * 5
        assert probe.concepts == ("flag",)

    def test_columns_that_hold_no_plain_values_are_named(self, tmp_path, caplog):
        boxes = pa.array([[1, 2]] * 10, pa.list_(pa.int64()))
        masks = pa.array(TEN, pa.binary())
        table = pa.table({"jpg": pa.array(TEN, pa.binary()), "mask": masks, "box": boxes})
        pq.write_table(table, tmp_path / "x.parquet")
        holds(read_probe_set(tmp_path / "x.parquet"))
        assert "images are those of column 'jpg'; left out" in caplog.text
        assert caplog.text.rstrip().endswith(": mask, box")

    def test_a_column_can_be_chosen(self, tmp_path):
        table = pa.table(
            {"mask": pa.array(TEN[::-1], pa.binary()), "photo": pa.array(TEN, pa.binary())}
        )
        pq.write_table(table, tmp_path / "x.parquet")
        holds(read_probe_set(tmp_path / "x.parquet", path_column="photo"))

    def test_cells_without_bytes(self, tmp_path):
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "a.png").write_bytes(TEN[0])
        (tmp_path / "secret.png").write_bytes(TEN[1])
        cells = [
            {"bytes": None, "path": "a.png"}, {"bytes": None, "path": "../secret.png"},
            {"bytes": None, "path": str(tmp_path / "secret.png")}, {"bytes": None, "path": None},
            None, {"bytes": TEN[2], "path": "c.png"},
        ]  # fmt: skip
        kind = hugging_face_schema().field("image").type
        pq.write_table(pa.table({"image": pa.array(cells, kind)}), tmp_path / "in" / "x.parquet")
        probe = read_probe_set(tmp_path / "in" / "x.parquet")
        known = [hashlib.sha256(TEN[i]).hexdigest() for i in (0, 2)]
        assert probe.table["sha256"].tolist() == [known[0], "", "", "", "", known[1]]
        with pytest.raises(UnreadableImageError, match="holds no image"):
            probe.read(1)

    def test_shards_that_do_not_belong_together(self, tmp_path):
        pq.write_table(hugging_face_table(range(3)), tmp_path / "a.parquet")
        pq.write_table(pa.table({"img": pa.array(TEN, pa.binary())}), tmp_path / "b.parquet")
        with pytest.raises(InputError, match=r"'b\.parquet' has other columns than 'a\.parquet'"):
            read_probe_set(tmp_path)

    def test_a_table_of_paths_is_still_one(self, tmp_path):
        (tmp_path / "a.png").write_bytes(TEN[0])
        pd.DataFrame({"file": ["a.png"], "class": ["x"]}).to_parquet(tmp_path / "t.parquet")
        assert read_probe_set(tmp_path / "t.parquet").table["class"].tolist() == ["x"]

    def test_damage_in_the_middle_is_of_one_group(self, tmp_path):
        path = tmp_path / "x.parquet"
        pq.write_table(hugging_face_table(range(10)), path, row_group_size=5, compression="none")
        chunk = pq.ParquetFile(path).metadata.row_group(1).column(0)
        assert chunk.path_in_schema == "image.bytes"
        content = bytearray(path.read_bytes())
        content[chunk.data_page_offset : chunk.data_page_offset + 20] = b"\xff" * 20
        path.write_bytes(content)
        sha256 = read_probe_set(path).table["sha256"].tolist()
        assert sha256 == [*(hashlib.sha256(c).hexdigest() for c in TEN[:5]), *[""] * 5]
        with pytest.raises(UnreadableImageError):
            read_probe_set(path).read(7)


class TestSavedByDatasets:
    def save(self, folder: Path, numbers, n_files: int = 2) -> None:
        folder.mkdir(parents=True)
        files = [f"data-{i:05d}-of-{n_files:05d}.arrow" for i in range(n_files)]
        for name, part in zip(files, np.array_split(list(numbers), n_files), strict=True):
            table = hugging_face_table(part.tolist(), lambda i: None)
            with pa.ipc.new_stream(folder / name, table.schema) as stream:
                stream.write_table(table, max_chunksize=2)
        (folder / "state.json").write_text(
            json.dumps({"_data_files": [{"filename": name} for name in files], "_split": None})
        )
        (folder / "dataset_info.json").write_text("{}")

    def test_one_part(self, tmp_path):
        self.save(tmp_path / "d", range(10))
        probe = read_probe_set(tmp_path / "d")
        holds(probe)
        assert probe.table["class"].tolist() == ["cat", "dog"] * 5
        assert look_at_images(tmp_path / "d").n_images == 10

    def test_several_parts(self, tmp_path):
        self.save(tmp_path / "d" / "train", range(6))
        self.save(tmp_path / "d" / "validation", range(6, 10), 1)
        (tmp_path / "d" / "dataset_dict.json").write_text('{"splits": ["train", "validation"]}')
        probe = read_probe_set(tmp_path / "d")
        holds(probe)
        assert probe.table["split"].tolist() == ["train"] * 6 + ["validation"] * 4

    def test_one_arrow_file_of_either_form(self, tmp_path):
        table = hugging_face_table(range(10))
        for new in (pa.ipc.new_stream, pa.ipc.new_file):
            with new(tmp_path / "x.arrow", table.schema) as writer:
                writer.write_table(table)
            holds(read_probe_set(tmp_path / "x.arrow"))

    def test_a_lost_file_is_named(self, tmp_path):
        self.save(tmp_path / "d", range(10))
        (tmp_path / "d" / "data-00001-of-00002.arrow").unlink()
        with pytest.raises(InputError, match=r"lacks its file 'data-00001-of-00002\.arrow'"):
            read_probe_set(tmp_path / "d")

    def test_a_choice_of_rows_is_not_taken_for_all(self, tmp_path):
        self.save(tmp_path / "d", range(10))
        state = json.loads((tmp_path / "d" / "state.json").read_text())
        state["_indices_data_files"] = [{"filename": "indices.arrow"}]
        (tmp_path / "d" / "state.json").write_text(json.dumps(state))
        with pytest.raises(InputError, match=r"flatten_indices\(\)"):
            read_probe_set(tmp_path / "d")

    def test_names_that_lead_out_are_not_followed(self, tmp_path):
        self.save(tmp_path / "d", range(10))
        (tmp_path / "d" / "state.json").write_text('{"_data_files": [{"filename": "../x.arrow"}]}')
        with pytest.raises(InputError, match="No image was found"):
            read_probe_set(tmp_path / "d")


def write_tar(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


class TestTar:
    def sample(self, i: int) -> dict[str, bytes]:
        return {
            f"{i:06d}.png": TEN[i],
            f"{i:06d}.cls": str(i % 3).encode(),
            f"{i:06d}.json": json.dumps({"age": i, "nested": {"x": 1}}).encode(),
        }

    def test_one_file(self, tmp_path):
        members = {k: v for i in range(10) for k, v in self.sample(i).items()}
        probe = read_probe_set(write_tar(tmp_path / "s.tar", members))
        holds(probe)
        assert probe.table["class"].tolist() == [str(i % 3) for i in range(10)]
        assert probe.table["age"].tolist() == list(range(10))
        assert "nested" not in probe.table

    @pytest.mark.parametrize("pattern", ["s-{000000..000001}.tar", "s-*.tar", "."])
    def test_several_by_pattern_or_folder(self, tmp_path, pattern):
        for part, numbers in enumerate((range(6), range(6, 10))):
            members = {k: v for i in numbers for k, v in self.sample(i).items()}
            write_tar(tmp_path / f"s-{part:06d}.tar", members)
        probe = read_probe_set(tmp_path / pattern)
        holds(probe)
        assert probe.table["file"][9] == "s-000001/000009.png"

    def test_a_range_with_a_hole_is_refused(self, tmp_path):
        write_tar(tmp_path / "s-0.tar", self.sample(0))
        with pytest.raises(InputError, match=r"s-1\.tar' of .* does not exist"):
            read_probe_set(tmp_path / "s-{0..2}.tar")

    def test_folders_inside_are_classes_and_splits(self, tmp_path):
        members = {f"./train/{'cat' if i % 2 else 'dog'}/{i}.png": TEN[i] for i in range(10)}
        probe = read_probe_set(write_tar(tmp_path / "s.tar", members))
        holds(probe)
        assert set(probe.table["class"]) == {"cat", "dog"}
        assert set(probe.table["split"]) == {"train"}

    def test_compressed_ones_are_refused_with_the_remedy(self, tmp_path):
        write_tar(tmp_path / "s.tar", self.sample(0), "w:gz")
        with pytest.raises(InputError, match="compressed, unpack it first"):
            read_probe_set(tmp_path / "s.tar")

    def test_links_and_hidden_members_are_no_images(self, tmp_path):
        path = tmp_path / "s.tar"
        with tarfile.open(path, "w") as archive:
            link = tarfile.TarInfo("a.png")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(link)
            for name in ("._b.png", "c.png"):
                info = tarfile.TarInfo(name)
                info.size = len(TEN[0])
                archive.addfile(info, io.BytesIO(TEN[0]))
        probe = read_probe_set(path)
        assert probe.table["file"].tolist() == ["c.png"]
        (row,) = probe.left_out
        assert (row.ending, row.n_files, row.first) == (".png", 1, "a.png")
        assert row.why == "is a link inside of an archive: pack the files themselves"

    @pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE])
    def test_links_to_members_are_counted_as_links(self, kind, tmp_path):
        path = write_tar(tmp_path / "s.tar", {"a.png": TEN[0], "notes.pdf": b"x", "b.svs": b"x"})
        with tarfile.open(path, "a") as archive:
            link = tarfile.TarInfo("b.png")
            link.type, link.linkname = kind, "a.png"
            archive.addfile(link)
            folder = tarfile.TarInfo("empty")
            folder.type = tarfile.DIRTYPE
            archive.addfile(folder)
            device = tarfile.TarInfo("d.png")
            device.type = tarfile.CHRTYPE
            archive.addfile(device)
        probe = read_probe_set(path)
        assert probe.table["file"].tolist() == ["a.png"]
        found = [(row.ending, row.n_files, row.first, row.why[:14]) for row in probe.left_out]
        assert found == [
            (".png", 1, "b.png", "is a link insi"),
            (".svs", 1, "b.svs", "is not read (w"),
            (".pdf", 1, "notes.pdf", ""),
            (".png", 1, "d.png", ""),
        ]

    def test_names_that_lead_out_stay_inside(self, tmp_path):
        members = {f"{'/etc/' if i % 2 else '../../x/./'}{i}.png": TEN[i] for i in range(10)}
        probe = read_probe_set(write_tar(tmp_path / "s.tar", members))
        holds(probe)
        assert probe.table["file"].tolist()[:2] == ["x/0.png", "etc/1.png"]
        assert set(probe.table["class"]) == {"x", "etc"}
        write_tar(tmp_path / "two.tar", {"a.png": TEN[0], "../a.png": TEN[1]})
        with pytest.raises(InputError, match=r"holds 'a\.png' twice"):
            read_probe_set(tmp_path / "two.tar")

    @pytest.mark.parametrize("record", [b"{", b"[1]", b"3", b"[" * 100_000, b"\xff"])
    def test_records_that_are_none_are_said(self, record, tmp_path, caplog):
        members = {"a.png": TEN[0], "a.json": record, "b.png": TEN[1], "b.json": b'{"age": 4}'}
        probe = read_probe_set(write_tar(tmp_path / "s.tar", members))
        assert probe.table["age"].tolist()[1] == 4
        assert "s.tar: 1 record(s) are no JSON objects" in caplog.text
        assert "(first: a.json)" in caplog.text


class TestLists:
    def images(self, folder: Path) -> list[str]:
        names = [f"{'cat' if i % 2 else 'dog'}/{i}.png" for i in range(10)]
        for name, content in zip(names, TEN, strict=True):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return names

    @pytest.mark.parametrize("is_absolute", [False, True])
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
    def test_a_line_each(self, tmp_path, is_absolute, encoding):
        names = self.images(tmp_path / "images")
        listed = [os.fspath(tmp_path / "images" / n) if is_absolute else n for n in names]
        where = tmp_path if is_absolute else tmp_path / "images"
        path = where / "list.txt"
        path.write_bytes(("# chosen\r\n" + "\r\n".join(listed) + "\r\n\r\n").encode(encoding))
        probe = read_probe_set(path)
        holds(probe)
        assert probe.table["class"].tolist() == ["dog", "cat"] * 5
        assert look_at_images(path).n_images == 10

    def test_a_class_after_each(self, tmp_path):
        names = self.images(tmp_path)
        (tmp_path / "val.lst").write_text("".join(f"{n} {i % 3}\n" for i, n in enumerate(names)))
        probe = read_probe_set(tmp_path / "val.lst")
        holds(probe)
        assert probe.table["class"].tolist() == [str(i % 3) for i in range(10)]

    def test_a_python_list(self, tmp_path):
        names = self.images(tmp_path)
        holds(read_probe_set([tmp_path / name for name in names]))
        with pytest.raises(InputError, match="no paths"):
            read_probe_set([])

    def test_lines_of_json(self, tmp_path):
        names = self.images(tmp_path)
        lines = [json.dumps({"file_name": n, "label": f"c{i % 2}"}) for i, n in enumerate(names)]
        (tmp_path / "all.jsonl").write_text("\n".join(lines))
        probe = read_probe_set(tmp_path / "all.jsonl")
        holds(probe)
        assert probe.table["class"].tolist() == ["c0", "c1"] * 5

    def test_missing_and_foreign_paths_are_refused(self, tmp_path):
        self.images(tmp_path / "images")
        (tmp_path / "images" / "list.txt").write_text("dog/0.png\nlost.png\n")
        with pytest.raises(InputError, match="lost"):
            read_probe_set(tmp_path / "images" / "list.txt")
        (tmp_path / "images" / "list.txt").write_text("../x.png\n")
        with pytest.raises(InputError, match="outside"):
            read_probe_set(tmp_path / "images" / "list.txt")


class TestAddresses:
    @pytest.fixture
    def memory(self):
        import fsspec

        system = fsspec.filesystem("memory")
        yield system
        for path in list(system.store):
            del system.store[path]

    def test_a_folder_of_classes(self, memory):
        for i, content in enumerate(TEN):
            memory.pipe(f"/photos/{'cat' if i < 5 else 'dog'}/{i}.png", content)
        memory.pipe("/photos/readme.txt", b"x")
        memory.pipe("/photos/.hidden/x.png", TEN[0])
        probe = read_probe_set("memory://photos")
        holds(probe)
        assert probe.table["class"].tolist() == ["cat"] * 5 + ["dog"] * 5
        assert probe.name == "photos"

    def test_parquet_and_tar_behind_it(self, memory, tmp_path):
        pq.write_table(hugging_face_table(range(10)), tmp_path / "x.parquet", row_group_size=3)
        memory.pipe("/set/data/train-00000-of-00001.parquet", (tmp_path / "x.parquet").read_bytes())
        probe = read_probe_set("memory://set")
        holds(probe)
        assert set(probe.table["split"]) == {"train"}
        tar = write_tar(tmp_path / "s.tar", {f"{i}.png": TEN[i] for i in range(10)})
        memory.pipe("/s.tar", tar.read_bytes())
        holds(read_probe_set("memory://s.tar"))

    def test_a_local_address_and_one_inside_of_an_archive(self, tmp_path):
        import zipfile

        (tmp_path / "im").mkdir()
        with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
            for i, content in enumerate(TEN):
                (tmp_path / "im" / f"{i}.png").write_bytes(content)
                archive.writestr(f"{i}.png", content)
        holds(read_probe_set(f"file://{tmp_path}/im"))
        holds(read_probe_set(f"zip://::{tmp_path}/z.zip"))

    @pytest.mark.parametrize(
        ("address", "reason"),
        [
            ("memory://nothing/here", "cannot be reached"),
            ("nosuch://bucket/x", "nosuch"),
            ("memory://empty.txt", "No image was found"),
        ],
    )
    def test_what_cannot_be_had_is_one_sentence(self, memory, address, reason):
        memory.pipe("/empty.txt", b"x")
        with pytest.raises(InputError, match=reason) as caught:
            read_probe_set(address)
        assert len(str(caught.value)) < 400

    @pytest.mark.parametrize("room", ["0", "1"])
    def test_a_file_that_goes_away_is_unreadable_unless_it_was_kept(
        self, memory, monkeypatch, room
    ):
        monkeypatch.setenv("CSP_KEEP_GB", room)
        for i, content in enumerate(TEN):
            memory.pipe(f"/photos/{i}.png", content)
        probe = read_probe_set("memory://photos")
        memory.rm("/photos/3.png")
        if room == "1":
            assert probe.read(3) == TEN[3]
            return
        with pytest.raises(UnreadableImageError):
            probe.read(3)


@pytest.mark.slow
def test_a_bundle_of_packed_images_equals_that_of_their_folder(tmp_path):
    toys.draw_images(tmp_path / "images")
    folder = read_probe_set(tmp_path / "images")
    table = pa.table(
        {
            "image": pa.array(
                [{"bytes": folder.read(i), "path": f} for i, f in enumerate(folder.table["file"])],
                hugging_face_schema().field("image").type,
            ),
            "label": folder.table["class"].tolist(),
        }
    )
    pq.write_table(table, tmp_path / "images.parquet", row_group_size=7)
    packed = read_probe_set(tmp_path / "images.parquet")
    pd.testing.assert_frame_equal(packed.table, folder.table)
    plain = pipeline.build(toys.request(tmp_path, tmp_path / "a.csp"))
    other = pipeline.build(toys.request(tmp_path, tmp_path / "b.csp", probe=packed))
    assert verify(other) == []
    keys = [{name: r.key for name, r in b.manifest.stages.items()} for b in (plain, other)]
    assert keys[0] == keys[1]


# --- what only looks like something else ---------------------------------------------------------


def test_a_pattern_of_images_is_a_list_of_them(tmp_path):
    for number, content in enumerate(TEN[:4]):
        place = tmp_path / ("cat" if number % 2 else "dog")
        place.mkdir(exist_ok=True)
        (place / f"{number}.png").write_bytes(content)
    holds(read_probe_set(str(tmp_path / "*" / "*.png")), [TEN[i] for i in (1, 3, 0, 2)])
    assert read_probe_set(str(tmp_path / "*" / "*.png")).table["class"].tolist()[0] == "cat"
    (tmp_path / "cat" / "notes.txt").write_text("x")
    with pytest.raises(InputError, match=r"fits 3 files, such as '1.png'; it must fit images only"):
        read_probe_set(str(tmp_path / "cat" / "*"))


@pytest.mark.parametrize("has_words", [True, False])
def test_masks_of_a_sample_are_no_images_of_their_own(tmp_path, caplog, has_words):
    members = {"x.seg.png": TEN[1], "x.jpg": TEN[0], "y.jpg": TEN[2], "z.1.png": TEN[3]}
    if has_words:
        members |= {f"{stem}.cls": b"1" for stem in "xyz"}
    with tarfile.open(tmp_path / "s.tar", "w") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    files = read_probe_set(tmp_path / "s.tar").table["file"].tolist()
    expected = ["x.jpg", "y.jpg", "z.1.png"]
    assert files == (expected if has_words else ["x.seg.png", *expected])
    assert ("left out (first: x.seg.png)" in caplog.text) == has_words


ADDRESSED = {
    "cat/0.png": TEN[0],
    "cat/1.JPG": TEN[1],
    "dog/2.png": TEN[2],
    "dog/metadata.csv": b"file_name,class,hair\n2,hound,1\n9.png,hound,0\n",
    "metadata.tsv": b"file_name\thair\tnote\ncat/0.png\t1\tnice\ncat/1.jpg\t0\t\n",
    "dog/notes.txt": b"x",
    "readme.txt": b"x",
    "raw/3.cr2": b"x",
    ".hidden/x.png": TEN[3],
}


def test_an_address_reads_as_the_same_folder_does(tmp_path, caplog):
    """Tables beside images, classes, and the files that are left out."""
    fsspec = pytest.importorskip("fsspec")
    for name, content in ADDRESSED.items():
        fsspec.filesystem("memory").pipe(f"/beside/{name}", content)
        file = tmp_path / "beside" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    far, near = (read_probe_set(each) for each in ("memory://beside", tmp_path / "beside"))
    pd.testing.assert_frame_equal(far.table, near.table)
    assert far.table["class"].tolist() == ["cat", "cat", "hound"]
    assert far.table["hair"].tolist() == [1, 0, 1]
    assert (far.concepts, far.masks) == (near.concepts, near.masks) == (("hair",), ())
    assert far.left_out == near.left_out
    assert {row.ending: row.n_files for row in far.left_out} == {".txt": 2, ".cr2": 1}
    assert caplog.text.count("1 of 2 row(s)") == 2
    with pytest.raises(InputError, match="no column 'lesion'"):
        read_probe_set("memory://beside", group_column="lesion")
    for name in ("dog/metadata.csv", "metadata.tsv"):
        fsspec.filesystem("memory").rm(f"/beside/{name}")
    with pytest.raises(InputError, match=r"memory://beside.* has no group column"):
        read_probe_set("memory://beside", group_column="lesion")


def test_files_beside_shards_at_an_address_are_counted(tmp_path):
    fsspec = pytest.importorskip("fsspec")
    tar = write_tar(tmp_path / "s.tar", {f"{i}.png": TEN[i] for i in range(10)})
    fsspec.filesystem("memory").pipe("/shards/s.tar", tar.read_bytes())
    fsspec.filesystem("memory").pipe("/shards/notes.txt", b"x")
    (row,) = read_probe_set("memory://shards").left_out
    assert (row.ending, row.n_files, row.first) == (".txt", 1, "notes.txt")


def test_links_to_nothing_are_counted_by_themselves(tmp_path):
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(TEN[i])
    (tmp_path / "3.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "folder").symlink_to(tmp_path / "gone")
    (tmp_path / "4.png").symlink_to(tmp_path / "4.png")
    (tmp_path / "5.png").symlink_to(tmp_path / "0.png")
    probe = read_probe_set(tmp_path)
    assert probe.table["file"].tolist() == ["0.png", "1.png", "2.png", "5.png"]
    found = {row.ending: (row.n_files, row.first, row.why) for row in probe.left_out}
    why = "links to files that are not there"
    assert found == {".png": (2, "3.png", why), "": (1, "folder", why)}


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (["1", "0"] * 19 + ["1", "maybe"], "1 of its 40 cells are neither 0 nor 1, the first of"),
        (["yes", "no"] * 19 + ["no", "inf"], "'inf' in row 40"),
        (["1", "0"] * 19 + ["", "2"], "1 of its 39 cells"),
        (["1", "0", "yes", "no"] * 10, "it says no and yes in several ways"),
        (["1", "0", "", "nan"] * 10, ""),
        (["1", "2", "3", "4"] * 10, ""),
        (["flat", "raised"] * 20, ""),
    ],
)
def test_a_column_that_is_nearly_one_of_flags_is_told(tmp_path, caplog, cells, said):
    """Else one slip of a pen takes a concept out of every audit without a word."""
    (tmp_path / "im").mkdir()
    for i in range(40):
        Image.new("RGB", (4, 4), (6 * i, 0, 0)).save(tmp_path / "im" / f"{i}.png")
    rows = "".join(f"im/{i}.png,{cell}\n" for i, cell in enumerate(cells))
    (tmp_path / "t.csv").write_text(f"file,ruler\n{rows}")
    probe = read_probe_set(tmp_path / "t.csv")
    assert probe.concepts == (() if said or "1" not in cells or "2" in cells else ("ruler",))
    told = [record.getMessage() for record in caplog.records]
    assert [said in message for message in told] == [True] * bool(said)
