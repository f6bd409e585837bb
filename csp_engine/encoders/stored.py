"""Vectors made elsewhere, looked up by name."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from csp_engine.encoders.base import fingerprint, first_line, nearest, read_json
from csp_engine.errors import InputError, MissingModelError
from csp_engine.files import ALLOWED, allowed_folders, given_bytes, is_inside
from csp_engine.hashing import sha256_array, sha256_unescaped_json
from csp_engine.vectors import normalise_rows


def stored_files(folder: Path) -> dict[str, Path | list[str]]:
    """Where the four parts are; names may stand in encoder.json itself."""
    if not folder.is_dir():
        raise MissingModelError(f"There is no folder {folder} with stored vectors.")
    named: dict[str, Any] = {
        "image_vectors": "image_vectors.npy",
        "image_names": "image_names.txt",
        "text_vectors": "text_vectors.npy",
        "text_names": "text_names.txt",
    }
    config_path = folder / "encoder.json"
    if config_path.is_file():
        given = read_json(config_path)
        unknown = sorted(given.keys() - named.keys())
        if unknown:
            raise InputError(f"{config_path} has {unknown}; known are {', '.join(named)}.")
        named |= given
    files: dict[str, Path | list[str]] = {}
    allowed = allowed_folders()
    for role, value in named.items():
        if isinstance(value, list) and role.endswith("names"):
            files[role] = [str(v) for v in value]
            continue
        if not isinstance(value, str):
            raise InputError(f"{config_path} gives {role} as {value!r}; give a file.")
        path = folder / Path(value).expanduser()
        if not path.is_file():
            raise MissingModelError(
                f"{folder} has no {value} ({role}); stored vectors need "
                f"{', '.join(named)}, or an encoder.json that says where they are."
            )
        if allowed is not None and not is_inside(path, allowed):
            raise InputError(
                f"{value!r} of {folder} lies outside of the folders that may be read ({ALLOWED}); "
                "start the server with --allow FOLDER to add the one that it leads to."
            )
        files[role] = path
    return files


def _text_key(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).replace("_", " ").split()).casefold()


class PrecomputedEncoder:
    """Vectors made elsewhere, looked up by name.

    The folder holds ``image_vectors.npy`` with ``image_names.txt`` and ``text_vectors.npy`` with
    ``text_names.txt``: one row of the array per line of the list, both arrays in one space. An
    ``encoder.json`` may give other files for these four (relative to the folder), or the names as
    a list. Images are found by path, by sha256, or by file name where that is unique; texts in any
    case, with underscores for spaces. Templates do not apply: use the template ``{}`` alone.
    """

    needs_pixels = False

    def __init__(self, spec: str, folder: Path) -> None:
        files = stored_files(folder)
        self._image_nd, image_names = self._read("image", files)
        self._text_td, text_names = self._read("text", files)
        if self._image_nd.shape[1] != self._text_td.shape[1]:
            raise InputError(
                f"Image vectors in {folder} have {self._image_nd.shape[1]} dimensions and text "
                f"vectors {self._text_td.shape[1]}; both must come from one encoder."
            )
        self.spec = spec
        self.dim = self._image_nd.shape[1]
        self._image_row = {name: row for row, name in enumerate(image_names)}
        if len(self._image_row) < len(image_names):
            twice = next(n for n in image_names if image_names.count(n) > 1)
            raise InputError(
                f"Image name {twice!r} stands twice in {folder}; names must be unique."
            )
        self._image_names = image_names
        self._short_row = _unique(
            [(Path(n).name, r) for r, n in enumerate(image_names)]
            + [(Path(n).stem, r) for r, n in enumerate(image_names) if Path(n).suffix]
        )
        self._text_names = text_names
        self._text_row = {name: row for row, name in reversed(list(enumerate(text_names)))}
        for row, name in enumerate(text_names):
            if not np.array_equal(self._text_td[row], self._text_td[self._text_row[name]]):
                raise InputError(
                    f"Text {name!r} stands twice in {folder} with different vectors; keep one."
                )
        self._key_row = self._rows_of_keys(text_names)
        self.description: dict[str, Any] = {
            "kind": "precomputed",
            "source": f"folder {folder.name}",
            "image_vectors_sha256": sha256_array(self._image_nd),
            "text_vectors_sha256": sha256_array(self._text_td),
            "names_sha256": sha256_unescaped_json([image_names, text_names]),
            "n_images": len(image_names),
            "n_texts": len(text_names),
            "dim": self.dim,
        }
        self.fingerprint = fingerprint(self.description)

    def _rows_of_keys(self, text_names: Sequence[str]) -> dict[str, int]:
        """Texts in any case, unless several with different vectors are spelt alike."""
        rows: dict[str, list[int]] = {}
        for row, name in enumerate(text_names):
            rows.setdefault(_text_key(name), []).append(row)
        return {
            key: found[0]
            for key, found in rows.items()
            if all(np.array_equal(self._text_td[row], self._text_td[found[0]]) for row in found)
        }

    @staticmethod
    def _read(role: str, files: Mapping[str, Path | list[str]]) -> tuple[np.ndarray, list[str]]:
        path, names = files[f"{role}_vectors"], files[f"{role}_names"]
        assert isinstance(path, Path)
        if isinstance(names, Path):
            try:
                lines = given_bytes(names).decode("utf-8-sig").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise InputError(
                    f"{names} is not a text file of names ({type(error).__name__}); write one name "
                    "per line, in UTF-8."
                ) from None
            names = [line.strip() for line in lines if line.strip()]
        try:
            with path.open("rb") as handle:  # np.load would take archives, too
                stored = np.lib.format.read_array(handle, allow_pickle=False)
        except Exception as error:  # numpy parses the header as Python and raises what that raises
            raise InputError(
                f"{path} is not an array in .npy format: {first_line(error)}."
            ) from error
        if stored.ndim != 2 or stored.dtype.kind != "f" or not stored.size:
            raise InputError(
                f"{path} holds {stored.dtype} of shape {stored.shape}; it must hold "
                f"floating-point rows, one per name."
            )
        if len(stored) != len(names):
            raise InputError(
                f"{path} has {len(stored)} rows, but there are {len(names)} names for it."
            )
        bad = np.flatnonzero(~np.isfinite(stored).all(axis=1) | ~stored.any(axis=1))
        if len(bad):
            raise InputError(
                f"{path} has {len(bad)} rows that are zero or not finite, the first for "
                f"{names[bad[0]]!r}; remove them with their names."
            )
        return normalise_rows(stored), names

    def preprocess(self, image: Any) -> np.ndarray:
        """Not possible: stored vectors know images by name only."""
        raise InputError(f"{self.spec} holds stored vectors and cannot embed a new image.")

    def embed_images(
        self, pixels: Float32[np.ndarray, "n channel height width"]
    ) -> Float32[np.ndarray, "n d"]:
        """Not possible: stored vectors know images by name only."""
        raise InputError(f"{self.spec} holds stored vectors and cannot embed a new image.")

    def lookup_images(
        self,
        files: Sequence[str],
        sha256: Sequence[str] | None = None,
        among: Sequence[str] | None = None,
    ) -> Float32[np.ndarray, "n d"]:
        """The stored vectors of these images.

        Args:
            files: paths as the probe set lists them.
            sha256: their content hashes; tried where a path is not listed.
            among: all paths that the probe set lists, unreadable ones too: a file name that
                several of them share says nothing.

        Raises:
            InputError: if an image has no vector, or one vector would serve different images.
        """
        rows, absent = [], []
        for i, file in enumerate(files):
            row = self._image_row.get(file)
            if row is None and sha256 is not None:
                row = self._image_row.get(sha256[i])
            if row is None:
                row = self._short_row.get(Path(file).name, self._short_row.get(Path(file).stem))
            if row is None:
                absent.append(file)
            else:
                rows.append(row)
        if absent:
            raise InputError(
                f"{len(absent)} of {len(files)} images have no stored vector, the first "
                f"{absent[0]!r}; {len(self._image_row)} exist, near it: "
                f"{nearest(absent[0], list(self._image_row))}."
            )
        self._require_one_image_each(files, sha256, among, rows)
        return self._image_nd[rows]

    def _require_one_image_each(
        self,
        files: Sequence[str],
        sha256: Sequence[str] | None,
        among: Sequence[str] | None,
        rows: Sequence[int],
    ) -> None:
        """Refuse a vector that different images are named by; exact copies may share one."""
        users: dict[int, dict[str, str]] = {}
        for i, (file, row) in enumerate(zip(files, rows, strict=True)):
            users.setdefault(row, {}).setdefault(file if sha256 is None else sha256[i], file)
        others = set(among or ()) - set(files)
        by_name: dict[str, str] = {}
        for other in sorted(others, reverse=True):
            by_name[Path(other).name] = by_name[Path(other).stem] = other
        for file, row in zip(files, rows, strict=True):
            found = list(users[row].values())
            is_by_name = self._image_names[row] not in (file, *users[row])
            if len(found) == 1 and is_by_name:
                twin = by_name.get(Path(file).name, by_name.get(Path(file).stem))
                found += [] if twin is None else [twin]
            if len(found) > 1:
                raise InputError(
                    f"One stored vector, named {self._image_names[row]!r}, fits "
                    f"{found[0]!r} and {found[1]!r}, which are different images; "
                    "name vectors by the images' paths or sha256."
                )

    def embed_texts(self, texts: Sequence[str]) -> Float32[np.ndarray, "t d"]:
        """The stored vectors of these texts, in any case.

        Raises:
            InputError: if a text has no vector.
        """
        rows = []
        for text in texts:
            row = self._text_row.get(text, self._key_row.get(_text_key(text)))
            if row is None:
                raise InputError(
                    f"There is no stored vector for the text {text!r}; {len(self._text_names)} "
                    f"exist, near it: {nearest(text, self._text_names)} (templates do not apply "
                    f"to stored vectors)."
                )
            rows.append(row)
        return self._text_td[rows]


def _unique(pairs: Sequence[tuple[str, int]]) -> dict[str, int]:
    """Short names that mean one row only."""
    rows: dict[str, set[int]] = {}
    for name, row in pairs:
        rows.setdefault(name, set()).add(row)
    return {name: min(found) for name, found in rows.items() if len(found) == 1}
