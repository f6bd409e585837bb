"""Suspects of the shipped demo, judged on photographs of other seeds of its simulator.

A suspect of an artefact is right if on photographs that nobody saw the concept that it correlates
with best is that artefact or of its kind, at an AUROC and a correlation that pass the bars of the
rule. What surely answers to an artefact there (the lower end of the interval passes) should be
among the suspects. Beside it, how many suspects labels give that were shuffled among photographs.
Activations are kept in --out, by seed.

    python -m studies demo_suspects [--photographs 1500] [--seeds 901] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from csp_engine.bundle import Bundle
from csp_engine.demo.simulator import render
from csp_engine.demo.simulator.cases import concept_table, draw_cases
from csp_engine.demo.training import classifiers
from csp_engine.evaluation.associations.confounding import kin
from csp_engine.evaluation.associations.measuring import Asked, Rule, associate
from csp_engine.evaluation.metrics.pearson import pearson
from csp_engine.networks.activations import ActivationRecorder
from csp_engine.networks.layers import select_layers
from csp_engine.stats.intervals import auroc_interval, share_of
from csp_engine.stats.rank_sum import Blocks, midranks, rank_sums
from csp_engine.views.audit.associations import suspect_units

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "assets" / "demo"
RESULT = Path(__file__).parent / "results" / "demo_suspects.json"
FAMILIES = ("patch", "dark corners", "ruler", "ink marks")
"""What was planted beside a diagnosis; patches of all colours together."""
BATCH = 100


def photographs(n: int, seed: int, folder: Path) -> pd.DataFrame:
    """Concepts of new photographs; the activations of both networks on them go to files."""
    cases = draw_cases("probe", n, seed)
    concepts = concept_table(cases)
    folder.mkdir(parents=True, exist_ok=True)
    if all((folder / f"{m}-{layer}.npy").exists() for m in classifiers.MODELS
           for layer in classifiers.LAYERS):  # fmt: skip
        return concepts
    models = {m: classifiers.target_model(DEMO / f"{m}.safetensors", m) for m in classifiers.MODELS}
    found: dict[tuple[str, str], list[np.ndarray]] = {}
    rows = cases.to_dict("records")
    with ExitStack() as stack:
        recorders = {
            m: stack.enter_context(
                ActivationRecorder(model, tuple(select_layers(model, list(classifiers.LAYERS))))
            )
            for m, model in models.items()
        }
        for first in range(0, n, BATCH):
            images = [render.render(case).image() for case in rows[first : first + BATCH]]
            for m, record in recorders.items():
                pixels = np.stack([models[m].preprocess(image) for image in images])
                for layer, act_nu in record(pixels).items():
                    found.setdefault((m, layer), []).append(act_nu)
    for (m, layer), parts in found.items():
        np.save(folder / f"{m}-{layer}.npy", np.concatenate(parts).T)
    return concepts


def judged(
    activation_un: np.ndarray, concepts: pd.DataFrame, suspects: dict[str, set[int]], rule: Rule
) -> dict[str, dict[str, int]]:
    """Of each family: suspects, right ones, what surely answers, and what of that was called."""
    names, label = list(concepts), concepts.to_numpy(bool)
    area = rank_sums(midranks(activation_un), label, Blocks(len(label))).auroc_uc
    corr = np.nan_to_num(pearson(activation_un, label.astype(np.float64)), nan=-2)
    n_positive = np.broadcast_to(label.sum(axis=0), area.shape)
    low, _ = auroc_interval(area, n_positive, len(label) - n_positive)
    best_u = corr.argmax(axis=1)
    own = np.arange(len(best_u)), best_u
    passes_u = (area[own] >= rule.auroc_min) & (corr[own] >= rule.pearson_min)
    rows = {}
    for family in FAMILIES:
        is_own_u = np.array([family in names[c] for c in best_u])
        true = set(np.flatnonzero(is_own_u & passes_u).tolist())
        sure = set(np.flatnonzero(is_own_u & passes_u & (low[own] >= rule.auroc_min)).tolist())
        called = suspects[family]
        rows[family] = {
            "n": len(called),
            "n_right": len(called & true),
            "n_sure": len(sure),
            "n_found": len(called & sure),
        }
    return rows


def shuffled(activation_un: np.ndarray, concepts: pd.DataFrame, rule: Rule, seed: int) -> int:
    """Suspects of labels that were shuffled among photographs."""
    value_nc = concepts.to_numpy(np.float32)
    value_nc = value_nc[np.random.default_rng(seed).permutation(len(value_nc))]
    asked = Asked(value_nc, kin(value_nc), np.zeros(value_nc.shape, np.int64))
    return int(associate(activation_un, asked, rule).kept.is_suspect_k.sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photographs", type=int, default=1500)
    parser.add_argument("--seeds", type=int, nargs="+", default=[901])
    parser.add_argument("--out", type=Path, default=ROOT / "bundles" / "demo_suspects")
    options = parser.parse_args()
    bundle, rule = Bundle.open(DEMO / "dermoscopy.csp"), Rule(n_permutations=99, n_resamples=100)
    names = bundle.manifest.inputs["probe"]["concepts"]
    rows: list[dict[str, Any]] = []
    n_photographs = []
    for seed in options.seeds:
        concepts = photographs(options.photographs, seed, options.out / str(seed))
        for model in classifiers.MODELS:
            for layer in bundle.layers(model):
                activation_un = np.load(options.out / str(seed) / f"{model}-{layer}.npy")
                suspects = {
                    family: set(
                        suspect_units(bundle, model, layer, [n for n in names if family in n])
                    )
                    for family in FAMILIES
                }
                found = judged(activation_un, concepts, suspects, rule)
                by_chance = shuffled(activation_un, concepts, rule, seed)
                rows.append({"seed": seed, "model": model, "layer": layer, "shuffled": by_chance,
                             "families": found})  # fmt: skip
        n_photographs.append(len(concepts))
    result: dict[str, Any] = {"seeds": options.seeds, "n_photographs": n_photographs, "rows": rows}
    for model in classifiers.MODELS:
        mine = [row for row in rows if row["model"] == model]
        total = {
            key: sum(row["families"][f][key] for row in mine for f in FAMILIES)
            for key in ("n", "n_right", "n_sure", "n_found")
        }
        result[model] = {
            "right": asdict(share_of(total["n_right"], total["n"])),
            "found": asdict(share_of(total["n_found"], total["n_sure"])),
            "shuffled": sum(row["shuffled"] for row in mine),
        }
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({m: result[m] for m in classifiers.MODELS}, indent=1))


if __name__ == "__main__":
    main()
