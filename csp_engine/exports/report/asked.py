"""What a section of a report is given: the bundle, what is asked about it, and the verdicts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from csp_engine import numbers
from csp_engine.bundle import Bundle, StoredIntervention
from csp_engine.bundle.manifest import MANIFEST_NAME
from csp_engine.exports.report.document import Cell, Section, Source
from csp_engine.views.memo import Memo
from csp_engine.words.concepts import ConceptSet

IMAGE, NETWORK = "intervention on the image", "intervention on the network"
ASSOCIATION, RESEMBLANCE = "association", "resemblance"
EVIDENCE = {
    IMAGE: "the same photograph with and without one thing shows what that thing does to the "
    "output, on photographs like these",
    NETWORK: "activations taken from another version of a photograph, or from nothing, show what "
    "part of an effect passes through some neurons",
    ASSOCIATION: "neurons that are more active where a concept is shown go along with it; what "
    "else goes along with the concept may be the reason",
    RESEMBLANCE: "images that excite a neuron look like what a text says; that the output rests on "
    "it does not follow",
}
"""Kinds of evidence and what each can show, the strongest first."""


@dataclass(frozen=True, slots=True)
class Said:
    """The history of verdicts as far as a report knows it.

    ``rows`` are those of ``csp_engine.reviews.as_rows``; ``last`` is the number of the database's
    last entry, ``head`` its hash, empty where the history is not chained.
    """

    rows: tuple[dict[str, Any], ...]
    last: int
    head: str
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Asked:
    """What a report is about."""

    bundle: Bundle
    memo: Memo
    model: str
    method: str
    said: Said | None
    concepts: ConceptSet

    @cached_property
    def stored(self) -> StoredIntervention | None:
        """What pairs of images showed about the model; None where there were none."""
        return self.bundle.intervention(self.model)

    @property
    def manifest(self) -> Source:
        """The manifest, which holds hashes of all other files."""
        return Source(MANIFEST_NAME, self.bundle.digest)

    def source(self, stage: str, *files: str) -> tuple[Source, ...]:
        """Some files of a stage; all of them where none is named."""
        record = self.bundle.stage(stage)
        return tuple(
            Source("/".join(self.bundle.manifest.place(stage, name)), record.files[name].sha256)
            for name in files or sorted(record.files)
        )


@dataclass(frozen=True, slots=True)
class Chapter:
    """How a section of a report comes about.

    ``make`` gives its blocks, or none where the bundle has nothing for it; then ``lacking`` is said
    among what was not tested.
    """

    name: str
    title: str
    make: Callable[[Asked], tuple[Any, ...]]
    evidence: str = ""
    lacking: str = ""

    def section(self, asked: Asked) -> Section | None:
        """The section, None where there is nothing to say."""
        blocks = self.make(asked)
        return Section(self.name, self.title, self.evidence, blocks) if blocks else None


def words(text: object) -> Cell:
    """A cell that is no number."""
    return Cell(str(text))


def number_of(n: int) -> Cell:
    """A count."""
    return Cell(numbers.count(n), int(n))


def known(value: Any) -> str:
    """A text of a table, empty where it holds none."""
    return "" if value is None or pd.isna(value) else str(value)
