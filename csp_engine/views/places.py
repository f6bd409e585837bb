"""The layers of a bundle in one order, by which routes and tables count them; what they hold."""

from __future__ import annotations

from csp_engine.bundle import Bundle


def places(bundle: Bundle) -> list[tuple[str, str]]:
    """All layers of a bundle (model and layer), in its own order."""
    return [(model, layer) for model in bundle.model_names for layer in bundle.layers(model)]


def scoring_methods(bundle: Bundle) -> list[str]:
    """Every label method that scored some layer, in the bundle's order."""
    found = (method for place in places(bundle) for method in bundle.methods(*place))
    return list(dict.fromkeys(found))


def concept_names(bundle: Bundle) -> tuple[str, ...]:
    """Every concept column that some layer was compared with, in the order of the probe set."""
    found: dict[str, None] = {}
    for place in places(bundle):
        held = bundle.columns(*place)
        if held is not None:
            found.update(dict.fromkeys(held.columns["name"].tolist()))
    return tuple(found)
