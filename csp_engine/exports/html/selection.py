"""What a static export shows: one list of neurons for each of its tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from csp_engine.bundle import Bundle
from csp_engine.bundle.names import chosen_layers, require_neuron
from csp_engine.errors import InputError
from csp_engine.types import NeuronRef


@dataclass(frozen=True, slots=True)
class NeuronList:
    """The neurons of one table, in its order; previous and next follow it.

    ``match`` is how well each fits what was searched for, or empty where nothing was.
    """

    title: str
    neurons: tuple[NeuronRef, ...]
    match: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Selection:
    """All tables of an export. ``about`` says in words what was chosen, and by what."""

    about: str
    lists: tuple[NeuronList, ...]

    @property
    def n_neurons(self) -> int:
        """Number of neurons; each is in one list."""
        return sum(len(each.neurons) for each in self.lists)


def of_layers(
    bundle: Bundle, *, model: str | None = None, layers: Sequence[str] | None = None
) -> Selection:
    """Every neuron of some layers, a list for each layer.

    Args:
        bundle: an open bundle.
        model: name of one target model; all by default.
        layers: layer ids (``layer4@mean``) or bare module paths; all by default.

    Raises:
        InputError: if a name is not in the bundle, or it has no neurons yet.
    """
    chosen = chosen_layers(bundle, model, layers)
    if not chosen:
        raise InputError(
            f"Bundle {bundle.name} has no neurons yet; run the same 'csp build' again to finish it."
        )
    lists = tuple(
        NeuronList(
            f"{name} / {layer}",
            tuple(NeuronRef(name, layer, unit) for unit in range(bundle.n_units(name, layer))),
        )
        for name, layer in chosen
    )
    is_whole = model is None and layers is None
    named = ", ".join(each.title for each in lists)
    return Selection(f"All neurons of {'the bundle' if is_whole else named}.", lists)


def of_neurons(
    bundle: Bundle,
    neurons: Sequence[NeuronRef],
    *,
    title: str,
    about: str,
    match: Sequence[float] | None = None,
) -> Selection:
    """Some neurons in one list, in the order given; one named twice counts once.

    Args:
        bundle: an open bundle.
        neurons: which.
        title: of their table.
        about: what was chosen, in a sentence.
        match: how well each fits what was searched for.

    Raises:
        InputError: if a neuron is not in the bundle, or there are none.
    """
    first = {neuron: at for at, neuron in reversed(list(enumerate(neurons)))}
    chosen = tuple(sorted(first, key=first.__getitem__))
    if not chosen:
        raise InputError("There are no neurons to export; name at least one.")
    for neuron in chosen:
        require_neuron(bundle, neuron)
    held = () if match is None else tuple(float(match[first[neuron]]) for neuron in chosen)
    return Selection(about, (NeuronList(title, chosen, held),))
