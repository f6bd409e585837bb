"""Photographs with a known class, in slices: what a change of a network is tried on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from csp_engine.cells import csv_text
from csp_engine.errors import InputError
from csp_engine.evaluation.paired_effects import halves
from csp_engine.hashing import sha256_json
from csp_engine.probe.columns import called, warn_of_look_alikes
from csp_engine.probe.decoding import decode
from csp_engine.probe.listing import read_probe_set
from csp_engine.reading.groups import group_numbers, names_of_groups
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
    slices = called(("slice",), list(rows.columns))
    named = pd.Series(ALL, rows.index) if slices is None else rows[slices].astype("string")
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
    warn_of_look_alikes(table[["slice"]], probe.name)
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


PRINTED = "name of another class printed"
HEIGHT = 1 / 9
"""Of the letters, as a share of the shorter side."""


def with_names_printed(photographs: Photographs, seed: int = 0) -> Photographs:
    """The photographs, and each of them again with the name of another class in a corner.

    Raises:
        InputError: if all photographs are of one class.
    """
    table = photographs.table
    names = sorted(set(table["class"]))
    if len(names) < 2:
        raise InputError(
            f"{photographs.name} are all {names[0]!r}; give photographs of others too."
        )
    rng = np.random.default_rng(seed)
    own_n = table["class"].map({name: i for i, name in enumerate(names)}).to_numpy(np.int64)
    other_n = (own_n + rng.integers(1, len(names), len(table))) % len(names)
    others = [names[i] for i in other_n]
    both = pd.concat([table, table.assign(slice=PRINTED)], ignore_index=True)

    def image(row: int) -> Image.Image:
        if row < len(table):
            return photographs.image(row)
        return with_name(photographs.image(row - len(table)), others[row - len(table)])

    return Photographs(
        f"{photographs.name}, and each with the name of another class printed",
        both.astype(table.dtypes.to_dict()),
        sha256_json([photographs.fingerprint, PRINTED, others]),
        image,
    )


def with_name(image: Image.Image, name: str) -> Image.Image:
    """A copy of an RGB picture with a name in black on white in its lower left corner.

    Letters are those that come with Pillow, so the same picture and name give the same pixels.
    """
    picture = image.copy()
    size = max(8, round(HEIGHT * min(picture.size)))
    font = ImageFont.load_default(size)
    draw = ImageDraw.Draw(picture)
    left, top, right, bottom = draw.textbbox((0, 0), name, font=font)
    edge = max(1, size // 5)
    width, height = right - left + 2 * edge, bottom - top + 2 * edge
    y = picture.height - height
    draw.rectangle((0, y, width, picture.height), fill="white")
    draw.text((edge - left, y + edge - top), name, font=font, fill="black")
    return picture
