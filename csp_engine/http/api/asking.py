"""What a request asks for, checked: bundles, neurons, methods and pages that exist, or a sentence.

Pages read a link as well as they can and say so. A program would not notice, so here everything
that cannot be had as it was asked for is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import Path, Query, Request
from pydantic import BeforeValidator

from csp_engine.bundle import Bundle
from csp_engine.bundle.names import require_neuron
from csp_engine.errors import InputError
from csp_engine.types import NeuronRef

MOST_ROWS = 1000
FEW_ROWS = 100

BundleGiven = Annotated[str, Path(description="Name of a bundle, as /bundles lists it.")]
NeuronGiven = Annotated[str, Path(description="The neuron, model/layer/unit.")]
ModelGiven = Annotated[str, Query(description="A target model; the first without it.")]
MethodGiven = Annotated[str, Query(description="A label method; the first without it.")]
ConceptsGiven = Annotated[
    str,
    Query(
        description="A concept set, as the address of the page Audit carries it; melanoma without "
        "it."
    ),
]


def _in_digits(given: Any) -> Any:
    if isinstance(given, str) and not re.fullmatch(r"-?[0-9]{1,10}", given):
        raise ValueError("should be a whole number in digits")
    return given


IN_DIGITS = BeforeValidator(_in_digits)
"""Of whole numbers in an address: 1_0 would be read as ten and 1.0 as one, which nobody meant."""
Offset = Annotated[
    int, Query(ge=0, le=10**9, description="How many rows to leave out first."), IN_DIGITS
]
Limit = Annotated[int, Query(ge=1, le=MOST_ROWS, description="How many rows to give."), IN_DIGITS]


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows of a list, and where the next ones are."""

    offset: int
    limit: int

    def next(self, request: Request, total: int) -> str | None:
        """Path and query of the next page; None where this is the last."""
        start = self.offset + self.limit
        if start >= total:
            return None
        others = [item for item in request.query_params.multi_items() if item[0] != "offset"]
        return f"{address_of(request)}?{urlencode([*others, ('offset', start)])}"


def address_of(request: Request, ending: str = "") -> str:
    """The path that was asked for, as an address has it, up to its ending.

    Args:
        request: whose path a server gives with all signs as they are.
        ending: of the path, to be left out.
    """
    return quote(request.scope["path"].removesuffix(ending))


def refuse_unknown(request: Request) -> None:
    """Refuse parameters that the address does not have: they would be left out silently.

    Raises:
        InputError: naming the first of them and what there is.
    """
    known = [each.alias for each in request.scope["route"].dependant.query_params]
    given = [name for name, _ in request.query_params.multi_items()]
    for name in given:
        if name not in known:
            there = f"it has {', '.join(known)}" if known else "it has none"
            raise InputError(f"There is no parameter {name!r} at this address; {there}.")
        if given.count(name) > 1:
            raise InputError(f"The parameter {name!r} is given more than once; give it once.")


def named(kind: str, asked: str, known: Sequence[str]) -> str:
    """The name that was asked for, or the first where none was.

    Raises:
        InputError: if there is no such name; it says which there are.
    """
    if asked and asked not in known:
        there = f"it can be {', '.join(known)}" if known else "there is none here"
        raise InputError(f"There is no {kind} {asked!r} here; {there}.")
    return asked or next(iter(known), "")


def neuron_of(bundle: Bundle, text: str) -> NeuronRef:
    """The neuron ``model/layer/unit``.

    Raises:
        InputError: if the bundle has no such neuron; it says what there is.
    """
    asked = NeuronRef.parse(text)
    require_neuron(bundle, asked)
    return asked


def exactly(notes: Sequence[str]) -> None:
    """Refuse what would have been answered otherwise than asked.

    Raises:
        InputError: with the first of the notes that a page would show.
    """
    if notes:
        raise InputError(f"Not answered, so as not to answer something else. {notes[0]}")


def given(**parameters: str) -> Mapping[str, str]:
    """The parameters that were given, by the names that links have."""
    return {name.rstrip("_"): value for name, value in parameters.items() if value}
