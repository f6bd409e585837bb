"""The map of neurons: where its points lie, and how a column colours them."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.views.address import MAP_GRID
from csp_engine.views.memo import Memo
from csp_engine.views.places import places
from csp_engine.views.table.columns import COLUMNS

MISSING = 255
MOST_NAMES = 9
MATCHES_AT = 0.95
"""Share of random image sets that must match a query less well for a neuron to be coloured."""
MOST_WRITTEN, LEAST_WRITTEN, CELLS = 24, 5, 12


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """The neurons on the map, in the order of ``table.rows.neuron_table``.

    ``row_m`` are their rows there; ``xy_m2`` their places on a square grid of 65,536 steps, with y
    upwards and both axes on one scale.
    """

    row_m: np.ndarray
    xy_m2: np.ndarray


def points_of(bundle: Bundle, memo: Memo) -> Points | None:
    """The points of a bundle's map, or None where it has no map or nothing on it."""

    def make() -> Points | None:
        laid = bundle.projection()
        if laid is None:
            return None
        first, n_all = {}, 0
        for model, layer in places(bundle):
            first[model, layer] = n_all
            n_all += bundle.n_units(model, layer)
        row_u = laid.rows["unit"].to_numpy(np.int64).copy()
        for _, rows in laid.rows.groupby(["model", "layer"], sort=False):
            row_u[rows.index] += first[str(rows["model"].iat[0]), str(rows["layer"].iat[0])]
        xy_u2 = np.full((n_all, 2), np.nan, np.float32)
        xy_u2[row_u] = laid.xy_u2
        row_m = np.flatnonzero(np.isfinite(xy_u2).all(axis=1))
        if not len(row_m):
            return None
        xy_m2 = xy_u2[row_m].astype(np.float64)
        low, high = xy_m2.min(axis=0), xy_m2.max(axis=0)
        span = float((high - low).max()) or 1.0
        placed = 0.5 + 0.96 * (xy_m2 - (low + high) / 2) / span  # room for a lasso around all
        return Points(row_m, np.round(placed * MAP_GRID).astype(np.uint16))

    return memo.once(("points", bundle.digest), make)


def points_body(bundle: Bundle, found: Points) -> bytes:
    """Count (uint32), then unit (uint32), x and y (uint16) and place (uint16) of every point."""
    sizes = [bundle.n_units(model, layer) for model, layer in places(bundle)]
    place_u = np.repeat(np.arange(len(sizes)), sizes).astype("<u2")
    unit_u = np.concatenate([np.arange(size) for size in sizes]).astype("<u4")
    return b"".join(
        [
            struct.pack("<I", len(found.row_m)),
            unit_u[found.row_m].tobytes(),
            found.xy_m2.astype("<u2").tobytes(),
            place_u[found.row_m].tobytes(),
        ]
    )


def inside(xy_m2: np.ndarray, area: tuple[int, ...]) -> np.ndarray:
    """Which points lie within a polygon of grid corners x, y, x, y, … (even-odd rule)."""
    x_m, y_m = xy_m2[:, 0].astype(np.float64), xy_m2[:, 1].astype(np.float64)
    corners = np.array(area, np.float64).reshape(-1, 2)
    is_in = np.zeros(len(x_m), bool)
    for (ax, ay), (bx, by) in zip(corners, np.roll(corners, 1, axis=0), strict=True):
        crosses = (ay > y_m) != (by > y_m)
        if ay != by:
            is_in ^= crosses & (x_m < (bx - ax) * (y_m - ay) / (by - ay) + ax)
    return is_in


@dataclass(frozen=True, slots=True, eq=False)
class Colouring:
    """One byte a point, 255 for no value, and the legend that explains them."""

    value_m: np.ndarray
    legend: dict[str, Any] = field(default_factory=dict)


