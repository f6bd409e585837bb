"""``csp neuron``: what is measured of one neuron, in the words of its page."""

from __future__ import annotations

from typing import Annotated

import typer

from csp_engine.cli.declared import AsJson, BundlePath
from csp_engine.cli.shown import write_json, write_lines
from csp_engine.errors import InputError
from csp_engine.types import NeuronRef


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
    from csp_engine.bundle.names import require_neuron
    from csp_engine.views.conclusion.claims import conclusion_of
    from csp_engine.views.memo import Memo
    from csp_engine.views.neuron.label import heading_of

    opened = Bundle.open(bundle)
    ref = NeuronRef.parse(neuron)
    require_neuron(opened, ref)
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
