"""``csp reviews``."""

from __future__ import annotations

import re
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from csp_engine.cli.shown import write_csv, write_json, write_lines
from csp_engine.errors import InputError

if TYPE_CHECKING:
    from csp_engine.bundle import Bundle
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
    agreement: Annotated[
        bool,
        typer.Option(
            "--agreement",
            help="Print instead how far reviewers agree: Cohen's kappa of two, Fleiss' of more.",
        ),
    ] = False,
    source: Annotated[
        Path | None,
        typer.Option(
            "--import",
            help="Add the verdicts of a file that this command wrote elsewhere (CSV or JSON), each "
            "under its reviewer and time.",
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
        csp reviews resnet50.csp --import theirs.csv
    """
    import pandas as pd

    from csp_engine.bundle import Bundle
    from csp_engine.reviews import FIELDS, as_rows, open_reviews, place_for

    if head is not None and not (verify and re.fullmatch(r"[0-9a-f]{64}", head)):
        raise InputError(
            f"--head {head!r:.80} is not the hash of an entry; copy the 64 characters that "
            "--verify printed, and give --verify too."
        )
    if sum((verify, agreement, source is not None)) > 1:
        raise InputError("--verify, --agreement and --import are three things; give one of them.")
    opened = Bundle.open(bundle)
    if source is not None:
        _import(source, opened)
        return
    place = place_for(bundle)
    database = open_reviews(place)
    if verify:
        _report(database.check(head or ""), head, place.title, file_format)
        return
    rows = as_rows(opened, database)
    if agreement:
        _agreement(opened, rows, file_format)
        return
    if file_format is Format.JSON:
        write_json(rows)
        return
    write_csv(pd.DataFrame(rows, columns=list(FIELDS)))


def _import(source: Path, bundle: Bundle) -> None:
    """Add the verdicts of a file, to a new database beside the bundle where there is none."""
    from csp_engine.reviews import (
        FILE_NAME,
        Place,
        found_place,
        import_reviews,
        named_place,
        open_reviews,
    )

    beside = Place(file=bundle.path.resolve().parent / FILE_NAME)
    place = named_place() or found_place(bundle.path) or beside
    found = import_reviews(source, bundle, open_reviews(place))
    older = (
        f", {found.n_older:,} left out because the history holds later words of the same reviewers"
        if found.n_older
        else ""
    )
    write_lines(
        [f"{place.title}: {found.n_added:,} added, {found.n_known:,} were there already{older}."]
    )


def _agreement(bundle: Bundle, rows: list[dict[str, Any]], file_format: Format) -> None:
    from csp_engine.numbers import plain_json
    from csp_engine.views.audit.agreement import agreement, pair_in_words, together_in_words

    found = {model: agreement(rows, model) for model in bundle.model_names}
    if file_format is Format.JSON:
        write_json(plain_json({model: asdict(each) for model, each in found.items()}))
        return
    for model, each in found.items():
        told = [f"{name} judged {n:,} of {model}." for name, n in each.reviewers]
        told += [*map(pair_in_words, each.pairs), together_in_words(each)]
        told += [
            f"{neuron}: {', '.join(f'{who} {what}' for who, what in said)}"
            for neuron, said in each.differing
        ]
        write_lines([line for line in told if line])
    if not any(each.reviewers for each in found.values()):
        write_lines(["Nobody has judged a neuron of this bundle yet."])


def _report(checked: Checked, head: str | None, title: str, file_format: Format) -> None:
    if file_format is Format.JSON:
        write_json(
            {"entries": checked.n_entries, "head": checked.head, "problems": checked.problems}
        )
    elif checked.problems:
        write_lines([*checked.problems, f"{title} is not as it was written; restore a copy."])
    else:
        fits = f"{title}: {checked.n_entries:,} entries, each of which fits the one before it."
        said = "Up to the hash that was given, all are as they were then." if head else ""
        write_lines([fits, *filter(None, [said])])
        if checked.head:
            write_lines([f"Keep the last hash elsewhere, for --head: {checked.head}"])
    if checked.problems:
        raise typer.Exit(1)
