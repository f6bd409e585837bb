"""Columns of a user's table: which says what, and what each holds."""

from __future__ import annotations

import logging
import posixpath
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence

import pandas as pd

from csp_engine.errors import InputError
from csp_engine.probe.decoding.formats import is_image_name
from csp_engine.probe.paths import FolderListing
from csp_engine.reading.lengths import MOST_OF_CELL, MOST_OF_NAME, require_short
from csp_engine.reading.numbers import PAIRS, UNSURE, as_flags, as_numbers, has_grouping_points
from csp_engine.reading.tables import MISSING, NOT_KNOWN, Table, cell_text, key_of, known_text

logger = logging.getLogger(__name__)

ROLE_COLUMNS = {
    "path": (
        "file", "path", "image", "file_path", "filepath", "image_path", "filename", "file_name",
        "image_name", "image_file", "image_id", "isic_id", "img", "img_path",
    ),
    "class": ("class", "class_name", "label", "category", "diagnosis", "dx"),
    "split": ("split", "subset", "partition"),
    "group": ("group", "group_id", "patient_id", "subject_id", "lesion_id", "case_id"),
}  # fmt: skip
"""Column names taken for a role when the caller names none; the first that the table has wins.
Letters may be capital ones, and blanks, hyphens, points or nothing stand in for ``_``."""

_NAMES_A_GROUP = re.compile(
    r"(anon|anonymi[sz]ed|pseudo|study|public)?(patient|pat|subject|subj|lesion|participant|person|"
    r"individual|proband|animal|case|specimen|donor|mrn)s?(id|ids|no|nr|num|number|code|uid|key|"
    r"name|hash|index|idx)?"
)
"""Names of columns that may say what photographs belong together, without ``_``."""
_LEAST_GROUPS = 10
"""Values of such a column below which it says what something is like, not which one it is."""

RESERVED = (
    "file", "sha256", "class", "split", "group", "listed", "width", "height", "perceptual_hash",
    "duplicate_of", "duplicate_group", "thumb_bytes",
)  # fmt: skip
"""Names with a fixed meaning in a bundle; other columns so named get the prefix ``table_``."""


def choose_columns(
    given: pd.DataFrame, asked: Mapping[str, str | None], table_name: str
) -> dict[str, str]:
    """The column of each role: the one asked for, else the first that is called like it.

    Raises:
        InputError: if a column does not exist or has two roles, or none holds image paths.
    """
    existing = ", ".join(given.columns)
    chosen: dict[str, str] = {}
    for role, column in asked.items():
        if column is not None:
            found = _named(column, list(given.columns))
            if found is None:
                raise InputError(
                    f"Table {table_name!r} has no column {column!r} for the {role}; "
                    f"it has {existing}."
                )
            if found in chosen.values():
                raise InputError(f"Column {found!r} cannot be both the {role} and another role.")
            chosen[role] = found
    for role, names in ROLE_COLUMNS.items():
        if role in chosen:
            continue
        others = [column for column in given.columns if column not in chosen.values()]
        found = called(names, others)
        if found is not None:
            chosen[role] = found
    if "path" not in chosen:
        if any(is_image_name(column) for column in given.columns):
            raise InputError(
                f"Table {table_name!r} begins with an image ({existing[:80]}), and its first line "
                "must name its columns; add one such as file,class."
            )
        raise InputError(
            f"Table {table_name!r} has no column with image paths: it has {existing[:200]}; "
            "name one of them with --path-column."
        )
    return chosen


def called(names: Sequence[str], columns: Sequence[str]) -> str | None:
    """The column that is called by the first of some names that any is, in whatever spelling.

    ``PatientID`` is ``patient_id``; a remark may follow, as in "Patient ID (anonymised)", where
    only one column is called so.
    """
    by_key: dict[str, str] = {}
    for column in columns:
        by_key.setdefault(_joined(column), column)
    for name in map(_joined, names):
        if name in by_key:
            return by_key[name]
    wanted = {_joined(name) for name in names}
    remarked = [c for c in by_key.values() if _joined(re.split(r"[,;:(\[]", c)[0]) in wanted]
    return remarked[0] if len(remarked) == 1 else None


def _joined(name: str) -> str:
    return key_of(name).replace("_", "")


def _named(asked: str, columns: Sequence[str]) -> str | None:
    """The column of that very name, else the only one that is called like it."""
    if asked in columns:
        return asked
    alike = [column for column in columns if key_of(column) == key_of(asked)]
    return alike[0] if len(alike) == 1 else None


