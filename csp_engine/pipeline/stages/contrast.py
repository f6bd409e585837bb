"""Images that look like the strongest ones and leave the unit quiet: ``contrast:MODEL/LAYER``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from csp_engine.bundle import kinds
from csp_engine.evidence.contrast import mine_contrast
from csp_engine.pipeline.copies import partner_copies_params, partner_copy_of
from csp_engine.pipeline.run import Run
from csp_engine.pipeline.stage import Made, Stage
from csp_engine.reading.groups import group_numbers
from csp_engine.types import ContrastSet


def mining_params(run: Run) -> dict[str, Any]:
    """The parameters of contrast mining that enter a key."""
    recipe = run.recipe
    return {
        "threshold": recipe.threshold,
        "n_partners": recipe.n_partners,
        "reuse": recipe.reuse,
        "exclude_near_duplicates": recipe.exclude_near_duplicates,
        "exclude_same_group": recipe.exclude_same_group,
        **partner_copies_params(run),
    }


def mining_needs(run: Run) -> list[str]:
    """The stages that contrast mining looks at beside the neurons."""
    needs = [kinds.EMBEDDINGS.name()]
    if run.recipe.exclude_near_duplicates:
        needs.append(kinds.IMAGES.name())
    if run.recipe.exclude_same_group:
        needs.append(kinds.PROBE.name())
    return needs


def mining(run: Run) -> dict[str, Any]:
    """The contrast rule and the image groups that it keeps apart.

    Where the probe set has no group ids, every image is a group of its own, so the rule that
    images of one group are never paired has nothing to do.
    """
    bundle, rule = run.bundle, run.recipe.contrast_rule()
    groups: dict[str, Any] = {"duplicate_group_n": None, "group_n": None}
    if rule.exclude_near_duplicates:
        column = bundle.table("images", "images")["duplicate_group"]
        groups["duplicate_group_n"] = column.to_numpy(np.int32)
    if rule.exclude_same_group:
        probe = bundle.table("probe", "probe")
        if "group" in probe:
            groups["group_n"] = group_numbers(probe["group"])
        else:
            rule = replace(rule, exclude_same_group=False)
    return {"rule": rule, **groups}


def contrast_arrays(mined: ContrastSet) -> dict[str, np.ndarray]:
    """Contrast images under the names they are stored by."""
    return {
        "contrast_image": mined.image_ukj,
        "contrast_similarity": mined.similarity_ukj,
        "contrast_activation": mined.activation_ukj,
        "n_partner": mined.n_partner_uk,
        "pool": mined.pool_u,
        "threshold": mined.threshold_u,
    }


def _make(run: Run, model: str, layer: str) -> Made:
    bundle = run.bundle
    mined = mine_contrast(
        bundle.activations(model, layer, once=True),
        bundle.exemplars(model, layer),
        bundle.image_vectors(),
        **mining(run),
        copy_of_n=partner_copy_of(run),
        progress=lambda step, done, total: run.progress(f"{step} of {layer}", done, total),
    )
    return Made(arrays=contrast_arrays(mined))


STAGE = Stage(
    kind=kinds.CONTRAST,
    params=lambda run, model, layer: mining_params(run),
    needs=lambda run, model, layer: [kinds.NEURONS.name(model, layer), *mining_needs(run)],
    make=_make,
)
