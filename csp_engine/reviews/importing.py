"""Verdicts that were exported elsewhere, with reviewer, note and time, added to a history."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from csp_engine.bundle import Bundle
from csp_engine.cells import original
from csp_engine.errors import InputError
from csp_engine.files import given_bytes
from csp_engine.reviews.chain import moment
from csp_engine.reviews.review import Reviews, checked, lasting_id, require_known
from csp_engine.types import NeuronRef

NEEDED = ("neuron", "reviewer", "verdict", "given_at")
TEXTS = ("note", "confidence", "reason", "method", "label", "bundle", "model")
MOST_BYTES = 1 << 28


@dataclass(frozen=True, slots=True)
class Imported:
    """How many verdicts were added, were there already, or are older than what is there."""

    n_added: int
    n_known: int
    n_older: int


def import_reviews(source: Path, bundle: Bundle, reviews: Reviews) -> Imported:
    """Add the verdicts of a file that ``csp reviews`` wrote, in its order.

    All of them are checked before any is added. What is there already is left out, so the same
    file may be given again; so is what a reviewer said before a word of that person which the
    history holds: it would become the last one.

    Args:
        source: CSV, or JSON if it ends so.
        bundle: whose neurons they are about.
        reviews: where they are added.

    Raises:
        InputError: if the file cannot be read, or a row cannot be a verdict on these neurons.
        ReviewError: if one cannot be written; those before it are there.
    """
    rows = [_checked(bundle, at, row) for at, row in enumerate(_rows(source), 1)]
    held: dict[tuple[NeuronRef, str], list[tuple[Any, ...]]] = {}
    n_added = n_known = n_older = 0
    for neuron, given in rows:
        whose = (neuron, given["reviewer"])
        if whose not in held:
            said = [r for r in reviews.history(neuron) if r.reviewer == given["reviewer"]]
            held[whose] = [
                (r.given_at.replace(microsecond=0), r.verdict, r.note, r.confidence, r.reason)
                for r in said
            ]
        now = given["given_at"].replace(microsecond=0)
        entry = (now, given["verdict"], given["note"], given["confidence"], given["reason"])
        if entry in held[whose]:
            n_known += 1
        elif any(other[0] > now for other in held[whose]):
            n_older += 1
        else:
            reviews.add(neuron, **given)
            held[whose].append(entry)
            n_added += 1
    return Imported(n_added, n_known, n_older)


def _rows(source: Path) -> Sequence[Mapping[str, Any]]:
    try:
        if source.stat().st_size > MOST_BYTES:
            raise InputError(f"{source} is larger than any history of verdicts.")
        text = given_bytes(source).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        said = getattr(error, "strerror", None) or "it is no text in UTF-8"
        raise InputError(f"{source} cannot be read: {said}.") from None
    if source.suffix.lower() == ".json":
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            raise InputError(f"{source} is no JSON; give what 'csp reviews' wrote.") from None
        if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
            raise InputError(f"{source} is no list of verdicts; give what 'csp reviews' wrote.")
        return found
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
    except csv.Error as error:
        raise InputError(
            f"{source} is no table ({error}); give what 'csp reviews' wrote."
        ) from None
    return [{k: original(v) if isinstance(v, str) else v for k, v in row.items()} for row in rows]


def _checked(bundle: Bundle, at: int, row: Mapping[str, Any]) -> tuple[NeuronRef, dict[str, Any]]:
    """A row as ``Reviews.add`` takes it."""
    lacking = [name for name in NEEDED if not isinstance(row.get(name), str)]
    if lacking:
        raise InputError(f"Row {at} has no {lacking[0]}; a verdict needs {', '.join(NEEDED)}.")
    texts = {name: row.get(name) or "" for name in TEXTS}
    odd = [name for name, value in texts.items() if not isinstance(value, str)]
    if odd:
        raise InputError(f"Row {at} has a {odd[0]} that is no text.")
    try:
        neuron = NeuronRef.parse(row["neuron"])
        if neuron.model not in bundle.model_names or neuron.layer not in bundle.layers(
            neuron.model
        ):
            raise InputError(f"{row['neuron']!r:.80} is no neuron of {bundle.name}.")
        if neuron.unit >= bundle.n_units(neuron.model, neuron.layer):
            raise InputError(f"{row['neuron']!r:.80} is no neuron of {bundle.name}.")
        lasting = lasting_id(bundle, neuron)
        if texts["model"] and texts["model"] != lasting.model:
            raise InputError(
                f"It is about another network called {neuron.model!r:.40}, with the fingerprint "
                f"{texts['model'][:12]}."
            )
        reviewer, note = checked(row["reviewer"], row["verdict"], texts["note"])
        require_known(texts["confidence"], texts["reason"])
    except InputError as error:
        raise InputError(f"Row {at}: {error} Nothing was added.") from None
    given = moment(row["given_at"].replace("Z", "+00:00"))
    if given is None or given > datetime.now(UTC) + timedelta(days=1):
        raise InputError(
            f"Row {at} was given at {row['given_at']!r:.40}, which is no time that has been; write "
            "it as 2026-01-31T12:00:00Z. Nothing was added."
        )
    return lasting, {
        "reviewer": reviewer,
        "verdict": row["verdict"],
        "note": note,
        "confidence": texts["confidence"],
        "reason": texts["reason"],
        "method": texts["method"],
        "label": texts["label"],
        "bundle": texts["bundle"][:64],
        "given_at": given,
    }
