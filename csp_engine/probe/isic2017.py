"""ISIC 2017 from a user's own download: photographs and scattered tables become one probe table."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from csp_engine.errors import InputError
from csp_engine.probe.columns import ROLE_COLUMNS
from csp_engine.probe.folders import image_files
from csp_engine.probe.listing import read_table
from csp_engine.reading.tables import cell_text, key_of

ARTEFACTS = ("dark_corner", "hair", "gel_border", "gel_bubble", "ruler", "ink", "patches")
"""What a photograph may show beside the lesion, by the names of the published annotations."""

FLAGS = ("melanoma", "seborrhoeic_keratosis", *ARTEFACTS)
"""Columns that hold 0, 1 or nothing."""

NAMES = {
    "melanoma": ("melanoma",),
    "seborrhoeic_keratosis": ("seborrhoeic_keratosis", "seborrheic_keratosis"),
    "age": ("age", "age_approximate", "age_approx"),
    "sex": ("sex",),
    "split": ("split", "isic2017_split"),
    "lesion_id": ("lesion_id",),
    "patient_id": ("patient_id",),
    **{name: (name,) for name in ARTEFACTS},
    "patch_mask": ("patch_mask",),
}
"""What is taken from tables, and the names it has there."""

SPLITS = {
    "training": "train", "train": "train", "validation": "validation", "val": "validation",
    "test": "test",
}  # fmt: skip
_PHOTOGRAPH = re.compile(r"(ISIC_\d{7})(?:_downsampled)?\.jpe?g", re.IGNORECASE)
_ID = re.compile(r"(ISIC_\d{7})(?:_downsampled)?(?:\.\w+)?", re.IGNORECASE)
_PART_OF_ISIC = re.compile(r"ISIC-2017_(Training|Validation|Test)", re.IGNORECASE)
_TRUTH = re.compile(r"ISIC-2017_.*Part3_GroundTruth\.csv", re.IGNORECASE)
_METADATA = re.compile(r"ISIC-2017_.*metadata\.csv", re.IGNORECASE)
_UNKNOWN = {"na", "n/a", "nan", "null", "unknown"}


def isic2017_table(folder: Path, labels: Sequence[Path] = ()) -> pd.DataFrame:
    """Everything known about the ISIC 2017 photographs below a folder, one row each, by id.

    The official files are found by their names anywhere below the folder: photographs
    ``ISIC_*.jpg``, diagnoses ``ISIC-2017_*_Part3_GroundTruth.csv``, and
    ``ISIC-2017_*_metadata.csv``. ``labels`` adds tables of the user's: a column of image names, and
    any of the columns in ``NAMES``; others are left out.

    Returns:
        ``file`` (below ``folder``); ``class`` (melanoma, naevus, seborrhoeic keratosis; benign
        where only melanoma is excluded); ``split``; ``group`` (patient where known, else lesion);
        then the columns of ``NAMES`` as known. Flags are "0" or "1"; unknown cells are None, and a
        column in which nothing is known is left out.

    Raises:
        InputError: if there is no photograph or no diagnosis, a table lacks its columns or fits no
            photograph, a value cannot be read, or two sources disagree about a photograph.
    """
    if not folder.is_dir():
        raise InputError(
            f"There is no folder at {str(folder)!r}; name the one your ISIC 2017 files are in."
        )
    photographs = _photographs(folder)
    official = _official_tables(folder)
    if not labels and not any(_TRUTH.fullmatch(path.name) for path in official):
        raise InputError(
            f"Below {str(folder)!r} there is no ISIC-2017_*_Part3_GroundTruth.csv, so no diagnosis "
            "is known; put the official files there, or name a table of your own with --labels."
        )
    known = _Known(photographs)
    for identity, file in photographs.items():
        known.add_split(identity, file, "its folder")
    for path in official:
        required = ("melanoma",) if _TRUTH.fullmatch(path.name) else ("age", "sex")
        known.add_table(path, required)
    for path in labels:
        if not path.is_file():
            raise InputError(f"There is no table at {str(path)!r}; check the path.")
        if not known.add_table(path, ()):
            raise InputError(
                f"No photograph below {str(folder)!r} is listed in {path.name!r}; name a table of "
                "ISIC 2017 images, or the folder that holds its photographs."
            )
    return _table(photographs, known.values)


def _photographs(folder: Path) -> dict[str, str]:
    """Relative path of every photograph by its id."""
    found: dict[str, str] = {}
    for file in image_files(folder):
        match = _PHOTOGRAPH.fullmatch(file.rpartition("/")[2])
        if match is None:
            continue
        identity = match[1].upper()
        if identity in found:
            raise InputError(
                f"{identity} is below {str(folder)!r} twice ({found[identity]} and {file}); "
                "keep one copy of each photograph there."
            )
        found[identity] = file
    if not found:
        entries = sorted(entry.name for entry in folder.iterdir())
        held = ", ".join(entries[:4]) + (", ..." if len(entries) > 4 else "")
        raise InputError(
            f"No photograph called ISIC_*.jpg is below {str(folder)!r} (it holds "
            f"{held or 'nothing'}); unpack the archives of the ISIC 2017 challenge there."
        )
    return dict(sorted(found.items()))


def _official_tables(folder: Path) -> list[Path]:
    return [
        path
        for path in sorted(folder.rglob("*.csv"))
        if _TRUTH.fullmatch(path.name) or _METADATA.fullmatch(path.name)
    ]


@dataclass
class _Known:
    """What has been read so far: by column, then photograph, a value and where it came from."""

    photographs: Mapping[str, str]
    values: dict[str, dict[str, tuple[str, str]]] = field(default_factory=dict)

    def add_table(self, path: Path, required: Sequence[str]) -> int:
        """Take a table in; how many of its rows are photographs that are here."""
        table = read_table(path)
        by_key = {key_of(column): column for column in table.columns}
        ids = next((by_key[name] for name in ROLE_COLUMNS["path"] if name in by_key), None)
        if ids is None:
            raise InputError(
                f"Table {path.name!r} has no column of image names such as 'image_id'; "
                f"it has {', '.join(table.columns)}."
            )
        columns = {
            name: next((by_key[alias] for alias in aliases if alias in by_key), None)
            for name, aliases in NAMES.items()
        }
        missing = [name for name in required if columns[name] is None]
        if missing:
            raise InputError(
                f"Table {path.name!r} has no column {NAMES[missing[0]][-1]!r}; "
                f"it has {', '.join(table.columns)}; download it again."
            )
        if not any(columns.values()):
            raise InputError(
                f"Table {path.name!r} has none of the columns that are of use "
                f"({', '.join(NAMES)}); it has {', '.join(table.columns)}."
            )
        matched = 0
        for row in table.to_dict("records"):
            match = _ID.fullmatch((cell_text(row[ids]) or "").replace("\\", "/").rpartition("/")[2])
            if match is None or match[1].upper() not in self.photographs:
                continue
            matched += 1
            identity = match[1].upper()
            self.add_split(identity, path.name, path.name)
            for name, column in columns.items():
                if column is not None:
                    self._add(name, identity, cell_text(row[column]), path.name)
        return matched

    def add_split(self, identity: str, named: str, source: str) -> None:
        """Take the split from an official name."""
        match = _PART_OF_ISIC.search(named)
        if match:
            self._add("split", identity, match[1], source)

    def _add(self, name: str, identity: str, text: str | None, source: str) -> None:
        if text is None or text.lower() in _UNKNOWN:
            return
        value = _read(name, text, identity, source)
        held, before = self.values.setdefault(name, {}).setdefault(identity, (value, source))
        if held != value:
            raise InputError(
                f"{identity} has {name} {held} by {before} and {value} by {source}; "
                "correct one of them."
            )


def _read(name: str, text: str, identity: str, source: str) -> str:
    """One known cell in the form in which sources can be compared."""
    if name in FLAGS:
        value = {"0": "0", "1": "1", "0.0": "0", "1.0": "1"}.get(text)
        if value is None:
            raise InputError(
                f"{identity} has {text!r} for {name} in {source}; write 0, 1 or nothing."
            )
        return value
    if name == "split":
        if text.lower() not in SPLITS:
            raise InputError(
                f"{identity} is of split {text!r} in {source}; write train, validation or test."
            )
        return SPLITS[text.lower()]
    return text.removesuffix(".0") if name == "age" else text


def _table(
    photographs: Mapping[str, str], values: Mapping[str, Mapping[str, tuple[str, str]]]
) -> pd.DataFrame:
    def column(name: str) -> list[str | None]:
        held = values.get(name, {})
        return [held[identity][0] if identity in held else None for identity in photographs]

    melanoma, keratosis = column("melanoma"), column("seborrhoeic_keratosis")
    table = {
        "file": list(photographs.values()),
        "class": [_class(*pair) for pair in zip(melanoma, keratosis, strict=True)],
        "split": column("split"),
        "group": list(_groups(column("patient_id"), column("lesion_id"))),
        **{name: column(name) for name in NAMES if name != "split"},
    }
    held = {name: cells for name, cells in table.items() if any(c is not None for c in cells)}
    return pd.DataFrame(held, index=pd.Index(photographs, name="image"), dtype=object)


def _class(melanoma: str | None, keratosis: str | None) -> str | None:
    """The diagnosis: the challenge has three, and two flags tell them apart."""
    if melanoma == "1":
        return "melanoma"
    if keratosis == "1":
        return "seborrhoeic keratosis"
    if melanoma == "0":
        return "benign" if keratosis is None else "naevus"
    return None


def _groups(patients: list[str | None], lesions: list[str | None]) -> Iterator[str | None]:
    """The patient of each photograph, also through another photograph of the lesion; else it."""
    patient_of = {
        lesion: patient
        for lesion, patient in zip(lesions, patients, strict=True)
        if lesion is not None and patient is not None
    }
    for patient, lesion in zip(patients, lesions, strict=True):
        patient = patient or patient_of.get(lesion or "")
        if patient is not None:
            yield f"patient {patient}"
        else:
            yield None if lesion is None else f"lesion {lesion}"
