"""``csp neuron``: what is measured of one neuron, in the words of its page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from csp_engine.cli.declared import AsJson, BundlePath
from csp_engine.cli.shown import write_json, write_lines
from csp_engine.errors import InputError
from csp_engine.types import NeuronRef

if TYPE_CHECKING:
    from csp_engine.bundle import Bundle


def neuron(
    bundle: BundlePath,
    neuron: Annotated[str, typer.Argument(help="The neuron, as 'model/layer/unit'.")],
    method: Annotated[
        str | None, typer.Option(help="Method that names the neuron; the first without it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what is measured of one neuron: what it fires on, what its label is worth, what it moves.

    Example:
        csp neuron skin.csp resnet/layer4@mean/12
    """
    from csp_engine.bundle import Bundle
    from csp_engine.views.conclusion.claims import conclusion_of
    from csp_engine.views.memo import Memo
    from csp_engine.views.neuron.label import heading_of

    opened = Bundle.open(bundle)
    ref = _neuron_of(opened, neuron)
    methods = opened.methods(ref.model, ref.layer)
    if method is not None and method not in methods:
        raise InputError(
            f"Method {method!r} did not label {ref.layer} of {ref.model}; --method can be "
            f"{', '.join(methods) or 'left out: none did'}."
        )
    method = method or next(iter(methods), "none")
    heading = heading_of(opened, ref, method)
    claims = conclusion_of(opened, Memo(), ref, method)
    if as_json:
        write_json(
            {
                "neuron": str(ref),
                "method": method,
                "label": heading.label.text if heading.label.is_named else None,
                "states": [state.word for state in heading.states],
                "conclusion": [{"kind": each.kind, "text": str(each)} for each in claims],
            }
        )
        return
    write_lines([f"{ref}: {heading.label.heading}", *map(str, claims or heading.reasons)])


def _neuron_of(bundle: Bundle, text: str) -> NeuronRef:
    """The neuron that was asked for.

    Raises:
        InputError: if the bundle has none of this name; it says what there is.
    """
    asked = NeuronRef.parse(text)
    if asked.model not in bundle.model_names:
        raise InputError(
            f"Bundle {bundle.name} has no model {asked.model!r}; it has "
            f"{', '.join(bundle.model_names)}."
        )
    layers = bundle.layers(asked.model)
    if asked.layer not in layers:
        raise InputError(
            f"Model {asked.model} has no layer {asked.layer!r} here; it has {', '.join(layers)}."
        )
    n_units = bundle.n_units(asked.model, asked.layer)
    if asked.unit >= n_units:
        raise InputError(
            f"Layer {asked.layer} of {asked.model} has no unit {asked.unit:,}; its units are 0 to "
            f"{n_units - 1:,}."
        )
    return asked
