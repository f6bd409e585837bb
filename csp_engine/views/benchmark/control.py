"""The network with random weights beside the trained one: what is readable is not all learned."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.stats.intervals import Share, difference_of_shares, share_of


@dataclass(frozen=True, slots=True)
class Beside:
    """One layer and method in the trained network and in its control.

    ``gap`` is the share of reliable labels of the trained one less that of the control, with its
    95 % interval. The means of Pearson's correlation of label and neuron are NaN where nobody
    measured it.
    """

    model: str
    layer: str
    method: str
    trained: Share
    control: Share
    gap: tuple[float, float, float]
    trained_pearson: float
    control_pearson: float


def controls_of(bundle: Bundle) -> dict[str, str]:
    """Trained model → the model that is its control."""
    described = bundle.manifest.inputs.get("models", {})
    return {
        own["control_of"]: name
        for name, own in described.items()
        if own.get("control_of") in described and name in bundle.model_names
    }


def beside_control(bundle: Bundle, method: str) -> list[Beside]:
    """Every layer that both networks have, by one method."""
    rows = []
    for model, control in controls_of(bundle).items():
        for layer in bundle.layers(model):
            if layer not in bundle.layers(control):
                continue
            both = [(name, layer, method) for name in (model, control)]
            if all(method in bundle.methods(name, layer) for name in (model, control)):
                trained, random = (_reliable(bundle, *one) for one in both)
                gap = difference_of_shares(trained, random)
                means = (_pearson(bundle, *one) for one in both)
                rows.append(Beside(model, layer, method, trained, random, gap, *means))
    return rows


def in_a_sentence(rows: list[Beside]) -> str:
    """How much can be read in the network that learnt nothing; empty without any."""
    if not rows:
        return ""
    trained = _together([row.trained for row in rows])
    control = _together([row.control for row in rows])
    return (
        f"{numbers.share(trained.share)} of the neurons of the trained network have a reliable "
        f"label, and {numbers.share(control.share)} of those of the same network with random "
        "weights. A label says what can be read in a neuron, not that training taught it."
    )


def _together(shares: list[Share]) -> Share:
    return share_of(sum(each.n_hits for each in shares), sum(each.n for each in shares))


def _reliable(bundle: Bundle, model: str, layer: str, method: str) -> Share:
    reliable_u = np.asarray(bundle.scores(model, layer, method).reliable_u)
    return share_of(int(reliable_u.sum()), len(reliable_u))


def _pearson(bundle: Bundle, model: str, layer: str, method: str) -> float:
    table = bundle.faithfulness(model, layer, method)
    return float("nan") if table is None else float(table["pearson"].mean())