def metadata(
    table: Table, roles: Mapping[str, str], files: Sequence[str], folders: FolderListing
) -> tuple[pd.DataFrame, tuple[str, ...], tuple[str, ...]]:
    """What a table says about its images, by the names and types of a bundle.

    Args:
        table: with one row for each file.
        roles: column of each role; that of the paths is left out.
        files: of the rows.
        folders: where masks are looked for.

    Returns:
        ``file``, ``class``, ``split``, ``group``, then every other column; the names of the
        columns of flags; those of the columns of masks.
    """
    given = table.rows
    held: dict[str, pd.Series] = {"file": pd.Series(list(files))}
    for role in ("class", "split", "group"):
        if role in roles:
            missing = NOT_KNOWN if role == "group" else MISSING
            held[role] = _as_texts(given[roles[role]], missing)
            for row, text in enumerate(held[role]):
                if text is not None:
                    place = f"The {role} in row {row + 1} of {table.name!r}"
                    require_short(text, MOST_OF_NAME, place)
    concepts, masks = [], []
    taken = set(given.columns) | set(RESERVED)
    has_commas = table.has_decimal_commas
    has_points = has_commas and has_grouping_points(
        text for column in given for value in given[column] if (text := cell_text(value))
    )
    for column in given.columns:
        if column in roles.values():
            continue
        name = column
        if column in RESERVED:
            while name in taken:
                name = f"table_{name}"
            taken.add(name)
        values = given[column]
        flags = _as_flags(values, has_commas)
        if flags is not None:
            held[name] = flags
            concepts.append(name)
        elif (paths := _as_masks(column, values, files, folders)) is not None:
            held[name] = pd.Series(paths, dtype=object)
            masks.append(name)
        else:
            _warn_of_odd_cells(column, values, has_commas)
            held[name] = _as_metadata(column, values, has_commas, has_points)
    return pd.DataFrame(held), tuple(concepts), tuple(masks)


def _as_flags(values: pd.Series, has_decimal_commas: bool) -> pd.Series | None:
    """A column of flags and missing cells as float with NaN; None if it is not one."""
    texts = [known_text(value, NOT_KNOWN | UNSURE) for value in values]
    flags = as_flags(texts, decimal_commas=has_decimal_commas)
    return None if flags is None else pd.Series(flags, dtype="float32")


def _warn_of_odd_cells(column: str, values: pd.Series, has_decimal_commas: bool) -> None:
    """Tell of a column that would be one of flags, but for a cell in twenty at most."""
    texts = [known_text(value, NOT_KNOWN | UNSURE) for value in values]
    known = Counter(text for text in texts if text is not None)
    folded = {text.casefold() for text in known}
    pair = next((each for each in PAIRS if folded.issuperset(each)), ())
    odd = [
        text for text in known
        if text.casefold() not in pair
        and as_flags([text], decimal_commas=has_decimal_commas) is None
    ]  # fmt: skip
    n_odd = sum(known[text] for text in odd)
    if known and not odd:
        logger.warning(
            "Column %r is no concept: it says no and yes in several ways (%s); write 0 and 1.",
            column, ", ".join(f"{text!r:.20}" for text in list(known)[:5]),
        )  # fmt: skip
    elif 0 < 20 * n_odd <= known.total():
        logger.warning(
            "Column %r is no concept: %d of its %d cells are neither 0 nor 1, the first of them "
            "%r in row %d; write 0, 1 or nothing there.",
            column, n_odd, known.total(), odd[0][:60], texts.index(odd[0]) + 1,
        )  # fmt: skip


def _as_masks(
    column: str, values: pd.Series, files: Sequence[str], folders: FolderListing
) -> list[str | None] | None:
    """Mask files of a column whose name says mask and whose cells are image names; else None.

    A cell is looked up below the root, then in a folder named like the column (or its plural),
    there also under the image's own name, because exported tables often name an older file.
    """
    if not re.search(r"(^|[_ -])masks?($|[_ -])", column, re.IGNORECASE):
        return None
    texts = [known_text(value, NOT_KNOWN) for value in values]
    if not any(texts) or not all(is_image_name(t) for t in texts if t):
        return None
    paths: list[str | None] = []
    for text, file in zip(texts, files, strict=True):
        stem = posixpath.splitext(posixpath.basename(file))[0]
        tries = [text, *(f"{f}/{n}" for f in (column, f"{column}s") for n in (text, stem))]
        found = next((hit for t in tries if text and (hit := _one_file(t or "", folders))), None)
        paths.append(found)
    n_lost = sum(t is not None and p is None for t, p in zip(texts, paths, strict=True))
    if n_lost:
        logger.warning("%d mask file(s) of column %r were not found", n_lost, column)
    return paths if any(paths) else None


