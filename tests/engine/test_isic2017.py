"""The ISIC 2017 download becomes a probe table; made-up folders of the official shape."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from csp_engine.cli import main
from csp_engine.errors import InputError
from csp_engine.probe.isic2017 import isic2017_table
from csp_engine.probe.listing import read_probe_set

TRAINING = "ISIC-2017_Training"
PUBLISHED = (
    ";image;dark_corner;hair;gel_border;gel_bubble;ruler;ink;patches;label;label_string\n"
    "0;ISIC_0000001.png;0;1;0;0;1;0;0;0;benign\n"
    "1;ISIC_0000005.png;1;0;0;0;0;0;1;0;benign\n"
    "2;ISIC_0099999.png;1;1;1;1;1;1;1;1;malignant\n"
)
"""A table of artefacts as published: semicolons, a column without a name, images called .png."""


def draw(path: Path, shade: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (shade, 90, 80)).save(path)


@pytest.fixture
def download(tmp_path) -> Path:
    """Six photographs as the official archives unpack, with what else lies among them."""
    folder = tmp_path / "ISIC2017"
    for number, part in enumerate(
        ["Training", "Training", "Training", "Validation", "Test_v2", "Test_v2"]
    ):
        draw(folder / f"ISIC-2017_{part}_Data" / f"ISIC_000000{number}.jpg", 30 * number)
        draw(folder / f"ISIC-2017_{part}_Data" / f"ISIC_000000{number}_superpixels.png", 0)
        draw(folder / f"ISIC-2017_{part}_Part1_GroundTruth/ISIC_000000{number}_segmentation.png", 0)
    draw(folder / "__MACOSX" / "._ISIC_0000000.jpg", 1)
    truth = "image_id,melanoma,seborrheic_keratosis\n"
    (folder / f"{TRAINING}_Part3_GroundTruth.csv").write_text(
        truth + "ISIC_0000000,0.0,0.0\nISIC_0000001,1.0,0.0\nISIC_0000002,0.0,1.0\n"
    )
    (folder / "ISIC-2017_Validation_Part3_GroundTruth.csv").write_text(
        truth + "ISIC_0000003,1.0,0.0\n"
    )
    (folder / "ISIC-2017_Test_v2_Part3_GroundTruth.csv").write_text(
        truth + "ISIC_0000004,0.0,0.0\nISIC_0000005,0.0,0.0\nISIC_0000077,1.0,0.0\n"
    )
    (folder / "ISIC-2017_Training_Data" / "ISIC-2017_Training_Data_metadata.csv").write_text(
        "image_id,age_approximate,sex\n"
        "ISIC_0000000,55,female\nISIC_0000001,unknown,male\nISIC_0000002,30,unknown\n"
    )
    return folder


def refused(match: str, folder: Path, *labels: Path) -> None:
    with pytest.raises(InputError, match=match) as caught:
        isic2017_table(folder, labels)
    assert "\n" not in str(caught.value)


class TestOfficialFiles:
    def test_photographs_with_diagnosis_split_age_and_sex(self, download):
        table = isic2017_table(download)
        assert list(table.index) == [f"ISIC_000000{i}" for i in range(6)]
        assert table["file"].iloc[3] == "ISIC-2017_Validation_Data/ISIC_0000003.jpg"
        assert table["class"].tolist() == [
            "naevus", "melanoma", "seborrhoeic keratosis", "melanoma", "naevus", "naevus"
        ]  # fmt: skip
        assert table["split"].tolist() == ["train"] * 3 + ["validation"] + ["test"] * 2
        assert table["melanoma"].tolist() == ["0", "1", "0", "1", "0", "0"]
        assert table["age"].tolist() == ["55", None, "30", None, None, None]
        assert table["sex"].tolist()[:3] == ["female", "male", None]
        # Nothing is known about these, so they are no columns.
        assert not {"group", "ruler", "patch_mask", "lesion_id"} & set(table.columns)

    def test_the_split_also_comes_from_the_tables_when_photographs_lie_together(self, download):
        for path in download.glob("*_Data/ISIC_*.jpg"):
            path.rename(download / path.name)
        assert isic2017_table(download)["split"].tolist() == [
            "train", "train", "train", "validation", "test", "test"
        ]  # fmt: skip

    def test_one_part_alone_will_do(self, download):
        for number in (0, 1, 2):
            (download / "ISIC-2017_Training_Data" / f"ISIC_000000{number}.jpg").unlink()
        assert isic2017_table(download)["split"].tolist() == ["validation", "test", "test"]

    def test_without_metadata_age_and_sex_are_no_columns(self, download):
        next(download.rglob("*metadata.csv")).unlink()
        assert not {"age", "sex"} & set(isic2017_table(download).columns)


class TestLabels:
    def test_the_published_table_of_artefacts(self, download, tmp_path):
        path = tmp_path / "isic_bias.csv"
        path.write_text(PUBLISHED)
        table = isic2017_table(download, [path])
        assert table["ruler"].tolist() == [None, "1", None, None, None, "0"]
        assert table["patches"].tolist() == [None, "0", None, None, None, "1"]
        assert "label" not in table

    def test_a_table_of_ones_own_stands_in_for_the_official_ones(self, download, tmp_path):
        for path in download.rglob("*.csv"):
            path.unlink()
        path = tmp_path / "labels.csv"
        path.write_text(
            "image,isic2017_split,melanoma,ruler\n"
            "ISIC_0000000,train,0.0,1\nISIC_0000001,train,,\nISIC_0000003,val,1.0,0\n"
        )
        table = isic2017_table(download, [path])
        assert table["class"].tolist() == ["benign", None, None, "melanoma", None, None]
        assert table["split"].tolist()[3] == "validation"

    def test_groups_are_patients_else_lesions(self, download, tmp_path):
        path = tmp_path / "archive.csv"
        path.write_text(
            "isic_id,lesion_id,patient_id\n"
            "ISIC_0000000,L1,P1\nISIC_0000001,L1,\nISIC_0000002,L2,\n"
            "ISIC_0000003,L2,\nISIC_0000004,,P1\nISIC_0000005,,\n"
        )
        assert isic2017_table(download, [path])["group"].tolist() == [
            "patient P1", "patient P1", "lesion L2", "lesion L2", "patient P1", None
        ]  # fmt: skip

    def test_tables_are_joined_and_a_missing_cell_denies_nothing(self, download, tmp_path):
        first, second = tmp_path / "a.csv", tmp_path / "b.csv"
        first.write_text("image,ruler,ink\nISIC_0000000,1,\n")
        second.write_text("image_name,ruler,ink\nISIC_0000000.jpg,,0\n")
        row = isic2017_table(download, [first, second]).iloc[0]
        assert (row["ruler"], row["ink"]) == ("1", "0")


class TestRefusals:
    def test_no_folder(self, tmp_path):
        refused("There is no folder at", tmp_path / "nowhere")

    def test_archives_that_are_still_packed(self, tmp_path):
        (tmp_path / "ISIC-2017_Training_Data.zip").write_bytes(b"PK")
        refused(r"it holds ISIC-2017_Training_Data\.zip\); unpack", tmp_path)

    def test_an_empty_folder(self, tmp_path):
        refused("it holds nothing", tmp_path)

    def test_no_diagnosis(self, download):
        for path in download.glob("*Part3*"):
            path.unlink()
        refused(r"no ISIC-2017_\*_Part3_GroundTruth\.csv", download)

    def test_a_truth_without_its_column(self, download):
        path = download / f"{TRAINING}_Part3_GroundTruth.csv"
        path.write_text("image_id,seborrheic_keratosis\nISIC_0000000,0\n")
        refused("no column 'melanoma'; it has image_id, seborrheic_keratosis", download)

    def test_metadata_without_its_column(self, download):
        next(download.rglob("*metadata.csv")).write_text("image_id,age_approximate\nISIC_0000000,5")
        refused("no column 'sex'", download)

    def test_a_table_without_image_names(self, download):
        path = download / f"{TRAINING}_Part3_GroundTruth.csv"
        path.write_text("number,melanoma\n1,0\n")
        refused("no column of image names such as 'image_id'; it has number", download)

    def test_the_same_photograph_twice(self, download):
        draw(download / "small" / "ISIC_0000004.jpg", 3)
        refused("ISIC_0000004 .* twice", download)

    def test_sources_that_disagree(self, download, tmp_path):
        path = tmp_path / "mine.csv"
        path.write_text("image,melanoma\nISIC_0000001,0\n")
        refused(r"ISIC_0000001 has melanoma 1 by .*Part3.* and 0 by mine\.csv", download, path)

    def test_values_that_mean_nothing(self, download, tmp_path):
        path = tmp_path / "mine.csv"
        path.write_text("image,ruler\nISIC_0000001,yes\n")
        refused("has 'yes' for ruler in mine.csv; write 0, 1 or nothing", download, path)
        path.write_text("image,split\nISIC_0000001,holdout\n")
        refused("split 'holdout'", download, path)

    def test_tables_of_no_use(self, download, tmp_path):
        path = tmp_path / "mine.csv"
        refused("There is no table at", download, path)
        path.write_text("image,vignette\nISIC_0000001,1\n")
        refused("none of the columns that are of use", download, path)
        path.write_text("image,ruler\nISIC_0099999,1\n")
        refused(r"No photograph below .* is listed in 'mine\.csv'", download, path)


class TestCommand:
    def run(self, capsys, *arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main(["isic2017", *map(str, arguments)])
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    def test_the_table_is_a_probe_set_with_concepts(self, download, tmp_path, capsys):
        labels, out = tmp_path / "isic_bias.csv", tmp_path / "isic2017.csv"
        labels.write_text(PUBLISHED)
        code, shown, _ = self.run(capsys, download, "--labels", labels, "--out", out)
        assert code == 0
        assert f"{out}: 6 photographs." in shown
        assert "class: melanoma 2, naevus 3, seborrhoeic keratosis 1" in shown
        assert f"--image-root {download}" in shown
        probe = read_probe_set(out, image_root=download)
        assert len(probe) == 6
        assert {"melanoma", "ruler", "patches"} <= set(probe.concepts)
        assert probe.table["class"].tolist()[1] == "melanoma"
        assert probe.table["split"].tolist()[5] == "test"
        assert probe.table["ruler"].isna().sum() == 4

    def test_a_table_among_the_photographs_needs_no_image_root(self, download, capsys):
        out = download / "isic2017.csv"
        code, shown, _ = self.run(capsys, download, "--out", out)
        assert code == 0
        assert "--image-root" not in shown
        assert len(read_probe_set(out)) == 6

    def test_the_summary_as_json(self, download, tmp_path, capsys):
        out = tmp_path / "t.csv"
        _, shown, _ = self.run(capsys, download, "--out", out, "--json")
        summary = json.loads(shown)
        assert summary["photographs"] == 6
        assert summary["columns"]["melanoma"] == {"0": 4, "1": 2, "unknown": 0}

    def test_refusals_write_nothing(self, download, tmp_path, capsys):
        out = tmp_path / "t.csv"
        code, _, message = self.run(capsys, tmp_path / "nowhere", "--out", out)
        assert code == 2
        assert message.startswith("csp: There is no folder at")
        assert not out.exists()
        for bad, match in (("t.txt", "does not end in .csv"), ("no/t.csv", "no folder")):
            code, _, message = self.run(capsys, download, "--out", tmp_path / bad)
            assert code == 2
            assert match in message
        labels = tmp_path / "mine.csv"
        labels.write_text(PUBLISHED)
        code, _, message = self.run(capsys, download, "--labels", labels, "--out", labels)
        assert code == 2
        assert "one of the tables to read" in message
        assert labels.read_text() == PUBLISHED


@pytest.mark.slow
def test_the_real_photographs(shared_data, tmp_path):
    folder = shared_data / "images" / "isic2017"
    if not folder.is_dir():
        pytest.skip(f"no ISIC 2017 photographs at {folder} (set CSP_SHARED_DATA)")
    given = pd.read_csv(folder / "labels.csv")
    table = isic2017_table(folder, [folder / "labels.csv"])
    assert len(table) == len(list(folder.glob("*.jpg"))) == len(given)
    given = given.set_index("image").loc[table.index]
    for name in ("melanoma", "dark_corner", "hair", "ruler", "patches"):
        assert (table[name].astype(float).fillna(-1) == given[name].fillna(-1)).all()
    assert (table["class"].isna() == given["melanoma"].isna()).all()
    out = tmp_path / "isic2017.csv"
    table.to_csv(out, index=False)
    probe = read_probe_set(out, image_root=folder)
    assert {"melanoma", "ruler", "patches"} <= set(probe.concepts)
    assert probe.masks == ("patch_mask",)
