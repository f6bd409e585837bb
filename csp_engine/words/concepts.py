"""Sets of concepts to audit a classifier with: valid, spurious and neutral ones, from a file."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from csp_engine.errors import InputError
from csp_engine.files import ROOT, given_bytes

Tag = Literal["valid", "spurious", "neutral"]
TAGS: tuple[Tag, ...] = ("valid", "spurious", "neutral")
"""What a network may look at, what it must not, and what says nothing either way."""
_FOLDER = ROOT / "assets" / "concepts"
SHIPPED = {"melanoma": _FOLDER / "melanoma.toml"}
"""Concept sets that come with the project, by name; each states its sources and licence."""


@dataclass(frozen=True, slots=True)
class ConceptGroup:
    """Concepts from one source; each concept is the texts that name it, the usual one first."""

    name: str
    source: str
    tag: Tag
    concepts: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, eq=False)
class ConceptSet:
    """What a classifier may look at for one output and what it must not.

    ``outputs`` are names of that output, in lower case; ``searches`` texts worth looking for.
    ``about`` says, by spec, what some models are; ``slices`` says so of test sets, by name.
    ``sha256`` is that of its file.
    """

    title: str
    outputs: tuple[str, ...]
    searches: tuple[str, ...]
    groups: tuple[ConceptGroup, ...]
    about: Mapping[str, str]
    slices: Mapping[str, str]
    sha256: str

    @property
    def tags(self) -> tuple[Tag, ...]:
        """The tags that have a concept."""
        return tuple(tag for tag in TAGS if any(group.tag == tag for group in self.groups))

    def texts(self, tag: Tag, row_of: Callable[[str], int | None]) -> dict[str, int]:
        """One text for each concept of a tag, and its row: the first of its names that has one.

        Args:
            tag: which concepts.
            row_of: the row of a text in a vocabulary, or None.
        """
        found: dict[str, int] = {}
        for group in self.groups:
            for names in group.concepts if group.tag == tag else ():
                rows = ((name, row_of(name)) for name in names)
                first = next(((name, row) for name, row in rows if row is not None), None)
                if first is not None:
                    found[first[0]] = first[1]
        return found

    def output_of(self, names: tuple[str, ...]) -> int | None:
        """Which of a network's outputs this is about, or None."""
        lowered = [name.strip().casefold() for name in names]
        return next((lowered.index(name) for name in self.outputs if name in lowered), None)


def read_concept_set(path: Path) -> ConceptSet:
    """Read a file such as ``assets/concepts/melanoma.toml``; docs/methods.md says what is in it.

    Raises:
        InputError: if it is missing, no TOML, or lacks a part; the sentence says which.
    """
    try:
        content = given_bytes(path)
        held = tomllib.loads(content.decode("utf-8"))
        groups = [
            ConceptGroup(
                _text(group["name"]), _text(group["source"]), tag, _names(group["concepts"])
            )
            for tag in TAGS
            for group in (held.get(tag, []) if tag == "neutral" else held[tag])
        ]
        return ConceptSet(
            _text(held["title"]),
            tuple(_text(name).casefold() for name in held["outputs"]),
            tuple(_text(text) for text in held.get("searches", [])),
            tuple(groups),
            {_text(spec): _text(model["about"]) for spec, model in held.get("models", {}).items()},
            {_text(name): _text(text) for name, text in held.get("slices", {}).items()},
            hashlib.sha256(content).hexdigest(),
        )
    except OSError:
        raise InputError(f"There is no concept set at {str(path)!r}; name a TOML file.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path.name} is not TOML: {error}.") from None
    except KeyError as error:
        raise InputError(
            f"{path.name} has no {error.args[0]!r}; docs/methods.md shows a concept set."
        ) from None
    except (TypeError, AttributeError, ValueError):
        raise InputError(
            f"{path.name} has a value of the wrong kind; concepts are lists of texts."
        ) from None


def find_concept_set(spec: str) -> ConceptSet:
    """A concept set by the name of one that comes with the project, or by its file.

    Raises:
        InputError: as ``read_concept_set``.
    """
    if spec in SHIPPED:
        return read_concept_set(SHIPPED[spec])
    path = Path(spec)
    if not path.is_file():
        raise InputError(
            f"There is no concept set {spec!r}; name a TOML file, or {', '.join(SHIPPED)}."
        )
    return read_concept_set(path)


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
