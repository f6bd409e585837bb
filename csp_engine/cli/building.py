"""``csp build`` and ``csp label``."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from csp_engine.cli.declared import Device, SummaryAsJson, takes
from csp_engine.cli.shown import progress_bars, write_json, write_lines
from csp_engine.errors import InputError
from csp_engine.jobs.options import OPTIONS
from csp_engine.methods import METHODS

if TYPE_CHECKING:
    from csp_engine.bundle import Bundle
    from csp_engine.networks.layers import LayerTap
    from csp_engine.networks.models import TargetModel
    from csp_engine.pipeline import Target
    from csp_engine.pipeline.request import BuildRequest
    from csp_engine.types import Progress

log = logging.getLogger(__name__)


@takes(OPTIONS.values())
def build(given: Any, as_json: bool) -> None:
    """Build a bundle, or complete one: interrupted builds resume, finished parts are kept.

    Example:
        csp build photos/ --model torchvision/resnet50 --layer layer4 --encoder
        open_clip/ViT-B-32/laion2b_s34b_b79k --out resnet50.csp
    """
    from csp_engine import pipeline
    from csp_engine.bundle import refuse_strangers
    from csp_engine.captioners import load_captioner
    from csp_engine.encoders import load_encoder
    from csp_engine.networks.devices import read_devices, require_devices
    from csp_engine.networks.layers import select_layers
    from csp_engine.networks.models import load_model
    from csp_engine.pipeline.recipe import changed, named_recipe
    from csp_engine.probe.listing import read_probe_set
    from csp_engine.views.table.columns import require_own_names
    from csp_engine.words.templates import TEMPLATES
    from csp_engine.words.vocabularies import read_vocabulary

    refuse_strangers(given.out)  # before images are read and models loaded
    require_own_names()
    recipe = named_recipe(given.preset, given.exemplars, _assignments(given.set_))
    OPTIONS["on_unreadable"].check(given.on_unreadable)
    OPTIONS["control"].check(given.control)
    devices = read_devices(given.device)
    require_devices(devices)
    words = read_vocabulary(given.vocabulary)
    if given.held_out and not given.judge:
        raise InputError("--held-out holds images for a judge; name an encoder with --judge.")
    with progress_bars() as progress:
        probe = read_probe_set(
            given.images,
            image_root=given.image_root,
            path_column=given.path_column,
            class_column=given.class_column,
            split_column=given.split_column,
            group_column=given.group_column,
            limit=given.limit,
            progress=progress,
        )
        pipeline.require_enough_images(len(probe.table), recipe, "lists")
        progress("load model", 0, 1)
        target = load_model(
            given.model,
            weights=given.weights,
            name=given.name,
            preprocessing=given.preprocessing,
            class_names=given.class_names,
            device=devices[0],
            weights_key=given.weights_key,
            precision=given.precision,
        )
        progress("load model", 1, 1)
        progress("load encoder", 0, 1)
        loaded = load_encoder(given.encoder, device=devices[0])
        progress("load encoder", 1, 1)
        if not getattr(loaded, "needs_pixels", True):
            # Stored text vectors have names; prompts made from templates are not among them.
            recipe = changed(recipe, {"templates": TEMPLATES["bare"], "subtract_empty": False})
        taps = select_layers(
            target,
            given.layer,
            pooling=given.pooling,
            saes=_pairs(given.sae),
            layout=given.layout,
            prefix_tokens=given.prefix_tokens,
        )
        request = pipeline.BuildRequest(
            out=given.out,
            probe=probe,
            targets=_targets(target, taps, given.control),
            encoder=loaded,
            vocabulary=words,
            recipe=recipe,
            batch_size=given.batch_size,
            devices=devices if len(devices) > 1 else (),
            stop_on_unreadable=given.on_unreadable == "stop",
            n_influence_images=given.influence_images,
            n_circuit_images=given.circuit_images,
            outputs=tuple(int(o) if o.isdigit() else o for o in given.output or ()),
            captioner=None
            if given.captioner is None
            else load_captioner(given.captioner, device=devices[0]),
        )
        bundle = pipeline.build(request, progress)
        if given.judge:
            bundle = _judged(bundle, request, given, devices[0], progress)
    _report(bundle, as_json)


def _targets(model: TargetModel, taps: list[LayerTap], control: str | None) -> tuple[Target, ...]:
    """The network, and its control if one is asked for; autoencoders belong to trained weights."""
    from csp_engine.networks.random_weights import with_random_weights
    from csp_engine.pipeline import Target

    own = Target(model, tuple(taps))
    plain = tuple(tap for tap in taps if tap.sae is None)
    if control is None:
        return (own,)
    if not plain:
        raise InputError(
            "Every layer is read through an autoencoder, which random weights have none of; leave "
            "--control out, or name a layer without one."
        )
    return own, Target(with_random_weights(model), plain, control_of=model.name)


def _judged(
    bundle: Bundle, request: BuildRequest, given: Any, device: str, progress: Progress
) -> Bundle:
    """The bundle with how well its labels predict its neurons, and which figure to trust."""
    from csp_engine import pipeline
    from csp_engine.encoders import load_encoder
    from csp_engine.probe.listing import read_probe_set
    from csp_engine.views.benchmark.trusting import trusted_metrics

    judge = load_encoder(given.judge, device=device)
    if given.held_out:
        images = read_probe_set(given.held_out, progress=progress)
        judged = pipeline.judge_held_out(bundle, judge, images, request.targets, progress)
    else:
        judged = pipeline.judge_probe(bundle, judge, progress)
    bundle = pipeline.add_faithfulness(bundle.path, judged, progress)
    try:
        trust = trusted_metrics(bundle, judge=judge, progress=progress)
    except InputError as error:
        log.warning("Which figure to trust is not known: %s", error)
        return bundle
    return pipeline.add_trust(bundle.path, trust)


def label(
    bundle: Annotated[Path, typer.Argument(help="A finished bundle; changed in place.")],
    vocabulary: Annotated[
        list[str] | None,
        typer.Option(
            "--vocabulary",
            "-v",
            help="New labels: the name of a shipped vocabulary or a file, as for 'csp build'; may "
            "be given several times.",
        ),
    ] = None,
    gamma: Annotated[
        float | None,
        typer.Option(
            help="How much of what exemplars share with their contrast images CSP takes away, "
            "from 0 to 1."
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Label method to use instead of the bundle's: {', '.join(METHODS)}; may be given "
            "several times. Without it, methods that need what a slim copy leaves out are left out."
        ),
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="Start from a preset instead of the bundle's recipe.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="PARAMETER=VALUE of the recipe.")
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option("--encoder", "-e", help="Where the bundle's encoder is now, if it moved."),
    ] = None,
    captioner: Annotated[
        str | None,
        typer.Option(
            help="Captioner that proposes labels, as for 'csp build'; the bundle's candidates are "
            "kept unless this is another captioner, or some got no answer."
        ),
    ] = None,
    device: Device = "cpu",
    as_json: SummaryAsJson = False,
) -> None:
    """Label a finished bundle again with another vocabulary, gamma or method, without its images.

    Example:
        csp label resnet50.csp --gamma 0.5
    """
    from csp_engine.bundle import Bundle
    from csp_engine.captioners import load_captioner
    from csp_engine.captioners.generators import Generator
    from csp_engine.cli.auditing.intervening import loaded_target
    from csp_engine.networks.devices import read_devices, require_devices
    from csp_engine.pipeline import (
        bundle_captioner,
        bundle_speaker,
        lacks_answers,
        needs_captions,
        needs_texts,
        relabel,
    )
    from csp_engine.pipeline.recipe import Recipe, named_recipe
    from csp_engine.words.vocabularies import read_vocabulary

    opened = Bundle.open(bundle)
    devices = read_devices(device)
    if devices != ("cpu",):  # the usual one needs no torch to be there
        require_devices(devices)
    overrides = _assignments(set_)
    if gamma is not None:
        overrides["gamma"] = gamma
    if method:
        overrides["methods"] = tuple(method)
    if preset is not None:
        recipe = named_recipe(preset, None, overrides)
    else:
        recipe = Recipe.restated(opened.manifest.recipe, overrides)
    words = read_vocabulary(vocabulary) if vocabulary else None
    asked = None
    if captioner is not None:
        asked = load_captioner(captioner, device=devices[0])
        held = opened.manifest.inputs.get("captioner", {}).get("fingerprint")
        is_recaptioned = (
            asked.fingerprint != held or needs_captions(opened, recipe) or lacks_answers(opened)
        )
    else:
        is_recaptioned = needs_captions(opened, recipe)
        asked = (
            bundle_captioner(opened, device=devices[0])
            if is_recaptioned
            else bundle_speaker(opened, recipe.methods, device=devices[0])
        )
    loaded, left_out = None, list[str]()
    if is_recaptioned or needs_texts(opened, recipe, words):
        from csp_engine.search import bundle_encoder

        loaded = bundle_encoder(opened, encoder, device=devices[0])
    targets = []
    if recipe.caption_crops and isinstance(asked, Generator):
        targets = [
            loaded_target(opened, name, None, None, None, devices[0])
            for name in opened.model_names
            if any("+" not in layer for layer in opened.layers(name))
        ]
    with progress_bars() as progress:
        # Who names a method wants it or a refusal; one that merely came along may be left out.
        told = None if "methods" in overrides else left_out.append
        done = relabel(bundle, recipe, words, loaded, progress, asked, told, targets)
    _report(done, as_json, left_out)


def _assignments(given: list[str] | None) -> dict[str, Any]:
    return dict(_split(text, "--set", "PARAMETER=VALUE") for text in given or [])


def _pairs(given: list[str] | None) -> dict[str, Path]:
    split = (_split(text, "--sae", "LAYER=FILE") for text in given or [])
    return {layer: Path(file) for layer, file in split}


def _split(text: str, option: str, form: str) -> tuple[str, str]:
    """The two sides of ``KEY=VALUE`` as an option was given."""
    key, equals, value = text.partition("=")
    if not equals:
        raise InputError(f"{option} {text!r} lacks '='; write it as {form}.")
    return key.strip(), value.strip()


def _report(bundle: Bundle, as_json: bool, left_out: Sequence[str] = ()) -> None:
    from csp_engine.bundle import kinds
    from csp_engine.views.images.seen import cut_notices
    from csp_engine.views.images.separation import doubt, texts_in_words
    from csp_engine.views.neuron.proposals import proposal_notices
    from csp_engine.views.overview.concepts import concept_sentences
    from csp_engine.views.overview.unused import unused_files

    concepts = concept_sentences(bundle)
    unused = unused_files(bundle)
    summary = {
        "bundle": str(bundle.path),
        "images": bundle.n_images,
        "skipped": len(bundle.skipped()),
        "neurons": {
            f"{model}/{layer}": bundle.n_units(model, layer)
            for model in bundle.model_names
            for layer in bundle.layers(model)
        },
        "reliable": {
            "/".join(kinds.SCORES.parts(name)): record.facts.get("n_reliable")
            for name, record in bundle.manifest.stages.items()
            if kinds.SCORES.is_of(name)
        },
    }
    notices = list(left_out)
    notices += [
        f"{name}: {notice}"
        for name, model in bundle.manifest.inputs.get("models", {}).items()
        for notice in model.get("notices", ())
    ]
    notices += cut_notices(bundle)
    notices += [
        f"{'/'.join(kinds.INFLUENCE.parts(name))}: influence is measured on predicted "
        "classes, because not every class of the images is the name of an output."
        for name, record in bundle.manifest.stages.items()
        if kinds.INFLUENCE.is_of(name)
        and record.facts.get("is_predicted_class")
        and "class" in bundle.table("probe", "probe")
    ]
    notices += proposal_notices(bundle)
    texts = texts_in_words(bundle)
    if as_json:
        told = {"notices": notices, "unused": unused, "concepts": concepts, "texts": texts}
        write_json({**summary, **told, "doubt": doubt(bundle) or None})
        return
    n_neurons = sum(summary["neurons"].values())
    skipped = f", {summary['skipped']} unreadable" if summary["skipped"] else ""
    write_lines(
        [
            *notices,
            *unused,
            *concepts,
            texts,
            f"{bundle.path}: {n_neurons:,} neurons, {bundle.n_images:,} images{skipped}.",
            f"Browse it with: csp serve {quote(str(bundle.path))}",
        ]
    )
