"""``csp isic2017``."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from csp_engine.cells import csv_text
from csp_engine.cli.declared import SummaryAsJson
from csp_engine.cli.shown import write_json, write_lines
from csp_engine.errors import InputError
from csp_engine.files import write_whole

if TYPE_CHECKING:
    import pandas as pd


def isic2017(
    folder: Annotated[
        Path, typer.Argument(help="Folder with the unpacked files of the ISIC 2017 challenge.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The table to write, NAME.csv.")],
    labels: Annotated[
        list[Path] | None,
        typer.Option(
            help="A table of your own with image names and artefacts (0 or 1), diagnoses, lesion "
            "or patient ids; may be given several times."
        ),
    ] = None,
    as_json: SummaryAsJson = False,
) -> None:
    """Make a table of the ISIC 2017 photographs you downloaded, ready for 'csp build'.

    Example:
        csp isic2017 ISIC2017 --labels isic_bias.csv --out isic2017.csv
    """
    from csp_engine.probe.isic2017 import isic2017_table

    if out.suffix.lower() != ".csv":
        raise InputError(f"{str(out)!r} does not end in .csv; give the table such a name.")
    if not out.parent.is_dir():
        raise InputError(f"There is no folder {str(out.parent)!r} to write into; make it first.")
    if any(out.resolve() == path.resolve() for path in labels or []):
        raise InputError(f"{str(out)!r} is one of the tables to read; choose another name.")
    table = isic2017_table(folder, labels or [])
    write_whole(out, csv_text(table))
    summary = _summary(table)
    root = "" if out.parent.resolve() == folder.resolve() else f" --image-root {quote(str(folder))}"
    if as_json:
        write_json({"table": str(out), "photographs": len(table), "columns": summary})
        return
    write_lines(
        [
            f"{out}: {len(table):,} photographs.",
            *(f"  {name}: {_counted(counts)}" for name, counts in summary.items()),
            *(
                ["  group: no lesion or patient ids; only near copies are kept apart"]
                if "group" not in table
                else []
            ),
            f"Next: csp build {quote(str(out))}{root} --vocabulary dermoscopy --model ...",
        ]
    )


def _summary(table: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Of every column how often each value occurs; of ids and numbers how many are known."""
    from csp_engine.probe.isic2017 import FLAGS

    summary = {}
    for name in table.columns.drop("file"):
        known = table[name].dropna()
        counts = {"known": len(known)}
        if name in ("class", "split", "sex", *FLAGS):
            counts = {str(k): int(n) for k, n in known.value_counts().sort_index().items()}
        elif name == "group":
            counts["different"] = int(known.nunique())
        summary[name] = {**counts, "unknown": int(table[name].isna().sum())}
    return summary


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {n:,}" for name, n in counts.items() if n)
