"""Find the things of a room: one module each, no list to keep.

A room is a package in which every module may hold instances of one type, say a label method.
``discover`` imports its modules and collects them. Folders named in ``CSP_EXTENSIONS`` may hold
sub-folders called like rooms (``methods``, ``audits``, ...); their modules join the rooms. They are
code that runs, and are trusted because the user names them.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from csp_engine.errors import InputError

EXTENSIONS = "CSP_EXTENSIONS"
ROOMS = ("methods", "audits", "metrics", "stages", "pages")
"""Sub-folders that an extension may have."""


T = TypeVar("T")


def extensions() -> list[Path]:
    """The folders in ``CSP_EXTENSIONS``.

    Raises:
        InputError: if one does not exist, or holds no room.
    """
    folders = [Path(part) for part in os.environ.get(EXTENSIONS, "").split(os.pathsep) if part]
    for folder in folders:
        if not any((folder / room).is_dir() for room in ROOMS):
            state = "has none of the folders" if folder.is_dir() else "does not exist; it needs"
            raise InputError(
                f"{EXTENSIONS} names {folder}, which {state} {', '.join(ROOMS)}; correct it, or "
                "unset it."
            )
    return folders


def extension_folders(room: str) -> list[Path]:
    """The folders of extensions whose modules join a room."""
    return [folder / room for folder in extensions() if (folder / room).is_dir()]


def discover(package: str, kind: type[T], what: str) -> dict[str, T]:
    """All instances of a type in the modules of a package and of its extensions, by name.

    An instance has a ``name`` and an ``order``, its place among its like, lower numbers first.

    Args:
        package: full name of a package that is being, or has been, imported; extensions have a
            sub-folder called like its last part.
        kind: what to collect; an instance may be imported into other modules of the package.
        what: one of them in words, for error sentences.

    Raises:
        InputError: if two have one name, or an extension cannot be imported.
    """
    places = sys.modules[package].__path__
    added = [str(folder) for folder in extension_folders(package.rpartition(".")[2])]
    places.extend(folder for folder in added if folder not in places)
    found: dict[str, tuple[Any, str]] = {}
    for name, origin in _modules(places):
        is_added = str(Path(origin).parent) in added
        module = _imported(f"{package}.{name}", origin if is_added else "")
        things = [thing for thing in vars(module).values() if isinstance(thing, kind)]
        if is_added and not things and not name.startswith("_"):
            warnings.warn(
                f"Extension {origin} declares no {what}, so it adds nothing; declare one, or begin "
                "the name of a helper with '_'.",
                stacklevel=2,
            )
        for thing in things:
            held, place = found.setdefault(thing.name, (thing, origin))
            if held is not thing:
                raise InputError(
                    f"Two {what}s are called {thing.name!r}: one in {place}, one in {origin}; "
                    "rename one of them."
                )
    every = sorted((thing for thing, _ in found.values()), key=lambda t: (t.order, t.name))
    return {thing.name: thing for thing in every}


def _modules(places: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Names and files of the modules in some folders.

    Raises:
        InputError: if two folders have a module of one name, since only one could be imported.
    """
    seen: dict[str, str] = {}
    for folder in places:
        for module in pkgutil.iter_modules([folder]):
            origin = str(Path(folder) / f"{module.name}.py")
            if module.ispkg:
                continue
            if module.name in seen:
                raise InputError(
                    f"{origin} has the name of {seen[module.name]}; give the file another name."
                )
            seen[module.name] = origin
            yield module.name, origin


def _imported(module: str, extension: str) -> Any:
    """One module; whatever stops an extension from being imported is told in a sentence."""
    if not extension:
        return importlib.import_module(module)
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:  # a script that ends itself would end us
        raise InputError(
            f"Extension {extension} cannot be loaded ({type(error).__name__}: {error}); mend it, "
            f"or take its folder out of {EXTENSIONS}."
        ) from error
