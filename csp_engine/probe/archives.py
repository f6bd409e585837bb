"""Images in tar files, as WebDataset keeps its samples: files of one stem belong together."""

from __future__ import annotations

import json
import logging
import os
import posixpath
import tarfile
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from csp_engine.errors import InputError, UnreadableImageError
from csp_engine.probe.contents import Packed, Shard
from csp_engine.probe.decoding.formats import is_image_name
from csp_engine.probe.folders import as_shown, said_by_folders

logger = logging.getLogger(__name__)

_Place = tuple[str, int, int]
_MOST_TEXT = 1 << 20
_TEXTS = {"cls": "class", "txt": "text", "caption": "text"}


def packed_tars(shards: Sequence[Shard]) -> Packed:
    """The images of tar files, with what other members of the same stem say about them.

    ``.cls`` and ``.txt`` are text, ``.json`` a record of columns. Without a class of that kind,
    folders inside of the archive are classes, as folders on disk are.

    Raises:
        InputError: if a file is no plain tar file, or holds no image.
    """
    files: list[str] = []
    inner: list[str] = []
    said: list[dict[str, Any]] = []
    others: list[str] = []
    links: list[str] = []
    places: dict[str, tuple[_Tar, int, int]] = {}
    for shard in shards:
        tar = _Tar(shard)
        images, words = tar.members(others, links)
        images = _one_of_each_sample(shard.name, images, words)
        for name, offset, size in images:
            file = name if len(shards) == 1 else f"{posixpath.splitext(shard.name)[0]}/{name}"
            if file in places:
                raise InputError(f"{shard.name!r} holds {name!r} twice; pack it again.")
            places[file] = (tar, offset, size)
            files.append(file)
            inner.append(name)
            said.append(words.get(_stem(name), {}))
    if not files:
        raise InputError(f"No image was found in {shards[0].name!r}; it must hold image files.")
    rows = pd.DataFrame(said, index=range(len(files)))
    if "class" not in rows:
        for column, values in said_by_folders(inner).items():
            if column not in rows:
                rows[column] = pd.Series(values, dtype=object)
    return Packed(files, rows, _InTars(places), others, links)


def _one_of_each_sample(
    archive: str, images: list[_Place], words: Mapping[str, Any]
) -> list[_Place]:
    """Images without the masks and the like of their samples: of x.jpg and x.seg.png the first.

    Only where other members say something about a sample: elsewhere a point is part of a name.
    """

    def is_plain(name: str) -> bool:
        return posixpath.basename(name).count(".") == 1

    plain = {_stem(name) for name, _, _ in images if is_plain(name)} & set(words)
    kept = [each for each in images if is_plain(each[0]) or _stem(each[0]) not in plain]
    if len(kept) < len(images):
        lost = next(name for name, _, _ in images if not is_plain(name) and _stem(name) in plain)
        logger.warning(
            "%s: %d further image(s) of its samples are left out (first: %s)",
            archive, len(images) - len(kept), lost,
        )  # fmt: skip
    return kept


def _stem(name: str) -> str:
    """What members of one sample share: all before the first point of the file's own name."""
    folder, own = posixpath.split(name)
    return posixpath.join(folder, own.split(".", 1)[0])


class _Tar:
    """One tar file, read at any place."""

    def __init__(self, shard: Shard) -> None:
        self.name = shard.name
        self._lock = threading.Lock()
        self._handle = shard.open()
        self._stamp = _stamp(self._handle)

    def members(
        self, others: list[str], links: list[str]
    ) -> tuple[list[_Place], dict[str, dict[str, Any]]]:
        """Name, place and size of each image; and by stem what other members say.

        Names of the rest are added to ``others`` and ``links``.
        """
        images: list[_Place] = []
        words: dict[str, dict[str, Any]] = {}
        unread: list[str] = []
        try:
            with tarfile.open(fileobj=self._handle, mode="r:") as archive:
                for member in archive:
                    name = as_shown(_inside(member.name))
                    kind = name.rpartition(".")[2].lower()
                    if member.isdir() or posixpath.basename(name).startswith("."):
                        continue
                    if member.issym() or member.islnk():
                        links.append(name)
                    elif not member.isreg() or member.issparse():
                        others.append(name)
                    elif is_image_name(name):
                        images.append((name, member.offset_data, member.size))
                    elif kind not in (*_TEXTS, "json") or member.size > _MOST_TEXT:
                        others.append(name)
                    elif (said := _words(kind, self.read(member.offset_data, member.size))) is None:
                        unread.append(name)
                    else:
                        words.setdefault(_stem(name), {}).update(said)
        except tarfile.TarError as error:
            raise InputError(
                f"{self.name!r} cannot be read as a tar file ({error}); if it is compressed, "
                "unpack it first."
            ) from error
        if unread:
            logger.warning(
                "%s: %d record(s) are no JSON objects and say nothing of their images (first: %s)",
                self.name, len(unread), unread[0],
            )  # fmt: skip
        return images, words

    def read(self, offset: int, size: int) -> bytes:
        """A part of the file; its position stays.

        Raises:
            InputError: if the file was written over since it was opened.
        """
        if _stamp(self._handle) != self._stamp:
            raise InputError(
                f"{self.name!r} was written over while it was read; run the same command again, "
                "and replace it only when that is done."
            )
        with self._lock:
            before = self._handle.tell()
            self._handle.seek(offset)
            content = self._handle.read(size)
            self._handle.seek(before)
        return content


def _stamp(handle: Any) -> tuple[int, int] | None:
    """When a file of this machine was last written, and its size; None of one at an address."""
    try:
        told = os.fstat(handle.fileno())
    except OSError:
        return None  # who reads addresses looks by itself
    return told.st_mtime_ns, told.st_size


def _inside(name: str) -> str:
    """A member's name without what would lead out of a folder that it is unpacked into."""
    parts = posixpath.normpath("/" + name).split("/")
    return "/".join(part for part in parts if part)


def _words(kind: str, content: bytes) -> dict[str, Any] | None:
    """What a member says; None where it should be a record and is none."""
    text = content.decode("utf-8", "replace").strip()
    if kind != "json":
        return {_TEXTS[kind]: text}
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    plain = (str, int, float, bool)
    return {str(key): value for key, value in record.items() if isinstance(value, plain)}


class _InTars:
    """Contents of members."""

    def __init__(self, places: dict[str, tuple[_Tar, int, int]]) -> None:
        self._places = places

    def read(self, file: str) -> bytes:
        """The bytes of a member."""
        tar, offset, size = self._places[file]
        content = tar.read(offset, size)
        if len(content) < size:
            raise UnreadableImageError(f"{tar.name} is cut off.")
        return content
