"""Where the folder of an encoder or captioner lies, as seen from the bundle that it made."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from csp_engine.bundle.reader import Bundle


def _parts(spec: str) -> tuple[str, str]:
    """What comes before the folder, with its mark, and the folder; it may be no folder at all."""
    if spec.startswith(("open_clip/", "transformers/", "precomputed/")):
        kind, _, rest = spec.partition("/")
        return f"{kind}/", rest
    return "", spec


def places_of(spec: str, bundle: Path) -> list[str]:
    """Where a folder lies that a spec names from here: relative to the bundle's folder, and whole.

    Empty for what is no folder here, and for ``./``, which is beside the bundle wherever that is.
    """
    _, rest = _parts(spec)
    folder = Path(rest).expanduser()
    if spec.startswith("python:") or rest.startswith("./") or not folder.is_dir():
        return []
    whole = folder.resolve()
    try:
        return [Path(os.path.relpath(whole, bundle.resolve().parent)).as_posix(), str(whole)]
    except ValueError:  # on another drive
        return [str(whole)]


def specs_to_try(bundle: Bundle, part: str) -> list[str]:
    """The spec of a bundle's ``encoder`` or ``captioner`` for every place where its folder is.

    The place that was noted is tried before what the spec means from here; then a folder of that
    name beside the bundle. The spec itself where none is there.

    Raises:
        MissingModelError: if the spec is beside the bundle by its very words, and nothing is.
    """
    described = bundle.manifest.inputs[part]
    kind, rest = _parts(described["spec"])
    if described["spec"].startswith("python:"):
        return [described["spec"]]
    if rest.startswith("./"):
        return [bundle.beside(described["spec"])]
    parent = bundle.path.resolve().parent
    places = [str(parent / place) for place in described.get("places", ())]
    places += [rest, str(parent / rest), str(parent / Path(rest).name)]
    there = [place for place in dict.fromkeys(places) if Path(place).expanduser().is_dir()]
    return [f"{kind}{os.path.normpath(place)}" for place in there] or [described["spec"]]
