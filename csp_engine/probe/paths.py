"""Names in tables become files: below one root, whatever computer the table comes from."""

from __future__ import annotations

import os
import posixpath
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from csp_engine.errors import InputError
from csp_engine.files import ALLOWED, allowed_folders, first_outside
from csp_engine.probe.decoding.formats import is_image_name
from csp_engine.reading.tables import Table, known_text


class FolderListing:
    """Names of the files below a root, each folder listed once: a check per image costs no disk."""

    def _entries(self, folder: str) -> tuple[list[str], list[str]] | None:
        """Names of the files and of the folders in a folder; None if there is no such folder."""
        try:
            entries = list(os.scandir(self.root / folder))
        except (OSError, ValueError):
            return None
        files = [entry.name for entry in entries if entry.is_file()]
        return files, [entry.name for entry in entries if entry.is_dir()]

    def __init__(self, root: Path) -> None:
        self.root = root
        self._absolute = Path(os.path.normpath(root.absolute()))
        self._folders: dict[str, _Folder] = {}

    def relative(self, text: str) -> str | None:
        """The path below the root, with slashes; None if it leads out of it."""
        path = text if "/" in text else text.replace("\\", "/")
        if Path(path).is_absolute():
            normal = Path(os.path.normpath(path))
            for root in (self._absolute, self.root.resolve()):
                if normal.is_relative_to(root):
                    return normal.relative_to(root).as_posix()
            return None
        if re.match(r"[A-Za-z]:/", path):
            return None
        normal = posixpath.normpath(path)
        return None if normal.split("/", 1)[0] == ".." else normal

    def find(self, relative: str) -> list[str]:
        """Files of that name, or image files of that name with an extension added.

        The very name comes first; then the same in another Unicode form (macOS takes letters
        apart), then with the extension in other letters (``.JPG``).
        """
        folder, name = posixpath.split(relative)
        listed = self._listed(folder)
        return [posixpath.join(listed.path, found) for found in listed.find(name)]

    def _listed(self, folder: str) -> _Folder:
        if folder not in self._folders:
            path, entries = folder, self._entries(folder)
            if folder and entries is None:
                above, name = posixpath.split(folder)
                upper = self._listed(above)
                real = upper.subfolders.get(_composed(name), name)
                path = posixpath.join(upper.path, real)
                entries = self._entries(path)
            self._folders[folder] = _Folder(path, *(entries or ([], [])))
        return self._folders[folder]


class NameListing(FolderListing):
    """The same of files whose names are known already, wherever they lie."""

    def __init__(self, files: Sequence[str]) -> None:
        super().__init__(Path("/"))
        self._inside: dict[str, tuple[list[str], list[str]]] = {"": ([], [])}
        for file in files:
            folder, name = posixpath.split(file)
            self._of_folder(folder)[0].append(name)

    def relative(self, text: str) -> str | None:
        """The path as the files are called; None for one from elsewhere."""
        return None if text.startswith("/") or "://" in text else super().relative(text)

    def _of_folder(self, folder: str) -> tuple[list[str], list[str]]:
        if folder not in self._inside:
            above, name = posixpath.split(folder)
            self._inside[folder] = ([], [])
            self._of_folder(above)[1].append(name)
        return self._inside[folder]

    def _entries(self, folder: str) -> tuple[list[str], list[str]] | None:
        return self._inside.get(folder)


class _Folder:
    """The files of one folder, by every way in which they may be called."""

    def __init__(self, path: str, files: Sequence[str], subfolders: Sequence[str]) -> None:
        self.path = path
        self.subfolders = {_composed(name): name for name in subfolders}
        names = sorted(files)
        self._exact = set(names)
        self._by_form: dict[str, list[str]] = {}
        self._by_ending: dict[str, list[str]] = {}
        self._by_stem: dict[str, list[str]] = {}
        for name in names:
            form = _composed(name)
            stem, dot, ending = form.rpartition(".")
            self._by_form.setdefault(form, []).append(name)
            self._by_ending.setdefault(f"{stem}{dot}{ending.lower()}", []).append(name)
            if is_image_name(name) and not name.startswith("."):
                self._by_stem.setdefault(stem, []).append(name)

    def find(self, name: str) -> list[str]:
        if name in self._exact:
            return [name]
        form = _composed(name)
        stem, dot, ending = form.rpartition(".")
        return (
            self._by_form.get(form)
            or self._by_stem.get(form)
            or (self._by_ending.get(f"{stem}{dot}{ending.lower()}") if dot else None)
            or []
        )


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def resolve_images(table: Table, column: str, folders: FolderListing) -> list[str]:
    """The file of every row, each a different one, as a path below the root.

    Raises:
        InputError: as ``locate_images``, or if a file is there twice.
    """
    files = locate_images(table, column, folders)
    refuse_doubled(table.name, files)
    return files


def locate_images(table: Table, column: str, folders: FolderListing) -> list[str]:
    """The file of every row, as a path below the root.

    Raises:
        InputError: if a path is empty, outside of the root, or fits no file or several.
    """
    texts = [known_text(value) for value in table.rows[column]]
    empty = [row for row, text in enumerate(texts) if text is None]
    if empty:
        raise InputError(
            f"Table {table.name!r} has no image path in {len(empty)} row(s) "
            f"(first: row {empty[0] + 1}); fill them in or drop them."
        )
    files, outside, missing, several = [], [], [], []
    for text in texts:
        assert text is not None
        relative = folders.relative(text)
        if relative is None:
            outside.append(text)
            continue
        found = folders.find(relative)
        if len(found) == 1:
            files.append(found[0])
        else:
            (several if found else missing).append(text)
    where = f"image root {str(folders.root)!r}"
    if outside:
        raise InputError(
            f"Table {table.name!r} names {len(outside)} path(s) outside the {where} "
            f"({few(outside)}); move the images below it or give another image root."
        )
    if missing:
        raise InputError(
            f"{len(missing)} of {len(texts)} images listed in {table.name!r} are not below "
            f"the {where} ({few(missing)}); "
            f"give the folder they lie in as the image root or drop these rows."
        )
    if several:
        raise InputError(
            f"{len(several)} name(s) in {table.name!r} fit more than one file ({few(several)}); "
            f"write them with their extension."
        )
    return files


def refuse_outside(root: Path, files: Sequence[str]) -> None:
    """Where only some folders may be read, no link leads out of them.

    Raises:
        InputError: if one does.
    """
    allowed = allowed_folders()
    found = None if allowed is None else first_outside(root, files, allowed)
    if found is not None:
        raise InputError(
            f"{found!r} lies outside of the folders that may be read ({ALLOWED}); "
            "start the server with --allow FOLDER to add the one that it leads to."
        )


def refuse_doubled(name: str, files: Sequence[str]) -> None:
    """One row for each image.

    Raises:
        InputError: if a file is there twice.
    """
    doubled = [file for file, n in Counter(files).items() if n > 1]
    if doubled:
        raise InputError(
            f"Table {name!r} lists {len(doubled)} image(s) more than once ({few(doubled)}); "
            f"keep one row for each."
        )


def few(names: Sequence[str]) -> str:
    """The first three names, long ones cut."""
    shown = [name if len(name) <= 100 else f"{name[:99]}…" for name in names[:3]]
    return ", ".join(shown) + (", ..." if len(names) > 3 else "")
