"""Where the bytes of probe images are: files below a folder, or parts of larger files."""

from __future__ import annotations

import glob
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, runtime_checkable

import pandas as pd

from csp_engine.errors import InputError


@runtime_checkable
class Contents(Protocol):
    """Gives the bytes of an image by its name in the probe set; several threads may ask."""

    def read(self, file: str) -> bytes:
        """The bytes of one image.

        Raises:
            OSError: if they cannot be had.
            UnreadableImageError: the same, with a reason of our own.
        """
        ...


@dataclass(frozen=True, slots=True)
class Shard:
    """A file that holds many images: ``name`` is how it is called below the source."""

    name: str
    open: Callable[[], BinaryIO]
    path: Path | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """Images inside of shards.

    Attributes:
        files: name of each image, each different.
        rows: a row for each image, of what else is said about it.
        contents: gives their bytes.
        others: names of files beside the shards, and in archives, that were not looked at.
        links: names in archives that only point to others.
    """

    files: list[str]
    rows: pd.DataFrame
    contents: Contents
    others: Sequence[str] = ()
    links: Sequence[str] = ()


_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MOST_SHARDS = 100_000


def expand(pattern: str) -> list[Path]:
    """The files that a pattern with ``{000..012}`` or ``*`` stands for; none for a plain name.

    Raises:
        InputError: if a file of a range does not exist.
    """
    found = _RANGE.search(pattern)
    if found is not None:
        first, last = found[1], found[2]
        if int(last) - int(first) >= _MOST_SHARDS:
            raise InputError(
                f"{pattern!r} stands for more than {_MOST_SHARDS:,} files; give fewer."
            )
        numbers = (str(n).zfill(len(first)) for n in range(int(first), int(last) + 1))
        names = [f"{pattern[: found.start()]}{n}{pattern[found.end() :]}" for n in numbers]
        paths = [path for name in names for path in expand(name) or [Path(name)]]
        missing = [path for path in paths if not path.is_file()]
        if missing:
            raise InputError(f"{str(missing[0])!r} of {pattern!r} does not exist; check the range.")
        return paths
    if any(sign in pattern for sign in "*?["):
        return sorted(path for path in map(Path, glob.glob(pattern)) if path.is_file())  # noqa: PTH207
    return []


def local_shards(paths: Sequence[Path], root: Path) -> list[Shard]:
    """Files on this machine as shards."""

    def opener(path: Path) -> Callable[[], BinaryIO]:
        return lambda: path.open("rb")

    return [
        Shard(
            path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name,
            opener(path),
            path,
        )
        for path in paths
    ]


def distinct_names(given: Sequence[str | None], shards: Sequence[str]) -> list[str]:
    """The names that images have, where all have one of their own; else shard and number."""
    if all(given) and len(set(given)) == len(given):
        return [str(name) for name in given]
    numbers: dict[str, Iterator[int]] = {}
    return [f"{shard}/{next(numbers.setdefault(shard, itertools.count())):06d}" for shard in shards]
