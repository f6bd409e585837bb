"""``csp report`` and ``csp publish``."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from csp_engine.cli.declared import AsJson, BundlePath, SummaryAsJson
from csp_engine.cli.sharing import chosen_neurons
from csp_engine.cli.shown import progress_bars, write_json, write_lines
from csp_engine.errors import InputError

if TYPE_CHECKING:
    from csp_engine.exports.report import Verified

WRITING, CHECKING = "Writing", "Checking"


class Headings(StrEnum):
    """Orders of a report."""

    audit = "audit"
    annex_iv = "annex-iv"
    model_card = "model-card"


def report(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="BUNDLE|FILE", help="A bundle, NAME.csp; with --verify, a file of a report."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="A folder, or one file that ends in .html, .pdf, .json or .csv.",
            rich_help_panel=WRITING,
        ),
    ] = None,
    formats: Annotated[
        str | None,
        typer.Option(
            help="For a folder: which of html,pdf,json,csv; all without it.",
            rich_help_panel=WRITING,
        ),
    ] = None,
    headings: Annotated[
        Headings,
        typer.Option(
            help="Order of the sections: the report's own, the headings of the EU AI Act's Annex "
            "IV, or those of a model card.",
            rich_help_panel=WRITING,
        ),
    ] = Headings.audit,
    model: Annotated[
        str | None,
        typer.Option(
            help="Network to report on; without it, the first of which pairs of images were tried.",
            rich_help_panel=WRITING,
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="Method that names the neurons; the first without it.", rich_help_panel=WRITING
        ),
    ] = None,
    concepts: Annotated[
        str | None,
        typer.Option(
            help="A TOML file of valid and spurious concepts (docs/methods.md), or melanoma, which "
            "is taken without it.",
            rich_help_panel=WRITING,
        ),
    ] = None,
    sign: Annotated[
        Path | None,
        typer.Option(
            metavar="KEY",
            help="Sign with this private Ed25519 key (PEM or OpenSSH, without a passphrase).",
            rich_help_panel=WRITING,
        ),
    ] = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Check a file of a report instead: whether a byte of it was altered; exit code 1 "
            "if one was.",
            rich_help_panel=CHECKING,
        ),
    ] = False,
    bundle: Annotated[
        Path | None,
        typer.Option(
            help="With --verify: make the report again from this bundle and compare.",
            rich_help_panel=CHECKING,
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            metavar="PUBKEY",
            help="With --verify: the public key that must have signed it, as a file or in "
            "hexadecimal digits.",
            rich_help_panel=CHECKING,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write what a bundle shows about a network, with its evidence, as one document.

    The same bundle and verdicts give the same bytes. Every file ends in a seal by which --verify
    notices any altered byte. Verdicts are read from the database that CSP_REVIEWS names, or
    otherwise from `reviews.sqlite` beside the bundle or in the folder `bundles`.

    Examples:
        csp report skin.csp --output report
        csp report skin.csp -o report.pdf --headings annex-iv --sign key.pem
        csp report report.pdf --verify --bundle skin.csp --key key.pub
    """
    from csp_engine.exports.report import verify as verified

    if verify:
        if output or formats or sign or model or method or concepts:
            raise InputError(
                "--verify only checks a file; leave out --output, --formats, --model, --method, "
                "--concepts and --sign."
            )
        if source.is_dir():
            raise InputError(
                f"{source} is a folder; name a file of the report, and the bundle with --bundle."
            )
        _tell(source, verified(source, bundle, key), as_json)
        return
    if bundle is not None or key is not None:
        raise InputError("--bundle and --key are for checking; add --verify.")
    if output is None:
        raise InputError(
            "Where should the report go? Name a folder or a file with --output, such as report.pdf."
        )
    _write(source, output, formats, model, method, headings.value, concepts, sign, as_json)


def _write(
    source: Path,
    output: Path,
    formats: str | None,
    model: str | None,
    method: str | None,
    headings: str,
    concepts: str | None,
    sign: Path | None,
    as_json: bool,
) -> None:
    from csp_engine.bundle import Bundle
    from csp_engine.exports import report as made
    from csp_engine.words.concepts import find_concept_set

    asked = None if formats is None else [each.strip().lower() for each in formats.split(",")]
    places = made.targets(output, asked)
    opened = Bundle.open(source)
    wanted = None if concepts is None else find_concept_set(concepts)
    options = made.options_for(opened, model, method, headings, wanted)
    document = made.document_of(opened, options, made.verdicts_beside(source))
    files = {path: made.as_bytes(document, each, sign) for each, path in places.items()}
    made.write(files)
    if as_json:
        write_json({"files": [str(path) for path in files], "document": document.sha256()})
    else:
        write_lines([f"{path}: {len(content) / 1e6:.1f} MB." for path, content in files.items()])


def _tell(source: Path, found: Verified, as_json: bool) -> None:
    if as_json:
        write_json(
            {"is_sound": not found.problems, "problems": found.problems, "checked": found.checked}
        )
    elif found.problems:
        write_lines([*found.problems, f"{source} is not to be trusted."])
    else:
        write_lines([f"{source}:", *found.checked])
    if found.problems:
        raise typer.Exit(1)


MOST_WORKERS = 8


def publish(
    bundle: BundlePath,
    to: Annotated[
        Path,
        typer.Option(
            "--to", help="Folder of the site: new, empty, or an export, which is replaced."
        ),
    ],
    model: Annotated[str | None, typer.Option(help="Only this target model.")] = None,
    layer: Annotated[
        list[str] | None, typer.Option("--layer", "-l", help="Only these layers.")
    ] = None,
    neuron: Annotated[
        list[str] | None,
        typer.Option(
            help="Only these neurons, in this order: model/layer/unit, or a text file with one "
            "per line."
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=64,
            help="Processes that write pages; by default one for each core, at most "
            f"{MOST_WORKERS}.",
        ),
    ] = None,
    as_json: SummaryAsJson = False,
) -> None:
    """Write a whole bundle as a static site, for any web server or to open from disk.

    A page for each neuron, lists in pages, and a search over labels; nothing runs on the server.
    The site appears when it is whole. Stopped, the same command goes on where it was.

    Example:
        csp publish resnet50.csp --to resnet50-site
    """
    from csp_engine.bundle import Bundle
    from csp_engine.exports.publishing import publish as write_site
    from csp_engine.views.images.separation import doubt

    opened = Bundle.open(bundle)
    selection = chosen_neurons(opened, model, layer, neuron)
    n_workers = workers or min(MOST_WORKERS, os.cpu_count() or 1)
    with progress_bars() as progress:
        written = write_site(opened, selection, to, n_workers=n_workers, progress=progress)
    notice = doubt(opened)
    if as_json:
        summary = {
            "folder": str(to),
            "neurons": written.n_neurons,
            "files": written.n_files,
            "bytes": written.n_bytes,
            "parts": written.n_parts,
            "written": written.n_written,
            "doubt": notice or None,
        }
        write_json(summary)
        return
    kept = written.n_parts - written.n_written
    of_before = f" {kept:,} of {written.n_parts:,} parts were there already." if kept else ""
    sentence = (
        f"{to / 'index.html'}: {written.n_neurons:,} neurons, {written.n_files:,} files, "
        f"{written.n_bytes / 1e6:,.1f} MB.{of_before}"
    )
    write_lines([*filter(None, [notice]), sentence])
