"""The stage in which a captioner proposes labels for each unit, and what becomes of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from csp_engine.bundle import Bundle, kinds
from csp_engine.bundle.folders import places_of, specs_to_try
from csp_engine.captioners import (
    MODES,
    Captioner,
    Captions,
    ImageSet,
    load_captioner,
    require_encoder,
)
from csp_engine.errors import InputError, StaleError
from csp_engine.pipeline.recipe import Recipe
from csp_engine.pipeline.run import Run
from csp_engine.pipeline.stage import Made, Stage
from csp_engine.types import ContrastSet, Exemplars

SETS_AT_A_TIME = 512
"""Image sets gathered before the captioner is called; a bound on memory."""

_SHAPED_BY = (
    "n_exemplars",
    "n_score",
    "threshold",
    "n_partners",
    "reuse",
    "exclude_near_duplicates",
    "exclude_same_group",
    "seed",
    "n_candidates",
    "n_beams",
    "prior_weight",
)
"""Parameters of the recipe that candidates depend on."""


def described_encoder(run: Run) -> dict[str, Any]:
    """The encoder of this build, or of the bundle."""
    return run.described.get("encoder") or run.writer.manifest.inputs["encoder"]


def describe_captioner(captioner: Captioner, bundle: Path) -> dict[str, Any]:
    """What the manifest of a bundle says of a captioner."""
    places = places_of(captioner.spec, bundle)
    return {
        "spec": captioner.spec,
        "fingerprint": captioner.fingerprint,
        "encoder_fingerprint": captioner.encoder_fingerprint,
        "n_images": captioner.n_images,
        "description": captioner.description,
        **({"places": places} if places else {}),
    }


def has_captioner(run: Run) -> bool:
    """Whether candidates belong to this build."""
    return run.described.get("captioner") is not None


def candidate_stages(run: Run) -> list[str]:
    """Names of the stages whose phrases join the vocabulary."""
    if not has_captioner(run):
        return []
    return [kinds.CANDIDATES.name(model, layer) for model, layer in run.layers]


def _require_candidates(run: Run) -> None:
    """Refuse at once what could not be made later.

    Raises:
        InputError: if candidates must be made anew and no captioner is given.
        StaleError: if the captioner was made for another encoder.
    """
    if not has_captioner(run):
        return
    if run.captioner is not None:
        encoder = described_encoder(run)
        require_encoder(run.captioner, encoder["spec"], encoder["fingerprint"])
    elif not all(run.is_fresh(stage) for stage in candidate_stages(run)):
        raise InputError(
            f"The candidates in {run.writer.path.name} must be made again, which needs the "
            f"captioner {run.described['captioner']['spec']}; name it with --captioner."
        )


def _params(run: Run, model: str, layer: str) -> dict[str, Any]:
    recipe = run.recipe
    return {
        "n_images": min(recipe.n_score, run.described["captioner"]["n_images"]),
        "n_candidates": recipe.n_candidates,
        "n_beams": recipe.n_beams,
        "prior_weight": recipe.prior_weight,
    }


def _needs(run: Run, model: str, layer: str) -> list[str]:
    of_layer = [kinds.NEURONS.name(model, layer), kinds.CONTRAST.name(model, layer)]
    return [*of_layer, kinds.EMBEDDINGS.name()]


def _make(run: Run, model: str, layer: str) -> Made:
    """Ask the captioner about every unit of a layer, with and without its contrast images."""
    captioner = run.captioner
    assert captioner is not None, "_require_candidates came first"
    recipe, bundle = run.recipe, run.bundle
    n_images = _params(run, model, layer)["n_images"]
    chosen, contrast = bundle.exemplars(model, layer), bundle.contrast(model, layer)
    asked = list(image_rows(chosen, contrast, n_images))
    image_nd = bundle.image_vectors()
    found: list[Captions] = []
    for start in range(0, len(asked), SETS_AT_A_TIME):
        found += captioner.describe(
            [
                ImageSet(np.asarray(image_nd[activating]), np.asarray(image_nd[quiet]))
                for _, _, activating, quiet in asked[start : start + SETS_AT_A_TIME]
            ],
            n_phrases=recipe.n_candidates,
            n_beams=recipe.n_beams,
            prior_weight=recipe.prior_weight,
        )
        run.progress(f"candidates of {layer}", len(found), len(asked))
    candidates = pd.DataFrame(
        [
            (unit, mode, rank, phrase.text, phrase.log_p, phrase.log_prior, phrase.pmi)
            for (unit, mode, _, _), captions in zip(asked, found, strict=True)
            for rank, phrase in enumerate(captions.phrases)
        ],
        columns=["unit", "mode", "rank", "text", "log_p", "log_prior", "pmi"],
    )
    sets = pd.DataFrame(
        [
            (unit, mode, len(activating), len(quiet), captions.p_nothing)
            for (unit, mode, activating, quiet), captions in zip(asked, found, strict=True)
        ],
        columns=["unit", "mode", "n_exemplar", "n_contrast", "p_nothing"],
    )
    whole = {"unit": "int32", "mode": "string"}
    numbers = dict.fromkeys(("log_p", "log_prior", "pmi"), "float32")
    return Made(
        tables={
            "candidates": candidates.astype(
                {**whole, "rank": "int32", "text": "string", **numbers}
            ),
            "sets": sets.astype(
                {**whole, "n_exemplar": "int32", "n_contrast": "int32", "p_nothing": "float32"}
            ),
        },
        facts={
            "n_units": int(sets["unit"].nunique()),
            "n_candidates": len(candidates),
            "n_distinct": int(candidates["text"].nunique()),
        },
        describe={"captioner": run.described["captioner"]},
    )


def image_rows(
    exemplars: Exemplars, contrast: ContrastSet, n_images: int
) -> Iterator[tuple[int, str, np.ndarray, np.ndarray]]:
    """What a captioner is shown of each unit in each mode: unit, mode, exemplars, contrast images.

    The strongest ``n_images`` exemplars, and of each its nearest contrast image, every image once.
    Units without exemplars are left out, and units without contrast images in that mode.
    """
    for unit, count in enumerate(exemplars.count_u.tolist()):
        shown = min(count, n_images)
        if not shown:
            continue
        activating = np.asarray(exemplars.image_uk[unit, :shown])
        yield unit, MODES[0], activating, activating[:0]
        paired = np.asarray(contrast.n_partner_uk[unit, :shown]) > 0
        quiet = np.asarray(contrast.image_ukj[unit, :shown, 0])[paired]
        quiet = np.array(list(dict.fromkeys(quiet.tolist())), activating.dtype)
        if len(quiet):
            yield unit, MODES[1], activating, quiet


def pooled_candidates(run: Run) -> dict[str, set[str]]:
    """The phrases of all units of all layers, by mode."""
    pooled: dict[str, set[str]] = {mode: set() for mode in MODES}
    for stage in candidate_stages(run):
        table = run.bundle.table(stage, "candidates")
        for mode, own in pooled.items():
            own.update(table["text"][table["mode"] == mode].tolist())
    return pooled


def needs_captions(bundle: Bundle, recipe: Recipe) -> bool:
    """Whether ``relabel`` would have to ask the captioner of a bundle again."""
    if "captioner" not in bundle.manifest.inputs:
        return False
    held, wanted = Recipe.restated(bundle.manifest.recipe, {"methods": recipe.methods}), recipe
    layers = [(model, layer) for model in bundle.model_names for layer in bundle.layers(model)]
    return any(getattr(held, name) != getattr(wanted, name) for name in _SHAPED_BY) or not all(
        bundle.has(kinds.CANDIDATES.name(*layer)) for layer in layers
    )


def bundle_captioner(bundle: Bundle) -> Captioner:
    """Load the captioner that made a bundle's candidates from where the bundle says it was.

    Raises:
        MissingModelError: if it is not there.
        StaleError: if another is there.
    """
    held = bundle.manifest.inputs["captioner"]
    captioner = load_captioner(specs_to_try(bundle, "captioner")[0])
    if captioner.fingerprint != held["fingerprint"]:
        raise StaleError(
            f"The captioner {captioner.spec} (fingerprint {captioner.fingerprint[:12]}) is not the "
            f"one that made the candidates of {bundle.name} ({held['fingerprint'][:12]}); "
            "name the one to use with --captioner."
        )
    return captioner


STAGE = Stage(
    kind=kinds.CANDIDATES,
    params=_params,
    needs=_needs,
    inputs=lambda run, model, layer: {"captioner": run.described["captioner"]["fingerprint"]},
    places=lambda run: run.layers if has_captioner(run) else [],
    make=_make,
    require=_require_candidates,
)
