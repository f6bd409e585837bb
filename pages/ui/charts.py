"""Charts of one neuron: how its activations are spread, and how labels move with gamma."""

from __future__ import annotations

from typing import Any

import numpy as np
import streamlit as st

from csp_engine.bundle import Bundle
from pages.ui import numbers
from pages.ui.cards import asset
from pages.ui.state import View

_PATHS = st.components.v2.component(
    "csp_paths",
    html=(
        "<figure><svg role='img' aria-label='Scores of labels by gamma'></svg>"
        "<figcaption>Labels that fall from left to right live on what exemplars share with their "
        "contrast images.</figcaption></figure>"
    ),
    css=asset("paths.css"),
    js=asset("paths.js"),
)
ACCENT = {"light": "#0f766e", "dark": "#2dd4bf"}
QUIET = {"light": "#8a9391", "dark": "#71807d"}


def activation_histogram(bundle: Bundle, view: View, theme: str) -> tuple[Any, str]:
    """Counts of images by activation, on a logarithmic axis, and its description in words.

    The bars below the quiet threshold, whose images may serve as contrast images, are grey.
    """
    import plotly.graph_objects as go  # half a second: only where a chart is drawn

    count_b = np.asarray(bundle.histograms(view.model, view.layer)[view.unit])
    row = bundle.units(view.model, view.layer).iloc[view.unit]
    low, high = float(row["min"]), float(row["max"])
    threshold = float(bundle.contrast(view.model, view.layer).threshold_u[view.unit])
    first = float(
        bundle.exemplars(view.model, view.layer).activation_uk[view.unit].max(initial=low)
    )
    edges = np.linspace(low, high, len(count_b) + 1)
    centres = (edges[:-1] + edges[1:]) / 2
    theme = "dark" if theme == "dark" else "light"
    colours = [QUIET[theme] if edge < threshold else ACCENT[theme] for edge in edges[1:]]
    figure = go.Figure(
        go.Bar(
            x=centres,
            y=count_b,
            width=edges[1:] - edges[:-1],
            marker={"color": colours, "line": {"width": 0}},
            hovertemplate="%{y:,} images near %{x:.3g}<extra></extra>",
        )
    )
    figure.add_vline(x=threshold, line={"width": 1, "dash": "dot", "color": QUIET[theme]})
    figure.update_layout(
        height=190,
        margin={"l": 46, "r": 8, "t": 8, "b": 36},
        bargap=0,
        showlegend=False,
        xaxis={"title": {"text": "activation", "font": {"size": 12}}, "fixedrange": True},
        yaxis={
            "title": {"text": "images (log)", "font": {"size": 12}},
            "type": "log",
            "fixedrange": True,
            "dtick": 1,
            "range": [-0.3, float(np.log10(max(10, count_b.max()))) + 0.1],
        },
    )
    words = (
        f"Histogram of activations over {numbers.count(count_b.sum())} images, from "
        f"{numbers.activation(low)} to {numbers.activation(first)}; images below "
        f"{numbers.activation(threshold)} count as quiet."
    )
    return figure, words


def gamma_paths(
    gamma_g: np.ndarray, score_gk: np.ndarray, texts: list[str], gamma: float, *, key: str
) -> None:
    """Scores of the best labels along gamma, with their description in words."""
    ends = (
        f"{text} {numbers.score(float(score_gk[0, k]))} to {numbers.score(float(score_gk[-1, k]))}"
        for k, text in enumerate(texts)
    )
    lines = [
        {"name": text, "scores": [round(float(score), 5) for score in score_gk[:, k]]}
        for k, text in enumerate(texts)
    ]
    words = f"Scores of the first {len(texts)} labels from γ 0 to 1: {'; '.join(ends)}."
    gammas = [float(each) for each in gamma_g]
    _PATHS(key=key, data={"lines": lines, "gammas": gammas, "gamma": gamma, "words": words})
