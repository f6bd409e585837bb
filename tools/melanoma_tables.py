"""The tables of docs/melanoma.md: ``python -m tools.melanoma_tables [--write]``.

Figures come from ``real_channels.json``, ``real_browser.json`` and ``real_pastes.json`` in
``studies/results``.
"""

from __future__ import annotations

import statistics
from functools import partial

from tools import tables
from tools.tables import ROOT, Record, Writers, area, rows_of

PAGE = ROOT / "docs" / "melanoma.md"
CHANNELS = ROOT / "studies" / "results" / "real_channels.json"
BROWSER = ROOT / "studies" / "results" / "real_browser.json"
PASTES = ROOT / "studies" / "results" / "real_pastes.json"
DEMO = "open_clip/assets/demo/encoder"
ENCODERS = {"python:studies.surrogate:encoder": "general", DEMO: "demo"}
METHODS = {"csp": "CSP", "semanticlens": "SemanticLens", "clip_dissect": "CLIP-Dissect"}
COLUMNS = {
    "patches": "colour patch",
    "dark_corner": "dark corners",
    "ruler": "ruler",
    "gel_border": "gel border",
    "ink": "ink marks",
    "hair": "hair",
    "gel_bubble": "gel bubbles",
    "melanoma": "melanoma",
}
"""Artefacts in the order of the page, by column of the table."""

ARTEFACTS = list(COLUMNS.values())[:-1]


def percent(value: float) -> str:
    """A share as it stands in the text of the page."""
    return f"{value:.0%}".replace("%", " %")


def share(row: Record) -> str:
    """A share with its count and interval."""
    if not row["n"]:
        return "none"
    ends = f"{100 * row['low']:.0f}–{100 * row['high']:.0f}"
    return f"{percent(row['share'])} ({ends}), {row['n_hits']} of {row['n']}"


def channels(record: Record) -> str:
    """The best single channel of every network."""
    best = record["best"]
    rows = [
        [name, *(f"{area(found[c])} `{found[c]['layer']}/{found[c]['unit']}`"
                 for found in best.values())]
        for c, name in COLUMNS.items()
    ]  # fmt: skip
    return rows_of(f"responds to | {' | '.join(f'`{model}`' for model in best)}", rows)


def poolings(record: Record) -> str:
    """The best channel by its mean and by its maximum."""
    by_pooling = record["best_by_pooling"]
    models = [m for m in record["best"] if m != "imagenet"]
    rows = [
        [name, *(f"{by_pooling[pooling][m][c]['auroc']:.2f}"
                 for m in models for pooling in ("mean", "max"))]
        for c, name in COLUMNS.items()
    ]  # fmt: skip
    heads = [f"`{m}`, {pooling}" for m in models for pooling in ("mean", "maximum")]
    return rows_of(f"responds to | {' | '.join(heads)}", rows)


def accuracy(record: Record) -> str:
    """How often both classifiers are right, with and without each artefact."""
    slices = {
        model: {row["slice"]: row for row in rows}
        for model, rows in record["networks"]["slices"].items()
    }

    def cells(row: Record) -> list[str]:
        found = row["melanoma_found"]
        return [
            f"{percent(row['accuracy'])} ({100 * row['low']:.0f}–{100 * row['high']:.0f}) "
            f"of {row['n']:,}",
            "–" if found is None else f"{percent(found)} of {row['n_melanoma']}",
            percent(row["benign_cleared"]),
        ]

    names = ["all", *(prefix + name for name in ARTEFACTS for prefix in ("", "no "))]
    rows = [[name, *(cell for held in slices.values() for cell in cells(held[name]))]
            for name in names]  # fmt: skip
    heads = [
        f"`{model}` {what}"
        for model in slices
        for what in ("right", "melanomas found", "others cleared")
    ]
    return rows_of(f"photographs | {' | '.join(heads)}", rows)


def signed(figure: Record | None) -> str:
    """A change of log-odds with its interval."""
    if figure is None:
        return "–"
    ends = "no interval"
    if figure["low"] is not None:
        ends = f"{figure['low']:+.2f} to {figure['high']:+.2f}"
    return f"{figure['value']:+.2f} ({ends})".replace("-", "−")


def pastes(record: Record) -> str:
    """What pasting does to both classifiers, where the paste passes for real."""
    networks = record["networks"]
    rows = []
    for several in zip(*networks.values(), strict=True):
        first = several[0]
        gate = first["gate"]
        cut = ", cut out" if first["pasted_as"] == "cut out" else ""
        rows.append(
            [f"{first['artefact']}{cut}", str(first["n_pairs"]), f"{gate['real']['value']:.2f}",
             f"{gate['pasted']['value']:.2f} ({gate['pasted']['low']:.2f}–"
             f"{gate['pasted']['high']:.2f})", f"{gate['least']:.2f}",
             f"{first['general']['pasted']['auroc']:.2f}", signed(gate["observed"]),
             *("withheld" if row["withheld"] else signed(row["effect"]) for row in several)]
        )  # fmt: skip
    head = (
        "pasted | pairs | probe: real ones | probe: pasted ones | asked | *general*: pasted "
        "ones | real ones differ, "
        f"`melanoma` | {' | '.join(f'effect on `{name}`' for name in networks)}"
    )
    return rows_of(head, rows)


