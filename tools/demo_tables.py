"""The tables of docs/demo.md: ``python -m tools.demo_tables [--write]``.

Figures come from ``assets/demo/demo.json`` (written by ``csp demo build``) and
``studies/results/`` (realism, factors); a table whose file is missing says so.
"""

from __future__ import annotations

from functools import partial

from csp_engine.bundle import Bundle
from csp_engine.views.audit.factors import factored, layers_factored, models_factored
from csp_engine.views.audit.fixes import figures
from csp_engine.views.audit.interventions import effects, models_with
from tools import tables
from tools.tables import ROOT, Record, Writers, area, rows_of

PAGE = ROOT / "docs" / "demo.md"
DEMO = ROOT / "assets" / "demo" / "demo.json"
FACTORS = ROOT / "studies" / "results" / "demo_factors.json"
REALISM = ROOT / "studies" / "results" / "dermoscopy_realism.json"


def share(figure: Record) -> str:
    """A share with its count and interval."""
    if not figure["n"]:
        return "none"
    return (
        f"{figure['share']:.0%} ({figure['low']:.0%}–{figure['high']:.0%}), "
        f"{figure['n_hits']} of {figure['n']}"
    )


def realism(record: Record) -> str:
    """Detectors that learnt from simulated photographs, on real ones."""
    found, bars = record["results"], record["bars"]
    rows = []
    for name, one in found["mobilenet"].items():
        counts = f"{one['n_positive']} / {one['n_negative']}"
        cells = [area(figures[name]) if name in figures else "" for figures in found.values()]
        rows.append([name, counts, *cells, f"{bars[name]:.2f}" if name in bars else "–"])
    return rows_of(f"real label | with / without | {' | '.join(found)} | wanted", rows)


def classifiers(record: Record) -> str:
    """Accuracy by slice."""
    rows = [
        [
            row["model"], row["slice"], str(row["n"]),
            f"{row['accuracy']:.1%} ({row['low']:.1%}–{row['high']:.1%})",
            f"{row['melanoma_found']:.0%}", f"{row['benign_cleared']:.0%}",
        ]
        for row in record["accuracy"]
    ]  # fmt: skip
    head = "model | slice | n | right (95 %) | melanomas called melanoma | others not called so"
    return rows_of(head, rows)


def zero_shot(record: Record) -> str:
    """Mean zero-shot AUROC over concepts, and the lowest."""
    rows = []
    for kind, found in record["zero_shot"].items():
        lowest = found["lowest"]
        rows.append(
            [kind.replace("_", " "), str(len(found["by_concept"])), f"{found['mean']:.3f}",
             f"{found['by_concept'][lowest]:.2f} ({lowest})"]
        )  # fmt: skip
    return rows_of("texts | concepts | mean AUROC | lowest", rows)


def concepts(record: Record) -> str:
    """Zero-shot AUROC of every concept."""
    kinds = record["zero_shot"]
    names = next(iter(kinds.values()))["by_concept"]
    rows = [[name, *(f"{k['by_concept'].get(name, float('nan')):.2f}" for k in kinds.values())]
            for name in names]  # fmt: skip
    return rows_of(f"concept | {' | '.join(k.replace('_', ' ') for k in kinds)}", rows)


def captioner(record: Record) -> str:
    """How often the captioner names simulated neurons right."""
    rows = [
        [
            row["kind"], row["mode"], str(row["n"]),
            f"{row['top1']:.0%} ({row['top1_low']:.0%}–{row['top1_high']:.0%})",
            f"{row['top5']:.0%}", f"{row['companion']:.0%}", f"{row['nothing']:.0%}",
        ]
        for row in record["captioner"]
    ]  # fmt: skip
    head = (
        "neuron | mode | n | first right (95 %) | among five | names the companion | says nothing"
    )
    return rows_of(head, rows)


def search(record: Record) -> str:
    """How often a search by words finds a neuron that responds to them among the first five."""
    found = record["search"]
    names = {
        "usual_wording": "concepts, by their name",
        "three_wordings": "concepts, by at least three wordings",
        "every_wording": "concepts, by every wording",
        "wordings": "wordings",
    }
    return rows_of("share of | found among the first five", [
        [text, share(found[name])] for name, text in names.items()])  # fmt: skip


def labels(record: Record) -> str:
    """How often the best label of every method is right."""
    rows = [
        [name, share(found["best"]), share(found["top"]),
         share(found["silent_where_none"]) if "silent_where_none" in found else "cannot say so"]
        for name, found in record["labels"]["methods"].items()
    ]  # fmt: skip
    head = "method | best label right | right among five | says none where none is true"
    return rows_of(head, rows)


def neurons(record: Record) -> str:
    """How many neurons there are, and how many have a true concept."""
    rows = [
        [name, str(f["n_units"]), str(f["n_true"]), str(f["n_planted"]), str(f["n_images"])]
        for name, f in record["neurons"].items()
    ]
    return rows_of("layer | neurons | with a measured true concept | planted | judged on", rows)


