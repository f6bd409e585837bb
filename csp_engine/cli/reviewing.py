"""``csp reviews``."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from csp_engine.cli.shown import write_csv, write_json, write_lines
from csp_engine.errors import InputError

if TYPE_CHECKING:
    from csp_engine.reviews import Checked


class Format(StrEnum):
    """How the history is written."""

    CSV = "csv"
    JSON = "json"


def reviews(
    bundle: Annotated[Path, typer.Argument(help="A bundle, NAME.csp.")],
    file_format: Annotated[
        Format, typer.Option("--format", help="A table, or a list of objects.")
    ] = Format.CSV,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Check instead that no entry of the database was changed, removed or inserted; "
            "exit code 1 if one was.",
        ),
    ] = False,
    head: Annotated[
        str | None,
        typer.Option(
            help="With --verify: the hash that an earlier check printed, so that entries removed "
            "from the end since then are noticed."
        ),
    ] = None,
) -> None:
    """Print every verdict on a bundle's neurons, oldest first.

    Verdicts belong to a model, so those given on another build of the bundle are listed too, and
        marked. They are read from the database that CSP_REVIEWS names, or otherwise from
    `reviews.sqlite` beside the bundle or in the folder `bundles`.

    Examples:
        csp reviews resnet50.csp --format json
        csp reviews resnet50.csp --verify
    """
    import pandas as pd

    from csp_engine.bundle import Bundle
    from csp_engine.reviews import FIELDS, as_rows, open_reviews, place_for

    if head is not None and not (verify and re.fullmatch(r"[0-9a-f]{64}", head)):
        raise InputError(
            f"--head {head!r:.80} is not the hash of an entry; copy the 64 characters that "
            "--verify printed, and give --verify too."
        )
    opened = Bundle.open(bundle)
    place = place_for(bundle)
    database = open_reviews(place)
    if verify:
        _report(database.check(head or ""), place.title, file_format)
        return
    rows = as_rows(opened, database)
    if file_format is Format.JSON:
        write_json(rows)
        return
    write_csv(pd.DataFrame(rows, columns=list(FIELDS)))


def _report(checked: Checked, title: str, file_format: Format) -> None:
    if file_format is Format.JSON:
        write_json(
            {"entries": checked.n_entries, "head": checked.head, "problems": checked.problems}
        )
    elif checked.problems:
        write_lines([*checked.problems, f"{title} is not as it was written; restore a copy."])
    else:
        write_lines([f"{title}: {checked.n_entries:,} entries, as they were written."])
        if checked.head:
            write_lines([f"Keep the last hash elsewhere, for --head: {checked.head}"])
    if checked.problems:
        raise typer.Exit(1)
