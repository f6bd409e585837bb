"""Numbers and flags as spreadsheets of several languages write them, column by column."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence

FLAGS = {"0": 0.0, "1": 1.0, "false": 0.0, "true": 1.0}
PAIRS = (
    ("no", "yes"), ("n", "y"), ("f", "t"), ("falsch", "wahr"), ("nein", "ja"), ("faux", "vrai"),
    ("non", "oui"), ("falso", "verdadero"), ("no", "si"), ("no", "sí"), ("no", "sì"),
    ("falso", "vero"), ("não", "sim"), ("nee", "ja"), ("negative", "positive"),
    ("absent", "present"),
)  # fmt: skip
"""Words for no and yes; a column of only one of them may mean something else."""
FLAG_WORDS = (("0", "1"), ("false", "true"), *PAIRS)
"""Every two words that may be meant as flags, in lower case."""
UNSURE = frozenset(
    {"uncertain", "unsure", "not sure", "unclear", "equivocal", "indeterminate", "unsicher",
     "unklar", "incertain", "incierto"}
)  # fmt: skip
"""Words for a flag that nobody knows."""

# Codes such as 007 are names, and so are numbers too long for a float to hold.
_NUMBER = re.compile(
    r"-?((0|[1-9]\d{0,14})(\.\d*)?|\.\d+)(e[-+]\d{1,3})?|-?\d\.\d*e\d{1,3}", re.IGNORECASE
)
_WITH_COMMA = re.compile(r"-?\d*,\d+(e[-+]?\d{1,3})?", re.IGNORECASE)
_GROUPED_COMMAS = re.compile(r"-?[1-9]\d{0,2}(,\d{3})+")
_SURELY_GROUPED = re.compile(r"-?[1-9]\d{0,2}((,\d{3}){2,}|(,\d{3})+\.\d+)")
_GROUPED_POINTS = re.compile(r"-?[1-9]\d{0,2}(\.\d{3})+(,\d+)?")
_WITH_POINT = re.compile(r"-?\d*\.\d+")


_WHOLE = re.compile(r"(\d{1,9})([.,]0+)?")
_THOUSANDS = re.compile(r"[1-9]\d{0,2}([.,]\d{3})+")


def as_ids(texts: Sequence[str | None]) -> list[int | None]:
    """The whole numbers from 0 up of a column of ids; None where a cell is none for certain.

    ``12.0`` is 12, as programs write ids that were floats. ``1,000`` is a thousand in a column
    where others have neither mark nor decimals, and 1 in one of decimals; elsewhere it may be
    either.
    """
    known = [text for text in texts if text]
    is_plain = any(map(str.isdecimal, known))
    is_decimal = any(
        match[2] and not _THOUSANDS.fullmatch(match[0]) for match in map(_WHOLE.fullmatch, known)
        if match
    )  # fmt: skip
    found: list[int | None] = []
    for text in texts:
        match = _WHOLE.fullmatch(text or "")
        if text and _THOUSANDS.fullmatch(text) and (is_plain or not is_decimal):
            is_thousand = is_plain and not is_decimal
            found.append(int(re.sub("[.,]", "", text)) if is_thousand else None)
        else:
            found.append(int(match[1]) if match else None)
    return found


def has_decimal_commas(cells: Iterable[str], separator: str) -> bool:
    """Whether a table writes 0,5 for a half: always where semicolons separate its cells.

    Where commas separate them, never. Otherwise some cell must say so, because 1,234 alone may be
    a thousand; and no cell may have a point where others have a comma.
    """
    if separator in (",", ";"):
        return separator == ";"
    says_so = False
    for cell in cells:
        if _WITH_POINT.fullmatch(cell) and not _GROUPED_POINTS.fullmatch(cell):
            return False
        says_so = says_so or bool(
            _WITH_COMMA.fullmatch(cell) and not _GROUPED_COMMAS.fullmatch(cell)
        )
    return says_so


def has_grouping_points(cells: Iterable[str]) -> bool:
    """Whether a table with decimal commas uses some, so that its 1.234 is more than a thousand."""
    return any(_WITH_COMMA.fullmatch(cell) for cell in cells)


def grouping_mark(cells: Collection[str], *, decimal_commas: bool = False) -> str | None:
    """The mark between thousands in the numbers of a table: a comma, a point, or empty for none.

    None where 1,234 may be a thousand or little more than one, and no other number tells which.

    Args:
        cells: all of the table's numbers.
        decimal_commas: whether its form says that it writes 0,5.
    """
    has_commas = any(
        _WITH_COMMA.fullmatch(cell) and not _GROUPED_COMMAS.fullmatch(cell) for cell in cells
    )
    has_points = any(
        _WITH_POINT.fullmatch(cell) and not _GROUPED_POINTS.fullmatch(cell) for cell in cells
    )
    is_grouped = has_points or any(_SURELY_GROUPED.fullmatch(cell) for cell in cells)
    if any(_GROUPED_COMMAS.fullmatch(cell) or _SURELY_GROUPED.fullmatch(cell) for cell in cells):
        if is_grouped == (has_commas or decimal_commas):
            return None
        return "," if is_grouped else ""
    return "." if has_commas and not has_points else ""


def as_numbers(
    texts: Sequence[str | None], *, decimal_commas: bool = False, grouping_points: bool = False
) -> list[int | float | None] | None:
    """The numbers of a column, None where a cell is empty; None if it is not one of numbers.

    Args:
        texts: of the column's cells.
        decimal_commas: whether its table writes 0,5.
        grouping_points: whether its table has such numbers, so that 1.234 may be a thousand.
    """
    plain = [None if text is None else text.replace("−", "-") for text in texts]
    known = [text for text in plain if text is not None]
    has_comma = decimal_commas and any("," in text for text in known)
    if has_comma or (grouping_points and any("." in text for text in known)):
        pointed = [text for text in known if "." in text]
        if all(map(_GROUPED_POINTS.fullmatch, pointed)):
            plain = [t and t.replace(".", "").replace(",", ".") for t in plain]
        elif has_comma:
            return None  # both 1.5 and 2,5
    known = [text for text in plain if text is not None]
    if not known or not all(map(_NUMBER.fullmatch, known)):
        return None
    if all(re.fullmatch(r"-?\d+", text) for text in known):
        return [None if text is None else int(text) for text in plain]
    return [None if text is None else float(text) for text in plain]


def as_flags(
    texts: Sequence[str | None], *, decimal_commas: bool = False
) -> list[float | None] | None:
    """A column of 0 and 1, true and false, yes and no; None if it is not one."""
    words = [None if t is None else unicodedata.normalize("NFC", t).casefold() for t in texts]
    known = {word for word in words if word is not None}
    whole = {word: re.sub(r"^(?:-(?=0))?([01])([.,]0*)?$", r"\1", word) for word in known}
    if not decimal_commas:
        whole = {word: re.sub(r"^(?:-(?=0))?([01])(\.0*)?$", r"\1", word) for word in known}
    if all(each in FLAGS for each in whole.values()):
        value = {word: FLAGS[each] for word, each in whole.items()}
    elif (pair := next((p for p in PAIRS if known == set(p)), None)) is not None:
        value = {pair[0]: 0.0, pair[1]: 1.0}
    else:
        return None
    return [None if word is None else value[word] for word in words] if known else None
