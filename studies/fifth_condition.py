"""Should a reliable label also score enough of what can be read? A fifth condition for CSP+, tried.

It would ask that the best label's score be at least ``BAR`` of ``reach``, the correlation of the
activation with what the embeddings predict of it. A score is the correlation that a column of ones
on the neuron's strongest images would have, so the two can be compared; neurons that no listed
concept explains have it low, and noise lowers both alike. Half of the demo's neurons choose the
bar: the highest, in steps of .025, that takes no right claim away. The others confirm, and so do
layers that chose nothing (``other_layers``), layers that nobody had looked at with this in mind,
and units planted with new seeds.

    python -m studies fifth_condition [--out FOLDER]
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from csp_engine.bundle import Bundle
from csp_engine.evaluation.planted_units import Plan, plant
from csp_engine.stats.intervals import share_of
from csp_engine.views.benchmark.planted import World, judged_units, labelled, world_of
from studies.fourth_condition import LAYERS
from studies.other_layers import other_layers
from studies.real_dermoscopy import ROOT, rounded
from studies.sure_and_wrong import FOUR, METHOD, claimed, known
from studies.vocabulary_gap import DEMO

BAR = 0.65
BARS = tuple(float(bar) for bar in np.arange(0.5, 0.8, 0.025).round(3))
SEEDS = tuple(range(301, 313))
RESULT = Path(__file__).parent / "results" / "fifth_condition.json"


def neurons(bundle: Bundle) -> pd.DataFrame:
    """Every neuron: what is true, said and claimed, and its score as a share of ``reach``."""
    table = known(bundle).reset_index(drop=True)
    score_u = np.zeros(len(table))
    for (model, layer), own in table.groupby(["model", "layer"], sort=False):
        score_uk = np.asarray(bundle.scores(model, layer, METHOD).score_uk)
        score_u[own.index] = score_uk[own["unit"].to_numpy(), 0]
    has_truth_u = table["concepts"].map(len) > 0
    return pd.DataFrame(
        {
            "row": table["layer"],
            "right": table["best"].astype("boolean").mask(~has_truth_u),
            "claimed": claimed(table, FOUR),
            "share": score_u / np.maximum(table["reach"], 1e-9),
            "is_none": table["kind"] == "none",
        }
    )


def planted(world: World, seed: int) -> pd.DataFrame:
    """The same of planted units; noise, and what is off the vocabulary, is ``is_none``."""
    units = plant(world.is_shown_nc, world.image_nd, Plan(seed=seed))
    own = replace(world, params={METHOD: {**world.params[METHOD], **FOUR}})
    done = labelled(own, units, own.recipe.n_null, 1, lambda *_: None)[METHOD]
    table = judged_units(own, units, METHOD, done)
    is_none_u = table["row"].str.startswith("noise")
    reach_u = np.maximum(np.asarray(done.arrays["reach"]), 1e-9)
    return pd.DataFrame(
        {
            "row": table["row"],
            "right": table["is_right"].astype("boolean").mask(is_none_u),
            "claimed": table["is_reliable"].astype(bool),
            "share": np.asarray(done.scores.score_uk)[:, 0] / reach_u,
            "is_none": is_none_u,
        }
    )


def figures(table: pd.DataFrame, bar: float) -> dict[str, Any]:
    """Claims that are right and wrong where something is true, and refusals where nothing is."""
    said_u = table["claimed"] & (table["share"] >= bar)
    has_truth_u = table["right"].notna()
    right_u = table["right"].fillna(False).astype(bool)
    n, none_u = int(has_truth_u.sum()), table["is_none"]
    counts = {
        "right": (int((said_u & right_u).sum()), n),
        "wrong": (int((said_u & has_truth_u & ~right_u).sum()), n),
        "none refused": (int((~said_u & none_u).sum()), int(none_u.sum())),
    }
    found: dict[str, Any] = {}
    for name, (hits, of) in counts.items():
        if of:
            share = share_of(hits, of)
            found[name] = [share.share, share.low, share.high]
    return {"n": n, "none": int(none_u.sum()), **found}


def both(table: pd.DataFrame) -> dict[str, Any]:
    """As it is, and with the fifth condition."""
    return {"as it is": figures(table, 0), "fifth": figures(table, BAR)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "bundles" / "fifth-condition")
    parser.add_argument(
        "--others", type=Path, default=ROOT / "bundles" / "other-layers",
        help="where the study other_layers keeps its bundle",
    )  # fmt: skip
    args = parser.parse_args()
    demo = Bundle.open(DEMO)
    own = neurons(demo)
    chooses_u = np.random.default_rng(0).random(len(own)) < 0.5
    result: dict[str, Any] = {
        "bars": {
            f"{bar:g}": {
                "chooses": figures(own[chooses_u], bar), "confirms": figures(own[~chooses_u], bar)
            }
            for bar in (0.0, *BARS)
        },
        "demo": both(own),
    }  # fmt: skip
    result["layers that chose nothing"] = both(neurons(other_layers(demo, args.others)))
    fresh = other_layers(demo, args.out, layers=LAYERS, methods=METHOD)
    result["layers not looked at"] = both(neurons(fresh))
    world = world_of(demo)
    units = pd.concat([planted(world, seed) for seed in SEEDS], ignore_index=True)
    result["planted"] = both(units)
    result["planted, by row"] = {
        str(row): both(rows) for row, rows in units.groupby("row", sort=False)
    }
    print(json.dumps(rounded(result), indent=1))
    RESULT.write_text(json.dumps(rounded(result), indent=1) + "\n")


if __name__ == "__main__":
    main()