def encoders(record: Record) -> str:
    """What the encoders know of the artefacts, and what that means for the search."""
    rows = []
    for name in ARTEFACTS:
        means = [r["mean"] for r in record["networks"]["answering"] if r["artefact"] == name]
        row = [name]
        for spec in ENCODERS:
            found = record["encoders"][spec]
            mine = [r for r in found["search"] if r["artefact"] == name and r["method"] == "csp"]
            texts = {r["text"] for r in mine}
            areas = [r["auroc"] for r in found["zero_shot"] if r["text"] in texts]
            row.append(f"{statistics.median(areas):.2f} ({min(areas):.2f}–{max(areas):.2f})")
            row.append(f"{statistics.median(r['mean_of_ten'] for r in mine):.2f}")
        rows.append([*row, f"{statistics.mean(means):.2f}"])
    heads = [
        f"{title}: {what}"
        for title in ENCODERS.values()
        for what in ("cosine of the words", "first ten neurons")
    ]
    return rows_of(f"artefact | {' | '.join(heads)} | all neurons", rows)


def search(record: Record) -> str:
    """Ranks of the first answering neuron, with the demo encoder."""
    networks, found = record["networks"], record["encoders"][DEMO]["search"]
    rows = []
    for name in ARTEFACTS:
        for counts in (r for r in networks["answering"] if r["artefact"] == name):
            model, n = counts["model"], networks["n_neurons"][counts["model"]]
            bar = "0.8" if counts["n_0.8"] else "0.7"
            n_good = counts[f"n_{bar}"]
            row = [name, f"`{model}`", f"{n_good} at {bar}" if n_good else "none"]
            row.append(f"{(n + 1) / (n_good + 1):.0f}" if n_good else "–")
            for method in ("csp", "semanticlens"):
                ranks = [
                    r[f"first_{bar}"]
                    for r in found
                    if (r["model"], r["artefact"], r["method"]) == (model, name, method)
                ]
                if not n_good:
                    row.append("–")
                    continue
                row.append(f"{ranks[0]}; {statistics.median(ranks):.0f} "
                           f"({min(ranks)}–{max(ranks)})")  # fmt: skip
            rows.append(row)
    head = (
        "searched for | in | neurons that respond | first by chance | CSP: first by the usual "
        "word; median (range) of all wordings | SemanticLens: the same"
    )
    return rows_of(head, rows)


def best_labels(record: Record) -> str:
    """What each method calls the channels that answer best, with the demo encoder."""
    found = record["encoders"][DEMO]["labels_of_best"]

    def label(row: Record, method: str) -> str:
        return row[method][0] if row[f"{method}_reliable"] else f"({row[method][0]})"

    rows = [
        [name, f"`{row['model']}/{row['layer']}/{row['unit']}`", f"{row['auroc']:.2f}",
         *(label(row, method) for method in METHODS)]
        for name in ARTEFACTS for row in found if row["artefact"] == name
    ]  # fmt: skip
    return rows_of(f"responds to | channel | AUROC | {' | '.join(METHODS.values())}", rows)


def labels(record: Record) -> str:
    """How often labels are right about neurons with a true concept."""
    rows = []
    for spec, title in ENCODERS.items():
        for method, found in record["encoders"][spec]["labels"]["methods"].items():
            rows.append(
                [title, METHODS[method], share(found["best"]), share(found["claims_where_true"]),
                 share(found["silent_where_none"])]
            )  # fmt: skip
    head = "encoder | method | best label right | called reliable | says none where none is true"
    return rows_of(head, rows)


def walk(record: Record) -> str:
    """What the page Melanoma counts, with the demo encoder."""
    rows = []
    for row in record["encoders"][DEMO]["walk"]:
        kinds = " / ".join(str(row["kinds"].get(k, 0)) for k in ("valid", "spurious", "unexpected"))
        rows.append(
            [f"`{row['model']}`", METHODS[row["method"]], str(row["n_influential"]), kinds,
             share(row["called_right"]), share(row["found"])]
        )  # fmt: skip
    head = (
        "classifier | concept vectors | influential | valid / spurious / unexpected | called "
        "spurious that truly respond to an artefact | of those that truly respond, called spurious"
    )
    return rows_of(head, rows)


TABLES: Writers = {
    "accuracy": (BROWSER, accuracy),
    "pastes": (PASTES, pastes),
    "channels": (CHANNELS, channels),
    "poolings": (CHANNELS, poolings),
    "encoders": (BROWSER, encoders),
    "search": (BROWSER, search),
    "best-labels": (BROWSER, best_labels),
    "labels": (BROWSER, labels),
    "walk": (BROWSER, walk),
}


table = partial(tables.written, TABLES)
filled = partial(tables.filled, table=table)


if __name__ == "__main__":
    tables.main(PAGE, TABLES, table)
