"""Labels and search scored against ground truth, for any bundle that has it.

Prints, over all neurons whose true concept is known, how often each method's best label (or one of
its best five) is a wording of it, the differences between methods, how often a method says "no
reliable label" where the truth is none, and how often text search finds a neuron that answers.
Run: python -m studies demo_truth BUNDLE [--encoder SPEC]
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from csp_engine.bundle import Bundle, kinds
from csp_engine.errors import CspError
from csp_engine.evaluation.label_accuracy import recall_summary
from csp_engine.numbers import plain_json
from csp_engine.search import bundle_encoder
from csp_engine.views.accuracy import label_accuracy, search_recall

RESULT = Path(__file__).parent / "results" / "demo_truth.json"


def shown(figure: dict[str, Any] | float | None) -> str:
    """A share or difference with its interval and counts, a bare number, or a dash for neither."""
    if isinstance(figure, dict):
        value = next(figure[key] for key in ("share", "mean", "difference") if key in figure)
        counts = f", {figure['n_hits']}/{figure['n']}" if "n_hits" in figure else ""
        if not math.isnan(value):
            return f"{value:.3f} [{figure['low']:.3f}, {figure['high']:.3f}{counts}]"
        return "–"
    return "–" if figure is None else f"{figure:.3f}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table after an empty line."""
    return ["", *(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *rows])]


LABEL_COLUMNS = {
    "best": "best label right",
    "top": "in best five",
    "best_by_concept": "best, mean over concepts",
    "related": "best names a related concept",
    "chance": "blind guess",
}
NONE_COLUMNS = {
    "silent_where_none": "no reliable label where truth is none",
    "claims_where_true": "reliable where there is one",
    "right_where_claimed": "right where reliable",
    "claimed_and_right": "reliable and right",
    "claimed_and_wrong": "reliable and wrong",
}
SEARCH_COLUMNS = {
    "usual_wording": "concepts found by the usual wording",
    "three_wordings": "by three wordings",
    "every_wording": "by every wording",
    "wordings": "texts",
    "by_concept": "texts, mean over concepts",
    "chance": "blind guess",
}


def lines(name: str, labels: dict[str, Any], search: dict[str, Any]) -> list[str]:
    """The report as text, tables in Markdown."""
    methods = labels["methods"]
    kinds = ", ".join(f"{kind} {n:,}" for kind, n in labels["n_by_kind"].items())
    text = [
        f"{name}: {labels['n_neurons']:,} neurons with ground truth ({kinds}); "
        f"{labels['n_with_truth']:,} have a true concept"
    ]
    text += columns_of("method", LABEL_COLUMNS, methods)
    differences = [
        (
            f"{row['first']} − {row['second']}",
            shown(row["over_neurons"]),
            f"{row['over_neurons']['p']:.2g}",
            shown(row["by_concept"]),
        )
        for row in labels["differences"]
    ]
    text += table(
        ("first − second", "over neurons", "McNemar p", "mean over concepts"), differences
    )
    for title, key in (("kind", "by_kind"), ("layer", "by_layer")):
        parts = {part: part for row in methods.values() for part in row[key]}
        by_part = {method: row[key] for method, row in methods.items()}
        text += columns_of(f"best label right, by {title}", parts, by_part)
    text += columns_of("method", NONE_COLUMNS, methods)
    found = {method: row["summary"] for method, row in search.items()}
    return text + columns_of("search, top 5", SEARCH_COLUMNS, found)


def columns_of(
    head: str, columns: Mapping[str, str], rows: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """A table of one row per method; a dash where a method has no such figure."""
    cells = [[name, *(shown(row.get(key)) for key in columns)] for name, row in rows.items()]
    return table([head, *columns.values()], cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--encoder", help="where the bundle's encoder is, if not where it says")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    try:
        bundle = Bundle.open(options.bundle)
        labels = label_accuracy(bundle)
        encoder = bundle_encoder(bundle, options.encoder)
        search = {}
        for method in labels["methods"]:
            if bundle.has(kinds.INDEX.name(method)):
                table = search_recall(bundle, method, encoder)
                rows = json.loads(table.to_json(orient="records"))
                search[method] = {"summary": recall_summary(table), "texts": rows}
    except CspError as error:
        parser.exit(1, f"{error}\n")
    print("\n".join(lines(bundle.name, labels, search)))
    result = {"bundle": bundle.name, "digest": bundle.digest, "labels": labels, "search": search}
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(plain_json(result), indent=1, allow_nan=False) + "\n")


if __name__ == "__main__":
    main()
