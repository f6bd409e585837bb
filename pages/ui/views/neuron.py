"""Everything a page says about one neuron, read from a bundle; no drawing here."""

from __future__ import annotations

from collections.abc import Sequence

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.types import NeuronRef
from csp_engine.views import neuron_facts
from csp_engine.views.address import View
from csp_engine.views.images.tiles import ShownImage
from csp_engine.views.neuron.card import NeuronCard
from csp_engine.views.neuron_facts import BestLabel, best_label, flags, method_title, n_null
from pages.ui.parts.cards import Packs

__all__ = [
    "BestLabel",
    "best_label",
    "flags",
    "influence_rows",
    "method_title",
    "n_null",
    "neuron_card",
    "prefetch_packs",
    "statistics",
    "strip",
]
N_STRIP = 6


def statistics(bundle: Bundle, view: View) -> list[tuple[str, str]]:
    """Numbers of one neuron with what they rest on."""
    return neuron_facts.statistics(bundle, NeuronRef(view.model, view.layer, view.unit))


def strip(
    bundle: Bundle, model: str, layer: str, unit: int, n: int = N_STRIP
) -> tuple[ShownImage, ...]:
    """The first exemplars, for a card."""
    exemplars = bundle.exemplars(model, layer)
    n = min(n, int(exemplars.count_u[unit]))
    return tuple(
        ShownImage(
            int(exemplars.image_uk[unit, rank]),
            f"Exemplar {rank + 1}, activation "
            f"{numbers.activation(exemplars.activation_uk[unit, rank])}",
        )
        for rank in range(n)
    )


def prefetch_packs(bundle: Bundle, view: View, units: Sequence[int]) -> list[str]:
    """The thumbnail requests that the pages of some other units will make."""
    found: list[str] = []
    n_units = bundle.n_units(view.model, view.layer)
    exemplars = bundle.exemplars(view.model, view.layer)
    contrast = bundle.contrast(view.model, view.layer)
    for unit in units:
        if not 0 <= unit < n_units:
            continue
        packs = Packs(view.bundle, bundle)
        for rank in range(min(view.k, int(exemplars.count_u[unit]))):
            packs.at(int(exemplars.image_uk[unit, rank]))
            has_rank = rank < contrast.n_partner_uk.shape[1]
            if has_rank and contrast.n_partner_uk[unit, rank]:
                packs.at(int(contrast.image_ukj[unit, rank, 0]))
        found += packs.urls()
    return found


def influence_rows(
    bundle: Bundle, view: View, limit: int = 6
) -> list[tuple[str, float, list[str]]] | None:
    """The outputs that a neuron moves most, or None where the bundle does not know."""
    neuron = NeuronRef(view.model, view.layer, view.unit)
    return neuron_facts.influence_rows(bundle, neuron, limit)


def neuron_card(
    bundle: Bundle,
    view: View,
    model: str,
    layer: str,
    unit: int,
    *,
    score: str,
    note: str,
    n: int,
    mark: str = "",
    is_marked: bool = False,
    params: dict[str, str] | None = None,
) -> NeuronCard:
    """A neuron in a list. ``mark`` is a word about it, strong where ``is_marked``."""
    label = best_label(bundle, model, layer, unit, view.method)
    where = f"{layer} / {unit}" if len(bundle.model_names) == 1 else f"{model} / {layer} / {unit}"
    return NeuronCard(
        label.title,
        score,
        where,
        note,
        label.is_reliable,
        params or view.params(model=model, layer=layer, unit=unit),
        strip(bundle, model, layer, unit, n),
        mark,
        is_marked,
    )
