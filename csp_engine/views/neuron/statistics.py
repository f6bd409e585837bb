"""The facts of one neuron with what they rest on, and how its activations spread."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from csp_engine import numbers
from csp_engine.audits.registered import AUDITS
from csp_engine.audits.statistic import Statistic
from csp_engine.bundle import Bundle
from csp_engine.types import NeuronRef


@dataclass(frozen=True, slots=True)
class NeuronFact:
    """A fact of a neuron, or a few that belong together by column, and the same in words.

    ``term`` is what the glossary calls it, or empty where the name says it all.
    """

    name: str
    text: str
    values: Mapping[str, Any]
    term: str = ""


def statistics(bundle: Bundle, neuron: NeuronRef) -> tuple[NeuronFact, ...]:
    """Facts of one neuron; those that the bundle lacks are left out."""
    row = bundle.units(neuron.model, neuron.layer).iloc[neuron.unit]
    exemplars = bundle.exemplars(neuron.model, neuron.layer)
    count = int(exemplars.count_u[neuron.unit])
    contrast = bundle.contrast(neuron.model, neuron.layer)
    n_quiet = int(contrast.pool_u[neuron.unit])
    threshold = float(contrast.threshold_u[neuron.unit])
    found = [
        *_truth(bundle, neuron),
        NeuronFact(
            "Mean ± sd",
            f"{numbers.activation(row['mean'])} ± {numbers.activation(row['std'])}",
            {"mean": float(row["mean"]), "std": float(row["std"])},
        ),
        NeuronFact(
            "Range",
            f"{numbers.activation(row['min'])} to {numbers.activation(row['max'])}",
            {"min": float(row["min"]), "max": float(row["max"])},
        ),
        NeuronFact(
            "Active on",
            f"{numbers.share(row['density'])} of {numbers.count(bundle.n_images)} images",
            {"density": float(row["density"]), "n_images": bundle.n_images},
            "density",
        ),
        _exemplars(np.asarray(exemplars.activation_uk[neuron.unit, :count])),
        NeuronFact(
            "Quiet images",
            f"{numbers.count(n_quiet)} below {numbers.activation(threshold)}",
            {"n_quiet": n_quiet, "threshold": threshold},
            "quiet",
        ),
    ]
    found += audits(row)
    return tuple(found)


def _truth(bundle: Bundle, neuron: NeuronRef) -> list[NeuronFact]:
    """The concept that the neuron responds to, where that was measured and is clear."""
    truth = bundle.truth(neuron.model, neuron.layer)
    concept = pd.NA if truth is None else truth.units["true_concept"].iloc[neuron.unit]
    if pd.isna(concept):
        return []
    return [NeuronFact("Truth", str(concept), {"true_concept": str(concept)}, "true concept")]


def _exemplars(activation_k: np.ndarray) -> NeuronFact:
    """How many, and how many of them share the first place, as where an activation has a ceiling.

    Those that share it stand in the order of the probe set, and more may have been left out.
    """
    n_tied = int((activation_k == activation_k[:1]).sum())
    said = numbers.count(len(activation_k))
    if n_tied >= 2:
        whole = "all" if n_tied == len(activation_k) else f"the first {numbers.count(n_tied)}"
        said = f"{said}, {whole} equally strong"
    values = {"n_exemplars": len(activation_k), "n_strongest": n_tied}
    return NeuronFact("Exemplars", said, values, "exemplar")


def audits(row: pd.Series) -> list[NeuronFact]:
    """What the statistics say of a unit, where they are defined."""
    found = []
    for statistic in AUDITS.values():
        values = {name: row[name] for name in statistic.columns if name in row}
        if statistic.name in values and pd.notna(row[statistic.name]):
            note = statistic.note(row.to_dict())
            figure = _figure(statistic, float(row[statistic.name]))
            unit = f" {statistic.unit}" if statistic.unit else ""
            text = f"{figure}{unit}{f' ({note})' if note else ''}"
            found.append(NeuronFact(statistic.title, text, values, statistic.term))
    return found


def _figure(statistic: Statistic, value: float) -> str:
    write = {"share": numbers.share, "count": numbers.count, "figure": numbers.activation}
    return write.get(statistic.kind, numbers.score)(value)


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


def histogram_of(bundle: Bundle, neuron: NeuronRef) -> Histogram | None:
    """Images by activation; those below the quiet threshold may serve as contrast images.

    None for a constant neuron, which has nothing to draw.
    """
    row = bundle.units(neuron.model, neuron.layer).iloc[neuron.unit]
    if bool(row["is_constant"]):
        return None
    count_b = np.asarray(bundle.histograms(neuron.model, neuron.layer)[neuron.unit])
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
