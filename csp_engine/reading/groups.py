"""What photographs belong together: a lesion, a patient, or the same photograph listed twice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Int


def joined(key_kn: Sequence[Int[np.ndarray, " n"]], n: int) -> Int[np.ndarray, " n"]:
    """For each row the first one that it belongs together with, through others if need be.

    Args:
        key_kn: one number for each row, from 0; rows with the same one belong together, and below
            0 stands for no other row.
        n: rows.
    """
    number_n, before_n = np.arange(n), None
    while before_n is None or not np.array_equal(number_n, before_n):
        before_n = number_n
        for key_n in key_kn:
            own_n = np.where(key_n < 0, n + np.arange(n), key_n)
            least = np.full(2 * n, n)
            np.minimum.at(least, own_n, number_n)
            number_n = least[own_n]
    return number_n


def names_of_groups(table: pd.DataFrame) -> pd.Series:
    """What photographs are drawn together by: lesion or patient where known, else the file.

    Copies (of one ``sha256``, where the table has such a column) are drawn together whichever
    groups list them, and so is all that they join; the first one names it.
    """
    named = "file " + table["file"].astype(str)
    if "group" in table:
        named = ("group " + table["group"].astype(str)).where(table["group"].notna(), named)
    if "sha256" not in table:
        return named
    keys = [pd.factorize(each)[0] for each in (named, table["sha256"])]
    return pd.Series(named.to_numpy()[joined(keys, len(table))], table.index)


def group_numbers(groups: pd.Series) -> np.ndarray:
    """Group ids as numbers; an image without a group is a group of its own."""
    codes, _ = pd.factorize(groups)
    alone = codes < 0
    return np.where(alone, codes.max(initial=0) + 1 + np.arange(len(codes)), codes).astype(np.int32)


def known_groups(table: pd.DataFrame) -> Int[np.ndarray, " n"] | None:
    """The same as numbers; None where no group is listed and no image has a copy."""
    is_copied = "sha256" in table and bool(table["sha256"].duplicated().any())
    return group_numbers(names_of_groups(table)) if is_copied or "group" in table else None


def numbers_over(*tables: pd.DataFrame) -> list[np.ndarray]:
    """The same as numbers for several tables, where one number means one group in all of them."""
    columns = pd.Index(["file", "group", "sha256"])
    every = [table.reindex(columns=columns).astype(object) for table in tables]
    number_n, _ = pd.factorize(names_of_groups(pd.concat(every, ignore_index=True)))
    return np.split(number_n, np.cumsum([len(table) for table in tables])[:-1])


def by_turns(row_m: Int[np.ndarray, " m"], group_n: Int[np.ndarray, " n"]) -> Int[np.ndarray, " m"]:
    """Rows in the order in which their groups take turns: every group's first, then the seconds."""
    turn_m = pd.Series(row_m).groupby(group_n[row_m]).cumcount().to_numpy()
    return row_m[np.argsort(turn_m, kind="stable")]
