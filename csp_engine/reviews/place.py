"""Where verdicts are kept: a file beside the bundles, or the database ``CSP_REVIEWS`` names."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from csp_engine.errors import InputError

VARIABLE = "CSP_REVIEWS"
FILE_NAME = "reviews.sqlite"


@dataclass(frozen=True, slots=True)
class Place:
    """One database: an address as SQLAlchemy writes it, or a file of SQLite."""

    url: str = ""
    file: Path | None = None

    @property
    def title(self) -> str:
        """The place in words, without a password."""
        if self.file is not None:
            return str(self.file)
        return f"the database of {VARIABLE} ({self.url.partition(':')[0]})"

    @property
    def identity(self) -> tuple[str, int]:
        """Changes when another file takes the place of a file; no file is 0."""
        try:
            number = 0 if self.file is None else self.file.stat().st_ino
        except OSError:
            number = 0
        return (self.url or str(self.file), number)

    @property
    def is_there(self) -> bool:
        """Whether anything can have been written yet."""
        return self.file is None or self.file.exists()

    @property
    def refusal(self) -> str:
        """Why nothing can be recorded here, as a sentence; empty where it can."""
        if self.file is None:
            return ""
        nearest = self.file if self.file.exists() else self.file.parent
        while not nearest.exists() and nearest != nearest.parent:
            nearest = nearest.parent
        folder = nearest.parent if nearest == self.file else nearest
        is_writable = folder.is_dir() and os.access(folder, os.W_OK) and os.access(nearest, os.W_OK)
        return "" if is_writable else f"Verdicts cannot be recorded: {folder} cannot be written to."


def named_place() -> Place | None:
    """The database that the environment names, by address or as a file; None where it names none.

    Raises:
        InputError: if it is a database that forgets everything.
    """
    named = os.environ.get(VARIABLE, "").strip()
    if not named:
        return None
    start = Path(os.environ.get("CSP_START_FOLDER") or Path.cwd())  # a server runs elsewhere
    if "://" not in named:
        try:
            return Place(file=start / Path(named).expanduser())
        except RuntimeError:
            raise InputError(
                f"{VARIABLE} names {named!r:.80}, and there is no such user; write the whole path."
            ) from None
    if not named.startswith("sqlite"):
        return Place(named)
    path = named.partition("://")[2].partition("?")[0].removeprefix("/")
    if not path or path == ":memory:":
        raise InputError(f"{VARIABLE} names a database in memory, which is forgotten; name a file.")
    return Place(file=start / path)


def found_place(bundle_path: Path) -> Place | None:
    """Where the verdicts on a bundle are, None where nobody has recorded any.

    What the environment names, else a file beside the bundle or in the folder ``bundles``.

    Raises:
        InputError: if there are several.
    """
    named = named_place()
    if named is not None:
        return named if named.is_there else None
    found = [path for path in _usual_places(bundle_path) if path.is_file()]
    if len(found) > 1:
        raise InputError(
            f"There are verdicts in {found[0]} and in {found[1]}; name one with {VARIABLE}."
        )
    return Place(file=found[0]) if found else None


def place_for(bundle_path: Path) -> Place:
    """Where the verdicts on a bundle are: what the environment names, else a file where they lie.

    Raises:
        InputError: if there is none, or more than one.
    """
    place = named_place() or found_place(bundle_path)
    if place is not None:
        return place
    looked = " nor ".join(str(path) for path in _usual_places(bundle_path))
    raise InputError(
        f"No verdicts are recorded yet: there is neither {looked}. "
        f"If they are elsewhere, name the database with {VARIABLE}."
    )


def _usual_places(bundle_path: Path) -> list[Path]:
    beside = bundle_path.resolve().parent / FILE_NAME
    return list(dict.fromkeys([beside, Path.cwd() / "bundles" / FILE_NAME]))
