"""Does the fourth condition of a reliable CSP+ label hold where nothing was chosen?

It asks that no label of another meaning score more than ``apart`` of the best one, which was chosen
on the demo's own layers (``sure_and_wrong``). Here: units planted with 24 seeds that nobody had
looked at, and six layers and poolings of the demo's networks that nobody had labelled. Beside it,
another bar on the least correlation, which had been looked at on the demo and on other layers.

    python -m studies fourth_condition [--out FOLDER]
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.stats import fisher_exact

from csp_engine.bundle import Bundle
from csp_engine.evaluation.planted_units import Plan, plant
from csp_engine.stats.intervals import share_of
from csp_engine.views.benchmark.planted import World, judged, world_of
from studies.other_layers import other_layers
from studies.real_dermoscopy import ROOT, rounded
from studies.sure_and_wrong import FOUR, METHOD, THREE, claimed, known
from studies.vocabulary_gap import DEMO

SEEDS = (*range(101, 107), *range(201, 219))
LAYERS = (
    "layer1@max", "layer2.1@max", "layer2.2@mean", "layer3.1@mean", "layer4.1@mean", "layer4.1@max",
)  # fmt: skip
RESULT = Path(__file__).parent / "results" / "fourth_condition.json"
CASES: dict[str, dict[str, Any]] = {
    "three conditions": THREE,
    "four conditions": FOUR,
    "three, least correlation .5": {**THREE, "least_fit": 0.5},
}


def planted(world: World, seed: int) -> pd.DataFrame:
    """A row per unit: whether its label is right, and what every case calls reliable."""
    units = plant(world.is_shown_nc, world.image_nd, Plan(seed=seed))
    found: dict[str, Any] = {}
    for case, bars in CASES.items():
        own = {METHOD: {**world.params[METHOD], **bars}}
        table = judged(replace(world, params=own), units, world.recipe.n_null)[METHOD]
        found |= {"row": table["row"], "right": table["is_right"], case: table["is_reliable"]}
    return pd.DataFrame(found)


def layers(bundle: Bundle) -> pd.DataFrame:
    """The same of a bundle's neurons; ``right`` is missing where the truth is none."""
    table = known(bundle).reset_index(drop=True)
    has_truth_u = table["concepts"].map(len) > 0
    right_u = table["best"].astype("boolean").mask(~has_truth_u)
    found = {case: claimed(table, bars) for case, bars in CASES.items()}
    return pd.DataFrame({"row": table["layer"], "right": right_u, **found})


def figures(table: pd.DataFrame, nothing_u: pd.Series) -> dict[str, Any]:
    """Claims that are right and wrong, and of those that the fourth condition takes away."""
    own, first = table[~nothing_u], "three conditions"
    right_u = own["right"].astype(bool)
    found: dict[str, Any] = {"n": len(own), "none": int(nothing_u.sum())}
    for case in CASES:
        said_u = own[case].astype(bool)
        found[case] = {
            "right": asdict(share_of(int((said_u & right_u).sum()), len(own))),
            "wrong": asdict(share_of(int((said_u & ~right_u).sum()), len(own))),
            "none refused": 1 - float(table.loc[nothing_u, case].mean()),
        }
    taken_u = own[first].astype(bool) & ~own["four conditions"].astype(bool)
    stays_u = own["four conditions"].astype(bool)
    counts = [[int((u & is_u).sum()) for is_u in (~right_u, right_u)] for u in (taken_u, stays_u)]
    found["taken away"] = {"wrong": counts[0][0], "right": counts[0][1]}
    found["p, as often wrong as what stays"] = float(fisher_exact(counts).pvalue)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "bundles" / "fourth-condition")
    args = parser.parse_args()
    demo = Bundle.open(DEMO)
    world = world_of(demo)
    units = pd.concat([planted(world, seed) for seed in SEEDS], ignore_index=True)
    noise_u = units["row"].str.startswith("noise")
    neurons = layers(other_layers(demo, args.out, layers=LAYERS, methods=METHOD))
    result = {
        "planted": figures(units, noise_u),
        "planted, by row": {
            str(row): figures(own, noise_u[own.index])
            for row, own in units[~noise_u].groupby("row", sort=False)
        },
        "layers": figures(neurons, neurons["right"].isna()),
    }
    print(json.dumps(rounded(result), indent=1))
    RESULT.write_text(json.dumps(rounded(result), indent=1) + "\n")


if __name__ == "__main__":
    main()