def interventions(record: Record) -> str:
    """What one artefact or sign does to the score of melanoma, in both classifiers."""
    bundle = Bundle.open(DEMO.parent / "dermoscopy.csp")
    found = {}
    for model in models_with(bundle):
        stored = bundle.intervention(model)
        assert stored is not None
        found[model] = {each.artefact: each for each in effects(stored)}
    first = next(iter(found.values()))
    rows = [
        [
            name,
            str(one.n_pairs),
            *(held[name].effect.signed for held in found.values()),
            f"{one.n_lost} of {one.n_called}",
            f"{one.n_gained} of {one.n_pairs - one.n_called}",
        ]
        for name, one in first.items()
    ]
    head = f"added | pairs | {' | '.join(found)} | calls lost (biased) | calls gained (biased)"
    return rows_of(head, rows)


def fixes(record: Record) -> str:
    """What becomes of the biased classifier's decisions once part of it is held still."""
    bundle = Bundle.open(DEMO.parent / "dermoscopy.csp")
    rows = []
    for name in bundle.fixes("biased"):
        found = figures(bundle.fix("biased", name))
        for each in found.slices:
            low, high = (f"{100 * x:+.1f}".replace("-", "−") for x in each.random or (0.0, 0.0))
            rows.append(
                [
                    f"{name}: {found.part}",
                    each.name,
                    f"{each.found.before.n_hits} → {each.found.after.n_hits} of {each.found.n}",
                    f"{100 * each.right.before.share:.1f} → {100 * each.right.after.share:.1f}",
                    each.right.change.signed,
                    f"{low} to {high}",
                    f"{each.ranked.before:.3f} → {each.ranked.after:.3f}",
                    *(f"{100 * right.share:.1f}" for _, right, _, _ in each.beside),
                ]
            )
    head = (
        "held still | slice | melanomas found | right (%) | change (points) | random controls | "
        "AUROC | retrained right (%)"
    )
    return rows_of(head, rows)


def factors(record: Record) -> str:
    """The factors of both classifiers that push wrong decisions most, and what becomes without."""
    bundle = Bundle.open(DEMO.parent / "dermoscopy.csp")
    rows = []
    for model in models_factored(bundle):
        for layer in layers_factored(bundle, model):
            found = factored(bundle, model, layer, "csp_plus")
            assert found is not None
            for each in found.factors[:3]:
                turning = each.turning
                rows.append(
                    [
                        model,
                        f"{each.number}{' (called)' if each.is_called else ''}",
                        each.gap.signed,
                        *(("–", "–") if turning is None
                          else (str(turning.n_mended), str(turning.n_spoilt))),
                        str(max((each.net for each in found.random), default=0)),
                        ", ".join(label.title for _, label in each.neurons),
                    ]
                )  # fmt: skip
    head = (
        "network | factor | wrong less right (logits) | put right | spoilt | "
        "best of 20 random directions, on balance | its strongest neurons, by CSP+"
    )
    return rows_of(head, rows)


def judged_factors(record: Record) -> str:
    """Over seeds of the simulator: factors that are called, and what those answer to."""
    rows = []
    for row in record["rows"]:
        first = row["factors"][0]
        called = [each for each in row["factors"] if each["is_called"]]
        gap = " to ".join(f"{first[end]:+.2f}" for end in ("gap_low", "gap_high"))
        told = ", ".join(f"{each['answers_to']} ({each['auroc']:.2f})" for each in called)
        rows.append(
            [
                str(row["seed"]), row["model"], row["layer"],
                f"{row['n_wrong']} of {row['n_photographs']}",
                f"{first['gap']:+.2f} ({gap})".replace("-", "−"),
                str(len(called)), told or "–",
                f"{first['n_mended']} / {first['n_spoilt']}", str(row["random_most"]),
            ]
        )  # fmt: skip
    head = (
        "seed | network | layer | wrong | gap of the first factor (95 %) | called | they answer to "
        "(AUROC) | put right / spoilt without it | best random direction"
    )
    return rows_of(head, rows)


TABLES: Writers = {
    "realism": (REALISM, realism),
    "classifiers": (DEMO, classifiers),
    "zero-shot": (DEMO, zero_shot),
    "concepts": (DEMO, concepts),
    "captioner": (DEMO, captioner),
    "neurons": (DEMO, neurons),
    "search": (DEMO, search),
    "labels": (DEMO, labels),
    "interventions": (DEMO, interventions),
    "fixes": (DEMO, fixes),
    "factors": (DEMO, factors),
    "judged-factors": (FACTORS, judged_factors),
}


table = partial(tables.written, TABLES)
filled = partial(tables.filled, table=table)


if __name__ == "__main__":
    tables.main(PAGE, TABLES, table)
