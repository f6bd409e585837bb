"""What kind of thing a label names: a category, an attribute, or a relation.

By closed lists and endings, not by a parser: what a label in few words says is mostly seen from
them, and the same label always gets the same kind.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal

LabelKind = Literal["category", "attribute", "relation"]
KINDS: tuple[LabelKind, ...] = ("category", "attribute", "relation")

_RELATIONS = """
    of in on at by near beside behind below beneath under over above across along around
    between among inside outside through with without against from to into onto towards
    upon within next facing touching surrounding covering holding crossing
"""
_ATTRIBUTES = """
    red green blue yellow orange purple violet pink brown black white grey gray golden
    silver azure dark light bright pale dull vivid colourful colorful multicolour
    grayscale large big small tiny huge little long short tall wide narrow thick thin deep
    shallow fine coarse round circular square rectangular triangular oval straight curved
    flat sharp blunt regular irregular typical atypical symmetric symmetrical asymmetric
    asymmetrical uneven even many few several single double multiple dense sparse diffuse
    peripheral central old young new fresh raw wet dry soft hard rough smooth shiny glossy
    matt fuzzy furry hairy fluffy woolly scaly grainy blurry wavy curly spiky bumpy dusty
    rusty leafy grassy snowy sandy rocky cloudy sunny foggy empty full open closed wooden
    metallic transparent opaque horizontal vertical diagonal parallel radial concentric
    abstract natural artificial malignant benign clear unclear fair hot cold warm very
"""
RELATIONS = frozenset(_RELATIONS.split())
"""Prepositions, and participles that stand for one."""
ATTRIBUTES = frozenset(_ATTRIBUTES.split())
"""What things can be: of a colour, size, form, number, surface or state."""
_ENDING = re.compile(r".{2,}(?:ish|like|less|ous|ular|shaped|coloured|colored)|.{4,}ed")


def kind_of_label(text: str) -> LabelKind:
    """A relation where it says one, else an attribute where it says one, else a category.

    ``edge of the gel`` is a relation, ``blue patch`` an attribute (of a thing), ``ruler`` a
    category.
    """
    words = re.findall(r"[^\W\d_]+", text.casefold())
    if len(words) > 1 and any(word in RELATIONS for word in words):
        return "relation"
    if any(word in ATTRIBUTES or _ENDING.fullmatch(word) for word in words):
        return "attribute"
    return "category"


def units_by_label(texts: Iterable[str], words: Sequence[str] = ()) -> dict[str, list[int]]:
    """Units by the kind of their label, and under ``words`` those whose label has one of these.

    Args:
        texts: the label of each unit, empty where it has none.
        words: in small letters.
    """
    found: dict[str, list[int]] = {**{kind: [] for kind in KINDS}, "words": []}
    for unit, text in enumerate(texts):
        if not text:
            continue
        found[kind_of_label(text)].append(unit)
        if set(words) & set(re.findall(r"[^\W_]+", text.casefold())):
            found["words"].append(unit)
    return found
