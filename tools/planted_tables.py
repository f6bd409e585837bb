"""The tables of planted units in docs/methods.md: ``python -m tools.planted_tables [--write]``.

Figures: ``csp evaluate assets/demo/dermoscopy.csp --benchmark planted --judge
python:csp_engine.demo.training.judge:encoder --json`` into ``studies/results/planted_units.json``.
"""

from __future__ import annotations

import json
import sys
from functools import partial

from csp_engine.evaluation.metrics.registered import METRICS
from csp_engine.exports.planted_plots import planted_svg
from csp_engine.methods import METHODS, method_title
from csp_engine.views.benchmark.planted import ERRORS, setting_of
from tools import tables
from tools.tables import ROOT, Record, Writers, rows_of

PAGE = ROOT / "docs" / "methods.md"
PICTURE = ROOT / "docs" / "img" / "planted.svg"
RESULT = ROOT / "studies" / "results" / "planted_units.json"


def _by_row(record: Record, key: str) -> tuple[list[str], dict[str, dict[str, Record]]]:
    """Names of methods, and for each row of the table the figure of each method that has one."""
    methods: dict[str, None] = {}
    found: dict[str, dict[str, Record]] = {}
    for row in record["rows"]:
        if key in row:
            methods[row["method"]] = None
            found.setdefault(row["row"], {})[row["method"]] = row[key]
    return list(methods), found


def _head(first: str, methods: list[str]) -> str:
    return " | ".join([first, *map(method_title, methods)])


def right(record: Record, *, writes: bool = False) -> str:
    """How often the best label is right: of methods that score a vocabulary, or write labels."""
    methods, found = _by_row(record, "right")
    methods = [name for name in methods if (name in METHODS and METHODS[name].writes) == writes]
    rows = [
        [name, str(next(iter(own.values()))["n"]),
         *(f"{own[m]['share']:.0%} ({own[m]['low']:.0%}–{own[m]['high']:.0%})" for m in methods)]
        for name, own in found.items()
    ]  # fmt: skip
    return rows_of(_head("right | units", methods), rows)


def reliable(record: Record) -> str:
    """How often a label is reliable and right, and reliable and wrong."""
    methods, good = _by_row(record, "reliable_and_right")
    _, bad = _by_row(record, "reliable_and_wrong")
    rows = [
        [name, *(f"{own[m]['share']:.0%} / {bad[name][m]['share']:.0%}" for m in methods)]
        for name, own in good.items()
    ]
    return rows_of(_head("reliable and right / wrong", methods), rows)


def refused(record: Record) -> str:
    """How often units that mean nothing get no reliable label."""
    methods, found = _by_row(record, "refused")
    rows = [
        [name.removeprefix("noise: "), str(next(iter(own.values()))["n"]),
         *(f"{own[m]['share']:.0%}" for m in methods)]
        for name, own in found.items()
    ]  # fmt: skip
    return rows_of(_head("refused | units", methods), rows)


def tries(record: Record) -> str:
    """How often the best label is right at other settings; a dash where a method has none such."""
    methods = list(dict.fromkeys(one["method"] for one in record["tries"]))
    found: dict[str, dict[str, Record]] = {}
    for one in record["tries"]:
        found.setdefault(setting_of(one), {})[one["method"]] = one["right"]
    rows = [
        [name, *(f"{own[m]['share']:.0%}" if m in own else "–" for m in methods)]
        for name, own in found.items()
    ]
    return rows_of(_head("right at", methods), rows)


def errors(record: Record) -> str:
    """How the wrong labels of all rows of units with one concept are wrong."""
    methods = list(dict.fromkeys(row["method"] for row in record["rows"] if "errors" in row))
    rows = []
    for kind in ERRORS:
        counts = [
            sum(
                row["errors"][kind]
                for row in record["rows"]
                if row["method"] == method and "errors" in row
            )
            for method in methods
        ]
        rows.append([kind, *map(str, counts)])
    return rows_of(_head("wrong label says", methods), rows)


def trust(record: Record) -> str:
    """How well each figure tells right labels from wrong ones, and what it notices."""
    rows = []
    for row in record["trust"]["rows"]:
        noticed = [
            f"{'yes' if row[check]['is_passed'] else 'no'} ({row[check]['falls']['share']:.0%}, "
            f"by {row[check]['by']:.0%})"
            for check in ("missing", "extra")
        ]
        auroc = f"{row['auroc']:.3f} ({row['low']:.3f}–{row['high']:.3f})"
        counts = [str(row["n_right"]), str(row["n_wrong"])]
        rows.append([METRICS[row["metric"]].title, auroc, *counts, *noticed])
    return rows_of("figure | AUROC | right | wrong | notices missing | notices extra", rows)


TABLES: Writers = {
    "planted-right": (RESULT, right),
    "planted-written": (RESULT, partial(right, writes=True)),
    "planted-reliable": (RESULT, reliable),
    "planted-refused": (RESULT, refused),
    "planted-tries": (RESULT, tries),
    "planted-errors": (RESULT, errors),
    "planted-trust": (RESULT, trust),
}


table = partial(tables.written, TABLES)
filled = partial(tables.filled, table=table)


def picture() -> str:
    """The picture of the same figures."""
    return planted_svg(json.loads(RESULT.read_text("utf-8")))


if __name__ == "__main__":
    tables.main(PAGE, TABLES, table)
    if "--write" in sys.argv:
        PICTURE.write_text(picture(), "utf-8")
