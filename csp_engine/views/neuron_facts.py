"""What is said about one neuron, in words and numbers for people; read from a bundle."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from csp_engine import numbers
from csp_engine.audits.registered import AUDITS
from csp_engine.audits.statistic import Statistic
from csp_engine.bundle import Bundle
from csp_engine.methods import method_title as method_title
from csp_engine.types import NeuronRef


@dataclass(frozen=True, slots=True)
class BestLabel:
    """What to call a neuron, and whether that means anything."""

    text: str
    score: float
    is_reliable: bool

    @property
    def title(self) -> str:
        """The label, or an honest word for having none."""
        if not self.text:
            return "no label"
        return self.text if self.is_reliable else f"unclear: {self.text}?"


def best_label(bundle: Bundle, model: str, layer: str, unit: int, method: str) -> BestLabel:
    """The first label of a method."""
    if method not in bundle.methods(model, layer):
        return BestLabel("", 0.0, False)
    scores = bundle.scores(model, layer, method)
    if not scores.count_u[unit]:
        return BestLabel("", 0.0, False)
    texts = bundle.method_labels(model, layer, method)["text"]
    return BestLabel(
        str(texts.iloc[int(scores.label_uk[unit, 0])]),
        float(scores.score_uk[unit, 0]),
        bool(scores.reliable_u[unit]),
    )


def flags(row: pd.Series) -> list[tuple[str, str]]:
    """States of a unit worth a word, each with the sentence that explains it."""
    named = [
        ("is_constant", "constant", "It gives the same activation for every probe image."),
        ("is_dead", "dead", "It is zero on every probe image."),
        ("is_dense", "dense", "It is active on nearly every probe image."),
        ("never_positive", "never positive", "Its exemplars are the least negative images."),
    ]
    found = [(word, why) for key, word, why in named if bool(row.get(key, False))]
    return found[:1] if found and found[0][0] == "constant" else found


def n_null(bundle: Bundle) -> int:
    """How many random image sets stand behind the percentiles."""
    if not bundle.has("null"):
        return 0
    return int(bundle.stage("null").params.get("n_draws", 0))


def statistics(bundle: Bundle, neuron: NeuronRef) -> list[tuple[str, str]]:
    """Numbers of one neuron with what they rest on."""
    row = bundle.units(neuron.model, neuron.layer).iloc[neuron.unit]
    exemplars = bundle.exemplars(neuron.model, neuron.layer)
    count = int(exemplars.count_u[neuron.unit])
    contrast = bundle.contrast(neuron.model, neuron.layer)
    rows = [
        ("Mean ± sd", f"{numbers.activation(row['mean'])} ± {numbers.activation(row['std'])}"),
        ("Range", f"{numbers.activation(row['min'])} to {numbers.activation(row['max'])}"),
        (
            "Active on",
            f"{numbers.share(row['density'])} of {numbers.count(bundle.n_images)} images",
        ),
        ("Exemplars", _exemplars(np.asarray(exemplars.activation_uk[neuron.unit, :count]))),
        (
            "Quiet images",
            f"{numbers.count(contrast.pool_u[neuron.unit])} below "
            f"{numbers.activation(contrast.threshold_u[neuron.unit])}",
        ),
    ]
    return [*rows, *audits(row)]


def audits(row: pd.Series) -> list[tuple[str, str]]:
    """What the statistics say of a unit, where they are defined."""
    rows = []
    for statistic in AUDITS.values():
        if statistic.name in row and pd.notna(row[statistic.name]):
            note = statistic.note(row.to_dict())
            figure = f"{_figure(statistic, float(row[statistic.name]))}"
            unit = f" {statistic.unit}" if statistic.unit else ""
            rows.append((statistic.title, f"{figure}{unit}{f' ({note})' if note else ''}"))
    return rows


def _figure(statistic: Statistic, value: float) -> str:
    write = {"share": numbers.share, "count": numbers.count, "figure": numbers.activation}
    return write.get(statistic.kind, numbers.score)(value)


def _exemplars(activation_k: np.ndarray) -> str:
    """How many, and how many of them share the first place, as where an activation has a ceiling.

    Those that share it stand in the order of the probe set, and more may have been left out.
    """
    n_tied = int((activation_k == activation_k[:1]).sum())
    said = numbers.count(len(activation_k))
    if n_tied < 2:
        return said
    whole = "all" if n_tied == len(activation_k) else f"the first {numbers.count(n_tied)}"
    return f"{said}, {whole} equally strong"


def influence_rows(
    bundle: Bundle, neuron: NeuronRef, limit: int = 6
) -> list[tuple[str, float, list[str]]] | None:
    """The outputs that a neuron moves most, or None where the bundle does not know.

    Each row is an output's name, its effect as a share of the largest, and effect, direct weight
    and number of images in words, the numbers of a column to the same digit.
    """
    stored = bundle.influence(neuron.model, neuron.layer)
    if stored is None:
        return None
    effect_c = np.asarray(stored.gradient_activation_cu[:, neuron.unit], dtype=float)
    effect_c = np.where(np.asarray(stored.n_image_c) > 0, effect_c, 0.0)
    order = np.argsort(-np.abs(effect_c), kind="stable")[:limit]
    largest = float(np.abs(effect_c[order]).max(initial=0.0)) or 1.0
    direct = stored.direct_weight_cu
    effects = numbers.signed_alike(effect_c[order])
    weights = ["–"] * len(order)
    if direct is not None:
        weights = numbers.signed_alike(np.asarray(direct[order, neuron.unit], dtype=float))
    return [
        (
            stored.output_names[output],
            effect_c[output] / largest,
            [
                effects[at],
                weights[at],
                numbers.count(stored.n_image_c[output]),
            ],
        )
        for at, output in enumerate(order)
        if effect_c[output] != 0
    ]


@dataclass(frozen=True, slots=True)
class Bar:
    """The images of one bin of a histogram; ``height`` is a share of 100, logarithmic."""

    n: int
    centre: float
    height: float
    is_quiet: bool


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of activations as bars of equal width, and the same in words.

    ``threshold`` is the place of the quiet threshold among them, from 0 to 100.
    """

    bars: tuple[Bar, ...]
    threshold: float
    low: str
    high: str
    most: str
    words: str

    def path(self, is_quiet: bool) -> str:
        """The bars below the quiet threshold, or the others, as an SVG path of 100 by 100."""
        width = 100 / len(self.bars)
        return "".join(
            f"M{at * width:.4g} 100v{-bar.height:.4g}h{width:.4g}v{bar.height:.4g}z"
            for at, bar in enumerate(self.bars)
            if bar.n and bar.is_quiet == is_quiet
        )


