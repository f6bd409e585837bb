"""How well labels predict their neurons, where somebody measured it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from csp_engine import numbers
from csp_engine.bundle import Bundle, kinds
from csp_engine.evaluation.metrics.registered import METRICS
from csp_engine.stats.drawn import percentile_interval
from csp_engine.stats.intervals import share_of
from csp_engine.stats.paired import compare
from csp_engine.types import NeuronRef
from csp_engine.views.memo import Memo
from csp_engine.views.places import places, scoring_methods

N_RESAMPLES = 2000
FIGURES = ("pearson", "auprc")
PREDICTED = tuple(f"label_{name}" for name in FIGURES)
"""Columns of the table of neurons."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with the bounds of its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def spread(self) -> str:
        """The figure, then its bounds; a dash where it is not known."""
        if np.isnan(self.value):
            return numbers.UNKNOWN
        return f"{numbers.score(self.value)} {self.ends}"

    @property
    def ends(self) -> str:
        """The bounds, or that there are none."""
        if np.isnan(self.low):
            return numbers.BARE
        return f"{numbers.score(self.low)} to {numbers.score(self.high)}"


@dataclass(frozen=True, slots=True)
class Faithful:
    """How well a best label predicts one neuron; ``n_said`` images are those it is said of."""

    pearson: Interval
    auprc: Interval
    n_said: int


def of_label(bundle: Bundle, neuron: NeuronRef, method: str) -> Faithful | None:
    """How well a method's best label predicts a neuron; None where nobody has measured it."""
    table = bundle.faithfulness(neuron.model, neuron.layer, method)
    if table is None:
        return None
    row = table.iloc[neuron.unit]
    figures = [
        Interval(*(float(row[name + end]) for end in ("", "_low", "_high"))) for name in FIGURES
    ]
    return Faithful(*figures, int(row["n_said"]))


def about(bundle: Bundle) -> str:
    """On how many images, by what: a sentence; empty where nobody has measured."""
    first = _facts(bundle)
    if first is None:
        return ""
    images = f"{numbers.count(first['n_images'])} images"
    seen = (
        f"{images} that chose no label"
        if first["is_held_out"]
        else f"the {images} of the probe set, which chose the labels too"
    )
    return f"Predicted from the label on {seen}, by another encoder than the one that chose it."


def _facts(bundle: Bundle) -> Mapping[str, Any] | None:
    """What the manifest says of the measurement, which is one for all methods and layers."""
    stages = bundle.manifest.stages
    return next((stages[name].facts for name in stages if kinds.FAITHFULNESS.is_of(name)), None)


def faithfulness(bundle: Bundle) -> dict[str, Any] | None:
    """Every method over all neurons, and every two of them paired. JSON-ready; None without any.

    ``about`` says in a sentence on what, and ``judge`` names the encoder that predicted.
    ``methods`` holds for each method ``n`` neurons, the means of ``pearson`` and ``auprc`` with
    neurons drawn anew, and ``predicts``: of those that have an interval of Pearson's correlation,
    the share whose whole interval is above 0. ``differences``: means of Pearson paired over the
    neurons that both labelled, with p after Holm.
    """
    tables, facts = figures_of(bundle), _facts(bundle)
    if not tables or facts is None:
        return None
    methods = {}
    for method, table in tables.items():
        known = table[table["pearson"].notna()]
        low = known["pearson_low"].dropna()
        n_above = int((low > 0).sum())
        methods[method] = {
            "n": len(known),
            **{name: drawn_mean(table[name]) for name in FIGURES},
            "predicts": asdict(share_of(n_above, len(low))),
        }
    pairs = compare({method: table["pearson"].to_numpy() for method, table in tables.items()})
    return {
        "about": about(bundle),
        "judge": facts["judge"],
        "methods": methods,
        "differences": [asdict(pair) for pair in pairs],
    }


