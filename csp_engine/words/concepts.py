"""Concepts that one expects of a classifier, valid and spurious, from a file."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from csp_engine.errors import InputError
from csp_engine.files import ROOT

_FOLDER = ROOT / "assets" / "concepts"
SHIPPED = {"melanoma": _FOLDER / "melanoma.toml"}
"""Files of concepts that come with the project, by name; each states its sources and licence."""


@dataclass(frozen=True, slots=True)
class ConceptGroup:
    """Concepts from one source; each concept is the texts that name it, the usual one first."""

    name: str
    source: str
    is_valid: bool
    concepts: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Expected:
    """What a classifier may look at for one output and what it must not.

    ``outputs`` are names of that output, in lower case; ``searches`` texts worth looking for.
    ``about`` says, by spec, what some models are; ``slices`` says so of test sets, by name.
    """

    title: str
    outputs: tuple[str, ...]
    searches: tuple[str, ...]
    groups: tuple[ConceptGroup, ...]
    about: Mapping[str, str]
    slices: Mapping[str, str]

    def texts(self, is_valid: bool, row_of: Callable[[str], int | None]) -> dict[str, int]:
        """One text for each concept of a kind, and its row: the first of its names that has one.

        Args:
            is_valid: valid concepts, or spurious ones.
            row_of: the row of a text in a vocabulary, or None.
        """
        found: dict[str, int] = {}
        for group in self.groups:
            for names in group.concepts if group.is_valid == is_valid else ():
                rows = ((name, row_of(name)) for name in names)
                first = next(((name, row) for name, row in rows if row is not None), None)
                if first is not None:
                    found[first[0]] = first[1]
        return found

    def output_of(self, names: tuple[str, ...]) -> int | None:
        """Which of a network's outputs this is about, or None."""
        lowered = [name.strip().casefold() for name in names]
        return next((lowered.index(name) for name in self.outputs if name in lowered), None)


def read_expected(path: Path) -> Expected:
    """Read a file such as ``assets/concepts/melanoma.toml``.

    Raises:
        InputError: if it is missing, no TOML, or lacks a part; the sentence says which.
    """
    try:
        held = tomllib.loads(path.read_text("utf-8"))
        groups = [
            ConceptGroup(
                _text(group["name"]), _text(group["source"]), is_valid, _names(group["concepts"])
            )
            for kind, is_valid in (("valid", True), ("spurious", False))
            for group in held[kind]
        ]
        return Expected(
            _text(held["title"]),
            tuple(_text(name).casefold() for name in held["outputs"]),
            tuple(_text(text) for text in held["searches"]),
            tuple(groups),
            {_text(spec): _text(model["about"]) for spec, model in held.get("models", {}).items()},
            {_text(name): _text(text) for name, text in held.get("slices", {}).items()},
        )
    except OSError:
        raise InputError(f"There is no file of concepts at {str(path)!r}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path.name} is not TOML: {error}.") from None
    except KeyError as error:
        raise InputError(f"{path.name} has no {error.args[0]!r}; see its neighbours.") from None
    except (TypeError, AttributeError, ValueError):
        raise InputError(
            f"{path.name} has a value of the wrong kind; concepts are lists of texts."
        ) from None


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(value)
    return value


def _names(concepts: Any) -> tuple[tuple[str, ...], ...]:
    if not isinstance(concepts, list) or not all(concepts):
        raise ValueError(concepts)
    if not all(isinstance(texts, list) for texts in concepts):
        raise ValueError(concepts)
    return tuple(tuple(_text(text) for text in texts) for texts in concepts)
