"""``csp try``: what an encoder makes of a few images and words, before a build."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from csp_engine.cli.declared import AsJson, Device, ImageRoot, new_folder
from csp_engine.cli.shown import progress_bars, write_json, write_lines, write_table
from csp_engine.jobs.options import OPTIONS


def try_(
    images: Annotated[str, typer.Argument(help=OPTIONS["images"].help)],
    encoder: Annotated[str, typer.Option("--encoder", "-e", help=OPTIONS["encoder"].help)],
    vocabulary: Annotated[
        list[str] | None, typer.Option("--vocabulary", "-v", help=OPTIONS["vocabulary"].help)
    ] = None,
    image_root: ImageRoot = None,
    path_column: Annotated[str | None, typer.Option(help=OPTIONS["path_column"].help)] = None,
    class_column: Annotated[str | None, typer.Option(help=OPTIONS["class_column"].help)] = None,
    leave: Annotated[
        Path | None, typer.Option(help="Leave result and pictures in this new folder.")
    ] = None,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Try an encoder on 200 of your images: does it tell them apart, does it know these words?

    The exit code is 1 if labels from it would be noise.

    Example:
        csp try photos/ --encoder open_clip/ViT-B-32/laion2b_s34b_b79k
    """
    from csp_engine.encoders import load_encoder
    from csp_engine.networks.devices import read_devices, require_devices
    from csp_engine.pipeline.trying.encoder import N_IMAGES, try_encoder
    from csp_engine.pipeline.trying.left import leave_trial
    from csp_engine.probe.listing import read_probe_set
    from csp_engine.views.images.trial import NOISE, verdict
    from csp_engine.words.vocabularies import read_vocabulary

    if leave is not None:
        new_folder(leave, "--leave")
    devices = read_devices(device)
    require_devices(devices)
    words = read_vocabulary(vocabulary or list(OPTIONS["vocabulary"].default))
    with progress_bars() as progress:
        probe = read_probe_set(
            images,
            image_root=image_root,
            path_column=path_column,
            class_column=class_column,
            limit=N_IMAGES,
            is_hashed=False,
        )
        progress("load encoder", 0, 1)
        loaded = load_encoder(encoder, device=devices[0])
        progress("load encoder", 1, 1)
        found = try_encoder(loaded, probe, words, progress)
        if leave is not None:
            leave_trial(leave, found)
    said = verdict(found)
    if as_json:
        write_json({"verdict": said.kind, "heading": said.heading, **found.to_json()})
    else:
        write_lines([said.heading, *said.sentences, ""])
        write_table(
            ("image", "class", "nearest words"),
            [
                (
                    each.file,
                    each.of,
                    ", ".join(f"{text} {score:.2f}" for text, score in each.nearest),
                )
                for each in found.pictures
            ],
        )
    if said.kind == NOISE:
        raise typer.Exit(1)
