"""``csp evaluate``: how often the labels of a bundle are right, where the truth is known."""

from __future__ import annotations

import math
from typing import Any

from csp_engine.cli.declared import AsJson, BundlePath
from csp_engine.cli.shown import write_json, write_lines, write_table
from csp_engine.numbers import plain_json

COLUMNS = {
    "best_over_neurons": "right",
    "best_by_concept": "mean over concepts",
    "claimed_and_right": "reliable and right",
    "claimed_and_wrong": "reliable and wrong",
}


def evaluate(bundle: BundlePath, as_json: AsJson = False) -> None:
    """Show how often every label method of a bundle is right about neurons whose truth is known.

    Example:
        csp evaluate skin.csp
    """
    from csp_engine.bundle import Bundle
    from csp_engine.views.accuracy import label_accuracy

    opened = Bundle.open(bundle)
    figures = label_accuracy(opened)
    if as_json:
        write_json(plain_json({"bundle": opened.name, "digest": opened.digest, **figures}))
        return
    kinds = ", ".join(f"{kind} {n:,}" for kind, n in figures["n_by_kind"].items())
    write_lines([
        f"{figures['n_with_truth']:,} of {figures['n_neurons']:,} neurons have a known truth "
        f"({kinds}). Intervals are 95 %."
    ])  # fmt: skip
    methods = figures["methods"]
    refused = list(dict.fromkeys(k for found in methods.values() for k in _refused(found)))
    write_table(
        ("method", *COLUMNS.values(), *(f"refused: {kind}" for kind in refused)),
        [
            (
                name,
                *(shown(found.get(key)) for key in COLUMNS),
                *(shown(_refused(found).get(kind)) for kind in refused),
            )
            for name, found in methods.items()
        ],
    )
    write_lines([""])
    write_table(
        ("first − second", "right, paired", "McNemar p", "mean over concepts"),
        [
            (
                f"{row['first']} − {row['second']}",
                shown(row["over_neurons"]),
                f"{row['over_neurons']['p']:.2g}",
                shown(row["by_concept"]),
            )
            for row in figures["differences"]
        ],
    )


def _refused(found: dict[str, Any]) -> dict[str, Any]:
    return found.get("silent_by_kind", {})


def shown(figure: dict[str, Any] | None) -> str:
    """A share or difference with its interval; a dash where there is none."""
    if figure is None:
        return "–"
    value = next(figure[key] for key in ("share", "mean", "difference") if key in figure)
    if math.isnan(value):
        return "–"
    return f"{value:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"
