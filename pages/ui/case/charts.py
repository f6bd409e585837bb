"""The two figures of the melanoma case, each with its description in words."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from csp_engine import numbers
from csp_engine.stats.wilson import wilson
from csp_engine.views.address import shorten
from csp_engine.views.case.audit import Case, signed_share
from pages.ui.parts.cards import one_way, show

ACCENT = {"light": "#0f766e", "dark": "#2dd4bf"}
QUIET = {"light": "#8a9391", "dark": "#71807d"}
TOWARDS = {"light": "#c2410c", "dark": "#fb923c"}
SYMBOLS = {"valid": "circle", "spurious": "square", "unexpected": "diamond", "neutral": "cross"}
MOST_SVG = 5000
"""Up to this many points need no WebGL, which some browsers lack."""

N_NAMED = {"spurious": 4, "unexpected": 4, "valid": 3}


CHART = {"displayModeBar": False, "scrollZoom": False}


def theme() -> str:
    """Light or dark."""
    return st.context.theme.type or "light"


def lead(text: str) -> None:
    """A paragraph of HTML whose variable parts went through ``plain``."""
    show(f"<p class='csp-lead csp-left'>{text}</p>")


def points(share: float) -> str:
    """A difference of shares in percentage points."""
    return f"{round(100 * share)}".replace("-", "−")


def figure_text(text: object, limit: int = 60) -> str:
    """Any text so that a figure, which reads a little HTML, shows it letter by letter."""
    return html.escape(shorten(one_way(text), limit), quote=False)


def accuracy_plot(tables: Mapping[str, pd.DataFrame], theme: str) -> tuple[Any, str]:
    """How many melanomas each model finds on each slice, or else how often it is right.

    With intervals; the axis begins where they do.
    """
    import plotly.graph_objects as go  # half a second: only where a chart is drawn

    theme = "dark" if theme == "dark" else "light"
    colours = [TOWARDS[theme], ACCENT[theme], QUIET[theme]]
    figure = go.Figure()
    said = []
    is_found = all(
        "n_melanoma" in rows and "melanoma_found" in rows and (rows["n_melanoma"] > 0).all()
        for rows in tables.values()
    )
    least = 100.0
    for at, (model, rows) in enumerate(tables.items()):
        share = rows["melanoma_found" if is_found else "accuracy"].to_numpy(float)
        low, high = (
            wilson(share, rows["n_melanoma"].to_numpy(float))
            if is_found
            else (rows["low"].to_numpy(float), rows["high"].to_numpy(float))
        )
        x = 100 * share
        least = min(least, 100 * float(low.min()))
        figure.add_scatter(
            x=x,
            y=[figure_text(name) for name in rows["slice"]],
            name=figure_text(model),
            mode="markers",
            orientation="h",
            offsetgroup=str(at),
            marker={"size": 10, "color": colours[at % 3], "symbol": ("circle", "square")[at % 2]},
            error_x={
                "array": 100 * high - x,
                "arrayminus": x - 100 * low,
                "thickness": 2,
                "width": 5,
            },
            hovertemplate="%{y}: %{x:.1f} %<extra></extra>",
        )
        each = (f"{n} {numbers.share(a)}" for n, a in zip(rows["slice"], share, strict=True))
        said.append(f"{model}: {', '.join(each)}")
    n_slices = max(len(rows) for rows in tables.values())
    figure.update_layout(
        height=92 + 42 * n_slices,
        margin={"l": 8, "r": 12, "t": 6, "b": 40},
        scattermode="group",
        xaxis={
            "title": {"text": f"{'melanomas found' if is_found else 'right'}, %"},
            "range": [10 * math.floor(least / 10), 101],
            "fixedrange": True,
        },
        yaxis={"autorange": "reversed", "fixedrange": True, "automargin": True},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
    )
    return (
        figure,
        f"Share of {'melanomas found' if is_found else 'test images classified correctly'}, with "
        f"95 % intervals. {'; '.join(said)}.",
    )


def alignment_plot(case: Case, theme: str) -> tuple[Any, str]:
    """Alignment to valid concepts against alignment to artefacts, influence as size and colour.

    ``customdata`` of a point is its row in ``case.rows``.
    """
    import plotly.graph_objects as go

    theme = "dark" if theme == "dark" else "light"
    colour = {True: TOWARDS[theme], False: ACCENT[theme]}
    shown = case.rows[case.rows["valid"].notna()]
    rest = shown[~shown["is_influential"]]
    figure = go.Figure()
    scatter = figure.add_scatter if len(rest) <= MOST_SVG else figure.add_scattergl
    scatter(
        x=rest["valid"],
        y=rest["spurious"],
        mode="markers",
        name="other neurons",
        marker={"size": 4, "color": QUIET[theme], "opacity": 0.35},
        customdata=rest.index.to_numpy(np.int32),
        hoverinfo="skip",
    )
    most = float(case.rows["share"].abs().max()) or 1.0
    for kind in case.kinds:
        for is_towards in (True, False):
            rows = case.of_kind(kind)
            rows = rows[rows["valid"].notna() & ((rows["share"] > 0) == is_towards)]
            if rows.empty:
                continue
            way = f"towards {case.output}" if is_towards else f"away from {case.output}"
            figure.add_scatter(
                x=rows["valid"],
                y=rows["spurious"],
                mode="markers",
                name=figure_text(f"{kind}, {way}"),
                marker={
                    "symbol": SYMBOLS[kind],
                    "size": 6 + 18 * np.sqrt(rows["share"].abs() / most),
                    "color": colour[is_towards],
                    "opacity": 0.85,
                    "line": {"width": 1, "color": "#1c2321" if theme == "dark" else "#ffffff"},
                },
                customdata=rows.index.to_numpy(np.int32),
                text=[_hover(row) for _, row in rows.iterrows()],
                hovertemplate="%{text}<extra></extra>",
            )
    _regions(figure, case, shown, theme)
    for at, row in enumerate(_called_out(case)):
        _name(figure, row, at, theme)
    figure.update_layout(
        height=560,
        margin={"l": 56, "r": 12, "t": 10, "b": 50},
        uirevision="alignment",
        clickmode="event+select",
        dragmode="pan",
        xaxis={"title": {"text": "alignment to clinical criteria"}, "zeroline": False},
        yaxis={"title": {"text": "alignment to artefacts"}, "zeroline": False},
        legend={
            "orientation": "h",
            "y": 1.0,
            "yanchor": "bottom",
            "x": 0,
            "itemsizing": "constant",
        },
    )
    counts = ", ".join(f"{numbers.count(len(case.of_kind(kind)))} {kind}" for kind in case.kinds)
    return figure, (
        f"Alignment of {numbers.count(len(case.influential))} influential neurons of "
        f"{case.model} to clinical criteria (across) and to artefacts (up): {counts}. "
        "The table below lists them."
    )


def _hover(row: pd.Series) -> str:
    label = row["label"] or "no label"
    lines = [
        f"{row['model']}/{row['layer']}/{row['unit']}",
        label if row["reliable"] else f"unclear: {label}",
        f"influence {signed_share(row['share'])}",
        f"artefact: {row['spurious_text']} {numbers.score(row['spurious'])} (chance "
        f"{numbers.score(row['spurious_bar'])})",
        f"criterion: {row['valid_text']} {numbers.score(row['valid'])} (chance "
        f"{numbers.score(row['valid_bar'])})",
    ]
    return "<br>".join(figure_text(line) for line in lines)


def _regions(figure: Any, case: Case, shown: pd.DataFrame, theme: str) -> None:
    """The bars of chance, and the line on which both alignments are as far above theirs."""
    x0, y0 = case.bars["valid"], case.bars["spurious"]
    if shown.empty or not np.isfinite([x0, y0]).all():
        return
    line = {"width": 1, "dash": "dot", "color": QUIET[theme]}
    low_x, low_y = float(shown["valid"].min()), float(shown["spurious"].min())
    reach = max(float(shown["valid"].max()) - x0, float(shown["spurious"].max()) - y0, 0.02)
    for x, y in (
        ((low_x, x0), (y0, y0)),
        ((x0, x0), (low_y, y0)),
        ((x0, x0 + reach), (y0, y0 + reach)),
    ):
        figure.add_shape(type="line", x0=x[0], x1=x[1], y0=y[0], y1=y[1], line=line, layer="below")
    places = {"spurious": (0.01, 0.99), "valid": (0.99, 0.01), "unexpected": (0.01, 0.01)}
    for kind, (x, y) in places.items():
        figure.add_annotation(
            text=f"<b>{kind}</b>",
            xref="paper",
            yref="paper",
            x=x,
            y=y,
            xanchor="left" if x < 0.5 else "right",
            yanchor="bottom" if y < 0.5 else "top",
            showarrow=False,
            font={"size": 13, "color": QUIET[theme]},
        )


def _called_out(case: Case) -> list[pd.Series]:
    """The most influential neurons of each kind that stand clear of one another."""
    shown = case.influential[case.influential["valid"].notna()]
    span = np.ptp(shown[["valid", "spurious"]].to_numpy(), axis=0) + 1e-9
    found: list[pd.Series] = []
    for kind, n_named in N_NAMED.items():
        n_wanted = len(found) + n_named
        rows = shown[(shown["kind"] == kind) & (shown["reliable"] | (kind == "unexpected"))]
        for _, row in rows.iterrows():
            here = row[["valid", "spurious"]].to_numpy(float)
            near = [np.abs(here - o[["valid", "spurious"]].to_numpy(float)) / span for o in found]
            if len(found) < n_wanted and all((gap > (0.16, 0.07)).any() for gap in near):
                found.append(row)
    return found


def _name(figure: Any, row: pd.Series, at: int, theme: str) -> None:
    """A neuron called by its label, or its number where it has none, beside its point."""
    label = str(row["label"]) if row["reliable"] else f"{row['layer']}/{row['unit']}"
    figure.add_annotation(
        x=float(row["valid"]),
        y=float(row["spurious"]),
        text=figure_text(label, 28),
        showarrow=True,
        arrowhead=0,
        arrowwidth=1,
        ax=-38 if row["kind"] == "unexpected" else 38,
        ay=(-26, 26)[at % 2],
        font={"size": 11, "color": "#f4f5f4" if theme == "dark" else "#1c2321"},
        bgcolor="rgba(20,26,25,0.75)" if theme == "dark" else "rgba(255,255,255,0.8)",
    )
