"""The map of neurons as a component: its colours, what is drawn, and what comes back."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
import streamlit as st

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.views.address import MAP_GRID, View
from csp_engine.views.neuron_map import Points, colouring, matching, written
from csp_engine.views.places import places
from csp_engine.views.table.columns import COLUMNS
from pages.ui.parts.cards import asset, base_url, one_way, signature

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
        "<div class='tools'></div><div class='card' role='status' hidden></div></div>"
        "<div class='legend'></div></div>"
    ),
    css=asset("map.css"),
    js=asset("map.js"),
)


def draw(
    bundle: Bundle,
    view: View,
    rows: pd.DataFrame,
    name: str,
    area: tuple[int, ...],
    points: Points,
) -> tuple[tuple[int, int] | None, tuple[int, ...] | None]:
    """The map; what was just picked (place and unit), and the polygon just drawn, if any.

    Args:
        bundle: the open bundle.
        view: whose neuron is ringed, unless it is of all layers.
        rows: the rows of ``table.neuron_table`` that are on the map, in order.
        name: of the column that colours them.
        area: the polygon shown.
        points: where the rows lie.
    """
    shown = rows[name].where(rows["reliable"]) if name == "label" else rows[name]
    if name == "match":
        shown = matching(rows)
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
        "names": [[one_way(text), *at] for text, *at in names(rows, name, points)],
        "grows": name == "match",
        "area": list(area),
        "here": here,
        "label": (
            f"Map of {numbers.count(len(rows))} neurons coloured by {title.lower()}. Arrow keys "
            "move it, plus and minus zoom. Enter chooses the neuron in the middle; then arrow keys "
            "lead to the next one, Enter opens it and Escape lets it go. The table of this bundle "
            "lists the same neurons."
        ),
        "noWebgl": "This browser has no WebGL; the table lists the same neurons.",
    }
    result = _MAP(
        key="map",
        data={**content, "signature": signature(content)},
        on_picked_change=lambda: None,
        on_area_change=lambda: None,
    )
    return _pair(result.picked, bundle), _polygon(result.area)


def names(rows: pd.DataFrame, name: str, points: Points) -> list[tuple[str, int, int]]:
    """What is written on the map, with places: the best answer to a query, then the families."""
    families = [(text, x, y) for text, _, x, y in written(points, rows["family"])]
    best = matching(rows) if name == "match" else None
    if best is None or best.isna().all():
        return families
    at = int(np.nanargmax(best.to_numpy(np.float64)))
    row = rows.iloc[at]
    doubt = "" if row["reliable"] or not row["label"] else "?"
    x, y = points.xy_m2[at].tolist()
    return [(f"best: {row['label'] or 'no label'}{doubt}", x, y), *families]


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
    if not all(isinstance(value, int | float) and 0 <= value <= MAP_GRID for value in sent):
        return None
    return tuple(int(value) for value in sent)
