"""Charts of one neuron: how its activations are spread, and how labels move with gamma."""

from __future__ import annotations

import numpy as np
import streamlit as st

from csp_engine import numbers
from csp_engine.views.neuron.statistics import Histogram
from pages.ui.parts.cards import asset, plain

_PATHS = st.components.v2.component(
    "csp_paths",
    html=(
        "<figure><svg role='img' aria-label='Scores of labels by gamma'></svg>"
        "<figcaption>If the score of a label drops as γ grows, the label describes what the "
        "exemplars share with their contrast images.</figcaption></figure>"
    ),
    css=asset("paths.css"),
    js=asset("paths.js"),
)


def activation_histogram(drawn: Histogram) -> str:
    """Counts of images by activation, on a logarithmic axis, as HTML; each bar has its numbers.

    The bars below the quiet threshold, whose images may serve as contrast images, are grey. HTML
    and no chart library: that would be megabytes of script on the page that is opened most.
    """
    bars = "".join(
        f"<i{' class=quiet' if bar.is_quiet else ''} style='height:{bar.height:.1f}%' "
        f"title='{numbers.count(bar.n)} images near {numbers.activation(bar.centre)}'></i>"
        for bar in drawn.bars
    )
    return (
        f"<div class='csp-bars' role='img' aria-label='{plain(drawn.words)}'>{bars}"
        f"<b style='left:{drawn.threshold:.1f}%'></b></div><p class='csp-bar-ends'>"
        f"<span>{drawn.low}</span><span>activation; images on a logarithmic scale, at most "
        f"{drawn.most} in a bar; grey below the quiet threshold</span><span>{drawn.high}</span></p>"
    )


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
