"""How often the intervals of ground truth hold the true figure: simulation, docs/methods.md.

Run: python -m studies truth_intervals
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import NormalDist

import numpy as np
from jaxtyping import Float, Float64

from csp_engine.evaluation.ground_truth import association, bootstrap
from csp_engine.stats.intervals import auroc_interval

RESULT = Path(__file__).parent / "results" / "truth_intervals.json"
COUNTS = ((12, 738), (75, 675), (375, 375))
SHIFTS = (0.0, 1.5, 3.0)
KINDS = {
    "normal": lambda noise, shift: noise + shift,
    "normal, positives twice as wide": lambda noise, shift: noise * (1 + (shift > 0)) + shift,
    "rectified normal": lambda noise, shift: np.maximum(noise + shift - 0.5, 0),
    "log-normal": lambda noise, shift: np.exp(noise + shift),
}
COLUMNS = {
    "auroc_newcombe": "AUROC, Newcombe",
    "auroc_bootstrap": "AUROC, bootstrap",
    "auroc_wider": "AUROC, wider of both",
    "pearson_fisher": "Pearson, Fisher",
    "pearson_bootstrap": "Pearson, bootstrap",
}
N_LARGE = 400_000


def pearson_interval(
    pearson: Float[np.ndarray, "*shape"], n: int, level: float = 0.95
) -> tuple[Float64[np.ndarray, "*shape"], Float64[np.ndarray, "*shape"]]:
    """Fisher's interval: tanh(artanh(r) ± z / sqrt(n - 3)); NaN for n below 4.

    It supposes two normal variables. With one that is 0 or 1 it covers less than it says when the
    positives are few and far out (docs/methods.md has figures); ``ground_truth.bootstrap`` does
    not suppose it.
    """
    if n < 4:
        return np.full(np.shape(pearson), np.nan), np.full(np.shape(pearson), np.nan)
    with np.errstate(divide="ignore"):
        centre = np.arctanh(np.clip(np.asarray(pearson, np.float64), -1, 1))
    reach = NormalDist().inv_cdf((1 + level) / 2) / np.sqrt(n - 3)
    return np.tanh(centre - reach), np.tanh(centre + reach)


def cell(kind: str, shift: float, counts: tuple[int, int], n: int, seed: int) -> dict[str, float]:
    """Coverage of each interval over ``n`` experiments."""
    rng = np.random.default_rng(seed)
    made = KINDS[kind]
    n_positive, n_negative = counts
    positives, negatives = (made(rng.normal(size=N_LARGE), s) for s in (shift, 0.0))
    large = np.concatenate([positives, negatives]).astype(np.float32)[None]
    area = association(large, np.repeat([[True], [False]], N_LARGE, axis=0)).auroc_uc[0, 0]
    share = n_positive / sum(counts)
    mean = share * positives.mean() + (1 - share) * negatives.mean()
    variances = [np.mean((values - mean) ** 2) for values in (positives, negatives)]
    variance = share * variances[0] + (1 - share) * variances[1]
    gap = positives.mean() - negatives.mean()
    pearson = gap * np.sqrt(share * (1 - share) / variance)
    values = np.concatenate(
        [made(rng.normal(size=(n, m)), s) for m, s in zip(counts, (shift, 0.0), strict=True)], 1
    ).astype(np.float32)
    truth = (np.arange(sum(counts)) < n_positive)[:, None]
    points = association(values, truth)
    drawn = bootstrap(values, np.repeat(truth.T, n, axis=0), n_resamples=500, seed=seed)
    low, high = auroc_interval(points.auroc_uc[:, 0].astype(np.float64), n_positive, n_negative)
    fisher = pearson_interval(points.pearson_uc[:, 0].astype(np.float64), sum(counts))
    bounds = {
        "auroc_newcombe": (low, high, area),
        "auroc_bootstrap": (*drawn[1], area),
        "auroc_wider": (np.minimum(low, drawn[1, 0]), np.maximum(high, drawn[1, 1]), area),
        "pearson_fisher": (*fisher, pearson),
        "pearson_bootstrap": (*drawn[0], pearson),
    }
    return {
        name: round(float(np.mean((low <= truth) & (truth <= high))), 4)
        for name, (low, high, truth) in bounds.items()
    }


def markdown(records: list[dict]) -> str:
    """The rows of the table in docs/methods.md: lowest to highest coverage of the nine cells."""
    lines = []
    for kind in KINDS:
        own = [record for record in records if record["kind"] == kind]
        spans = [
            f"{min(r[name] for r in own):.2f} to {max(r[name] for r in own):.2f}"
            for name in COLUMNS
        ]
        lines.append(f"| {kind} | {' | '.join(spans)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiments", type=int, default=400)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    records = [
        {
            "kind": kind,
            "shift": shift,
            "counts": list(counts),
            "n": options.experiments,
            **cell(kind, shift, counts, options.experiments, seed=7),
        }
        for kind in KINDS
        for shift in SHIFTS
        for counts in COUNTS
    ]
    print(f"| activations | {' | '.join(COLUMNS.values())} |")
    print(markdown(records))
    options.out.write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()
