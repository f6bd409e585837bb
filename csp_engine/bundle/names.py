"""Models, layers and neurons of a bundle as people name them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from csp_engine.bundle import Bundle
from csp_engine.errors import InputError
from csp_engine.types import NeuronRef


def chosen_layers(
    bundle: Bundle, model: str | None, layers: Sequence[str] | None
) -> list[tuple[str, str]]:
    """Model and layer of every layer asked for, in the bundle's order.

    Raises:
        InputError: if a name is not in the bundle.
    """
    if model is not None:
        require_model(bundle, model)
    models = bundle.model_names if model is None else (model,)
    pairs = [(name, layer) for name in models for layer in bundle.layers(name)]
    if layers is None:
        return pairs
    chosen = [p for p in pairs if p[1] in layers or layer_path(p[1]) in layers]
    for wanted in layers:
        if not any(wanted in (layer, layer_path(layer)) for _, layer in chosen):
            raise InputError(
                f"There is no layer {wanted!r} in {bundle.name}; "
                f"it has {', '.join(dict.fromkeys(layer for _, layer in pairs))}."
            )
    return chosen


def require_model(bundle: Bundle, model: str, option: str = "") -> None:
    """Raise unless the bundle has neurons of this model.

    Args:
        bundle: an open bundle.
        model: its name.
        option: how the name is given on the command line, if it is.

    Raises:
        InputError: naming the models that it has.
    """
    known = bundle.model_names
    if model not in known:
        raise InputError(f"Model {model!r} is not in the bundle; {_there_are(known, option)}.")


def require_layer(bundle: Bundle, model: str, layer: str, option: str = "") -> None:
    """Raise unless the bundle has this layer of this model.

    Args:
        bundle: an open bundle.
        model: name of its model.
        layer: id of the layer, ``layer4@mean``.
        option: how the layer is given on the command line, if it is.

    Raises:
        InputError: naming the models or layers that it has.
    """
    require_model(bundle, model)
    known = bundle.layers(model)
    if layer not in known:
        there = _there_are(known, option)
        raise InputError(f"Layer {layer!r} of {model} is not in the bundle; {there}.")


def _there_are(known: Sequence[str], option: str) -> str:
    return f"{f'{option} can be' if option else 'it has'} {', '.join(known) or 'none'}"


def require_neuron(bundle: Bundle, neuron: NeuronRef) -> None:
    """Raise unless the bundle has this neuron.

    Raises:
        InputError: naming the models, layers or units that it has.
    """
    require_layer(bundle, neuron.model, neuron.layer)
    n_units = bundle.n_units(neuron.model, neuron.layer)
    if neuron.unit >= n_units:
        raise InputError(
            f"{neuron.layer} of {neuron.model} has no unit {neuron.unit:,}; it has 0 to "
            f"{n_units - 1:,}."
        )


def layer_path(layer: str) -> str:
    """A layer id without its pooling: ``layer4`` of ``layer4@mean``."""
    return layer.rpartition("@")[0]


def told_apart(names: Sequence[str]) -> tuple[str, ...]:
    """Names of outputs in their order, those that several have counted: ``crane (1 of 2)``."""
    total, seen = Counter(names), Counter[str]()
    found = []
    for name in names:
        seen[name] += 1
        found.append(f"{name} ({seen[name]} of {total[name]})" if total[name] > 1 else name)
    return tuple(found)
