"""Files that are exact copies of one another, which count as one image."""

from __future__ import annotations

from typing import Any

import numpy as np

from csp_engine.bundle import kinds
from csp_engine.errors import InputError, UnreadableImageError
from csp_engine.pipeline.recipe import Recipe
from csp_engine.pipeline.run import Run
from csp_engine.probe.decoding import decode
from csp_engine.probe.listing import ProbeSet


def copies_params(run: Run) -> dict[str, Any]:
    """What enters the keys of exemplars where copies count once; nothing where there are none.

    So bundles without copies keep their keys. Recipes that pair an exemplar with its own copy, as
    the published code does, also show all copies. What a finished bundle did is kept when it is
    labelled again, for its activations may have been left out.
    """
    return {"copies": "once"} if _count_once(run, kinds.NEURONS.prefix, "copies") else {}


def partner_copies_params(run: Run) -> dict[str, Any]:
    """The same of contrast images, for whom the rule came later."""
    counts = _count_once(run, kinds.CONTRAST.prefix, "partner_copies")
    return {"partner_copies": "once"} if counts else {}


def copy_of(run: Run) -> np.ndarray | None:
    """The first copy of each image, where copies count once among exemplars."""
    return run.bundle.first_copies() if copies_params(run) else None


def partner_copy_of(run: Run) -> np.ndarray | None:
    """The first copy of each image, where copies count once among contrast images."""
    return run.bundle.first_copies() if partner_copies_params(run) else None


def _count_once(run: Run, kind: str, name: str) -> bool:
    if run.probe_root is None:
        return run.held_params(kind).get(name) == "once"
    facts = run.writer.manifest.stages[kinds.IMAGES.name()].facts
    return run.recipe.exclude_near_duplicates and bool(facts.get("n_exact_duplicates"))


def require_different_images(probe: ProbeSet, recipe: Recipe) -> None:
    """Refuse probe sets that are mostly copies, before anything is measured.

    Raises:
        InputError: if there are fewer different images than exemplars, or only one.
    """
    known = probe.table["sha256"][probe.table["sha256"] != ""]
    n_needed = recipe.n_exemplars if recipe.exclude_near_duplicates else 2
    if known.nunique() == len(known) or known.nunique() >= n_needed:
        return
    firsts = known.drop_duplicates()
    known = known[known.isin(firsts[[_is_readable(probe, row) for row in firsts.index]])]
    n_different = known.nunique()
    if n_different == len(known):
        return  # nothing to blame copies for; the pass over the images names what is wrong
    different = "copies of one" if n_different == 1 else f"copies of only {n_different} images"
    fewer = "" if n_different == 1 else f", or ask for fewer exemplars: --exemplars {n_different}"
    raise InputError(
        f"The {len(known)} readable files of {probe.name} are {different}, and copies count once "
        f"among the {recipe.n_exemplars} exemplars asked for per neuron; add other images{fewer}."
    )


def _is_readable(probe: ProbeSet, row: int) -> bool:
    try:
        decode(probe.read(row))
    except UnreadableImageError:
        return False
    return True
