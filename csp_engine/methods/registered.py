"""All label methods: those of this room, and those of extensions."""

from __future__ import annotations

import difflib

from csp_engine.errors import InputError
from csp_engine.methods.method import Method
from csp_engine.registry import discover

METHODS: dict[str, Method] = discover("csp_engine.methods", Method, "label method")


def find_method(name: str) -> Method:
    """The method of that name.

    Raises:
        InputError: if there is none.
    """
    if name not in METHODS:
        near = difflib.get_close_matches(name, METHODS, n=1)
        raise InputError(
            f"Method {name!r} does not exist; choose one of {', '.join(METHODS)}."
            + (f" Did you mean {near[0]!r}?" if near else "")
        )
    return METHODS[name]


def method_title(name: str) -> str:
    """The name of a method as papers write it.

    Bundles may hold labels by methods that are not here (of other tools, of an extension that is
    not loaded); those go by their name.
    """
    return METHODS[name].title if name in METHODS else name
