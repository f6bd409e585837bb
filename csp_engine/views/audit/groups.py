"""Units of a layer as somebody names them: by their numbers, or as a family."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from csp_engine.bundle import Bundle
from csp_engine.bundle.names import require_neuron
from csp_engine.errors import InputError
from csp_engine.types import NeuronRef
from csp_engine.views.memo import Memo
from csp_engine.views.table.rows import neuron_table

MOST_NAMED = 5
_NUMBERS = re.compile(r"\d+(?:\s*,\s*\d+)*")


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Units of one layer.

    ``name`` is that of the family, or lists the numbers; ``method`` is the one whose labels make
    the family, empty for numbers.
    """

    layer: str
    unit_k: np.ndarray
    name: str
    method: str = ""


def group_of(bundle: Bundle, memo: Memo, model: str, text: str, method: str) -> Group | None:
    """The units that ``LAYER:3,14,15`` or ``LAYER:FAMILY`` names; None where it names no layer.

    A family is one of ``csp_engine.views.table.families``: units whose reliable label by the method
    means the same as the wording that names it.

    Args:
        bundle: that has the layer.
        memo: keeps the table of neurons.
        model: of the layer.
        text: what somebody wrote.
        method: whose labels make families; empty where the bundle has none.

    Raises:
        InputError: if the layer has no such unit or family.
    """
    layer, rest = next(
        ((each, text[len(each) + 1 :].strip()) for each in bundle.layers(model)
         if text.startswith(f"{each}:")), ("", ""),
    )  # fmt: skip
    if not rest:
        return None
    if _NUMBERS.fullmatch(rest):
        numbers = sorted({int(each) for each in rest.split(",")})
        require_neuron(bundle, NeuronRef(model, layer, numbers[-1]))
        return Group(layer, np.array(numbers, np.int64), ", ".join(map(str, numbers)))
    counts: dict[str, int] = {}
    if method:
        rows = neuron_table(bundle, memo, method)
        own = rows[(rows["model"] == model) & (rows["layer"] == layer)]
        found = own["unit"].to_numpy()[(own["family"] == rest).to_numpy(bool)]
        if len(found):
            return Group(layer, np.sort(found).astype(np.int64), rest, method)
        counts = own["family"].value_counts().to_dict()
    named = [f"{name} ({n})" for name, n in list(counts.items())[:MOST_NAMED] if n]
    there = f"its largest by {method} are {', '.join(named)}" if named else "it has none"
    raise InputError(
        f"{layer} of {model} has no family {rest!r}; {there}. Name one of them, or give numbers of "
        f"neurons, such as {layer}:3,14,15."
    )
