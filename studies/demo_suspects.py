"""Suspects of the demo's classifiers, judged on photographs of other seeds of its simulator.

Suspects are those of the shipped bundle, and those that the same rule calls on the photographs of
every seed; both are judged on the photographs of the next seed. A suspect of an artefact is right
if there the concept that it correlates with best is that artefact or of its kind, at an AUROC and a
correlation that pass the bars of the rule. What surely answers to an artefact there (the lower end
of the interval passes) should be among the suspects. Beside it, how many suspects labels give that
were shuffled among photographs. Intervals are bootstraps over neurons, each with all its seeds.
Activations are kept in --out, by seed.

    python -m studies demo_suspects [--photographs 3000] [--seeds 901 902 903] [--out FOLDER]
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
from csp_engine.evaluation.paired_effects import ratio
from csp_engine.networks.activations import ActivationRecorder
from csp_engine.networks.layers import select_layers
from csp_engine.stats.intervals import auroc_interval
from csp_engine.stats.rank_sum import Blocks, midranks, rank_sums
from csp_engine.views.audit.associations import suspect_units
from studies.real_dermoscopy import rounded

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "assets" / "demo"
RESULT = Path(__file__).parent / "results" / "demo_suspects.json"
FAMILIES = ("patch", "dark corners", "ruler", "ink marks")
"""What was planted beside a diagnosis; patches of all colours together."""
COUNTS = ("called", "right", "sure", "found")
"""Of each neuron and family: a suspect, a right one; surely answers, and is a suspect then."""
CALLED_ON = ("bundle", "seed")
"""On which photographs: those of the shipped bundle, or those of the seed before."""
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


Suspects = dict[str, set[int]]
"""Units by family."""


def suspects(
    activation_un: np.ndarray, concepts: pd.DataFrame, rule: Rule, order_n: np.ndarray | None = None
) -> tuple[Suspects, int]:
    """What the rule calls: units of each family, and how many pairs of unit and column in all.

    With an order, the concepts are those of other photographs.
    """
    value_nc = concepts.to_numpy(np.float32)
    value_nc = value_nc if order_n is None else value_nc[order_n]
    asked = Asked(value_nc, kin(value_nc), np.zeros(value_nc.shape, np.int64))
    kept = associate(activation_un, asked, rule).kept
    unit_k, name_k = kept.unit_k[kept.is_suspect_k], concepts.columns[kept.column_k]
    name_k = name_k[kept.is_suspect_k]
    called = {
        family: {int(u) for u, name in zip(unit_k, name_k, strict=True) if family in name}
        for family in FAMILIES
    }
    return called, len(unit_k)


def judged(
    activation_un: np.ndarray, concepts: pd.DataFrame, called: Suspects, rule: Rule
) -> np.ndarray:
    """Of each family and unit, each of ``COUNTS`` as 0 or 1, ``(family, unit, count)``."""
    names, label = list(concepts), concepts.to_numpy(bool)
    area = rank_sums(midranks(activation_un), label, Blocks(len(label))).auroc_uc
    corr = np.nan_to_num(pearson(activation_un, label.astype(np.float64)), nan=-2)
    n_positive = np.broadcast_to(label.sum(axis=0), area.shape)
    low, _ = auroc_interval(area, n_positive, len(label) - n_positive)
    best_u = corr.argmax(axis=1)
    own = np.arange(len(best_u)), best_u
    passes_u = (area[own] >= rule.auroc_min) & (corr[own] >= rule.pearson_min)
    found = []
    for family in FAMILIES:
        is_true_u = np.array([family in names[c] for c in best_u]) & passes_u
        is_sure_u = is_true_u & (low[own] >= rule.auroc_min)
        is_called_u = np.isin(np.arange(len(best_u)), list(called[family]))
        found.append([is_called_u, is_called_u & is_true_u, is_sure_u, is_called_u & is_sure_u])
    return np.array(found, int).transpose(0, 2, 1)


def shares(count_sfun: np.ndarray) -> dict[str, Any]:
    """Of all seeds: how many suspects are right, how much of what surely answers was called."""
    total_un = count_sfun.sum(axis=(0, 1)).astype(np.float64)
    units = np.arange(len(total_un))
    pooled = {
        "right": asdict(ratio(total_un[:, 1], total_un[:, 0], units)),
        "found": asdict(ratio(total_un[:, 3], total_un[:, 2], units)),
    }
    by_seed = count_sfun.sum(axis=(1, 2)).tolist()
    by_family = count_sfun.sum(axis=(0, 2)).tolist()
    return {
        **pooled,
        "by_seed": [dict(zip(COUNTS, each, strict=True)) for each in by_seed],
        "by_family": {
            family: dict(zip(COUNTS, each, strict=True))
            for family, each in zip(FAMILIES, by_family, strict=True)
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photographs", type=int, default=3000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[901, 902, 903])
    parser.add_argument("--out", type=Path, default=ROOT / "bundles" / "demo_suspects")
    options = parser.parse_args()
    if len(options.seeds) < 2:
        parser.error("one seed calls and the next one judges; give two or more")
    bundle, rule = Bundle.open(DEMO / "dermoscopy.csp"), Rule(n_permutations=99, n_resamples=100)
    names = bundle.manifest.inputs["probe"]["concepts"]
    drawn = {
        seed: photographs(options.photographs, seed, options.out / str(seed))
        for seed in options.seeds
    }
    result: dict[str, Any] = {"seeds": options.seeds, "n_photographs": options.photographs}
    for model in classifiers.MODELS:
        counts: dict[str, list[np.ndarray]] = {on: [] for on in CALLED_ON}
        n_suspects, n_shuffled = [], []
        for before, seed in zip([options.seeds[-1], *options.seeds], options.seeds, strict=False):
            parts: dict[str, list[np.ndarray]] = {on: [] for on in CALLED_ON}
            for layer in bundle.layers(model):
                calls, judges = (
                    np.load(options.out / str(each) / f"{model}-{layer}.npy")
                    for each in (before, seed)
                )
                shipped = {
                    family: set(
                        suspect_units(bundle, model, layer, [n for n in names if family in n])
                    )
                    for family in FAMILIES
                }
                called, n_called = suspects(calls, drawn[before], rule)
                order_n = np.random.default_rng(before).permutation(len(drawn[before]))
                _, n_by_chance = suspects(calls, drawn[before], rule, order_n)
                n_suspects.append(n_called)
                n_shuffled.append(n_by_chance)
                for on, own in zip(CALLED_ON, (shipped, called), strict=True):
                    parts[on].append(judged(judges, drawn[seed], own, rule))
            for on in CALLED_ON:
                counts[on].append(np.concatenate(parts[on], axis=1))
        result[model] = {on: shares(np.array(counts[on])) for on in CALLED_ON}
        result[model] |= {"suspects": sum(n_suspects), "shuffled": sum(n_shuffled)}
    RESULT.write_text(json.dumps(rounded(result), indent=1) + "\n", encoding="utf-8")
    print(RESULT.read_text("utf-8"))


if __name__ == "__main__":
    main()
