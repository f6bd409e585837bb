"""Which columns of a probe set's table became concept columns, and which nearly did, in words."""

from __future__ import annotations

import pandas as pd

from csp_engine import numbers
from csp_engine.bundle import Bundle, kinds
from csp_engine.errors import shortened
from csp_engine.probe.columns import RESERVED
from csp_engine.reading.numbers import FLAG_WORDS
from csp_engine.reading.tables import NOT_KNOWN, known_text

MOST_NAMED, MOST_ALIKE = 20, 4
MOST_VALUES = 5
"""A column of more values than this was hardly meant to hold flags."""
_LOOKED_AT = 2000
WHAT_HOLDS = (
    "a concept column holds 1 where an image shows the concept, 0 where it does not, and nothing "
    "where nobody knows"
)


def concept_sentences(bundle: Bundle) -> list[str]:
    """Sentences on concept columns, those that say the same of all images, and those nearly ones.

    A column is nearly one where it holds few values that may have been meant as flags: 0 and 1 and
    a third, two others, one or nothing, or probabilities.
    """
    if not bundle.has(kinds.PROBE.name()):
        return []
    probe = bundle.manifest.inputs.get("probe", {})
    table = bundle.table("probe", "probe")
    concepts = [name for name in probe.get("concepts", []) if name in table]
    sentences = []
    if concepts:
        same = [name for name in concepts if table[name].nunique() < 2]
        plural = "s" if len(concepts) > 1 else ""
        told = f"{numbers.count(len(concepts))} concept column{plural}: {_listed(concepts)}."
        sentences.append(told)
        if same:
            sentences.append(
                f"Neurons are not compared with {_listed(same)}, because each says the same of all "
                f"images, as far as anything; {WHAT_HOLDS}."
            )
    others = [name for name in table if name not in (*concepts, *probe.get("masks", []), *RESERVED)]
    nearly: dict[str, list[str]] = {}
    for name in others:
        held = _nearly(table[name])
        if held:
            nearly.setdefault(held, []).append(str(name))
    if nearly:
        told = [_holding(names, held) for held, names in nearly.items()]
        sentences.append(f"Not taken for concept columns: {_listed(told, '; ')}: {WHAT_HOLDS}.")
    return sentences


def _holding(names: list[str], held: str) -> str:
    """Columns that hold the same."""
    few = [shortened(name, 80) for name in names[:MOST_ALIKE]]
    more = len(names) - len(few)
    named = ", ".join([*few, *([f"{numbers.count(more)} more"] if more else [])])
    return f"{named} ({'hold' if len(names) > 1 else 'holds'} {held})"


def _nearly(values: pd.Series) -> str:
    """What a column holds that may have been meant as flags; empty where it hardly was."""
    known = values.dropna()
    if not len(known):
        return ""
    if known.dtype == object and known.iloc[:_LOOKED_AT].map(str).nunique() > MOST_VALUES:
        return ""
    if pd.api.types.is_numeric_dtype(known):
        texts = {known_text(each, NOT_KNOWN) for each in known.unique()} - {None}
        if len(texts) > MOST_VALUES:
            return "fractions from 0 to 1" if _are_probabilities(known) else ""
    else:
        try:
            each_once = known.unique()
        except TypeError:  # lists have no hash
            each_once = known
        texts = {known_text(each, NOT_KNOWN) for each in each_once} - {None}
    held = sorted(text for text in texts if text is not None)
    looked_at = known.iloc[:_LOOKED_AT]
    n_cells = sum(known_text(each, NOT_KNOWN) is not None for each in looked_at)
    if not held or len(held) > MOST_VALUES or len(held) == n_cells > 1:
        return ""
    is_alone = len(held) == 1 and (len(known) < len(values) or n_cells < len(looked_at))
    has_flags = any(set(pair) <= {text.casefold() for text in held} for pair in FLAG_WORDS)
    if is_alone or len(held) == 2 or has_flags or _are_probabilities(known):
        spelt = [shortened(text, 40) for text in held]
        return " and ".join([", ".join(spelt[:-1]), spelt[-1]] if len(spelt) > 1 else spelt)
    return ""


def _are_probabilities(values: pd.Series) -> bool:
    if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_integer_dtype(values):
        return False
    return bool(values.between(0, 1).all())


def _listed(names: list[str], between: str = ", ") -> str:
    named = [shortened(name, 200) for name in names[:MOST_NAMED]]
    more = len(names) - len(named)
    return between.join([*named, *([f"{numbers.count(more)} more"] if more else [])])
