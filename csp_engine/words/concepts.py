"""Sets of concepts to audit a classifier with: valid, spurious and neutral ones, from a file."""

from __future__ import annotations

import hashlib
import tomllib
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from csp_engine.errors import InputError
from csp_engine.files import ROOT, given_bytes
from csp_engine.printable import one_line
from csp_engine.reading.tables import singular_key

Tag = Literal["valid", "spurious", "neutral"]
TAGS: tuple[Tag, ...] = ("valid", "spurious", "neutral")
"""What a network may look at, what it must not, and what says nothing either way."""
MOST_BYTES = 1 << 15
"""Of the file of a concept set."""
LONGEST = 300
"""Characters of a text in it."""
_PARTS = ("title", "outputs", *TAGS, "searches", "models", "slices")
_OF_GROUP, _OF_MODEL = ("name", "source", "concepts"), ("about",)
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
    ``content`` is its file, ``sha256`` that of the file.
    """

    title: str
    outputs: tuple[str, ...]
    searches: tuple[str, ...]
    groups: tuple[ConceptGroup, ...]
    about: Mapping[str, str]
    slices: Mapping[str, str]
    content: bytes
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
        InputError: if it is missing, or as ``parse_concept_set``.
    """
    try:
        content = given_bytes(path)
    except OSError:
        raise InputError(f"There is no concept set at {str(path)!r}; name a TOML file.") from None
    return parse_concept_set(content, path.name)


def parse_concept_set(content: bytes, name: str) -> ConceptSet:
    """The concept set that a file holds.

    Args:
        content: the file.
        name: what the file is called in sentences.

    Raises:
        InputError: if it is no TOML, lacks a part, has one that no set has or more than a list of
            concepts can have, or gives one text two tags; the sentence says which.
    """
    if len(content) > MOST_BYTES:
        raise InputError(
            f"{name} has {len(content):,} bytes, and a concept set at most {MOST_BYTES:,}."
        )
    try:
        held = tomllib.loads(content.decode("utf-8-sig"))
        _require_known(held, _PARTS, name, "concept set")
        for tag in TAGS:
            for group in _list(held.get(tag, [])):
                _require_known(group, _OF_GROUP, name, "group of concepts")
        for model in held.get("models", {}).values():
            _require_known(model, _OF_MODEL, name, "model of a concept set")
        groups = [
            ConceptGroup(
                _text(group["name"]), _text(group["source"]), tag, _names(group["concepts"])
            )
            for tag in TAGS
            for group in _list(held.get(tag, []) if tag == "neutral" else held[tag])
        ]
        found = ConceptSet(
            _text(held["title"]),
            tuple(_text(each).casefold() for each in _list(held["outputs"])),
            tuple(_text(text) for text in _list(held.get("searches", []))),
            tuple(groups),
            {_text(spec): _text(model["about"]) for spec, model in held.get("models", {}).items()},
            {_text(each): _text(text) for each, text in held.get("slices", {}).items()},
            content,
            hashlib.sha256(content).hexdigest(),
        )
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{name} is not TOML: {error}.") from None
    except KeyError as error:
        raise InputError(
            f"{name} has no {error.args[0]!r}; docs/methods.md shows a concept set."
        ) from None
    except (TypeError, AttributeError, ValueError):
        raise InputError(
            f"{name} has a value of the wrong kind; outputs and searches are lists of texts, and "
            f"concepts lists of such lists, of at most {LONGEST} characters each, without line "
            "breaks or control characters."
        ) from None
    _require_one_tag(found, name)
    return found


def _require_one_tag(found: ConceptSet, name: str) -> None:
    tags: dict[str, Tag] = {}
    for group in found.groups:
        for text in (text for texts in group.concepts for text in texts):
            first = tags.setdefault(singular_key(text), group.tag)
            if first != group.tag:
                raise InputError(
                    f"{name} calls {text!r} both {first} and {group.tag}; leave one of them out."
                )


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


def _require_known(part: Mapping[str, Any], known: Sequence[str], name: str, what: str) -> None:
    """Refuse what would not be read, such as a misspelt part."""
    if strange := [each for each in part if each not in known]:
        raise InputError(
            f"{name} has {one_line(strange[0])[:80]!r}, which no {what} has; its parts are "
            f"{', '.join(known)}."
        )


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > LONGEST:
        raise ValueError(value)
    if one_line(value) != value:
        raise ValueError(value)
    return unicodedata.normalize("NFC", value.strip())


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):  # a text would be a list of its letters
        raise ValueError(value)
    return value


def _names(concepts: Any) -> tuple[tuple[str, ...], ...]:
    if not all(_list(concepts)):
        raise ValueError(concepts)
    return tuple(tuple(_text(text) for text in _list(texts)) for texts in concepts)
