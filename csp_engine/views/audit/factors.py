"""Factors of a layer that push wrong decisions, in figures and words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from csp_engine import numbers
from csp_engine.bundle import Bundle, StoredFactors, kinds
from csp_engine.types import NeuronRef
from csp_engine.views.audit.figures import Figure, figure
from csp_engine.views.neuron.label import BestLabel, best_label

N_NEURONS = 3
"""Neurons that a factor is described by: those with the largest weights in its direction."""


@dataclass(frozen=True, slots=True)
class Turning:
    """Decisions that turn once a direction is projected out."""

    n_mended: int
    n_spoilt: int

    @property
    def net(self) -> int:
        """Decisions put right less those spoilt."""
        return self.n_mended - self.n_spoilt


@dataclass(frozen=True, slots=True)
class Factor:
    """One factor.

    ``number`` is its rank from 1; ``wrong`` and ``right`` are the mean pushes of wrong and of
    right decisions, ``gap`` their difference. ``turning`` is None where the factor was not
    projected out. ``neurons`` have the largest weights, with their labels; ``pictures`` are places
    among the stored pictures.
    """

    number: int
    share: float
    gap: Figure
    wrong: float
    right: float
    is_called: bool
    turning: Turning | None
    neurons: tuple[tuple[NeuronRef, BestLabel], ...]
    pictures: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Factored:
    """The factors of one layer, by rank.

    ``n_ranking`` photographs gave the rank, ``n_photographs`` others the figures.
    """

    model: str
    layer: str
    images: str
    n_ranking: int
    n_photographs: int
    n_wrong: int
    factors: tuple[Factor, ...]
    random: tuple[Turning, ...]

    @property
    def called(self) -> tuple[Factor, ...]:
        """Those that were shown to push wrong decisions more than right ones."""
        return tuple(each for each in self.factors if each.is_called)

    @property
    def over(self) -> str:
        """What figures were counted on."""
        return (
            f"{numbers.count(self.n_wrong)} wrong decisions of {numbers.count(self.n_photographs)}"
        )

    @property
    def photographs(self) -> str:
        """What the photographs were, and which of them did what."""
        return (
            f"{self.images}. Factors were ranked on {numbers.count(self.n_ranking)} photographs; "
            f"figures are of {numbers.count(self.n_photographs)} others."
        )

    @property
    def sentence(self) -> str:
        """Which factors mislead, how surely, and what becomes without the first; or that none."""
        first = self.factors[0]
        if not self.called:
            return (
                f"No factor of {self.layer} was shown to push wrong decisions of {self.model} more "
                f"than right ones: the first of {len(self.factors)} does by {first.gap.signed} in "
                f"logits, over {self.over}."
            )
        n = len(self.called)
        told = [
            f"{'One' if n == 1 else numbers.count(n)} of {len(self.factors)} factors of "
            f"{self.layer} {'pushes' if n == 1 else 'push'} wrong decisions of {self.model} more "
            f"than right ones: the first by {first.gap.signed} in logits, over {self.over}."
        ]
        if first.turning is not None:
            mended, spoilt = first.turning.n_mended, first.turning.n_spoilt
            told.append(
                f"With it projected out, {numbers.count(mended)} of the wrong decisions "
                f"become{'s' * (mended == 1)} right and {numbers.count(spoilt)} of the right ones "
                f"become{'s' * (spoilt == 1)} wrong."
            )
            told.append(self.control)
        return " ".join(filter(None, told))

    @property
    def control(self) -> str:
        """What random directions do; empty without any."""
        if not self.random:
            return ""
        most = max(each.net for each in self.random)
        return (
            f"Of {len(self.random)} random directions none puts right more than "
            f"{numbers.count(max(most, 0))} on balance."
        )


def layers_factored(bundle: Bundle, model: str) -> tuple[str, ...]:
    """Layers of a model whose factors the bundle holds."""
    return tuple(
        layer for layer in bundle.layers(model) if bundle.has(kinds.FACTORS.name(model, layer))
    )


def models_factored(bundle: Bundle) -> tuple[str, ...]:
    """Models of which it holds any."""
    return tuple(model for model in bundle.model_names if layers_factored(bundle, model))


def factored(bundle: Bundle, model: str, layer: str, method: str) -> Factored | None:
    """The factors of a layer; None where nobody looked for them."""
    stored = bundle.factors(model, layer)
    return None if stored is None else figures(bundle, model, layer, stored, method)


def figures(bundle: Bundle, model: str, layer: str, stored: StoredFactors, method: str) -> Factored:
    """The figures of factors that the bundle need not hold; it names their neurons."""
    turns = turning(stored)
    at = stored.shown["factor"].to_numpy()
    found = []
    for k, row in enumerate(stored.factors.to_dict("records")):
        weight_u = np.asarray(stored.direction_uk)[:, k]
        units = np.argsort(-weight_u, kind="stable")[:N_NEURONS]
        neurons = [NeuronRef(model, layer, int(u)) for u in units if weight_u[u] > 0]
        found.append(
            Factor(
                k + 1,
                float(row["share"]),
                figure(row, "gap"),
                float(row["wrong"]),
                float(row["right"]),
                bool(row["is_called"]),
                turns[k] if k < stored.n_tried else None,
                tuple((each, best_label(bundle, each, method)) for each in neurons),
                tuple(np.flatnonzero(at == k).tolist()),
            )
        )
    is_told_n = stored.is_reported_n
    return Factored(
        model,
        layer,
        stored.images,
        int((~is_told_n).sum()),
        int(is_told_n.sum()),
        int((stored.is_wrong_n & is_told_n).sum()),
        tuple(found),
        tuple(turns[stored.n_tried :]),
    )


def turning(stored: StoredFactors) -> list[Turning]:
    """Of every run after the first, how many decisions it puts right and how many it spoils."""
    names = stored.photographs["class"][stored.is_reported_n]
    truth_i = names.map({name: i for i, name in enumerate(stored.classes)}).to_numpy(np.int64)
    is_right_vi = np.asarray(stored.called_vi) == truth_i
    was_i = is_right_vi[0]
    return [
        Turning(int((~was_i & now_i).sum()), int((was_i & ~now_i).sum()))
        for now_i in is_right_vi[1:]
    ]


def as_json(found: Factored) -> dict[str, Any]:
    """All of it, as plain data."""
    return {
        "model": found.model,
        "layer": found.layer,
        "images": found.images,
        "n_photographs": found.n_photographs,
        "n_wrong": found.n_wrong,
        "factors": [
            {
                "factor": each.number,
                "share": each.share,
                "gap": each.gap.as_json(),
                "wrong": each.wrong,
                "right": each.right,
                "is_called": each.is_called,
                "n_mended": None if each.turning is None else each.turning.n_mended,
                "n_spoilt": None if each.turning is None else each.turning.n_spoilt,
                "neurons": [
                    {
                        "neuron": f"{ref.model}/{ref.layer}/{ref.unit}",
                        "label": label.text if label.is_named else None,
                    }
                    for ref, label in each.neurons
                ],
            }
            for each in found.factors
        ],
        "random": [{"n_mended": t.n_mended, "n_spoilt": t.n_spoilt} for t in found.random],
    }
