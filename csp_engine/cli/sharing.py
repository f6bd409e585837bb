"""``csp export`` and ``csp import``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from csp_engine.cli.shown import progress_bars, write_json, write_lines


def export(
    bundle: Annotated[Path, typer.Argument(help="A bundle, NAME.csp.")],
    out: Annotated[Path, typer.Argument(help="File to write.")],
    file_format: Annotated[
        str | None, typer.Option("--format", help="csv, parquet or jsonl; else from the name.")
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option(help="Label methods; all if none is named.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Only this target model.")] = None,
    layer: Annotated[
        list[str] | None, typer.Option("--layer", "-l", help="Only these layers.")
    ] = None,
    n_labels: Annotated[int, typer.Option("-n", min=1, help="Labels per neuron.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print a summary as JSON.")] = False,
) -> None:
    """Write labels as a table: layer, unit, description, score and more.

    Example:
        csp export resnet50.csp labels.csv -n 5
    """
    from csp_engine.bundle import Bundle
    from csp_engine.exchange import export_labels

    n_rows = export_labels(
        Bundle.open(bundle),
        out,
        file_format=file_format,
        methods=method,
        model=model,
        layers=layer,
        n_labels=n_labels,
    )
    if as_json:
        write_json({"file": str(out), "rows": n_rows})
    else:
        write_lines([f"{out}: {n_rows:,} labels."])


def import_(
    source: Annotated[
        Path, typer.Argument(help="A label table, or a folder that NeuroLens wrote.")
    ],
    bundle: Annotated[
        Path, typer.Argument(help="The bundle to add labels to, or to make from NeuroLens output.")
    ],
    name: Annotated[
        str | None, typer.Option(help="What to call the labels' method; else the file's name.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Images behind NeuroLens output, for thumbnails.")
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            "--encoder", "-e", help="The bundle's encoder, so that labels can be searched."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a summary as JSON.")] = False,
) -> None:
    """Add labels that another tool wrote, or make a bundle from NeuroLens output.

    Example:
        csp import milan.csv resnet50.csp --name milan
    """
    from csp_engine.exchange import import_labels, import_neurolens

    with progress_bars() as progress:
        if source.is_dir():
            done = import_neurolens(source, bundle, images=images, progress=progress)
        else:
            done = import_labels(source, bundle, name=name, encoder=encoder, progress=progress)
    if as_json:
        write_json(done)
    else:
        write_lines([f"{key}: {value}" for key, value in done.items()])
