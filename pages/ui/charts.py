"""The one chart that needs axes: how a neuron's activations are spread over the probe set."""

from __future__ import annotations

from typing import Any

import numpy as np

from csp_engine.bundle import Bundle
from pages.ui import numbers
from pages.ui.state import View

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
