"""``csp label``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from csp_engine.cli.building.told import assignments, report
from csp_engine.cli.declared import Device, SummaryAsJson
from csp_engine.cli.shown import progress_bars
from csp_engine.methods import METHODS


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
    from csp_engine.garbage import left_lying
    from csp_engine.search.layout_process import LayoutProcess

    opened = Bundle.open(bundle)
    with LayoutProcess() as apart:  # before all else, so that both load at the same time
        with left_lying():
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

            devices = read_devices(device)
            if devices != ("cpu",):  # the usual one needs no torch to be there
                require_devices(devices)
            overrides = assignments(set_)
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
                    asked.fingerprint != held
                    or needs_captions(opened, recipe)
                    or lacks_answers(opened)
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
                from csp_engine.encoders import open_clip_alone
                from csp_engine.search import bundle_encoder, encoder_description

                if not recipe.caption_crops:  # else networks are loaded too
                    open_clip_alone.prepare(encoder_description(opened))
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
            done = relabel(
                bundle, recipe, words, loaded, progress, asked, told, targets, apart.lay_out
            )
        report(done, as_json, left_out)