def colouring(values: pd.Series, name: str) -> Colouring:
    """How the values of a column, one a point, become colours.

    Numbers run along a ramp from the 2nd to the 98th percentile, matches of a query over all of
    their values; texts keep a colour each while they are few, the most common ones otherwise;
    layers, being ordered, run along the ramp.
    """
    column = COLUMNS[name]
    if column.kind in ("number", "share"):
        number_m = values.to_numpy(np.float64)
        is_known = np.isfinite(number_m)
        if not is_known.any():
            return Colouring(np.full(len(values), MISSING, np.uint8), {"kind": "names"})
        ends = [0, 1] if name == "match" else [0.02, 0.98]
        low, high = np.quantile(number_m[is_known], ends)
        share_m = np.clip((number_m - low) / ((high - low) or 1.0), 0, 1)
        value_m = np.where(is_known, np.round(share_m * 254), MISSING).astype(np.uint8)
        write = numbers.share if column.kind == "share" else numbers.score
        said = {"low": write(float(low)), "high": write(float(high))}
        missing = "" if is_known.all() else "no value"
        if name == "match" and missing:
            missing = f"no more than chance gives ({numbers.count(int((~is_known).sum()))})"
        return Colouring(value_m, {"kind": "ramp", **said, "missing": missing})
    text_m = values.astype("object").to_numpy()
    is_named = np.array([isinstance(text, str) and bool(text) for text in text_m])
    ordered = pd.unique(text_m[is_named]).tolist()
    if name == "layer" and len(ordered) > MOST_NAMES + 1:
        rank = {text: at for at, text in enumerate(ordered)}
        scaled = [round(254 * rank[text] / (len(ordered) - 1)) for text in text_m]
        ends = {"low": ordered[0], "high": ordered[-1]}
        return Colouring(np.array(scaled, np.uint8), {"kind": "ramp", **ends, "missing": ""})
    if len(ordered) > MOST_NAMES + 1:
        counted = pd.Series(text_m[is_named]).value_counts(sort=True)
        ordered = sorted(counted.index, key=lambda text: (-counted[text], text))[:MOST_NAMES]
    rank = {text: at for at, text in enumerate(ordered)}
    value_m = np.array([rank.get(text, MISSING) for text in text_m], np.uint8)
    n_other = int((is_named & (value_m == MISSING)).sum())
    parts = [f"other ({numbers.count(n_other)})"] if n_other else []
    if not is_named.all():
        n_none = numbers.count(int((~is_named).sum()))
        is_of_label = name in ("label", "family")
        parts.append(f"not reliable ({n_none})" if is_of_label else f"none ({n_none})")
    missing = ", ".join(parts)
    return Colouring(value_m, {"kind": "names", "names": ordered, "missing": missing})


def matching(rows: pd.DataFrame) -> pd.Series:
    """How well each neuron matches the query, where it does so better than chance gives.

    Kept are neurons that at least ``MATCHES_AT`` of random image sets match less well; all, where
    the method keeps no random image sets.
    """
    share = rows["match_null"]
    return rows["match"] if share.isna().all() else rows["match"].where(share >= MATCHES_AT)


def written(found: Points, family: pd.Series) -> list[tuple[str, int, int, int]]:
    """Names to write on the map: family, its number of neurons, and x and y on the grid.

    A name stands where most of its family lie together: at the median of its neurons in the fullest
    of 12 × 12 cells. At most the ``MOST_WRITTEN`` largest families of at least ``LEAST_WRITTEN``
    neurons on the map are named, the largest first.

    Args:
        found: the points.
        family: that of each point, in their order.
    """
    cell_m2 = np.minimum(found.xy_m2.astype(np.int64) * CELLS // (MAP_GRID + 1), CELLS - 1)
    cell_m = cell_m2[:, 0] * CELLS + cell_m2[:, 1]
    names = []
    for name, n in family.value_counts().items():
        if n < LEAST_WRITTEN or len(names) == MOST_WRITTEN:
            break
        is_in_m = (family == name).to_numpy(bool)
        fullest = np.bincount(cell_m[is_in_m]).argmax()
        x, y = np.median(found.xy_m2[is_in_m & (cell_m == fullest)], axis=0).astype(int).tolist()
        names.append((str(name), int(n), x, y))
    return names
