"""``csp reviews``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from csp_engine.cli.shown import write_csv, write_json


class Format(StrEnum):
    """How the history is written."""

    CSV = "csv"
    JSON = "json"


def reviews(
    bundle: Annotated[Path, typer.Argument(help="A bundle, NAME.csp.")],
    file_format: Annotated[
        Format, typer.Option("--format", help="A table, or a list of objects.")
    ] = Format.CSV,
) -> None:
    """Print every verdict on a bundle's neurons, oldest first.

    Verdicts belong to a model, so those given on another build of the bundle are listed too, and
    marked. They are read from the database that CSP_REVIEWS names, else from `reviews.sqlite`
    beside the bundle or in the folder `bundles`.

    Example:
        csp reviews resnet50.csp --format json
    """
    import pandas as pd

    from csp_engine.bundle import Bundle
    from csp_engine.reviews import FIELDS, as_rows, open_reviews, place_for

    opened = Bundle.open(bundle)
    rows = as_rows(opened, open_reviews(place_for(bundle)))
    if file_format is Format.JSON:
        write_json(rows)
        return
    write_csv(pd.DataFrame(rows, columns=list(FIELDS)))