def _one_file(text: str, folders: FolderListing) -> str | None:
    relative = folders.relative(text)
    found = folders.find(relative) if relative is not None else []
    return found[0] if len(found) == 1 else None


def _as_metadata(
    column: str, values: pd.Series, has_decimal_commas: bool, has_grouping_points: bool
) -> pd.Series:
    """Numbers where every known cell is one, text otherwise; missing cells stay missing."""
    values = values.reset_index(drop=True)
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        return values
    numbers = as_numbers(
        [known_text(value, NOT_KNOWN) for value in values],
        decimal_commas=has_decimal_commas,
        grouping_points=has_grouping_points,
    )
    if numbers is not None:
        return pd.to_numeric(pd.Series(numbers, dtype=object))
    return _cut(column, _as_texts(values, MISSING))


def _cut(column: str, texts: pd.Series) -> pd.Series:
    """Texts that are only kept and shown: as long as they may be."""
    is_long = texts.map(lambda text: text is not None and len(text) > MOST_OF_CELL)
    if not is_long.any():
        return texts
    logger.warning(
        "%d text(s) of column %r are cut at %d letters", is_long.sum(), column, MOST_OF_CELL
    )
    return texts.map(lambda text: text if text is None else text[:MOST_OF_CELL])


def _as_texts(values: pd.Series, missing: frozenset[str]) -> pd.Series:
    """Texts in one Unicode form, so that the same word is the same word; None where missing."""
    texts = [known_text(value, missing) for value in values]
    composed = [None if t is None else unicodedata.normalize("NFC", t) for t in texts]
    return pd.Series(composed, dtype=object)


def warn_of_look_alikes(table: pd.DataFrame, of: str) -> None:
    """Tell of names of classes, splits, groups and the like that differ in their spelling alone.

    That is in upper and lower case, blanks, letters that cannot be seen, forms of Unicode, or as
    1, 01 and 1.0 do. They count as different ones, which nobody sees on a page.
    """
    for role in ("class", "split", "group", "slice", "artefact"):
        names = table[role].dropna().unique() if role in table else ()
        ways: dict[str, list[str]] = {}
        for name in map(str, names):
            ways.setdefault(_spelling(name), []).append(name)
        several = [own for own in ways.values() if len(own) > 1]
        if several:
            more = f", and {len(several) - 1} more" if len(several) > 1 else ""
            said = " and ".join(f"{name!r:.60}" for name in several[0][:3])
            logger.warning(
                "%s: names of the %s differ in their spelling alone and count as different ones: "
                "%s%s; spell them alike if they are one.", of, role, said, more,
            )  # fmt: skip


def warn_of_groups(table: pd.DataFrame, of: str) -> None:
    """Tell of columns that seem to say what photographs belong together and are not used so.

    Those called after patients, lesions and the like, with ids that join images of several groups.
    """
    for column in table.columns:
        if column == "group" or not _NAMES_A_GROUP.fullmatch(_joined(str(column))):
            continue
        known = table[table[column].notna()]
        n_ids = known[column].nunique()
        own = known["group"] if "group" in known else pd.Series(range(len(known)), known.index)
        # An image without a group is a group of its own.
        own = own.astype(object).where(own.notna(), pd.Series(range(len(known)), known.index))
        is_joining = bool((own.groupby(known[column]).nunique() > 1).any())
        if n_ids >= _LEAST_GROUPS and is_joining:
            logger.warning(
                "%s: column %r has %d values for %d rows and groups nothing; if rows of one value "
                "belong together (one patient, one lesion), call that column 'group'.",
                of, column, n_ids, len(known),
            )  # fmt: skip


def _spelling(name: str) -> str:
    """What is left of a name without case, blanks, unseen letters and forms of numbers."""
    seen = "".join(
        c for c in unicodedata.normalize("NFKC", name) if unicodedata.category(c) != "Cf"
    )
    plain = re.sub(r"[\s_-]+", " ", seen).strip().casefold()
    number = re.fullmatch(r"0*(\d+)(\.0*)?", plain)
    return number[1] if number else plain
