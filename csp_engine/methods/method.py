"""What a label method is: a name, its parameters with defaults, and one scoring function."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64

from csp_engine.errors import InputError
from csp_engine.types import Evidence

Params = Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """What a method says about a block of units.

    The score of a label is ``score_ut + offset_u`` (the offset is kept apart where adding it early
    would cost digits; ``None`` is 0). ``vector_ud`` holds the concept vectors, unit rows or zero,
    or is ``None`` when the concept vector is that of the best label. ``raw_vector_ud`` is the
    vector whose product with a label gives the score without contrast images; ``None`` where the
    method uses none. ``has_label_u`` is false where there is nothing to go by. ``extra`` are arrays
    with one row per unit to keep beside the scores.
    """

    score_ut: Float32[np.ndarray, "u t"]
    has_label_u: Bool[np.ndarray, " u"]
    vector_ud: Float32[np.ndarray, "u d"] | None = None
    raw_vector_ud: Float32[np.ndarray, "u d"] | None = None
    offset_u: Float64[np.ndarray, " u"] | None = None
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Method:
    """One way to put labels on neurons.

    ``depth`` names the parameter that says how many exemplars, from the strongest, the method looks
    at. ``check`` raises ``InputError`` for values outside their range. ``unit_block`` is how many
    units are worth scoring at once.
    """

    name: str
    title: str
    version: int
    params: Params
    check: Callable[[Params], None]
    score: Callable[[Evidence, Float32[np.ndarray, "t d"], Params], Scored]
    unit_block: int = 256
    depth: str = "n_score"


def resolve_params(method: Method, params: Params) -> Params:
    """The method's defaults with ``params`` put over them, checked.

    Raises:
        InputError: for a parameter the method does not have, or a value outside its range.
    """
    for name in params:
        if name not in method.params:
            near = difflib.get_close_matches(name, method.params, n=1)
            raise InputError(
                f"Method {method.name!r} has no parameter {name!r}; it has "
                f"{', '.join(method.params)}.{f' Did you mean {near[0]!r}?' if near else ''}"
            )
    resolved = {**method.params, **params}
    depth = resolved[method.depth]
    if isinstance(depth, bool) or not isinstance(depth, int) or depth < 1:
        raise InputError(
            f"{method.depth} is {depth!r}; give the number of exemplars to score, 1 or more."
        )
    method.check(resolved)
    return MappingProxyType(resolved)


def require_number(params: Params, name: str, low: int | float, high: int | float) -> None:
    """Raise unless ``params[name]`` is a finite number in ``[low, high]``."""
    number = params[name]
    is_number = isinstance(number, (int, float)) and not isinstance(number, bool)
    if not is_number or not low <= number <= high:
        raise InputError(f"{name} is {number!r}; give a number from {low:g} to {high:g}.")


def require_choice(params: Params, name: str, choices: tuple[str, ...]) -> None:
    """Raise unless ``params[name]`` is one of ``choices``."""
    if params[name] not in choices:
        raise InputError(f"{name} is {params[name]!r}; choose one of {', '.join(choices)}.")
