"""Factors that push wrong decisions of the demo's classifiers, judged by what the simulator drew.

For every seed of the simulator, network and layer: which factors are called, and what a called one
answers to on the half of the photographs that neither fitted nor ranked it: the drawn concept that
its strongest place in each photograph tells best from the others. A call is right if that concept
is an artefact; the classifier that was retrained without artefacts is the control.

    python -m studies demo_factors [--photographs 100] [--seeds 1 2 3 4 5 6]
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from csp_engine.bundle import StoredFactors
from csp_engine.demo.simulator.cases import concept_table, draw_cases
from csp_engine.demo.simulator.slices import CHOOSING, N_SLICE, REPORTED, SLICES, simulated_slices
from csp_engine.demo.training import classifiers
from csp_engine.networks.intervening.pushing import PushRuns
from csp_engine.networks.layers import select_layers
from csp_engine.pipeline import Target
from csp_engine.pipeline.added.fixing import Trials
from csp_engine.pipeline.factoring.finding import find_factors
from csp_engine.stats.intervals import share_of
from csp_engine.stats.rank_sum import midranks
from csp_engine.views.audit.factors import turning

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "assets" / "demo"
RESULT = Path(__file__).parent / "results" / "demo_factors.json"
ARTEFACTS = ("patch", "dark corners", "ruler", "ink marks", "hair", "gel bubbles")
LEAST = 10
"""Photographs with a concept, and without, below which it is not asked about."""


def drawn_concepts(n: int, seed: int) -> pd.DataFrame:
    """What the simulator drew into the photographs of ``simulated_slices``, in their order."""
    parts = [
        concept_table(draw_cases(scenario, N_SLICE, seed * 1000 + first + i).iloc[:n])
        for i, scenario in enumerate(SLICES.values())
        for first in (CHOOSING, REPORTED)
    ]
    return pd.concat(parts, ignore_index=True)


def answers(
    trials: Trials, layer: str, stored: StoredFactors, concepts: pd.DataFrame
) -> list[tuple[str, float]]:
    """Of each factor, the concept that it tells best on the reported photographs, and the AUROC."""
    module = trials.module_of[layer]
    runs = PushRuns(trials.model, [trials.runs.tap_of[module]], trials.output)
    strongest = []
    for pixels, _ in trials.blocks(trials.reported):
        places = runs.places(pixels, module, 1 << 20, 0)
        along = places.reshape(len(pixels), -1, places.shape[1]) @ stored.direction_uk
        strongest.append(along.max(axis=1))
    rank_kn = midranks(np.concatenate(strongest).T)
    told = concepts.iloc[trials.reported]
    areas = {}
    for name in told:
        has_n = told[name].to_numpy(bool)
        n_with, n_without = int(has_n.sum()), int((~has_n).sum())
        if min(n_with, n_without) >= LEAST:
            above_k = rank_kn[:, has_n].sum(axis=1) - n_with * (n_with + 1) / 2
            areas[str(name)] = above_k / (n_with * n_without)
    table = pd.DataFrame(areas)
    return [(str(row.idxmax()), float(row.max())) for _, row in table.iterrows()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photographs", type=int, default=100, help="of each slice and half")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5, 6])
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for seed in options.seeds:
        shots = simulated_slices(options.photographs, options.photographs, seed)
        concepts = drawn_concepts(options.photographs, seed)
        for name in classifiers.MODELS:
            model = classifiers.target_model(DEMO / f"{name}.safetensors", name)
            for pattern in classifiers.LAYERS:
                target = Target(model, tuple(select_layers(model, [pattern])))
                trials = Trials(target, shots, "melanoma")
                (layer,) = trials.module_of
                stored = find_factors(trials, layer, seed=seed)
                told = answers(trials, layer, stored, concepts)
                turns = turning(stored)
                reported_n = stored.is_reported_n
                rows.append(
                    {
                        "seed": seed, "model": name, "layer": layer,
                        "n_photographs": int(reported_n.sum()),
                        "n_wrong": int((stored.is_wrong_n & reported_n).sum()),
                        "random_most": max(t.net for t in turns[stored.n_tried :]),
                        "factors": [
                            {
                                **{k: float(row[k]) for k in ("gap", "gap_low", "gap_high")},
                                "is_called": bool(row["is_called"]),
                                "answers_to": concept, "auroc": area,
                                "is_artefact": any(a in concept for a in ARTEFACTS),
                                "n_mended": turns[k].n_mended, "n_spoilt": turns[k].n_spoilt,
                            }
                            for k, (row, (concept, area)) in enumerate(
                                zip(stored.factors.to_dict("records"), told, strict=True)
                            )
                            if k < stored.n_tried
                        ],
                    }
                )  # fmt: skip
                print(json.dumps(rows[-1]), flush=True)
    result: dict[str, Any] = {"seeds": options.seeds, "rows": rows}
    for name in classifiers.MODELS:
        called = [
            each for row in rows if row["model"] == name
            for each in row["factors"] if each["is_called"]
        ]  # fmt: skip
        n_right = sum(each["is_artefact"] for each in called)
        result[name] = {
            "n_layers": sum(row["model"] == name for row in rows),
            "n_called": len(called),
            "right": asdict(share_of(n_right, len(called))) if called else None,
        }
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({name: result[name] for name in classifiers.MODELS}, indent=1))


if __name__ == "__main__":
    main()
