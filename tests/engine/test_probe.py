"""Folders and tables of small drawn images become ordered, hashed lists."""

from __future__ import annotations

import hashlib
import json
import math
import re
import unicodedata
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from csp_engine.errors import InputError, UnreadableImageError
from csp_engine.probe.columns import RESERVED
from csp_engine.probe.decoding.formats import ImageFormat, image_endings
from csp_engine.probe.listing import read_probe_set
from csp_engine.reading.groups import group_numbers


def draw(folder: Path, *names: str) -> None:
    """A small image at each path, every one different."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = "PNG" if path.suffix not in (".jpg", ".JPG", ".jpeg") else "JPEG"
        Image.new("RGB", (4, 4), (number, 50, 100)).save(path, kind)


def write_table(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def refused(match: str, source: Path, **options) -> None:
    """The call fails with one short message that matches."""
    with pytest.raises(InputError, match=match) as caught:
        read_probe_set(source, **options)
    assert "\n" not in str(caught.value)


class TestFolder:
    def test_class_tree(self, tmp_path):
        draw(tmp_path, "dog/b.png", "dog/a.jpg", "cat/deep/c.png", "root.png")
        probe = read_probe_set(tmp_path)
        assert probe.table["file"].tolist() == [
            "cat/deep/c.png",
            "dog/a.jpg",
            "dog/b.png",
            "root.png",
        ]
        assert probe.table["class"].tolist() == ["cat", "dog", "dog", None]
        assert list(probe.table.columns) == ["file", "sha256", "class"]
        assert probe.name == tmp_path.name
        assert len(probe) == 4

    def test_flat_folder_has_no_class(self, tmp_path):
        draw(tmp_path, "b.png", "a.png")
        assert list(read_probe_set(tmp_path).table.columns) == ["file", "sha256"]

    def test_hidden_files_and_other_types_do_not_count(self, tmp_path):
        draw(tmp_path, "a.PNG", ".b.png", ".git/c.png", "x/._d.jpg", "e.JPG")
        (tmp_path / "notes.txt").write_text("no image")
        (tmp_path / "folder.png").mkdir()
        assert read_probe_set(tmp_path).table["file"].tolist() == ["a.PNG", "e.JPG"]

    def test_links_are_followed_but_not_in_circles(self, tmp_path):
        draw(tmp_path / "elsewhere", "x.png")
        draw(tmp_path / "root", "a/1.png")
        (tmp_path / "root" / "a" / "up").symlink_to(tmp_path / "root", target_is_directory=True)
        (tmp_path / "root" / "a" / "self").symlink_to(".", target_is_directory=True)
        (tmp_path / "root" / "b").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
        (tmp_path / "root" / "2.png").symlink_to(tmp_path / "elsewhere" / "x.png")
        (tmp_path / "root" / "gone.png").symlink_to(tmp_path / "nowhere.png")
        probe = read_probe_set(tmp_path / "root")
        assert probe.table["file"].tolist() == ["2.png", "a/1.png", "b/x.png"]

    def test_hashes_are_those_of_the_bytes(self, tmp_path):
        draw(tmp_path, "a.png", "b.png")
        (tmp_path / "c.png").write_bytes((tmp_path / "a.png").read_bytes())
        probe = read_probe_set(tmp_path)
        for row, digest in enumerate(probe.table["sha256"]):
            assert hashlib.sha256(probe.read(row)).hexdigest() == digest
        assert probe.table["sha256"][0] == probe.table["sha256"][2] != probe.table["sha256"][1]

    def test_a_file_that_goes_away_is_an_unreadable_image(self, tmp_path):
        draw(tmp_path, "a.png", "b.png")
        probe = read_probe_set(tmp_path)
        (tmp_path / "a.png").unlink()
        with pytest.raises(UnreadableImageError, match="cannot be read"):
            probe.read(0)
        assert probe.read(1)

    def test_limit_keeps_every_class(self, tmp_path):
        draw(tmp_path, *(f"{c}/{i}.png" for c in "abcd" for i in range(5)))
        probe = read_probe_set(tmp_path, limit=4)
        assert probe.table["file"].tolist() == ["a/0.png", "b/0.png", "c/0.png", "d/0.png"]
        assert len(read_probe_set(tmp_path, limit=99)) == 20

    def test_progress_ends_complete(self, tmp_path):
        draw(tmp_path, "a.png", "b.png")
        calls = []
        read_probe_set(tmp_path, progress=lambda *call: calls.append(call))
        assert calls[0] == ("hash images", 0, 2)
        assert calls[-1] == ("hash images", 2, 2)

    def test_missing_folder_names_the_nearest(self, tmp_path):
        (tmp_path / "photos").mkdir()
        refused("photos;", tmp_path / "photo")
        refused("does not exist either", tmp_path / "no" / "photos")

    def test_folder_without_images(self, tmp_path):
        (tmp_path / "a.txt").write_text("x")
        refused(r"No image was found in .*\.jpg", tmp_path)

    def test_a_folder_has_no_columns(self, tmp_path):
        draw(tmp_path, "a.png")
        refused("no class column", tmp_path, class_column="dx")
        refused("no image root", tmp_path, image_root=tmp_path)

    def test_an_image_is_not_a_source(self, tmp_path):
        draw(tmp_path, "a.png")
        refused("neither a folder nor a table", tmp_path / "a.png")

    def test_limit_must_leave_something(self, tmp_path):
        draw(tmp_path, "a.png")
        refused("limit of 0", tmp_path, limit=0)

    def test_a_name_that_is_not_utf8_is_an_unreadable_image(self, tmp_path):
        name = b"caf\xe9.png".decode("utf-8", "surrogateescape")
        folder = b"stra\xdfe".decode("utf-8", "surrogateescape")
        try:
            draw(tmp_path, "a.png", name, f"{folder}/b.png")
        except OSError:
            pytest.skip("this file system takes only UTF-8 names")
        probe = read_probe_set(tmp_path)
        assert probe.table["file"].tolist() == ["a.png", "caf\\xe9.png", "stra\\xdfe/b.png"]
        assert len(probe.read(0)) > 50
        for row in (1, 2):
            with pytest.raises(UnreadableImageError, match="not valid UTF-8; rename it"):
                probe.read(row)
        json.dumps(probe.table.to_dict())  # nothing that a bundle could not hold

    @pytest.mark.parametrize(
        ("files", "classes", "splits"),
        [
            (
                ["train/cat/a.png", "train/dog/b.png", "val/cat/c.png"],
                ["cat", "dog", "cat"],
                ["train", "train", "val"],
            ),
            (["test/a.png", "train/b.png"], None, ["test", "train"]),
            (["Test_Set/cat/a.png", "Train/cat/b.png"], ["cat"] * 2, ["Test_Set", "Train"]),
            (["train2017/x/a.png", "val2017/x/b.png"], ["x"] * 2, ["train2017", "val2017"]),
            (["images/train/cat/a.png", "images/val/cat/b.png"], ["cat"] * 2, ["train", "val"]),
            (["cat/train/a.png", "dog/test/b.png"], ["cat", "dog"], ["train", "test"]),
            (["valid/cat/old/a.png", "valid/b.png"], ["cat", None], ["valid"] * 2),
            (["bus/a.png", "train/b.png"], ["bus", "train"], None),
            (["training day/a.png", "test/b.png"], ["training day", "test"], None),
            (["images/cat/a.png", "images/dog/b.png"], ["cat", "dog"], None),
            (["a/b/cat/old/a.png", "a/b/dog/b.png"], ["cat", "dog"], None),
            (["images/cat/a.png", "images/b.png"], ["images"] * 2, None),
            (["cat/a.png", "cat/b.png"], ["cat"] * 2, None),
            (["cat/old/a.png", "b.png"], ["cat", None], None),
        ],
    )
    def test_folders_called_like_parts_of_a_data_set_are_the_split(
        self, tmp_path, files, classes, splits
    ):
        draw(tmp_path, *files)
        table = read_probe_set(tmp_path).table.set_index("file")
        for column, wanted in (("class", classes), ("split", splits)):
            if wanted is None:
                assert column not in table
            else:
                assert table[column][files].tolist() == wanted

    def test_files_that_are_not_looked_at_are_counted_by_ending(self, tmp_path):
        draw(tmp_path, "a.png", "x/b.png")
        for name in ("notes.txt", "x/c.tif.gz", "d.JXL", "x/e.jxl", "README", ".hidden.txt"):
            (tmp_path / name).write_bytes(b"x")
        found = {row.ending: (row.n_files, row.first) for row in read_probe_set(tmp_path).left_out}
        assert found == {
            ".jxl": (2, "d.JXL"),
            ".txt": (1, "notes.txt"),
            ".gz": (1, "x/c.tif.gz"),
            "": (1, "README"),
        }

    def test_a_folder_of_telephone_pictures_says_what_reads_them(self, tmp_path, monkeypatch):
        monkeypatch.setattr(ImageFormat, "is_readable", property(lambda self: not self.module))
        image_endings.cache_clear()
        (tmp_path / "a.heic").write_bytes(b"x")
        (tmp_path / "b.dcm").write_bytes(b"x")
        refused(r"1 \.heic \(needs pillow-heif: pip install", tmp_path)
        image_endings.cache_clear()


class TestTable:
    def test_roles_concepts_masks_and_the_rest(self, tmp_path):
        draw(tmp_path, "img/1.png", "img/2.png", "img/3.png", "m/1.png")
        source = write_table(
            tmp_path / "set.csv",
            "path,dx,lesion_id,split,hair,Mask_path,age,site,code\n"
            "img/2.png,mel,007,train,1,m/1.png,61.5,back,007\n"
            "img/1.png,None,008,test,,,,,010\n"
            "img/3.png,nv,007,test,0.0,NaN,30,NA,011\n",
        )
        probe = read_probe_set(source)
        table = probe.table
        assert list(table.columns) == [
            "file", "sha256", "class", "split", "group", "hair", "Mask_path", "age", "site", "code"
        ]  # fmt: skip
        assert table["file"].tolist() == ["img/2.png", "img/1.png", "img/3.png"]
        assert table["class"].tolist() == ["mel", "None", "nv"]
        assert table["group"].tolist() == ["007", "008", "007"]
        assert probe.concepts == ("hair",)
        assert table["hair"][0] == 1
        assert math.isnan(table["hair"][1])
        assert table["hair"][2] == 0
        assert probe.masks == ("Mask_path",)
        assert table["Mask_path"].tolist() == ["m/1.png", None, None]
        assert table["age"].iloc[0] == 61.5
        assert table["site"].tolist() == ["back", None, None]
        assert table["code"].tolist() == ["007", "010", "011"]
        assert probe.name == "set"

    def test_csv_and_parquet_agree(self, tmp_path):
        draw(tmp_path, "a.png", "b.png")
        frame = pd.DataFrame(
            {
                "image": ["b", "a"],
                "class": ["x", None],
                "hair": [True, False],
                "ruler": [1.0, float("nan")],
                "age": [30.0, float("nan")],
            }
        )
        frame.to_csv(tmp_path / "t.csv", index=False)
        frame.to_parquet(tmp_path / "t.parquet")
        from_csv = read_probe_set(tmp_path / "t.csv")
        from_parquet = read_probe_set(tmp_path / "t.parquet")
        assert from_csv.concepts == from_parquet.concepts == ("hair", "ruler")
        assert from_csv.table["hair"].tolist() == [1, 0]
        assert from_csv.content_sha256 == from_parquet.content_sha256
        assert from_csv.metadata_sha256 == from_parquet.metadata_sha256

    def test_named_columns_win_over_guesses(self, tmp_path):
        draw(tmp_path, "a.png")
        source = write_table(
            tmp_path / "t.csv", "file,photo,label,kind,fold,who\nx,a,1,dog,3,ann\n"
        )
        probe = read_probe_set(
            source,
            path_column="photo",
            class_column="kind",
            split_column="fold",
            group_column="who",
        )
        row = probe.table.iloc[0]
        assert (row["file"], row["class"], row["split"], row["group"]) == (
            "a.png", "dog", "3", "ann"
        )  # fmt: skip
        assert row["table_file"] == "x"
        assert probe.concepts == ("label",)

    def test_reserved_names_do_not_collide(self, tmp_path):
        draw(tmp_path, "a.png")
        source = write_table(tmp_path / "t.csv", "file,width,sha256\na.png,640,abc\n")
        columns = list(read_probe_set(source).table.columns)
        assert columns == ["file", "sha256", "table_width", "table_sha256"]

    def test_image_root_and_paths_below_it(self, tmp_path):
        draw(tmp_path / "images", "a.png", "sub/b.png", "c.v2.png")
        source = write_table(
            tmp_path / "t.csv", f"path\nsub/../a.png\nsub\\b\n{tmp_path}/images/c.v2.png\n"
        )
        probe = read_probe_set(source, image_root=tmp_path / "images")
        assert probe.table["file"].tolist() == ["a.png", "sub/b.png", "c.v2.png"]

    @pytest.mark.parametrize(
        "path", ["../secret.png", "a/../../secret.png", "/etc/hosts", "C:\\a.png", "..\\secret.png"]
    )
    def test_paths_that_leave_the_root_are_refused(self, tmp_path, path):
        draw(tmp_path, "secret.png", "root/a.png")
        source = write_table(tmp_path / "root" / "t.csv", f"path\na.png\n{path}\n")
        refused("outside the image root .*" + re.escape(path.split("/")[0]), source)

    def test_missing_images_are_counted_and_named(self, tmp_path):
        draw(tmp_path, "a.png")
        source = write_table(tmp_path / "t.csv", "path\na.png\nb.png\nc\nd\ne\n")
        refused(r"4 of 5 images .*\(b\.png, c, d, \.\.\.\).*image root", source)

    def test_names_that_fit_two_files(self, tmp_path):
        draw(tmp_path, "a.png", "a.jpg")
        source = write_table(tmp_path / "t.csv", "path\na\n")
        refused("more than one file", source)

    def test_doubled_rows(self, tmp_path):
        draw(tmp_path, "a.png", "b.png")
        source = write_table(tmp_path / "t.csv", "path\na.png\nb.png\n./a\n")
        refused(r"1 image\(s\) more than once \(a\.png\)", source)

    def test_empty_paths(self, tmp_path):
        draw(tmp_path, "a.png")
        source = write_table(tmp_path / "t.csv", "path,x\na.png,1\n,2\n")
        refused(r"1 row\(s\) \(first: row 2\)", source)

    def test_no_path_column_names_those_that_exist(self, tmp_path):
        source = write_table(tmp_path / "t.csv", "who,what\na.png,1\n")
        refused("it has who, what", source)

    @pytest.mark.parametrize("role", ["path", "class", "split", "group"])
    def test_unknown_columns_name_those_that_exist(self, tmp_path, role):
        draw(tmp_path, "a.png")
        source = write_table(tmp_path / "t.csv", "path,hair\na.png,1\n")
        match = f"no column 'dx' for the {role}; it has path, hair"
        refused(match, source, **{f"{role}_column": "dx"})

    def test_one_column_has_one_role(self, tmp_path):
        draw(tmp_path, "a.png")
        source = write_table(tmp_path / "t.csv", "path,k\na.png,1\n")
        refused("cannot be both", source, class_column="k", group_column="k")

    @pytest.mark.parametrize(
        ("text", "match"),
        [
            ("", "cannot be read"),
            ("path\n", "lists no image"),
            ("path,a\nx.png,1,2,3\ny.png\n", "cannot be read"),
            ("path,a,a\nx.png,1,2\n", "not below|two columns"),
        ],
    )
    def test_tables_that_are_not_tables(self, tmp_path, text, match):
        refused(match, write_table(tmp_path / "t.csv", text))

    def test_a_parquet_file_that_is_none(self, tmp_path):
        refused("cannot be read", write_table(tmp_path / "t.parquet", "PAR1 not really"))

    def test_image_root_must_exist(self, tmp_path):
        source = write_table(tmp_path / "t.csv", "path\na.png\n")
        refused("not a folder", source, image_root=tmp_path / "no")

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
    def test_encodings_and_line_ends(self, tmp_path, encoding):
        draw(tmp_path, "a.png")
        source = write_table(tmp_path / "t.csv", "path,class\r\na.png,café\r\n", encoding)
        assert read_probe_set(source).table["class"].tolist() == ["café"]

    def test_semicolons(self, tmp_path):
        draw(tmp_path, "a.png", "b;c.png")
        source = write_table(tmp_path / "t.csv", ";path;class\n0;a.png;x, y\n")
        assert read_probe_set(source).table["class"].tolist() == ["x, y"]
        source = write_table(tmp_path / "t.csv", "path,class\nb;c.png,x;y\n")
        assert read_probe_set(source).table["class"].tolist() == ["x;y"]

    def test_masks_that_do_not_exist_are_left_out(self, tmp_path, caplog):
        draw(tmp_path, "a.png", "b.png", "masks/a.png")
        source = write_table(
            tmp_path / "t.csv", "path,mask\na.png,a.png.old.png\nb.png,nowhere.png\n"
        )
        probe = read_probe_set(source)
        assert probe.table["mask"].tolist() == ["masks/a.png", None]
        assert "1 mask file(s) of column 'mask' were not found" in caplog.text

    def test_a_column_named_mask_with_flags_is_a_concept(self, tmp_path):
        draw(tmp_path, "a.png", "b.png")
        source = write_table(tmp_path / "t.csv", "path,mask,note\na.png,1,\nb.png,0,\n")
        probe = read_probe_set(source)
        assert (probe.concepts, probe.masks) == (("mask",), ())
        assert probe.table["note"].isna().all()


class TestHashes:
    def test_content_ignores_names_and_metadata_does_not(self, tmp_path):
        draw(tmp_path / "one", "a.png", "b.png")
        (tmp_path / "two").mkdir()
        for old, new in (("a.png", "x.png"), ("b.png", "y.png")):
            (tmp_path / "two" / new).write_bytes((tmp_path / "one" / old).read_bytes())
        one, two = read_probe_set(tmp_path / "one"), read_probe_set(tmp_path / "two")
        assert one.content_sha256 == two.content_sha256
        assert one.metadata_sha256 != two.metadata_sha256

    def test_order_and_every_cell_count(self, tmp_path):
        draw(tmp_path, "a.png", "b.png")
        texts = ["path,age\na,1\nb,2\n", "path,age\nb,2\na,1\n", "path,age\na,1\nb,3\n"]
        probes = [read_probe_set(write_table(tmp_path / "t.csv", text)) for text in texts]
        assert probes[0].content_sha256 != probes[1].content_sha256
        assert probes[0].content_sha256 == probes[2].content_sha256
        assert len({probe.metadata_sha256 for probe in probes}) == 3

    def test_they_survive_parquet(self, tmp_path):
        draw(tmp_path, "x/a.png", "b.png")
        probe = read_probe_set(tmp_path)
        probe.table.to_parquet(tmp_path / "t.parquet")
        stored = type(probe)(probe.root, pd.read_parquet(tmp_path / "t.parquet"), probe.name)
        assert stored.content_sha256 == probe.content_sha256
        assert stored.metadata_sha256 == probe.metadata_sha256


class TestRealPhotographs:
    def test_dermoscopy_table(self, shared_data):
        probe = read_probe_set(shared_data / "images" / "isic2017" / "labels.csv", limit=300)
        whole = read_probe_set(shared_data / "images" / "isic2017" / "labels.csv")
        assert len(whole) == 1418
        assert len(probe) == 300
        assert set(whole.concepts) == {
            "melanoma", "dark_corner", "hair", "gel_border", "gel_bubble", "ruler", "ink",
            "patches", "malignant_isic2018",
        }  # fmt: skip
        assert whole.masks == ("patch_mask",)
        masks = whole.table["patch_mask"].dropna()
        assert len(masks) == 11
        assert all((whole.root / mask).is_file() for mask in masks)
        assert whole.table["hair"].notna().sum() == 1258
        assert whole.table["file"][0] == "ISIC_0000000.jpg"

    def test_texture_tree_and_flat_folder(self, shared_data):
        tree = read_probe_set(shared_data / "images" / "dtd")
        assert tree.table["class"].value_counts().tolist() == [40] * 10
        flat = read_probe_set(shared_data / "images" / "imagenet_sample_1000")
        assert list(flat.table.columns) == ["file", "sha256"]
        assert len(flat) == 1000


class TestTablesOfOtherComputers:
    @pytest.mark.parametrize(
        ("on_disk", "listed"),
        [
            ("NFD", "NFC"), ("NFC", "NFD"), ("NFC", "NFC"), ("NFD", "NFD"),
        ],
    )  # fmt: skip
    def test_unicode_forms_of_files_and_folders(self, tmp_path, on_disk, listed):
        name = "Läsion/é/Köpfe_07.jpg"
        draw(tmp_path, unicodedata.normalize(on_disk, name), "b.png")
        text = f"path,dx\n{unicodedata.normalize(listed, name)},A\nb.png,B\n"
        probe = read_probe_set(write_table(tmp_path / "t.csv", text))
        assert probe.table["file"].tolist() == [unicodedata.normalize(on_disk, name), "b.png"]
        assert all(probe.read(row) for row in range(2))
        bare = write_table(tmp_path / "t.csv", text.replace(".jpg", ""))
        assert read_probe_set(bare).content_sha256 == probe.content_sha256

    def test_a_folders_name_is_one_class_in_every_unicode_form(self, tmp_path):
        for part, form in (("train", "NFC"), ("val", "NFD")):
            draw(tmp_path, f"{part}/{unicodedata.normalize(form, 'Käfer')}/{part}.png")
        table = read_probe_set(tmp_path).table
        assert table["class"].tolist() == [unicodedata.normalize("NFC", "Käfer")] * 2
        assert table["split"].tolist() == ["train", "val"]

    @pytest.mark.parametrize("listed", ["a.JPG", "a.Jpg", "a.jpg", "a"])
    def test_suffixes_in_other_letters(self, tmp_path, listed):
        draw(tmp_path, "a.jpg", "A.png", "b.JPG")
        source = write_table(tmp_path / "t.csv", f"path\n{listed}\nb.jpg\n")
        assert read_probe_set(source).table["file"].tolist() == ["a.jpg", "b.JPG"]

    def test_two_files_of_one_name_but_for_its_suffix_are_not_guessed_between(self, tmp_path):
        draw(tmp_path, "a.jpg", "a.JPG")
        assert read_probe_set(write_table(tmp_path / "t.csv", "path\na.JPG\n"))
        refused("more than one file", write_table(tmp_path / "t.csv", "path\na.Jpg\n"))

    @pytest.mark.parametrize("word", ["", "NA", "n/a", "NaN", "null", "None", "unknown", "-", "?"])
    def test_a_missing_group_is_a_group_of_its_own(self, tmp_path, word):
        draw(tmp_path, *(f"{i}.png" for i in range(4)))
        rows = [f"{i}.png,{'p1' if i < 2 else word}" for i in range(4)]
        probe = read_probe_set(write_table(tmp_path / "t.csv", "\n".join(["path,Group", *rows])))
        assert probe.table["group"].tolist() == ["p1", "p1", None, None]
        number = group_numbers(probe.table["group"])
        assert number[0] == number[1]
        assert len(set(number.tolist())) == 3

    def test_words_for_nothing_in_every_kind_of_column(self, tmp_path):
        words = ["", "NA", "n/a", "NaN", "null", "#N/A", "<NA>"]
        names = [f"{i}.png" for i in range(len(words) + 1)]
        draw(tmp_path, *names, "m/0.png")
        rows = ["0.png,mel,train,p,1,m/0.png,5.5,back"]
        rows += [",".join([name, *[word] * 7]) for name, word in zip(names[1:], words, strict=True)]
        header = "path,class,split,group,hair,mask,age,site"
        probe = read_probe_set(write_table(tmp_path / "t.csv", "\n".join([header, *rows]) + "\n"))
        assert probe.concepts == ("hair",)
        assert probe.masks == ("mask",)
        assert probe.table["age"].dtype.kind == "f"
        rest = probe.table.drop(columns=["file", "sha256"])
        assert rest.iloc[0].tolist() == ["mel", "train", "p", 1, "m/0.png", 5.5, "back"]
        assert rest.iloc[1:].isna().all(axis=None)

    def test_none_is_a_class_and_no_number(self, tmp_path):
        draw(tmp_path, "a.png", "b.png", "c.png")
        source = write_table(
            tmp_path / "t.csv",
            "path,class,hair,age\na,none,unknown,-\nb,mel,1,70\nc,nv,0,unknown\n",
        )
        table = read_probe_set(source).table
        assert table["class"].tolist() == ["none", "mel", "nv"]
        assert table["hair"].isna().tolist() == [True, False, False]
        assert table["age"].isna().tolist() == [True, False, True]

    def test_every_name_of_the_bundles_own_is_kept_apart(self, tmp_path):
        draw(tmp_path, "a.png")
        own = [name for name in RESERVED if name not in ("file", "class", "split", "group")]
        header = ",".join(["path", *own, "table_width"])
        source = write_table(tmp_path / "t.csv", f"{header}\na{',7' * (len(own) + 1)}\n")
        probe = read_probe_set(source)
        named = [f"table_{name}" for name in own if name != "width"] + ["table_table_width"]
        assert set(named) < set(probe.table.columns)
        assert probe.table["table_width"].tolist() == [7]
        assert list(probe.table.columns).count("table_width") == 1

    def test_semicolons_come_with_decimal_commas(self, tmp_path):
        draw(tmp_path, "a.png", "b.png")
        source = write_table(tmp_path / "t.csv", "path;size;code\na;0,5;1,2,3\nb;12;x\n")
        table = read_probe_set(source).table
        assert table["size"].tolist() == [0.5, 12]
        assert table["code"].tolist() == ["1,2,3", "x"]

    @pytest.mark.parametrize("asked", ["Patient ID", "patient_id", "PATIENT-ID"])
    def test_a_column_is_asked_for_in_any_spelling(self, tmp_path, asked):
        draw(tmp_path, "a.png")
        source = write_table(tmp_path / "t.csv", "Image ID;Patient ID;DX (coarse)\na.png;7;nv\n")
        row = read_probe_set(source, group_column=asked).table.iloc[0]
        assert (row["file"], row["group"], row["class"]) == ("a.png", "7", "nv")

    @pytest.mark.parametrize(
        ("header", "expected"),
        [
            ("ImageID,PatientID,ClassName", ["0", "0", "1"]),
            ("image id,lesion_id,patient_id", ["p", "p", "q"]),  # patients hold lesions
            ("image_name,Lesion ID,SubjectId", ["p", "p", "q"]),
        ],
    )
    def test_groups_are_found_in_any_spelling_and_patients_before_lesions(
        self, tmp_path, header, expected
    ):
        draw(tmp_path, "a.png", "b.png", "c.png")
        rows = "".join(
            f"{name},{at // 2},{(at // 2 and 'q') or 'p'}\n" for at, name in enumerate("abc")
        )
        probe = read_probe_set(write_table(tmp_path / "t.csv", f"{header}\n{rows}"))
        assert probe.table["group"].tolist() == expected

    def test_a_column_that_may_say_what_belongs_together_is_told(self, tmp_path, caplog):
        names = [f"{at}.png" for at in range(24)]
        draw(tmp_path, *names)

        def told(header, of):
            caplog.clear()
            rows = "".join(f"{name},{of(at)}\n" for at, name in enumerate(names))
            read_probe_set(write_table(tmp_path / "t.csv", f"{header}\n{rows}"))
            return "groups nothing" in caplog.text

        assert told("file,patient", lambda at: at // 2)
        assert told("file,group,Pat.Nr.", lambda at: f"{at},{at // 2}")
        assert not told("file,patient", lambda at: at)  # one image each
        assert not told("file,patient", lambda at: at % 2)  # a kind of patient
        assert not told("file,patient_age", lambda at: at // 2)
        assert not told("file,patient_id,lesion_id", lambda at: f"{at // 4},{at // 2}")


class TestMetadataBesideImages:
    def test_it_is_joined_by_file(self, tmp_path):
        draw(tmp_path, "cat/a.png", "cat/b.png", "dog/c.png", "d.png")
        write_table(tmp_path / "metadata.csv", "file_name,age,hair\ndog/c.png,5,1\ncat/a,7,0\n")
        probe = read_probe_set(tmp_path)
        assert probe.table["file"].tolist() == ["cat/a.png", "cat/b.png", "d.png", "dog/c.png"]
        assert probe.table["class"].tolist() == ["cat", "cat", None, "dog"]
        assert probe.concepts == ("hair",)
        assert probe.table["age"].fillna(-1).tolist() == [7, -1, -1, 5]
        assert probe.table["hair"].fillna(-1).tolist() == [0, -1, -1, 1]

    def test_its_class_wins_and_asked_columns_are_those_of_it(self, tmp_path):
        draw(tmp_path, "train/a.png", "train/b.png", "test/c.png")
        write_table(tmp_path / "train" / "metadata.csv", "file_name,Label,who\na.png,x,1\n")
        write_table(tmp_path / "test" / "metadata.jsonl", '{"file_name": "c.png", "label": "y"}\n')
        probe = read_probe_set(tmp_path, group_column=None)
        assert probe.table["file"].tolist() == ["test/c.png", "train/a.png", "train/b.png"]
        assert probe.table["class"].tolist() == ["y", "x", None]
        assert probe.table["split"].tolist() == ["test", "train", "train"]
        assert probe.left_out == ()

    def test_csv_and_parquet_say_the_same(self, tmp_path):
        frame = pd.DataFrame({"image": ["a", "b"], "age": [1.5, None], "hair": [True, None]})
        for ending in ("csv", "parquet"):
            draw(tmp_path / ending, "a.png", "b.png")
        frame.to_csv(tmp_path / "csv" / "metadata.csv", index=False)
        frame.to_parquet(tmp_path / "parquet" / "Metadata.parquet")
        one, two = (read_probe_set(tmp_path / ending) for ending in ("csv", "parquet"))
        assert one.concepts == two.concepts == ("hair",)
        pd.testing.assert_frame_equal(one.table, two.table)

    @pytest.mark.parametrize(
        ("role", "names", "is_told"),
        [
            ("class", ["nevus", "Nevus"], True),
            ("class", ["nevus", "ne\u200bvus"], True),
            ("class", ["nevus", "blue  nevus", "blue_nevus"], True),
            ("split", ["train", "Train"], True),
            ("group", ["1", "1.0"], True),
            ("group", ["7", "07"], True),
            ("class", ["café", "cafe"], False),
            ("class", ["nevus", "nevi"], False),
            ("group", ["1.5", "15"], False),
            ("note", ["nevus", "Nevus"], False),
        ],
    )
    def test_names_that_look_alike_are_told_of(self, tmp_path, caplog, role, names, is_told):
        rows = [f"{i}.png,{name}" for i, name in enumerate(names)]
        for i in range(len(names)):
            Image.new("RGB", (8, 8), (i, 0, 0)).save(tmp_path / f"{i}.png")
        (tmp_path / "t.csv").write_text("\n".join([f"file,{role}", *rows]) + "\n", "utf-8")
        read_probe_set(tmp_path / "t.csv")
        assert ("differ in their spelling alone" in caplog.text) is is_told
        assert not is_told or all(repr(name) in caplog.text for name in names[-2:])

    def test_rows_of_images_that_are_not_there_are_counted(self, tmp_path, caplog):
        draw(tmp_path, "a.png")
        write_table(tmp_path / "metadata.csv", "image,age\na,5\nb,6\n../x,7\n")
        assert read_probe_set(tmp_path).table["age"].tolist() == [5]
        assert "2 of 3 row(s)" in caplog.text

    def test_an_image_named_twice_is_refused(self, tmp_path):
        draw(tmp_path, "a.png")
        write_table(tmp_path / "metadata.csv", "image,age\na,5\na.png,6\n")
        refused("more than once", tmp_path)

    def test_a_table_of_something_else_is_left_with_a_word(self, tmp_path, caplog):
        draw(tmp_path, "a.png")
        write_table(tmp_path / "metadata.csv", "camera,made\nx,1999\n")
        assert list(read_probe_set(tmp_path).table.columns) == ["file", "sha256"]
        assert "no column with image paths" in caplog.text
        refused("no column 'dx' for the class", tmp_path, class_column="dx")
