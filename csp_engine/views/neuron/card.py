"""One neuron in a list, with a few of its exemplars."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.types import NeuronRef
from csp_engine.views.images.pairs import exemplar_images
from csp_engine.views.images.tiles import ShownImage
from csp_engine.views.neuron.label import best_label


@dataclass(frozen=True, slots=True)
class NeuronCard:
    """One neuron in a list.

    ``params`` are those of the address of its page; ``mark`` is a word about it, strong where
    ``is_marked``.
    """

    title: str
    score: str
    id: str
    note: str
    is_reliable: bool
    params: Mapping[str, str]
    images: tuple[ShownImage, ...] = ()
    mark: str = ""
    is_marked: bool = False


def neuron_card(
    bundle: Bundle,
    neuron: NeuronRef,
    method: str,
    params: Mapping[str, str],
    *,
    score: str,
    note: str,
    n: int,
    mark: str = "",
    is_marked: bool = False,
) -> NeuronCard:
    """A neuron with its best label and its first ``n`` exemplars; the rest as in ``NeuronCard``."""
    label = best_label(bundle, neuron, method)
    return NeuronCard(
        label.title,
        score,
        where_of(bundle, neuron),
        note,
        label.is_named,
        params,
        first_exemplars(bundle, neuron, n),
        mark,
        is_marked,
    )


def where_of(bundle: Bundle, neuron: NeuronRef) -> str:
    """Layer and unit, with the model where there are several, and whether it is planted."""
    where = f"{neuron.layer} / {neuron.unit}"
    where += " · planted" if is_planted(bundle, neuron) else ""
    return where if len(bundle.model_names) == 1 else f"{neuron.model} / {where}"


def is_planted(bundle: Bundle, neuron: NeuronRef) -> bool:
    """Whether it is no neuron of a network but a unit made to answer to something known."""
    truth = bundle.truth(neuron.model, neuron.layer)
    if truth is None or "planted" not in truth.units:
        return False
    return isinstance(truth.units["planted"].iat[neuron.unit], str)


def first_exemplars(bundle: Bundle, neuron: NeuronRef, n: int) -> tuple[ShownImage, ...]:
    """The strongest exemplars with their activations."""
    activation_k = bundle.exemplars(neuron.model, neuron.layer).activation_uk[neuron.unit]
    return tuple(
        ShownImage(
            image,
            f"Exemplar {rank + 1}, activation {numbers.activation(activation_k[rank])}",
            activation=float(activation_k[rank]),
        )
        for rank, image in enumerate(exemplar_images(bundle, neuron)[:n].tolist())
    )
