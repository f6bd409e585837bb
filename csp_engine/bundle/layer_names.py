"""Layers of a bundle as people name them."""

from __future__ import annotations

from collections.abc import Sequence

from csp_engine.bundle import Bundle
from csp_engine.errors import InputError


def chosen_layers(
    bundle: Bundle, model: str | None, layers: Sequence[str] | None
) -> list[tuple[str, str]]:
    """Model and layer of every layer asked for, in the bundle's order.

    Raises:
        InputError: if a name is not in the bundle.
    """
    if model is not None and model not in bundle.model_names:
        raise InputError(
            f"There is no model {model!r} in {bundle.name}; it has {', '.join(bundle.model_names)}."
        )
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


def layer_path(layer: str) -> str:
    """A layer id without its pooling: ``layer4`` of ``layer4@mean``."""
    return layer.rpartition("@")[0]
