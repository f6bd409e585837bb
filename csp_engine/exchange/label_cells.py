"""What one cell of a label table says: texts, with scores and weights that stand beside them."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from csp_engine.errors import InputError
from csp_engine.reading.literals import NotWholeError, literal
from csp_engine.reading.numbers import as_ids
from csp_engine.reading.tables import NOT_KNOWN, cell_text, key_of, known_text

TEXT = ("description", "label", "concept", "explanation", "concept_name", "caption", "annotation",
        "text", "label_name", "class_name", "name", "formula", "descriptions", "labels", "concepts",
        "explanations", "phrase", "phrases", "words", "word", "best_label", "best_name",
        "best_description", "best_concept", "top_label", "top_concept")  # fmt: skip
SEVERAL = frozenset({"descriptions", "labels", "concepts", "explanations", "phrases", "words"})
"""Of these, the ones that promise more than one text: there, semicolons stand between texts."""
SCORE = ("score", "similarity", "sim_correlation", "metric", "auroc", "auc", "iou", "correlation",
         "mean_activation", "val_correlation", "confidence", "scores", "similarities",
         "cosine_similarity", "clip_score")  # fmt: skip
WEIGHT = ("weight", "weights", "coefficient", "coefficients", "coef", "coefs")
"""Names of columns, in the spelling of ``tables.key_of``; the first that a table has is taken."""

_MOST = float(np.finfo(np.float32).max)
_NUMBER = r"\d*\.?\d+(?:e[-+]?\d+)?"
_TERM = re.compile(rf"\s*([-+−]?)\s*({_NUMBER})\s*[*·×]\s*(\S.*)", re.IGNORECASE)
_NEXT_TERM = re.compile(rf"\s+(?=[-+−]\s*{_NUMBER}\s*[*·×])", re.IGNORECASE)
_ITEM = re.compile(r"\s*(?:\d{1,2}[.):]|[-*•–])\s+(\S.*)")
_BARE = re.compile(r"\[([^\[\]{}\"']+,[^\[\]{}\"']+)\]")
_CALLED = re.compile(
    r"(?:unit|neuron|channel|feature|latent|component|filter|node|#)"
    r"(?:[\s_:#-]*(?:id|idx|index)?[\s_:#-]*)(\d+)",
    re.IGNORECASE,
)
_ADDRESS = re.compile(r"(.*[^\s/:])[/:](?:unit|neuron|channel|feature)?[\s_]*(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Said:
    """A text, and what its own cell says of it: None where that says nothing."""

    text: str
    score: Any = None
    weight: Any = None


def text_of(value: Any) -> str:
    """A cell as text; "null" and "none" are labels like any other."""
    return unicodedata.normalize("NFC", cell_text(value) or "")


def is_words(value: Any) -> bool:
    """Whether a cell holds letters, so that it is no bare number."""
    return bool(re.search(r"[^\W\d]", text_of(value)))


def listed(cell: Any, place: str, *, splits: bool = False) -> list[Said] | None:
    """A cell that holds several texts, perhaps with a score or a weight each; None for one text.

    That is a list of texts, of pairs or of records, a record of scores by text, lines that are
    numbered or have bullets, or a sum of weighted concepts. Lists may be printed by Python, numpy
    or JSON.

    Args:
        cell: as its file holds it.
        place: where it stands, as the beginning of a sentence.
        splits: whether its column promises several texts, so that semicolons divide them.

    Raises:
        InputError: if it is a list that is not whole.
    """
    if isinstance(cell, str):
        held = printed(cell, place)
        if held is None:
            return _lines_of(cell) or _terms_of(cell) or (_parts(cell, ";") if splits else None)
        cell = held
    if isinstance(cell, Mapping):
        one = of_record(cell)
        if one is not None:
            return [one]
        for value in cell.values():
            if not (value is None or _is_number(value) or _only_number(str(value)) < math.inf):
                raise _not_texts(cell, place)
        return [Said(text_of(key), value) for key, value in cell.items() if value is not None]
    if not isinstance(cell, list | tuple | np.ndarray):
        return None
    items = [_only_one(each) for each in cell]
    if len(items) == 2 and isinstance(items[0], str) and _is_number(items[1]):
        return [Said(text_of(items[0]), items[1])]
    found: list[Said] = []
    for each in items:
        if isinstance(each, list | tuple | np.ndarray) and len(each) == 2:
            found.append(Said(text_of(each[0]), each[1]))
        elif isinstance(each, str | int | float | np.number):
            found.append(Said(text_of(each)))
        elif isinstance(each, Mapping) and (one := of_record(each)) is not None:
            found.append(one)
        elif each is not None:
            raise _not_texts(cell, place)
    return found


def _only_one(item: Any) -> Any:
    """What a list of one text holds; anything else as it is."""
    is_one = isinstance(item, list | tuple | np.ndarray) and len(item) == 1
    return item[0] if is_one else item


def _not_texts(cell: Any, place: str) -> InputError:
    return InputError(
        f"{place} has {str(cell)[:60]!r}, which is no list of texts or of texts with scores; write "
        'it as [["dog", 0.5], ["cat", 0.2]].'
    )


def printed(cell: str, place: str) -> Any:
    """The list, array or record that a text spells; None if it spells none.

    Raises:
        InputError: if it is a list that is not whole, or one of texts in quotation marks that
            cannot be read.
    """
    text = cell.strip()
    if text[-1:] not in ("]", "}", ")") or len(text) < 2:
        return None
    try:
        held = json.loads(text)
    except (ValueError, RecursionError):
        try:
            held = literal(text)
        except NotWholeError as error:
            raise InputError(f"{place} has {error}.") from None
        except ValueError:
            if bare := _BARE.fullmatch(text):
                return _parts_of(bare[1], ",")
            if text[:2] in ("['", '["', "{'", '{"', "('", '("') and text[-1] == _CLOSES[text[0]]:
                raise InputError(
                    f"{place} has the list {text[:60]!r}, which cannot be read; write it as JSON, "
                    'such as ["dog", "cat"].'
                ) from None
            return None
    return held if isinstance(held, list | dict) else None


_CLOSES = {"[": "]", "{": "}", "(": ")"}


def of_record(record: Mapping[Any, Any]) -> Said | None:
    """The text, score and weight of one record, by the names that columns have."""
    held = {key_of(str(key)): value for key, value in record.items()}
    text = next((held[name] for name in TEXT if isinstance(held.get(name), str)), None)
    if text is None:
        return None
    first = [
        next((held[name] for name in names if name in held), None) for names in (SCORE, WEIGHT)
    ]
    return Said(text_of(text), *first)


def _lines_of(cell: str) -> list[Said] | None:
    """The items of a text whose lines are all numbered, or all have bullets."""
    lines = [line for line in cell.splitlines() if line.strip()]
    items = [_ITEM.fullmatch(line) for line in lines]
    if len(items) < 2 or not all(items):
        return None
    return [Said(text_of(item[1])) for item in items if item]


def _terms_of(cell: str) -> list[Said] | None:
    """The concepts of a weighted sum such as ``0.5*dog - 0.25*cat``."""
    terms = [term for each in _NEXT_TERM.split(cell) if (term := _TERM.fullmatch(each))]
    if len(terms) != len(_NEXT_TERM.split(cell)) or (len(terms) == 1 and "." not in terms[0][2]):
        return None
    signs = {"-": -1, "−": -1}
    return [Said(text_of(t[3]), weight=signs.get(t[1], 1) * float(t[2])) for t in terms]


def _parts(cell: str, mark: str) -> list[Said] | None:
    parts = _parts_of(cell, mark)
    return [Said(text_of(part)) for part in parts] if len(parts) > 1 else None


def _parts_of(cell: str, mark: str) -> list[str]:
    return [part.strip() for part in cell.split(mark) if part.strip()]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def number_of(value: Any, place: str, what: str) -> float:
    """A cell as a number, NaN where it is empty; ``50 %`` is 0.5, and ``tensor(0.5)`` too.

    Raises:
        InputError: if it is none, or too large to be kept.
    """
    text = known_text(value, NOT_KNOWN)
    if text is None:
        return math.nan
    shown = text
    percent = re.fullmatch(r"(.*\S)\s*[%٪﹪%]", text)
    text = percent[1] if percent else text
    if re.fullmatch(r"[-−]?\d*,\d+(e[-+]?\d+)?", text, re.IGNORECASE):
        text = text.replace(",", ".")
    number = _only_number(text.replace("−", "-"))
    if abs(number) > _MOST:
        raise InputError(
            f"{place} has the {what.replace('_', ' ')} {shown[:80]!r}, which is not a number that "
            "can be kept; correct it or leave it empty."
        )
    return number / 100 if percent else number


def _only_number(text: str) -> float:
    """The number of a text or of a printed value, ``tensor([0.5])``; infinite if it is none."""
    try:
        held = literal(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            return math.inf
    while isinstance(held, list) and len(held) == 1:
        held = held[0]
    return float(held) if _is_number(held) else math.inf


def places_of(cells: Iterable[Any]) -> tuple[list[str], list[str]]:
    """Cells of a column of units as layers and numbers: ``unit_7``, ``layer4/7``, ``tensor(7)``.

    A cell that says no layer has "" for it. What is understood in none of these ways stays as it
    is.
    """
    layers, units = [], []
    for cell in cells:
        text, layer = text_of(cell), ""
        if called := _CALLED.fullmatch(text):
            text = called[1]
        elif address := _ADDRESS.fullmatch(text):
            layer, text = address[1], address[2]
        elif text.endswith((")", "]")) and (number := _only_number(text)) % 1 == 0:
            text = f"{number:.0f}"
        layers.append(layer)
        units.append(text)
    return layers, units


def members(value: Any, place: str) -> list[str]:
    """The units that a cell of a group names."""
    inside = listed(value, place)
    if inside is not None:
        return [each.text for each in inside]
    return [part for part in re.split(r"[\s,;+_]+", text_of(value).strip("()[]")) if part]


def unit_numbers(rows: Sequence[Sequence[str]], name: str, *, apart: bool) -> list[list[int]]:
    """The units that each row names, as numbers.

    Args:
        rows: texts of the units of each row.
        name: of the table, for messages.
        apart: whether a comma may stand between units, so that each is read by itself.

    Raises:
        InputError: if one is no whole number from 0 up, or a row names none.
    """
    flat = [text for own in rows for text in own]
    numbers = iter([as_ids([text])[0] for text in flat] if apart else as_ids(flat))
    units = []
    for row, own in enumerate(rows, start=1):
        found = [next(numbers) for _ in own]
        if None in found:
            raise InputError(
                f"Row {row} of {name} has the unit {own[found.index(None)]!r}; a unit is a whole "
                "number from 0 up, without marks between thousands."
            )
        if not found:
            raise InputError(f"Row {row} of {name} names no unit; fill it in or remove it.")
        units.append(list(dict.fromkeys(number for number in found if number is not None)))
    return units


def for_each(value: Any, n: int, place: str, what: str) -> list[Any]:
    """One score or weight for each of ``n`` texts, of a cell that may list them.

    Raises:
        InputError: if it lists another number.
    """
    held = printed(value, place) if isinstance(value, str) else value
    if not isinstance(held, list | tuple | np.ndarray):
        return [value] * n
    if len(held) != n:
        raise InputError(
            f"{place} has {len(held)} numbers in {what.replace('_', ' ')!r} for {n} texts; give "
            "one for each."
        )
    return list(held)
