"""``csp build`` and ``csp label``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from csp_engine.cli.shown import progress_bars, write_json, write_lines
from csp_engine.errors import InputError

if TYPE_CHECKING:
    from csp_engine.bundle import Bundle

PROBE = "Probe set"
MODEL = "Target model"
LABELS = "Labels and contrast"
RUN = "Running"


def build(
    images: Annotated[
        Path,
        typer.Argument(help="Folder of images (class folders or flat), or a CSV/Parquet table."),
    ],
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help="torchvision/NAME[:WEIGHTS], timm/NAME[.TAG], hf-hub:ORG/NAME, "
            "transformers/NAME_OR_FOLDER or python:package.module:factory.",
            rich_help_panel=MODEL,
        ),
    ],
    layer: Annotated[
        list[str],
        typer.Option(
            "--layer",
            "-l",
            help="Module path or glob, optionally @pooling; may be given several times.",
            rich_help_panel=MODEL,
        ),
    ],
    encoder: Annotated[
        str,
        typer.Option(
            "--encoder",
            "-e",
            help="open_clip/ARCH/PRETRAINED, open_clip/FOLDER, transformers/NAME_OR_FOLDER, "
            "precomputed/FOLDER or python:package.module:factory.",
            rich_help_panel=LABELS,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The bundle to write, NAME.csp.")],
    vocabulary: Annotated[
        list[str],
        typer.Option(
            "--vocabulary",
            "-v",
            help="general, textures, colours, dermoscopy, or a text file with a label a line; "
            "may be given several times.",
            rich_help_panel=LABELS,
        ),
    ] = ["general"],  # noqa: B006
    captioner: Annotated[
        Path | None,
        typer.Option(
            help="Folder of a captioner made for the encoder; it proposes labels for every neuron.",
            rich_help_panel=LABELS,
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="Local checkpoint (safetensors or .pt).", rich_help_panel=MODEL),
    ] = None,
    weights_key: Annotated[
        str | None,
        typer.Option(
            help="What to take of a checkpoint with several networks, such as state_dict_ema.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Short name of the model in ids.", rich_help_panel=MODEL)
    ] = None,
    pooling: Annotated[
        str | None,
        typer.Option(
            help="mean, max, absmax, cls, token_mean or none, where a layer does not say.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    sae: Annotated[
        list[str] | None,
        typer.Option(
            help="LAYER=FILE: latents of a sparse autoencoder on top of a layer.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    preprocessing: Annotated[
        Path | None,
        typer.Option(help="JSON file that replaces the model's own.", rich_help_panel=MODEL),
    ] = None,
    class_names: Annotated[
        Path | None,
        typer.Option(help="Text file, one output name a line.", rich_help_panel=MODEL),
    ] = None,
    output: Annotated[
        list[str] | None,
        typer.Option(
            help="Output to ask for influence on, by name or number; may be given several times.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    layout: Annotated[
        str | None,
        typer.Option(
            help="Order of a layer's axes, if that cannot be told: nchw, nhwc, ntc, nct or tnc "
            "(n images, c channels, h and w positions, t tokens).",
            rich_help_panel=MODEL,
        ),
    ] = None,
    prefix_tokens: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Class and register tokens before the patches, if they cannot be counted.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    path_column: Annotated[
        str | None, typer.Option(help="Column of image paths.", rich_help_panel=PROBE)
    ] = None,
    class_column: Annotated[
        str | None, typer.Option(help="Column of classes.", rich_help_panel=PROBE)
    ] = None,
    group_column: Annotated[
        str | None,
        typer.Option(help="Column of group ids, such as lesion_id.", rich_help_panel=PROBE),
    ] = None,
    split_column: Annotated[
        str | None, typer.Option(help="Column of splits.", rich_help_panel=PROBE)
    ] = None,
    image_root: Annotated[
        Path | None,
        typer.Option(help="Folder that a table's paths start from.", rich_help_panel=PROBE),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Use so many images, evenly spaced.", rich_help_panel=PROBE)
    ] = None,
    on_unreadable: Annotated[
        str, typer.Option(help="skip or stop.", rich_help_panel=PROBE)
    ] = "skip",
    preset: Annotated[
        str, typer.Option(help="default or paper.", rich_help_panel=LABELS)
    ] = "default",
    exemplars: Annotated[
        int | None, typer.Option(help="Exemplars per neuron.", rich_help_panel=LABELS)
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="PARAMETER=VALUE of the recipe, such as gamma=0.5; 'csp info' lists them.",
            rich_help_panel=LABELS,
        ),
    ] = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Images per forward pass.", rich_help_panel=RUN)
    ] = 32,
    influence_images: Annotated[
        int,
        typer.Option(min=0, help="Images to take gradients for; 0 for none.", rich_help_panel=RUN),
    ] = 512,
    device: Annotated[str, typer.Option(help="cpu, cuda, mps.", rich_help_panel=RUN)] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print a summary as JSON.")] = False,
) -> None:
    """Build a bundle, or complete one: interrupted builds resume, finished parts are kept.

    Example:
        csp build photos/ --model torchvision/resnet50 --layer layer4 --encoder
        open_clip/ViT-B-32/laion2b_s34b_b79k --out resnet50.csp
    """
    from csp_engine import pipeline
    from csp_engine.captioners import load_captioner
    from csp_engine.encoders import load_encoder
    from csp_engine.networks.layers import select_layers
    from csp_engine.networks.models import load_model
    from csp_engine.pipeline.recipe import changed, named_recipe
    from csp_engine.probe.listing import read_probe_set
    from csp_engine.words.templates import TEMPLATES
    from csp_engine.words.vocabularies import read_vocabulary

    recipe = named_recipe(preset, exemplars, _assignments(set_))
    if on_unreadable not in ("skip", "stop"):
        raise InputError(f"--on-unreadable is {on_unreadable!r}; choose skip or stop.")
    words = read_vocabulary(vocabulary)
    with progress_bars() as progress:
        probe = read_probe_set(
            images,
            image_root=image_root,
            path_column=path_column,
            class_column=class_column,
            split_column=split_column,
            group_column=group_column,
            limit=limit,
            progress=progress,
        )
        pipeline.require_enough_images(len(probe.table), recipe, "lists")
        progress("load model", 0, 1)
        target = load_model(
            model,
            weights=weights,
            name=name,
            preprocessing=preprocessing,
            class_names=class_names,
            device=device,
            weights_key=weights_key,
        )
        progress("load model", 1, 1)
        progress("load encoder", 0, 1)
        loaded = load_encoder(encoder, device=device)
        progress("load encoder", 1, 1)
        if not getattr(loaded, "needs_pixels", True):
            # Stored text vectors have names; prompts made from templates are not among them.
            recipe = changed(recipe, {"templates": TEMPLATES["bare"], "subtract_empty": False})
        taps = select_layers(
            target,
            layer,
            pooling=pooling,
            saes=_pairs(sae),
            layout=layout,
            prefix_tokens=prefix_tokens,
        )
        request = pipeline.BuildRequest(
            out=out,
            probe=probe,
            targets=(pipeline.Target(target, tuple(taps)),),
            encoder=loaded,
            vocabulary=words,
            recipe=recipe,
            batch_size=batch_size,
            stop_on_unreadable=on_unreadable == "stop",
            n_influence_images=influence_images,
            outputs=tuple(int(o) if o.isdigit() else o for o in output or ()),
            captioner=None if captioner is None else load_captioner(captioner, device=device),
        )
        bundle = pipeline.build(request, progress)
    _report(bundle, as_json)


def label(
    bundle: Annotated[Path, typer.Argument(help="A finished bundle; changed in place.")],
    vocabulary: Annotated[
        list[str] | None,
        typer.Option("--vocabulary", "-v", help="New labels: shipped name or text file."),
    ] = None,
    gamma: Annotated[
        float | None, typer.Option(help="Share of the contrast projection removed, 0 to 1.")
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(help="csp, semanticlens, clip_dissect; replaces the bundle's methods."),
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
        Path | None,
        typer.Option(
            help="Folder of a captioner that proposes labels; where the bundle has candidates they "
            "stay, unless this is another."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a summary as JSON.")] = False,
) -> None:
    """Label a finished bundle again with another vocabulary, gamma or method; images stay unread.

    Example:
        csp label resnet50.csp --gamma 0.5
    """
    from csp_engine.bundle import Bundle
    from csp_engine.captioners import load_captioner
    from csp_engine.pipeline import bundle_captioner, needs_captions, needs_texts, relabel
    from csp_engine.pipeline.recipe import Recipe, changed, named_recipe
    from csp_engine.words.vocabularies import read_vocabulary

    opened = Bundle.open(bundle)
    recipe = Recipe.from_json(opened.manifest.recipe)
    if preset is not None:
        recipe = named_recipe(preset, None, {})
    overrides = _assignments(set_)
    if gamma is not None:
        overrides["gamma"] = gamma
    if method:
        overrides["methods"] = tuple(method)
    recipe = changed(recipe, overrides)
    words = read_vocabulary(vocabulary) if vocabulary else None
    asked = None
    if captioner is not None:
        asked = load_captioner(captioner)
        held = opened.manifest.inputs.get("captioner", {}).get("fingerprint")
        is_recaptioned = asked.fingerprint != held or needs_captions(opened, recipe)
    else:
        is_recaptioned = needs_captions(opened, recipe)
        asked = bundle_captioner(opened) if is_recaptioned else None
    loaded = None
    if is_recaptioned or needs_texts(opened, recipe, words):
        from csp_engine.search import bundle_encoder

        loaded = bundle_encoder(opened, encoder)
    with progress_bars() as progress:
        done = relabel(bundle, recipe, words, loaded, progress, asked)
    _report(done, as_json)


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


def _report(bundle: Bundle, as_json: bool) -> None:
    from csp_engine.bundle import kinds

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
    notices = [
        f"{name}: {notice}"
        for name, model in bundle.manifest.inputs.get("models", {}).items()
        for notice in model.get("notices", ())
    ]
    notices += [
        f"{'/'.join(kinds.INFLUENCE.parts(name))}: influence is of predicted classes, as not "
        "every class of the images is the name of an output."
        for name, record in bundle.manifest.stages.items()
        if kinds.INFLUENCE.is_of(name)
        and record.facts.get("is_predicted_class")
        and "class" in bundle.table("probe", "probe")
    ]
    if as_json:
        write_json({**summary, "notices": notices})
        return
    n_neurons = sum(summary["neurons"].values())
    skipped = f", {summary['skipped']} unreadable" if summary["skipped"] else ""
    write_lines(
        [
            *notices,
            f"{bundle.path}: {n_neurons:,} neurons, {bundle.n_images:,} images{skipped}.",
            f"Browse it with: csp serve {bundle.path}",
        ]
    )
