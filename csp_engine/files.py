"""Where the project's own files lie, which others may be read, and files replaced as a whole."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_COPY = _PACKAGE / "_app"
IS_CHECKOUT = not _COPY.is_dir()
"""Whether the package runs from the repository; what an installed wheel holds is not to change."""
ROOT = _PACKAGE.parent if IS_CHECKOUT else _COPY
"""The folder of ``app.py``, ``pages/``, ``assets/`` and ``docs/``.

The repository, or in an installed wheel a copy of them inside the package.
"""


ALLOWED = "CSP_ALLOW"
"""Environment variable: the only folders whose images a build may read, written as in PATH."""


def allowed_folders() -> tuple[Path, ...] | None:
    """The folders that ``CSP_ALLOW`` names, without links in them; None where it names none."""
    named = os.environ.get(ALLOWED, "")
    parts = [part for part in named.split(os.pathsep) if part]
    return tuple(Path(part).resolve() for part in parts) or None


def is_inside(path: Path, folders: Iterable[Path]) -> bool:
    """Whether a place lies in one of some folders, once all links are followed."""
    try:
        real = Path(os.path.realpath(path))
    except ValueError:  # no place has a zero byte in its name
        return False
    return any(real.is_relative_to(folder) for folder in folders)


def first_outside(root: Path, files: Iterable[str], folders: Iterable[Path]) -> str | None:
    """The first of some files below a root that a link takes out of all the folders."""
    inside = tuple(folders)
    known: dict[Path, bool] = {}
    for file in files:
        path = root / file
        if path.parent not in known:
            known[path.parent] = is_inside(path.parent, inside)
        if not known[path.parent] or (path.is_symlink() and not is_inside(path, inside)):
            return file
    return None


def write_whole(path: Path, text: str) -> None:
    """Write or replace a text file so that no reader, and no stop in between, sees half of it.

    For what can be made again: it is not forced to disk, as the manifest of a bundle is.

    Args:
        path: in a folder that exists; ``.tmp-NAME`` beside it is used meanwhile.
        text: written as UTF-8, its line ends as they are.

    Raises:
        OSError: if something other than a file has this name.
    """
    with replacing(path, path.with_name(f".tmp-{path.name}")) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


@contextmanager
def replacing(path: Path, temporary: Path) -> Generator[Path]:
    """A new empty file to write to, which takes the name ``path`` if nothing fails.

    Raises:
        OSError: if a folder, a link, a pipe or a device has this name: none is replaced, or
            written through.
    """
    require_file_or_nothing(path)
    temporary.unlink(missing_ok=True)
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    try:
        yield temporary
        require_file_or_nothing(path)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def given_bytes(path: Path) -> bytes:
    """What a file that a person named holds.

    Raises:
        OSError: if it cannot be read, or is a pipe or a device, which may never end.
    """
    kind = path.stat().st_mode
    if not stat.S_ISREG(kind):
        what = "a folder" if stat.S_ISDIR(kind) else "a device or pipe"
        raise OSError(errno.EINVAL, f"it is {what}, not a file", str(path))
    return path.read_bytes()


def require_file_or_nothing(path: Path) -> None:
    """Refuse to write where something other than a file is.

    Raises:
        OSError: as said.
    """
    with suppress(FileNotFoundError, NotADirectoryError):
        kind = path.lstat().st_mode
        if not stat.S_ISREG(kind):
            what = {stat.S_IFLNK: "a link", stat.S_IFDIR: "a folder"}.get(stat.S_IFMT(kind))
            raise OSError(
                errno.EEXIST, f"it is {what or 'a device or pipe'}, not a file", str(path)
            )


def fsync_path(path: Path) -> None:
    """Have a file or folder on the disk before going on."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_all(paths: Sequence[Path]) -> None:
    """Have files and folders on the disk before going on, as fast as the disk takes them.

    One after the other each would wait for the disk; together they wait once.
    """
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(fsync_path, paths))
