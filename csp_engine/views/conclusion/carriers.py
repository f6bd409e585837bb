"""Neurons that carry what an artefact does to an output, over all that was tried."""

from __future__ import annotations

from csp_engine.bundle import Bundle
from csp_engine.types import NeuronRef
from csp_engine.views.audit.interventions import audited, effects, models_with
from csp_engine.views.memo import Memo


def carriers(bundle: Bundle, memo: Memo) -> dict[NeuronRef, list[tuple[str, str, float, int]]]:
    """Neurons that carry an effect with few others: artefact, output, part of it, how many carry.

    Of each artefact, the strongest carriers of the layer in which the smallest set carries it.
    """

    def make() -> dict[NeuronRef, list[tuple[str, str, float, int]]]:
        found: dict[NeuronRef, list[tuple[str, str, float, int]]] = {}
        for model in models_with(bundle):
            held = bundle.intervention(model)
            assert held is not None
            for effect in effects(held):
                known = audited(bundle, model, effect.artefact, "")
                if known is None or known.scope is None or not effect.effect.is_away_from_zero:
                    continue
                n_carriers = known.scope.n_carriers or 0
                for each in known.suspects[:n_carriers]:
                    row = (effect.artefact, held.output, each.share, n_carriers)
                    found.setdefault(each.neuron, []).append(row)
        return found

    return memo.once(("carriers", bundle.digest), make)
