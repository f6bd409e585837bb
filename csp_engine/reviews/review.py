"""What a review is: a verdict of one person on one neuron, at one time, and what was seen then."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

from csp_engine.bundle import Bundle
from csp_engine.errors import InputError
from csp_engine.types import NeuronRef

VERDICTS = ("valid", "spurious", "mixed", "unclear")
"""What may be said of a neuron.

``valid``: it answers to something that the model may go by. ``spurious``: to something that says
nothing about the class. ``mixed``: to both, or to several things. ``unclear``: the images
do not say.
"""
CONFIDENCES = ("low", "medium", "high")
"""How sure a reviewer may be of a verdict; empty where it was not said."""
REASONS = ("images", "contrast images", "label", "association", "intervention", "other")
"""What a verdict may rest on most; empty where it was not said."""
WITHDRAWN = "withdrawn"
"""What the history holds where somebody took a verdict back."""
DISAGREE = "disagree"
"""What a neuron is said to be where reviewers differ."""
FIELDS = (
    "neuron", "reviewer", "revision", "verdict", "confidence", "reason", "note", "is_latest",
    "given_at", "method", "label", "bundle", "same_bundle", "model",
)  # fmt: skip
"""What ``as_rows`` gives of every review, in this order."""
MAX_NOTE, MAX_NAME, MAX_LABEL = 500, 200, 1000
_CONTROL = re.compile("[\u0000-\u0008\u000b-\u001f\u007f]")


@dataclass(frozen=True, slots=True)
class Review:
    """One row of the history.

    ``neuron`` holds the fingerprint of its model, not a name: a model may be called otherwise in
    another bundle. ``bundle`` is the digest of the bundle that the reviewer looked at; ``method``
    and ``label`` are what it was called there. ``revision`` counts what this reviewer has said
    about this neuron, from 1. ``given_at`` is in UTC. ``confidence`` and ``reason`` are of
    ``CONFIDENCES`` and ``REASONS``, or empty.
    """

    neuron: NeuronRef
    revision: int
    reviewer: str
    verdict: str
    note: str
    method: str
    label: str
    bundle: str
    given_at: datetime
    confidence: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check of the history found; ``head`` is the last entry's hash, empty without any."""

    n_entries: int
    head: str
    problems: tuple[str, ...]


@runtime_checkable
class Reviews(Protocol):
    """A database of reviews; all raise ``ReviewError`` if it cannot be read or written."""

    def add(
        self,
        neuron: NeuronRef,
        *,
        reviewer: str,
        verdict: str,
        note: str = "",
        method: str = "",
        label: str = "",
        bundle: str = "",
        confidence: str = "",
        reason: str = "",
        given_at: datetime | None = None,
    ) -> None:
        """Add a row; it is on disk when this returns."""
        ...

    def history(self, neuron: NeuronRef) -> list[Review]:
        """All that was said about a neuron, the newest first."""
        ...

    def of_models(self, models: Collection[str], until: int | None = None) -> list[Review]:
        """All that was said about the neurons of some models up to a row, the oldest first."""
        ...

    def check(self, head: str = "", until: int | None = None) -> Checked:
        """Compare every entry up to a row with its hash and the one before it."""
        ...

    def since(self, last: int) -> Sequence[tuple[int, str, str, int, str, str]]:
        """What came after a row: its number, model, layer, unit, reviewer and verdict."""
        ...


def lasting_id(bundle: Bundle, neuron: NeuronRef) -> NeuronRef:
    """A neuron by the fingerprint of its model, which a rebuilt bundle keeps."""
    described = bundle.manifest.inputs["models"][neuron.model]
    return NeuronRef(described["fingerprint"], neuron.layer, neuron.unit)


def checked(reviewer: str, verdict: str, note: str) -> tuple[str, str]:
    """Reviewer and note as they are kept: without control characters and outer blanks.

    Raises:
        InputError: for an unknown verdict, no reviewer, or a text that is too long.
    """
    if verdict not in (*VERDICTS, WITHDRAWN):
        raise InputError(f"{verdict[:40]!r} is not a verdict; choose one of {', '.join(VERDICTS)}.")
    reviewer, note = cleaned(reviewer), cleaned(note)
    if not reviewer:
        raise InputError("A verdict needs the name of who gives it.")
    if len(reviewer) > MAX_NAME:
        raise InputError(f"The reviewer's name is longer than {MAX_NAME} characters.")
    if len(note) > MAX_NOTE:
        raise InputError(f"The note is longer than {MAX_NOTE} characters; shorten it.")
    return reviewer, note


def require_known(confidence: str, reason: str) -> None:
    """Refuse a confidence or a reason that is not one of the choices.

    Raises:
        InputError: naming them.
    """
    for what, value, known in (
        ("confidence", confidence, CONFIDENCES), ("reason", reason, REASONS),
    ):  # fmt: skip
        if value and value not in known:
            raise InputError(f"{value[:40]!r} is no {what}; choose one of {', '.join(known)}.")


def cleaned(text: str) -> str:
    """A text that every database can hold."""
    return _CONTROL.sub("", text).encode("utf-8", "replace").decode("utf-8").strip()


def latest_of(history: Iterable[Review]) -> list[Review]:
    """The last row of each reviewer in a history of one neuron, the newest first.

    Verdicts that were taken back are left out.
    """
    last: dict[str, Review] = {}
    for review in history:
        held = last.get(review.reviewer)
        if held is None or held.revision < review.revision:
            last[review.reviewer] = review
    return [review for review in last.values() if review.verdict != WITHDRAWN]


def agreed(verdicts: Collection[str]) -> str:
    """What a neuron is said to be: a verdict, ``disagree``, or empty where nobody said anything."""
    said = set(verdicts) - {WITHDRAWN}
    return DISAGREE if len(said) > 1 else next(iter(said), "")


def as_rows(bundle: Bundle, reviews: Reviews, until: int | None = None) -> list[dict[str, Any]]:
    """The whole history of a bundle's neurons, ready for JSON or CSV, the oldest first.

    With ``until``, the history as it was when the row of that number was the last. ``is_latest``
    says whether the row is the reviewer's last word on the neuron; ``same_bundle``
    whether the reviewer looked at this very bundle and no other build.
    """
    described = bundle.manifest.inputs.get("models", {})
    names: dict[str, str] = {}
    for name in bundle.model_names:
        names.setdefault(described[name]["fingerprint"], name)
    found = reviews.of_models(names, until)
    last = {(review.neuron, review.reviewer): review.revision for review in found}
    rows = []
    for each in found:
        neuron = NeuronRef(names[each.neuron.model], each.neuron.layer, each.neuron.unit)
        values = (
            str(neuron), each.reviewer, each.revision, each.verdict, each.confidence, each.reason,
            each.note, each.revision == last[each.neuron, each.reviewer],
            f"{each.given_at:%Y-%m-%dT%H:%M:%SZ}", each.method, each.label,
            each.bundle, each.bundle == bundle.digest, each.neuron.model,
        )  # fmt: skip
        rows.append(dict(zip(FIELDS, values, strict=True)))
    return rows
