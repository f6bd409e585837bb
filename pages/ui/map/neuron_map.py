"""The map of neurons: its points, how a column colours them, and the component that draws them."""

from __future__ import annotations

import base64
import struct
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
import streamlit as st

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.views.address import View
from csp_engine.views.places import places
from csp_engine.views.table.columns import COLUMNS
from pages.ui.parts.cards import asset, base_url, signature
from pages.ui.shell import store

GRID = 65535
MISSING = 255
MOST_NAMES = 9
RAMP = {
    "light": ["#cfe3df", "#6bb0a5", "#0f766e", "#0a4f4a", "#06302d"],
    "dark": ["#356e66", "#1f8074", "#16a394", "#5eead4", "#e3fbf6"],
}
NAMED = {
    "light": [
        "#0f766e", "#c2410c", "#4f46a5", "#be185d", "#2563eb",
        "#65821c", "#0e7490", "#92400e", "#7e22ce", "#475569",
    ],
    "dark": [
        "#2dd4bf", "#fb923c", "#a5b4fc", "#f472b6", "#60a5fa",
        "#bef264", "#67e8f9", "#fcd34d", "#d8b4fe", "#cbd5e1",
    ],
}  # fmt: skip
MISSING_COLOURS = {"light": "#c3c9c7", "dark": "#46524f"}
_MAP = st.components.v2.component(
    "csp_map",
    html=(
        "<div class='wrap'><div class='map'><div class='empty'></div>"
        "<canvas class='points' tabindex='0' role='application'></canvas>"
        "<canvas class='drawn' aria-hidden='true'></canvas>"
        "<div class='tools'></div><div class='card' hidden></div></div>"
        "<div class='legend'></div></div>"
    ),
    css=asset("map.css"),
    js=asset("map.js"),
)


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """The neurons on the map, in the order of ``table.neuron_table``.

    ``row_m`` are their rows there; ``xy_m2`` their places on a square grid of 65,536 steps, with y
    upwards and both axes on one scale.
    """

    row_m: np.ndarray
    xy_m2: np.ndarray


def points(bundle: Bundle) -> Points | None:
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
        return Points(row_m, np.round(placed * GRID).astype(np.uint16))

    return store.MEMO.once(("points", bundle.digest), make)


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

    Numbers run along a ramp from the 2nd to the 98th percentile; texts keep a colour each while
    they are few, the most common ones otherwise; layers, being ordered, run along the ramp.
    """
    column = COLUMNS[name]
    if column.kind in ("number", "share"):
        number_m = values.to_numpy(np.float64)
        is_known = np.isfinite(number_m)
        if not is_known.any():
            return Colouring(np.full(len(values), MISSING, np.uint8), {"kind": "names"})
        low, high = np.quantile(number_m[is_known], [0.02, 0.98])
        share_m = np.clip((number_m - low) / ((high - low) or 1.0), 0, 1)
        value_m = np.where(is_known, np.round(share_m * 254), MISSING).astype(np.uint8)
        write = numbers.share if column.kind == "share" else numbers.score
        ends = {"low": write(float(low)), "high": write(float(high))}
        missing = "" if is_known.all() else "no value"
        return Colouring(value_m, {"kind": "ramp", **ends, "missing": missing})
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
        parts.append(f"not reliable ({n_none})" if name == "label" else f"none ({n_none})")
    missing = ", ".join(parts)
    return Colouring(value_m, {"kind": "names", "names": ordered, "missing": missing})


def draw(
    bundle: Bundle, view: View, rows: pd.DataFrame, name: str, area: tuple[int, ...]
) -> tuple[tuple[int, int] | None, tuple[int, ...] | None]:
    """The map; what was just picked (place and unit), and the polygon just drawn, if any.

    Args:
        bundle: the open bundle.
        view: whose neuron is ringed, unless it is of all layers.
        rows: the rows of ``table.neuron_table`` that are on the map, in order.
        name: of the column that colours them.
        area: the polygon shown.
    """
    shown = rows[name].where(rows["reliable"]) if name == "label" else rows[name]
    colours = colouring(shown, name)
    is_ramp = colours.legend["kind"] == "ramp"
    root = f"{quote(view.bundle, safe='')}/{bundle.digest[:16]}"
    here = None
    if not view.is_all_layers:
        here = [places(bundle).index((view.model, view.layer)), view.unit]
    title = COLUMNS[name].of_colour
    content = {
        "points": base_url(f"csp/points/{root}"),
        "cards": base_url(f"csp/card/{root}/{quote(view.method, safe='')}/"),
        "strips": base_url(f"csp/strip/{root}/"),
        "values": base64.b64encode(colours.value_m.tobytes()).decode(),
        "legend": {"title": title, **colours.legend},
        "palette": {
            theme: {
                "colours": RAMP[theme] if is_ramp else NAMED[theme],
                "missing": MISSING_COLOURS[theme],
            }
            for theme in ("light", "dark")
        },
        "area": list(area),
        "here": here,
        "label": (
            f"Map of {numbers.count(len(rows))} neurons coloured by {title.lower()}. Arrow keys "
            "move it, plus and minus zoom. The table of this bundle lists the same neurons."
        ),
        "noWebgl": "This browser draws no WebGL; the table lists the same neurons.",
    }
    result = _MAP(
        key="map",
        data={**content, "signature": signature(content)},
        on_picked_change=lambda: None,
        on_area_change=lambda: None,
    )
    return _pair(result.picked, bundle), _polygon(result.area)


def _pair(sent: Any, bundle: Bundle) -> tuple[int, int] | None:
    """A place and a unit that exist, from what a browser sent."""
    if not isinstance(sent, list | tuple) or len(sent) != 2:
        return None
    if not all(isinstance(value, int | float) for value in sent):
        return None
    place, unit = int(sent[0]), int(sent[1])
    every = places(bundle)
    is_there = 0 <= place < len(every) and 0 <= unit < bundle.n_units(*every[place])
    return (place, unit) if is_there else None


def _polygon(sent: Any) -> tuple[int, ...] | None:
    """Grid corners from what a browser sent; empty to list nothing, None if nothing was sent."""
    if not isinstance(sent, list | tuple) or len(sent) > 400:
        return None
    if not all(isinstance(value, int | float) and 0 <= value <= GRID for value in sent):
        return None
    return tuple(int(value) for value in sent)
