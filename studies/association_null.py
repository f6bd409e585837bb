"""How often chance is called an association, where images come in groups: docs/methods.md.

Layers of correlated units that know nothing of their columns: activations share factors between
units and a part of each group, columns are nearly the same within a group, and groups are of one to
six images. Of every layer it is asked whether anything at all is called, by each correction, with
groups kept whole and with images taken for independent.

    python -m studies association_null [--layers 1000] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from csp_engine.stats.intervals import share_of
from csp_engine.stats.rank_sum import (
    Blocks,
    false_discovery,
    family_wise,
    largest_under_exchange,
    midranks,
    rank_sums,
)

RESULT = Path(__file__).parent / "results" / "association_null.json"
N_UNITS, N_COLUMNS, N_GROUPS, N_FACTORS = 64, 6, 120, 5
N_PERMUTATIONS = 199
CORRECTIONS = {
    "family": "largest statistic, 5 %",
    "bh": "Benjamini-Hochberg, q = .1",
    "by": "Benjamini-Yekutieli, q = .1",
    "single": "one pair, p = .05",
}
WAYS = {"whole": "groups whole", "alone": "images taken for independent"}


def layer(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Activations ``(u, n)``, columns ``(n, c)`` and groups ``(n,)`` with no more in common."""
    size_g = rng.integers(1, 7, N_GROUPS)
    group_n = np.repeat(np.arange(N_GROUPS), size_g)
    n = len(group_n)
    loading = rng.normal(size=(N_UNITS, N_FACTORS))
    factor = rng.normal(size=(N_FACTORS, N_GROUPS))[:, group_n] + 0.7 * rng.normal(
        size=(N_FACTORS, n)
    )
    own = rng.normal(size=(N_UNITS, N_GROUPS))[:, group_n] + rng.normal(size=(N_UNITS, n))
    activation = np.maximum(loading @ factor + own, 0)  # rectified, so that half are tied
    is_shown_gc = rng.random((N_GROUPS, N_COLUMNS)) < rng.uniform(0.1, 0.5, N_COLUMNS)
    label = is_shown_gc[group_n]
    return activation.astype(np.float32), label ^ (rng.random(label.shape) < 0.05), group_n


def called(
    activation: np.ndarray, label: np.ndarray, group_n: np.ndarray | None, seed: int
) -> dict[str, float]:
    """Whether each correction calls anything, and the share of single pairs below .05."""
    rank = midranks(activation)
    blocks = Blocks(len(label), group_n)
    sums = rank_sums(rank, label, blocks)
    largest = largest_under_exchange(rank, label, sums, blocks, N_PERMUTATIONS, seed)
    return {
        "family": float(family_wise(sums.z_uc, largest).min() <= 0.05),
        "bh": float(false_discovery(sums.p_uc).min() <= 0.1),
        "by": float(false_discovery(sums.p_uc, any_dependence=True).min() <= 0.1),
        "single": float((sums.p_uc <= 0.05).mean()),
    }


def markdown(result: dict) -> str:
    """The rows of the table in docs/methods.md."""
    lines = []
    for name, title in CORRECTIONS.items():
        cells = []
        for way in WAYS:
            found = result[way][name]
            cells.append(
                f"{found['mean']:.3f}"
                if name == "single"
                else f"{found['share']:.3f} ({found['low']:.3f} to {found['high']:.3f})"
            )
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    rows: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for number in range(options.layers):
        activation, label, group_n = layer(np.random.default_rng([11, number]))
        for way in WAYS:
            groups = group_n if way == "whole" else None
            rows[way].append(called(activation, label, groups, number))
    result: dict = {"n_layers": options.layers, "n_pairs": N_UNITS * N_COLUMNS}
    for way, found in rows.items():
        result[way] = {
            name: (
                {"mean": round(float(np.mean([row[name] for row in found])), 4)}
                if name == "single"
                else {
                    key: round(value, 4)
                    for key, value in asdict(
                        share_of(int(sum(row[name] for row in found)), len(found))
                    ).items()
                }
            )
            for name in CORRECTIONS
        }
    print(f"| called by chance | {' | '.join(WAYS.values())} |")
    print(markdown(result))
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
