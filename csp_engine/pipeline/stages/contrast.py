"""Images that look like the strongest ones and leave the unit quiet: ``contrast:MODEL/LAYER``."""

from __future__ import annotations

from typing import Any

from csp_engine.bundle import kinds
from csp_engine.evidence.contrast import mine_contrast, queries_of
from csp_engine.pipeline.copies import partner_copies_params, partner_copy_of
from csp_engine.pipeline.run import Run
from csp_engine.pipeline.sharing.mining import contrast_arrays, mining_among
from csp_engine.pipeline.stage import Made, Stage


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
    """The contrast rule of a build and the image groups that it keeps apart."""
    return mining_among(run.bundle, run.recipe.contrast_rule())


def _make(run: Run, model: str, layer: str) -> Made:
    bundle = run.bundle
    activation_un = bundle.activations(model, layer, once=True)
    exemplars = bundle.exemplars(model, layer)
    n_products = len(queries_of(exemplars)) * activation_un.shape[1]
    if run.sharing is not None and run.sharing.pays(n_products):
        rule = run.recipe.contrast_rule()
        has_copies = partner_copy_of(run) is not None
        return Made(arrays=run.sharing.contrast(bundle, model, layer, rule, has_copies))
    mined = mine_contrast(
        activation_un,
        exemplars,
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
