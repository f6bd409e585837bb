"""Photographs with a known class, in slices: what a change of a network is tried on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from csp_engine.cells import csv_text
from csp_engine.errors import InputError
from csp_engine.evaluation.paired_effects import halves
from csp_engine.hashing import sha256_json
from csp_engine.pipeline.stages.contrast import group_numbers, names_of_groups
from csp_engine.probe.decoding import decode
from csp_engine.probe.listing import read_probe_set
from csp_engine.types import Progress, silent

COLUMNS = ("file", "class", "slice", "group", "is_choosing")
ALL = "all photographs"
"""The slice of photographs of which none is named."""


@dataclass(frozen=True, slots=True, eq=False)
class Photographs:
    """Photographs, one row of ``table`` each, with the columns of ``COLUMNS``.

    ``class`` is the true one; ``slice`` a name; ``group`` a number that photographs of one lesion
    or patient share; ``is_choosing`` whether it helps to choose what is changed (of those nothing
    is reported). ``image(row)`` decodes one. ``fingerprint`` is of all that decides them.
    """

    name: str
    table: pd.DataFrame
    fingerprint: str
    image: Callable[[int], Image.Image]


def listed_photographs(
    source: Path,
    seed: int = 0,
    limit: int | None = None,
    image_root: Path | None = None,
    progress: Progress = silent,
) -> Photographs:
    """Photographs of a table with the columns path, class, and slice and group if known.

    Half of the groups choose, the others are reported on.

    Args:
        source: anything that ``csp_engine.probe.listing`` reads.
        seed: decides the halves.
        limit: at most so many photographs of each slice, evenly over the list.
        image_root: what paths of a table are relative to; its folder without it.
        progress: called while files are hashed.

    Raises:
        InputError: if a photograph has no class, or nothing is left to report on.
    """
    probe = read_probe_set(source, image_root=image_root, progress=progress)
    rows = probe.table
    if "class" not in rows or rows["class"].isna().any():
        raise InputError(
            f"{probe.name!r} does not say the class of every photograph; give a table with the "
            "columns path, class, and slice and group if known."
        )
    named = rows["slice"].astype("string") if "slice" in rows else pd.Series(ALL, rows.index)
    kept = _evenly(named, limit)
    group_n = group_numbers(names_of_groups(rows).iloc[kept].reset_index(drop=True))
    table = pd.DataFrame(
        {
            "file": rows["file"].iloc[kept].astype("string").to_numpy(),
            "class": rows["class"].iloc[kept].astype("string").to_numpy(),
            "slice": named.fillna(ALL).iloc[kept].to_numpy(),
            "group": group_n.astype(np.int32),
            "is_choosing": halves(group_n, seed),
        }
    ).astype({"file": "string", "class": "string", "slice": "string"})
    if table["is_choosing"].all() or not table["is_choosing"].any():
        raise InputError(f"{probe.name!r} has one photograph or group; it needs two at least.")
    print_ = sha256_json([rows["sha256"].iloc[kept].tolist(), csv_text(table)])
    return Photographs(
        f"{len(table)} photographs listed in {probe.name}",
        table,
        print_,
        lambda row: decode(probe.read(int(kept[row]))),
    )


def _evenly(named: pd.Series, limit: int | None) -> np.ndarray:
    """Rows in order, of every slice at most so many."""
    if limit is None:
        return np.arange(len(named))
    found = []
    for _, place in named.groupby(named.fillna(ALL), sort=False).indices.items():
        step = [i * len(place) // limit for i in range(limit)] if limit < len(place) else None
        found.append(place if step is None else place[step])
    return np.sort(np.concatenate(found))
