"""The stage in which a captioner proposes labels for each unit, and what becomes of them."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

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
from csp_engine.captioners.generators import Generator, is_generator
from csp_engine.captioners.generators.asking import USUAL_MODES, Shown, propose, with_reasons
from csp_engine.captioners.generators.kept import KeptAnswers, usual_folder
from csp_engine.captioners.generators.prompts import prompt
from csp_engine.errors import CspError, InputError, MissingModelError, StaleError
from csp_engine.methods import METHODS
from csp_engine.networks.attributing.places import grid_of
from csp_engine.networks.layers import LayerTap
from csp_engine.pipeline.mapping.crops import Crops
from csp_engine.pipeline.passing.image_pass import Target
from csp_engine.pipeline.recipe import Recipe
from csp_engine.pipeline.run import Run
from csp_engine.pipeline.stage import Made, Stage
from csp_engine.types import ContrastSet, Exemplars

Asked = tuple[int, str, np.ndarray, np.ndarray]
"""Unit, mode, exemplars and contrast images, see ``image_rows``."""
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
    "caption_modes",
    "caption_crops",
    "n_beams",
    "prior_weight",
)
"""Parameters of the recipe that candidates depend on."""


_OF_THE_SEARCH = ("n_beams", "prior_weight")
"""Those of them that mean nothing to a captioner that is shown pictures."""
_OF_PICTURES = ("caption_crops",)
"""Those of them that mean nothing to one that is not."""


def described_encoder(run: Run) -> dict[str, Any]:
    """The encoder of this build, or of the bundle."""
    return run.described.get("encoder") or run.writer.manifest.inputs["encoder"]


def describe_captioner(captioner: Captioner | Generator, bundle: Path) -> dict[str, Any]:
    """What the manifest of a bundle says of a captioner."""
    places = [] if isinstance(captioner, Generator) else places_of(captioner.spec, bundle)
    of_encoder = (
        {"encoder_fingerprint": captioner.encoder_fingerprint}
        if isinstance(captioner, Captioner)
        else {}
    )
    return {
        "spec": captioner.spec,
        "fingerprint": captioner.fingerprint,
        **of_encoder,
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
    _require_networks(run)
    if run.captioner is not None:
        if isinstance(run.captioner, Captioner):
            encoder = described_encoder(run)
            require_encoder(run.captioner, encoder["spec"], encoder["fingerprint"])
    elif not all(run.is_fresh(stage) for stage in candidate_stages(run)):
        raise InputError(
            f"The candidates in {run.writer.path.name} must be made again, which needs the "
            f"captioner {run.described['captioner']['spec']}; name it with --captioner."
        )


def _require_networks(run: Run) -> None:
    """Refuse crops that nobody could make, or that nobody would look at.

    Raises:
        InputError: as said.
    """
    if not run.recipe.caption_crops:
        return
    if not _is_shown_pictures(run):
        raise InputError(
            "caption_crops is for captioners that are shown pictures, and "
            f"{run.described['captioner']['spec']} reads embeddings; leave it out."
        )
    missing = [model for model, _ in run.layers if model not in run.targets]
    if missing and run.captioner is not None:
        raise InputError(
            f"caption_crops needs the network {missing[0]}, which tells what its neurons look at; "
            "run 'csp build' or 'csp label' where it can be loaded, or leave caption_crops out."
        )


def _is_shown_pictures(run: Run) -> bool:
    return is_generator(run.described["captioner"]["spec"])


def _modes(run: Run) -> tuple[str, ...]:
    """What the captioner is shown, in the order of ``MODES``."""
    usual = USUAL_MODES if _is_shown_pictures(run) else MODES
    return tuple(mode for mode in MODES if mode in (run.recipe.caption_modes or usual))


def _tap(target: Target, layer: str) -> LayerTap | None:
    """The layer; None if its neurons are read through an autoencoder."""
    return next((t for t in target.taps if str(t.id) == layer and "+" not in layer), None)


def _is_cropped(run: Run, model: str, layer: str) -> bool:
    """Whether exemplars are shown as crops: if that is asked for, and the layer has places."""
    if not run.recipe.caption_crops:
        return False
    target = run.targets.get(model)
    tap = None if target is None else _tap(target, layer)
    if target is not None and tap is None:
        return False
    if target is None or tap is None:
        held = run.writer.manifest.stages.get(kinds.CANDIDATES.name(model, layer))
        return held is not None and bool(held.params.get("crops"))
    with suppress(InputError):
        return bool(grid_of(tap, target.model.input_shape))
    return False


def _params(run: Run, model: str, layer: str) -> dict[str, Any]:
    recipe, modes = run.recipe, _modes(run)
    common = {
        "n_images": min(recipe.n_score, run.described["captioner"]["n_images"]),
        "n_candidates": recipe.n_candidates,
    }
    if _is_shown_pictures(run):
        is_cropped = _is_cropped(run, model, layer)
        prompts = {mode: prompt(mode, recipe.n_candidates, is_cropped) for mode in modes}
        return {
            **common,
            "prompts": prompts,
            "seed": recipe.seed,
            **({"crops": True} if is_cropped else {}),
        }
    return {
        **common,
        "n_beams": recipe.n_beams,
        "prior_weight": recipe.prior_weight,
        **({} if modes == MODES else {"modes": list(modes)}),
    }


def _needs(run: Run, model: str, layer: str) -> list[str]:
    of_layer = [kinds.NEURONS.name(model, layer), kinds.CONTRAST.name(model, layer)]
    looked_at = kinds.IMAGES if _is_shown_pictures(run) else kinds.EMBEDDINGS
    return [*of_layer, looked_at.name()]


def _make(run: Run, model: str, layer: str) -> Made:
    """Ask the captioner about every unit of a layer, with and without its contrast images."""
    assert run.captioner is not None, "_require_candidates came first"
    n_images, bundle = _params(run, model, layer)["n_images"], run.bundle
    chosen, contrast = bundle.exemplars(model, layer), bundle.contrast(model, layer)
    asked = [row for row in image_rows(chosen, contrast, n_images) if row[1] in _modes(run)]
    if isinstance(run.captioner, Generator):
        has_any = [row[0] for row in image_rows(chosen, contrast, 1)]
        return _generated(
            run, run.captioner, (model, layer), asked, set(has_any), len(chosen.count_u)
        )
    return _captioned(run, run.captioner, layer, asked)


def _generated(
    run: Run,
    generator: Generator,
    place: tuple[str, str],
    asked: Sequence[Asked],
    has_exemplars: set[int],
    n_units: int,
) -> Made:
    """Show a generator the thumbnails, which labelling again has too."""
    shown = [
        Shown(unit, mode, tuple(activating.tolist()), tuple(quiet.tolist()))
        for unit, mode, activating, quiet in asked
    ]

    def picture(image: int) -> Image.Image:
        with Image.open(io.BytesIO(run.bundle.thumbnail(image))) as opened:
            return opened.convert("RGB")

    model, layer = place
    crops = None
    if _is_cropped(run, model, layer):
        tap = _tap(run.targets[model], layer)
        assert tap is not None, "_is_cropped found it"
        crops = Crops(run.bundle, run.targets[model].model, tap)
    found = propose(
        generator,
        with_reasons(shown, n_units, _modes(run), has_exemplars),
        picture,
        KeptAnswers(usual_folder()),
        n_phrases=run.recipe.n_candidates,
        seed=run.recipe.seed,
        progress=lambda done, total: run.progress(f"candidates of {layer}", done, total),
        crops=None if crops is None else crops.of,
    )
    return Made(
        tables={"candidates": found.candidates, "sets": found.sets, "answers": found.answers},
        facts=found.facts | ({} if crops is None else {"n_shown_whole": crops.n_whole}),
        describe={"captioner": run.described["captioner"]},
    )


def _captioned(run: Run, captioner: Captioner, layer: str, asked: Sequence[Asked]) -> Made:
    """Give a captioner the embeddings, which it reads as words."""
    recipe, image_nd = run.recipe, run.bundle.image_vectors()
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


def image_rows(exemplars: Exemplars, contrast: ContrastSet, n_images: int) -> Iterator[Asked]:
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
    is_searched = not is_generator(bundle.manifest.inputs["captioner"]["spec"])
    idle = _OF_PICTURES if is_searched else _OF_THE_SEARCH
    shaped_by = [name for name in _SHAPED_BY if name not in idle]
    return any(getattr(held, name) != getattr(wanted, name) for name in shaped_by) or not all(
        bundle.has(kinds.CANDIDATES.name(*layer)) for layer in layers
    )


def unanswered(run: Run) -> list[str]:
    """Stages in which candidates are missing that somebody is here to be asked for again."""
    if run.captioner is None:
        return []
    held = run.writer.manifest.stages
    return [
        name
        for name in candidate_stages(run)
        if run.is_fresh(name) and held[name].facts.get("n_unanswered")
    ]


def lacks_answers(bundle: Bundle) -> bool:
    """Whether a captioner left questions about some neurons unanswered."""
    stages = bundle.manifest.stages.items()
    return any(kinds.CANDIDATES.is_of(n) and r.facts.get("n_unanswered") for n, r in stages)


def bundle_captioner(bundle: Bundle, *, device: str = "cpu") -> Captioner:
    """Load the captioner that made a bundle's candidates from where the bundle says it was.

    One that is shown pictures is not loaded: a bundle may come from anywhere, and is not to say
    where images are sent.

    Raises:
        MissingModelError: if it is not there, or has to be named.
        StaleError: if another is there.
    """
    held = bundle.manifest.inputs["captioner"]
    spec = specs_to_try(bundle, "captioner")[0]
    if is_generator(held["spec"]) or is_generator(spec):
        raise MissingModelError(
            f"The candidates in {bundle.name} must be made again, by {held['spec']!r}, which is "
            "shown images and so never asked because a bundle says so; name it with --captioner."
        )
    captioner = load_captioner(Path(spec), device=device)
    if captioner.fingerprint != held["fingerprint"]:
        raise StaleError(
            f"The captioner {captioner.spec} (fingerprint {captioner.fingerprint[:12]}) is not the "
            f"one that made the candidates of {bundle.name} ({held['fingerprint'][:12]}); "
            "name the one to use with --captioner."
        )
    return captioner


def bundle_speaker(
    bundle: Bundle, methods: Iterable[str], *, device: str = "cpu"
) -> Captioner | None:
    """The captioner of a bundle, where one of these methods asks it and it is there."""
    is_asked = any("speaker" in METHODS[name].needs for name in methods if name in METHODS)
    if not is_asked or "captioner" not in bundle.manifest.inputs:
        return None
    with suppress(CspError):
        return bundle_captioner(bundle, device=device)
    return None


STAGE = Stage(
    kind=kinds.CANDIDATES,
    params=_params,
    needs=_needs,
    inputs=lambda run, model, layer: {"captioner": run.described["captioner"]["fingerprint"]},
    places=lambda run: run.layers if has_captioner(run) else [],
    make=_make,
    require=_require_candidates,
)
