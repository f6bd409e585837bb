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
import re
import sys
import traceback
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from csp_engine.errors import InputError

EXTENSIONS = "CSP_EXTENSIONS"
ROOMS = ("methods", "audits", "metrics", "stages", "pages")
"""Sub-folders that an extension may have."""


_NAME = re.compile("[a-z][a-z0-9_]*")
T = TypeVar("T")


def require_declared(what: str, name: str, **said: str) -> None:
    """Refuse a declaration whose name cannot stand in files and addresses, or that says nothing.

    Args:
        what: it is, in words, such as "label method".
        name: of it.
        said: what people are to read, by the name of the field.

    Raises:
        InputError: naming the declaration and the field.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InputError(
            f"A {what} is called {name!r}; a name is small letters, digits and '_', after a letter."
        )
    for field, text in said.items():
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"The {what} {name!r} has the {field} {text!r}; give it words.")


def require_whole_numbers(what: str, name: str, **given: object) -> None:
    """Refuse a declaration whose version or place among its like is no whole number.

    Raises:
        InputError: naming the declaration and the field.
    """
    for field, value in given.items():
        if not isinstance(value, int) or isinstance(value, bool):
            raise InputError(
                f"The {what} {name!r} has the {field} {value!r}; give it a whole number."
            )


SHOWN_AS = ("number", "figure", "count", "share")
"""Ways to show a figure: see ``views.table.columns.NeuronColumn``."""


def require_shown(
    what: str, name: str, kind: str, low: int | float | None, high: int | float | None
) -> None:
    """Refuse a figure that cannot be shown as it says, or whose bounds leave it no value.

    Raises:
        InputError: naming the declaration and the field.
    """
    if kind not in SHOWN_AS:
        raise InputError(
            f"The {what} {name!r} has the kind {kind!r}; choose from {', '.join(SHOWN_AS)}."
        )
    if low is not None and high is not None and low >= high:
        raise InputError(
            f"The {what} {name!r} lies between {low} and {high}; low must be less than high."
        )


def blamed(error: BaseException) -> InputError | None:
    """An error that comes from an extension's file in a sentence; None for any other."""
    folders = _named_folders()
    places = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:  # what cannot be read does not run
        places.append((error.filename, error.lineno))
    ours = [
        (file, line)
        for file, line in places
        if any(Path(file).is_relative_to(folder) for folder in folders)
    ]
    if not ours:
        return None
    file, line = ours[-1]
    reason = f"{type(error).__name__}: {error}".splitlines()[0]
    return InputError(
        f"Extension {file} fails in line {line} ({reason}); mend it, or take its folder out of "
        f"{EXTENSIONS}."
    )


def require_shapes(
    what: str, found: Mapping[str, Any], wanted: Mapping[str, tuple[int, ...]]
) -> None:
    """Refuse arrays that code has given in another shape than it must; None is no array.

    A shape may end early: ``(3,)`` asks for three rows of anything.

    Raises:
        InputError: naming the array, its shape and the one that it must have.
    """
    for name, shape in wanted.items():
        held = getattr(found[name], "shape", None)
        if found[name] is not None and (held is None or held[: len(shape)] != shape):
            of = f"of shape {held}" if held is not None else "that is no array"
            raise InputError(f"{what} gives {name} {of}; it must be of shape {shape}.")


def extensions() -> list[Path]:
    """The folders in ``CSP_EXTENSIONS``.

    Raises:
        InputError: if one does not exist, or holds no room.
    """
    folders = _named_folders()
    for folder in folders:
        if not any((folder / room).is_dir() for room in ROOMS):
            state = "has none of the folders" if folder.is_dir() else "does not exist; it needs"
            raise InputError(
                f"{EXTENSIONS} names {folder}, which {state} {', '.join(ROOMS)}; correct it, or "
                "unset it."
            )
    return folders


def _named_folders() -> list[Path]:
    return [Path(part) for part in os.environ.get(EXTENSIONS, "").split(os.pathsep) if part]


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
    for inner in (path.parent for folder in added for path in Path(folder).glob("[!_]*/*.py")):
        warnings.warn(
            f"Extension {inner} is a folder in a room, so it adds nothing; put its modules into "
            f"{inner.parent}, or begin its name with '_'.",
            stacklevel=2,
        )
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
        InputError: if a name is none that can be imported, or two folders have a module of one.
    """
    seen: dict[str, str] = {}
    for folder in places:
        for path in sorted(Path(folder).glob("*.py")):
            if not path.stem.isidentifier():
                raise InputError(
                    f"{path} cannot be imported under its name; name it with letters, digits and "
                    "'_' only."
                )
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
    except InputError as error:
        raise InputError(f"Extension {extension} cannot be loaded: {error}") from error
    except (Exception, SystemExit) as error:  # a script that ends itself would end us
        raise InputError(
            f"Extension {extension} cannot be loaded ({type(error).__name__}: {error}); mend it, "
            f"or take its folder out of {EXTENSIONS}."
        ) from error
