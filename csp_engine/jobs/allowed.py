"""Which places a build may read that was started from elsewhere than a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from csp_engine.errors import InputError
from csp_engine.files import ALLOWED, is_inside


@dataclass(frozen=True, slots=True)
class Allowed:
    """Folders that may be read with all below them, and models and encoders named already.

    Args:
        folders: without links in them.
        specs: of the server's own bundles, wherever they lie.
    """

    folders: tuple[Path, ...]
    specs: frozenset[str] = frozenset()

    def require(self, path: Path, given: str) -> None:
        """Refuse a place outside, before anything tells whether it exists.

        Links are followed first.

        Raises:
            InputError: naming what was given, and the option.
        """
        if not is_inside(path, self.folders):
            raise InputError(
                f"{given!r} is not below {listed(self.folders)}, and nothing else is read from "
                "here; start the server with --allow FOLDER to add a folder."
            )


def listed(folders: Iterable[Path]) -> str:
    """Folders in a sentence."""
    return " or ".join(str(folder) for folder in folders)


def named_folders(folders: Iterable[Path]) -> list[Path]:
    """The folders of ``--allow`` without links in them.

    Raises:
        InputError: if there is no such folder.
    """
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"There is no folder at {folder} to allow; check --allow.")
    return [folder.resolve() for folder in folders]


__all__ = ["ALLOWED", "Allowed", "listed", "named_folders"]