def histogram_of(bundle: Bundle, neuron: NeuronRef) -> Histogram:
    """Images by activation; those below the quiet threshold may serve as contrast images."""
    count_b = np.asarray(bundle.histograms(neuron.model, neuron.layer)[neuron.unit])
    row = bundle.units(neuron.model, neuron.layer).iloc[neuron.unit]
    low, high = float(row["min"]), float(row["max"])
    threshold = float(bundle.contrast(neuron.model, neuron.layer).threshold_u[neuron.unit])
    edge_e = np.linspace(low, high, len(count_b) + 1)
    most = int(count_b.max(initial=1))
    # A bar of one image must still be seen: the axis starts at half an image.
    top = math.log10(2 * max(most, 10))
    bars = tuple(
        Bar(
            n,
            float(edge_e[at] + edge_e[at + 1]) / 2,
            100 * math.log10(2 * n) / top if n else 0.0,
            bool(edge_e[at + 1] < threshold),
        )
        for at, n in enumerate(count_b.tolist())
    )
    span = high - low
    place = (threshold - low) / span if span > 0 and math.isfinite(threshold) else 0.0
    words = (
        f"Histogram of activations over {numbers.count(count_b.sum())} images, from "
        f"{numbers.activation(low)} to {numbers.activation(high)}; images below "
        f"{numbers.activation(threshold)} count as quiet."
    )
    return Histogram(
        bars,
        100 * min(1.0, max(0.0, place)),
        numbers.activation(low),
        numbers.activation(high),
        numbers.count(most),
        words,
    )
