"""Tables of pairs: what is read, and what is said of those that cannot be used."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from csp_engine.errors import CspError, InputError
from csp_engine.pasting.listed import ListedPairs
from csp_engine.pasting.pairs import ImagePairs


def _save(path: Path, value: int, size: tuple[int, int] = (40, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, 9, 200)).save(path)


def _table(folder: Path, *rows: dict[str, str], name: str = "pairs.csv") -> Path:
    path = folder / name
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i, name in enumerate(("a", "a_ruler", "a_plain", "b", "b_ruler")):
        _save(tmp_path / f"{name}.png", 10 * i)
    return tmp_path


def _row(**changed: str) -> dict[str, str]:
    return {"artefact": "ruler", "without": "a.png", "with": "a_ruler.png", **changed}


def test_each_image_comes_back_in_its_place(folder: Path) -> None:
    table = _table(
        folder,
        _row(neutral="a_plain.png", group="p1", file="photograph a"),
        _row(**{"without": "b", "with": "b_ruler"}, neutral="", group="", file=""),
    )
    pairs: ImagePairs = ListedPairs(table)
    first = [np.asarray(image)[0, 0, 0] for image in pairs.images(0) if image is not None]
    assert first == [0, 10, 20]
    without, with_it, neutral = pairs.images(1)
    assert np.asarray(without)[0, 0, 0] == 30
    assert np.asarray(with_it)[0, 0, 0] == 40
    assert neutral is None
    assert pairs.table["file"].tolist() == ["photograph a", "b.png"]
    assert pairs.table["group"].tolist() == ["p1", None]
    assert pairs.table["artefact"].tolist() == ["ruler", "ruler"]
    assert "2 pairs" in pairs.name


def test_one_photograph_may_be_in_several_pairs(folder: Path) -> None:
    table = _table(folder, _row(), _row(artefact="plain", **{"with": "a_plain.png"}))
    assert ListedPairs(table).table["file"].tolist() == ["a.png", "a.png"]


def test_spellings_of_columns(folder: Path) -> None:
    (folder / "p.csv").write_text("Artifact;Without;With;Site\nruler;a.png;a_ruler.png;Graz\n")
    assert ListedPairs(folder / "p.csv").table["artefact"].tolist() == ["ruler"]


def test_the_fingerprint_follows_pixels_and_names_of_artefacts_alone(folder: Path) -> None:
    first = ListedPairs(_table(folder, _row(group="x"))).fingerprint
    assert ListedPairs(_table(folder, _row(group="y"), name="other.csv")).fingerprint == first
    assert ListedPairs(_table(folder, _row(artefact="scale"))).fingerprint != first
    swapped = _row(**{"without": "a_ruler.png", "with": "a.png"})
    assert ListedPairs(_table(folder, swapped)).fingerprint != first
    _save(folder / "a_ruler.png", 99)
    assert ListedPairs(_table(folder, _row())).fingerprint != first


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (_row(**{"with": "gone.png"}), "gone.png"),
        (_row(**{"with": "../b.png"}), "outside"),
        (_row(**{"with": ""}), "row 1"),
        (_row(neutral="gone.png"), "gone.png"),
        (_row(artefact=""), "Line 2"),
        (_row(**{"with": "wide.png"}), "41 × 30"),
        (_row(neutral="wide.png"), "41 × 30"),
        (_row(**{"with": "broken.png"}), "broken.png"),
        ({"artefact": "ruler", "without": "a.png"}, "'with'"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_sentence(
    folder: Path, row: dict[str, str], said: str
) -> None:
    _save(folder / "wide.png", 3, (41, 30))
    (folder / "broken.png").write_bytes((folder / "a.png").read_bytes()[:60])
    with pytest.raises(CspError) as caught:
        ListedPairs(_table(folder, row))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_table_of_no_pairs_and_a_root_that_is_none(folder: Path) -> None:
    (folder / "none.csv").write_text("artefact,without,with\n")
    with pytest.raises(InputError, match="lists no pair"):
        ListedPairs(folder / "none.csv")
    with pytest.raises(InputError, match="not a folder"):
        ListedPairs(_table(folder, _row()), folder / "nowhere")


def test_links_out_of_the_folders_that_may_be_read(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    _save(elsewhere / "secret.png", 5)
    (folder / "link.png").symlink_to(elsewhere / "secret.png")
    monkeypatch.setenv("CSP_ALLOW", str(folder))
    ListedPairs(_table(folder, _row()))
    with pytest.raises(InputError, match=r"link\.png"):
        ListedPairs(_table(folder, _row(**{"with": "link.png"})))


@pytest.mark.parametrize("column", ["group", "patient_id", "PatientID", "Lesion ID", "subject-id"])
def test_pairs_of_one_patient_are_one_case_whatever_the_column_is_called(
    folder: Path, column: str
) -> None:
    table = _table(
        folder,
        _row(**{column: "p1"}),
        _row(**{"without": "b", "with": "b_ruler", column: "p1"}),
    )
    assert ListedPairs(table).table["group"].tolist() == ["p1", "p1"]


def test_patients_go_before_lesions_and_a_column_that_may_group_is_told(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [_row(lesion_id=f"l{i}", patient_id="p", Patient=str(i // 2)) for i in range(24)]
    pairs = ListedPairs(_table(folder, *rows))
    assert set(pairs.table["group"]) == {"p"}
    assert not caplog.records
    rows = [_row(group="", PatNr=str(i // 2)) for i in range(24)]
    ListedPairs(_table(folder, *rows))
    assert "'patnr' has 12 values for 24 rows and groups nothing" in caplog.text


def test_artefacts_that_differ_in_their_spelling_alone_are_told(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ListedPairs(_table(folder, _row(), _row(artefact="Ruler")))
    assert "names of the artefact differ in their spelling alone" in caplog.text


def test_pairs_of_one_picture_are_told(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "copy.png").write_bytes((folder / "a.png").read_bytes())
    for same in ({"with": "copy.png"}, {"neutral": "copy.png"}, {"neutral": "a_ruler.png"}):
        with pytest.raises(InputError, match="names one picture twice"):
            ListedPairs(_table(folder, {"neutral": "", **_row(**same)}))
    ListedPairs(_table(folder, _row(), _row(**{"with": "copy.png"})))
    assert "in 1 of 2 pairs two of the images are the same, first in line 3" in caplog.text
