"""``csp export`` and ``csp import``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from csp_engine.cli.declared import SummaryAsJson
from csp_engine.cli.shown import progress_bars, write_json, write_lines
from csp_engine.errors import InputError
from csp_engine.types import NeuronRef

if TYPE_CHECKING:
    from csp_engine.bundle import Bundle
    from csp_engine.exports.html import Selection

READ_BY = {
    "huggingface": "Read it with datasets.load_dataset(FOLDER, 'labels'), or 'pairs'.",
    "neuronpedia": "One folder for each model and layer, as in Neuronpedia's exports.",
    "fiftyone": "Import it as fiftyone.types.FiftyOneImageClassificationDataset.",
}
TOOLS = tuple(READ_BY)
TABLE = "Label table"
PAGES = "Pages and folders for other tools"
NEUROLENS = "NeuroLens output"


def export(
    bundle: Annotated[Path, typer.Argument(help="A bundle, NAME.csp.")],
    out: Annotated[Path, typer.Argument(help="File to write, or folder.")],
    file_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="csv, parquet or jsonl, by default from the file's name; html for a folder of "
            "pages; huggingface, neuronpedia or fiftyone for a folder with labels, pairs and "
            "their images that such a tool reads.",
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(help="Label methods; by default all.", rich_help_panel=TABLE),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Only this target model.")] = None,
    layer: Annotated[
        list[str] | None, typer.Option("--layer", "-l", help="Only these layers.")
    ] = None,
    n_labels: Annotated[
        int, typer.Option("-n", min=1, help="Labels per neuron.", rich_help_panel=TABLE)
    ] = 1,
    columns: Annotated[
        bool,
        typer.Option(
            "--columns",
            help="Instead of labels: AUROC, Pearson and AUPRC of every neuron and concept column.",
            rich_help_panel=TABLE,
        ),
    ] = False,
    neuron: Annotated[
        list[str] | None,
        typer.Option(
            help="Only these neurons, in this order: model/layer/unit, or a text file with one "
            "per line.",
            rich_help_panel=PAGES,
        ),
    ] = None,
    pairs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Pairs of images per neuron, for huggingface, neuronpedia and fiftyone; by "
            "default 6.",
            rich_help_panel=PAGES,
        ),
    ] = None,
    as_json: SummaryAsJson = False,
) -> None:
    """Write labels as a table, or neurons as pages or for Hugging Face, Neuronpedia, FiftyOne.

    Pages are plain HTML that opens from disk: no server, no network. The table has layer, unit,
    description, score and more; what is written for other tools has the same labels and figures.

    Examples:
        csp export resnet50.csp labels.csv -n 5
        csp export resnet50.csp resnet50-pages --format html --layer layer4
        csp export resnet50.csp resnet50-neurons --format huggingface
    """
    from csp_engine.bundle import Bundle
    from csp_engine.views.images.separation import doubt

    opened = Bundle.open(bundle)
    is_folder = file_format == "html" or file_format in TOOLS
    if columns and (method or n_labels != 1 or neuron or is_folder):
        raise InputError(
            "--columns writes a table without labels; leave out --method, -n, --neuron and "
            f"{file_format if is_folder else 'html'}."
        )
    if pairs is not None and file_format not in TOOLS:
        raise InputError(f"--pairs is for --format {', '.join(TOOLS[:-1])} or {TOOLS[-1]}.")
    if file_format in TOOLS:
        chosen = chosen_neurons(opened, model, layer, neuron)
        summary = _export_for_tool(opened, out, file_format, chosen, method, n_labels, pairs)
        sentence = (
            f"{out}: {summary['neurons']:,} neurons, {summary['labels']:,} labels, "
            f"{summary['files']:,} files, {summary['bytes'] / 1e6:,.1f} MB. {READ_BY[file_format]}"
        )
    elif file_format == "html":
        if method or n_labels != 1:
            raise InputError(
                "Pages show every method and all its labels; leave out --method and -n."
            )
        summary = _export_pages(opened, out, model, layer, neuron)
        sentence = (
            f"{out / 'index.html'}: {summary['neurons']:,} neurons, {summary['files']:,} files, "
            f"{summary['bytes'] / 1e6:,.1f} MB."
        )
    else:
        from csp_engine.exchange import export_columns, export_labels

        if neuron:
            raise InputError(
                "--neuron chooses what goes into a folder; add --format html, "
                f"{', '.join(TOOLS[:-1])} or {TOOLS[-1]}, or leave it out."
            )
        if file_format is None and not out.suffix:
            raise InputError(
                f"{out.name} does not say what to write: end it in .csv, .parquet or .jsonl, or "
                "add --format html for a folder of pages."
            )
        place: dict[str, Any] = {"file_format": file_format, "model": model, "layers": layer}
        if columns:
            n_rows = export_columns(opened, out, **place)
        else:
            n_rows = export_labels(opened, out, methods=method, n_labels=n_labels, **place)
        summary = {"file": str(out), "rows": n_rows}
        sentence = f"{out}: {n_rows:,} {'rows' if columns else 'labels'}."
    notice = "" if columns else doubt(opened)
    if as_json:
        write_json({**summary, "doubt": notice or None})
    else:
        write_lines([*filter(None, [notice]), sentence])


def _export_pages(
    bundle: Bundle,
    out: Path,
    model: str | None,
    layers: list[str] | None,
    neurons: list[str] | None,
) -> dict[str, Any]:
    from csp_engine.exports.html import write_folder

    selection = chosen_neurons(bundle, model, layers, neurons)
    with progress_bars() as progress:
        written = write_folder(bundle, selection, out, progress)
    return {
        "folder": str(out),
        "neurons": written.n_neurons,
        "files": written.n_files,
        "bytes": written.n_bytes,
    }


def _export_for_tool(
    bundle: Bundle,
    out: Path,
    tool: str,
    selection: Selection,
    methods: list[str] | None,
    n_labels: int,
    n_pairs: int | None,
) -> dict[str, Any]:
    from csp_engine.exports.tools import N_PAIRS, chosen_of, write_for_tool

    chosen = chosen_of(
        bundle, selection, methods=methods, n_labels=n_labels, n_pairs=n_pairs or N_PAIRS
    )
    with progress_bars() as progress:
        n_files, n_bytes = write_for_tool(chosen, tool, out, progress)
    counts = {"neurons": len(chosen.neurons), "labels": len(chosen.labels)}
    return {"folder": str(out), **counts, "files": n_files, "bytes": n_bytes}


def chosen_neurons(
    bundle: Bundle, model: str | None, layers: list[str] | None, neurons: list[str] | None
) -> Selection:
    """The neurons that go into a folder."""
    from csp_engine.exports.html import of_layers, of_neurons

    if not neurons:
        return of_layers(bundle, model=model, layers=layers)
    if model or layers:
        raise InputError("Choose neurons by --neuron, or by --model and --layer, not by both.")
    chosen = [NeuronRef.parse(line) for each in neurons for line in _lines(each)]
    about = f"{len(chosen):,} neurons, chosen one by one."
    return of_neurons(bundle, chosen, title="Chosen neurons", about=about)


def _lines(text: str) -> list[str]:
    """A neuron as it was given, or the lines of a file of neurons."""
    path = Path(text)
    if not path.is_file():
        return [text]
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} is not a text file of neurons ({type(error).__name__})."
        ) from None
    return [line.strip() for line in lines if line.strip()]


def import_(
    source: Annotated[
        Path, typer.Argument(help="A label table, or a folder that NeuroLens wrote.")
    ],
    bundle: Annotated[
        Path, typer.Argument(help="The bundle to add labels to, or to make from NeuroLens output.")
    ],
    name: Annotated[
        str | None,
        typer.Option(
            help="Name under which these labels are shown; by default the file's name.",
            rich_help_panel=TABLE,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Target model, if the source names none or several."),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(
            "--layer",
            "-l",
            help="The one layer that all rows are about, such as layer4@mean: needed if the table "
            "does not say, or calls the layer by another name. Always needed for NeuroLens.",
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            "--encoder",
            "-e",
            help="The bundle's encoder, so that imported labels can be searched; for NeuroLens, "
            "the encoder it used, so that new texts can be searched.",
        ),
    ] = None,
    texts: Annotated[
        Path | None,
        typer.Option(
            help="File of the texts that NeuroLens embedded, one per line.",
            rich_help_panel=NEUROLENS,
        ),
    ] = None,
    text_set: Annotated[
        str | None,
        typer.Option(
            help="Which of NeuroLens' text sets --texts holds, if there are several.",
            rich_help_panel=NEUROLENS,
        ),
    ] = None,
    vocabulary: Annotated[
        list[str] | None,
        typer.Option(
            "--vocabulary",
            "-v",
            help="Labels to try instead of --texts; needs --encoder and --images.",
            rich_help_panel=NEUROLENS,
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            help="The images, in NeuroLens' order; without them pages show grey squares.",
            rich_help_panel=NEUROLENS,
        ),
    ] = None,
    image_set: Annotated[
        str | None,
        typer.Option(
            help="Which of NeuroLens' image sets, if there are several.", rich_help_panel=NEUROLENS
        ),
    ] = None,
    image_encoder: Annotated[
        str | None,
        typer.Option(
            help="Which of NeuroLens' image-text models, if there are several.",
            rich_help_panel=NEUROLENS,
        ),
    ] = None,
    as_json: SummaryAsJson = False,
) -> None:
    """Add labels that another tool wrote, or make a bundle from NeuroLens output.

    Example:
        csp import milan.csv resnet50.csp --name milan
    """
    loaded = None
    if encoder is not None:
        from csp_engine.encoders import load_encoder

        loaded = load_encoder(encoder)
    if not source.is_dir():
        from csp_engine.exchange import import_labels

        n_neurons = import_labels(
            source, bundle, name=name, model=model, layer=layer, encoder=loaded
        )
        summary = {"bundle": str(bundle), "neurons": n_neurons}
        sentence = f"{bundle}: labels of {n_neurons:,} neurons from {source.name}."
    else:
        summary = _import_neurolens(
            source,
            bundle,
            identity=(model, image_set, image_encoder),
            layer=layer,
            texts_path=texts,
            text_set=text_set,
            vocabulary=vocabulary,
            images=images,
            encoder=loaded,
        )
        sentence = (
            f"{bundle}: {summary['n_units']:,} neurons, {summary['n_images']:,} images; "
            f"{summary['n_pairs_equal']:,} of NeuroLens' {summary['n_exemplars_listed']:,} pairs "
            "of exemplar and contrast image came out the same."
        )
    if as_json:
        write_json(summary)
    else:
        write_lines([sentence])


def _import_neurolens(
    source: Path,
    bundle: Path,
    *,
    identity: tuple[str | None, str | None, str | None],
    layer: str | None,
    vocabulary: list[str] | None,
    images: Path | None,
    **kept: Any,
) -> dict[str, Any]:
    from csp_engine.exchange import import_neurolens, read_neurolens
    from csp_engine.probe.listing import read_probe_set
    from csp_engine.words.vocabularies import read_vocabulary

    if layer is None:
        raise InputError(
            "NeuroLens' files do not say which layer they are about; name it as module@pooling, "
            "such as --layer layer4@mean."
        )
    target, image_set, image_encoder = identity
    found = read_neurolens(source, target=target, image_set=image_set, encoder=image_encoder)
    with progress_bars() as progress:
        made = import_neurolens(
            found,
            bundle,
            layer=layer,
            vocabulary=read_vocabulary(vocabulary) if vocabulary else None,
            probe=None if images is None else read_probe_set(images, progress=progress),
            progress=progress,
            **kept,
        )
    counts = {"n_units": found.n_units, "n_images": found.n_images}
    return {"bundle": str(bundle), **counts, **made.manifest.inputs["neurolens"]}