@dataclass(frozen=True, slots=True)
class Trusted:
    """A figure that judges labels, and what became of it on planted units.

    ``missing`` and ``extra`` say for how large a share of units it falls where the label is said of
    too few images, or of too many, and by how much for the typical one, of the way to a column
    without relation; ``is_passed``: both are enough (``label_checks``).
    """

    title: str
    auroc: Interval
    n_right: int
    n_wrong: int
    missing: tuple[float, float]
    extra: tuple[float, float]
    is_passed: bool


def trusted(bundle: Bundle) -> tuple[Trusted, ...]:
    """Every figure that was tried, the one to believe first; empty where nobody has tried."""
    table = bundle.trust()
    if table is None:
        return ()
    return tuple(
        Trusted(
            METRICS[row["metric"]].title if row["metric"] in METRICS else str(row["metric"]),
            Interval(*(float(row[name]) for name in ("auroc", "low", "high"))),
            int(row["n_right"]),
            int(row["n_wrong"]),
            (float(row["missing_falls"]), float(row["missing_by"])),
            (float(row["extra_falls"]), float(row["extra_by"])),
            bool(row["is_passed"]),
        )
        for row in table.to_dict("records")
    )


def which_to_believe(bundle: Bundle) -> str:
    """The figure that tells right labels best, of those that notice wrong ones: a sentence."""
    found = trusted(bundle)
    if not found or not found[0].is_passed or np.isnan(found[0].auroc.value):
        return ""
    best = found[0]
    facts = bundle.stage(kinds.TRUST.name()).facts
    by = "the judge" if facts["judge"] else "the encoder that chose the labels"
    return (
        f"Believe {best.title}: of a right and a wrong label it prefers the right one in "
        f"{numbers.share(best.auroc.value)} of cases ({numbers.share(best.auroc.low)} to "
        f"{numbers.share(best.auroc.high)}), and it notices labels that say too little or too "
        f"much. Tried on {numbers.count(best.n_right)} right and {numbers.count(best.n_wrong)} "
        f"wrong labels of planted units, predicted by {by}."
    )


def kept_faithfulness(bundle: Bundle, memo: Memo) -> dict[str, Any] | None:
    """``faithfulness``, worked out once."""
    return memo.once(("faithfulness", bundle.digest), lambda: faithfulness(bundle))


def figures_of(bundle: Bundle) -> Mapping[str, pd.DataFrame]:
    """For each method that was measured, one row for every neuron of the bundle."""
    found = {}
    for method in scoring_methods(bundle):
        parts = []
        is_measured = False
        for model, layer in places(bundle):
            table = None
            if method in bundle.methods(model, layer):
                table = bundle.faithfulness(model, layer, method)
            is_measured |= table is not None
            if table is None:
                table = pd.DataFrame(index=range(bundle.n_units(model, layer)))
            parts.append(table)
        if is_measured:
            found[method] = pd.concat(parts, ignore_index=True)
    return found


def drawn_mean(figure_u: pd.Series) -> dict[str, Any]:
    """The mean over neurons that have the figure, with a percentile bootstrap over them.

    Bounds are NaN where they are too few.
    """
    known_u = figure_u.dropna().to_numpy(np.float64)
    n = len(known_u)
    if not n:
        return {"n": 0, "mean": float("nan"), "low": float("nan"), "high": float("nan")}
    rng, means = np.random.default_rng(0), []
    for _ in range(0, N_RESAMPLES, 100):
        means.append(known_u[rng.integers(n, size=(100, n))].mean(axis=1))
    low, high = percentile_interval(np.concatenate(means), n)
    return {"n": n, "mean": float(known_u.mean()), "low": low, "high": high}


def of_layer(bundle: Bundle, model: str, layer: str, method: str) -> dict[str, np.ndarray]:
    """The columns of the table of neurons, NaN where nobody has measured them."""
    nothing = np.full(bundle.n_units(model, layer), np.nan, np.float32)
    table = None
    if method in bundle.methods(model, layer):
        table = bundle.faithfulness(model, layer, method)
    return {
        column: nothing if table is None else table[name].to_numpy(np.float32)
        for column, name in zip(PREDICTED, FIGURES, strict=True)
    }
