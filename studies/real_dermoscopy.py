"""Does a melanoma classifier lean on what lies beside the lesion? Real dermoscopy, ISIC 2017.

Reads the labels and scores that ``python -m studies train_melanoma`` leaves, and compares the
classifier on held-out photographs with and without each artefact. Only aggregate figures are
written; docs/melanoma.md reads them.

    python -m studies real_dermoscopy [--out FOLDER]
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from csp_engine.evaluation.ground_truth import association, halves
from csp_engine.probe.isic2017 import ARTEFACTS
from csp_engine.stats.intervals import auroc_interval, share_of

ROOT = Path(__file__).resolve().parents[1]
RESULT = Path(__file__).parent / "results" / "real_dermoscopy.json"


def area(score_n: np.ndarray, is_positive_n: np.ndarray) -> dict[str, Any]:
    """AUROC of one score with Newcombe's 95 % interval, which counts every photograph as one.

    That is nearly so: next to none of them is a near-duplicate of another.
    """
    point = association(np.float32(score_n)[None], is_positive_n[:, None]).auroc_uc[0, 0]
    counts = int(is_positive_n.sum()), int((~is_positive_n).sum())
    low, high = auroc_interval(np.array(point), *counts)
    return {
        "auroc": float(point),
        "low": float(low),
        "high": float(high),
        "n_positive": counts[0],
        "n_negative": counts[1],
    }


class Columns:
    """Which photographs count for each column, what it says of them, and the two halves."""

    def __init__(self, photographs: pd.DataFrame) -> None:
        self.photographs = photographs
        self.group_n = photographs["group"].to_numpy()
        self.first_n, self.second_n = halves(len(photographs), self.group_n, seed=0)

    def rows(self, column: str, model: str) -> np.ndarray:
        """Photographs for which the column is known, without those the model learnt it from."""
        table = self.photographs
        known_n = self.values(column).notna().to_numpy()
        if (column, model) == ("melanoma", "melanoma"):
            known_n = known_n & (table["split"] == "held out").to_numpy()
        return known_n

    def values(self, column: str) -> pd.Series:
        """0, 1 or missing."""
        return self.photographs["target" if column == "melanoma" else column]

    def positive(self, column: str, rows: np.ndarray) -> np.ndarray:
        """Whether each of some photographs shows it."""
        return (self.values(column)[rows] == 1).to_numpy()


def classifier_area(columns: Columns, is_used: pd.Series) -> dict[str, Any]:
    """AUROC of the trained classifier on some photographs."""
    rows_n = is_used.to_numpy()
    score_n = columns.photographs["score"].to_numpy()[rows_n]
    return area(score_n, columns.positive("melanoma", rows_n))


def slices(score_n: np.ndarray, columns: Columns) -> list[dict]:
    """A classifier's scores on photographs with and without each artefact.

    ``specificity`` and ``sensitivity`` are at the score that lets 80 % of all melanomas in use
    through; ``artefact_lowers`` is the chance that a benign lesion with the artefact scores below
    one without.
    """
    target_n = columns.values("melanoma").to_numpy()
    use_n = np.isfinite(target_n) & np.isfinite(score_n)
    threshold = np.quantile(score_n[use_n & (target_n == 1)], 0.2)
    rows = []
    for column in (None, *ARTEFACTS):
        values_n = np.zeros(len(score_n)) if column is None else columns.values(column).to_numpy()
        for value in (0,) if column is None else (0, 1):
            at_n = use_n & (values_n == value)
            sick_n, well_n = at_n & (target_n == 1), at_n & (target_n == 0)
            row = {
                "column": column or "all",
                "value": value,
                "specificity": asdict(
                    share_of(int((score_n[well_n] < threshold).sum()), int(well_n.sum()))
                ),
                "sensitivity": asdict(
                    share_of(int((score_n[sick_n] >= threshold).sum()), int(sick_n.sum()))
                ),
            }
            if sick_n.sum() >= 10:
                row["melanoma"] = area(score_n[at_n], target_n[at_n] == 1)
            rows.append(row)
        if column is not None:
            benign_n = use_n & (target_n == 0) & np.isfinite(values_n)
            rows[-1]["artefact_lowers"] = area(-score_n[benign_n], values_n[benign_n] == 1)
    return rows


def together(columns: Columns) -> list[dict]:
    """How often each artefact stands beside melanoma and beside benign lesions."""
    target_n = columns.values("melanoma").to_numpy()
    return [
        {
            "column": column,
            **{
                name: asdict(
                    share_of(
                        int((columns.values(column)[target_n == value] == 1).sum()),
                        int(columns.values(column)[target_n == value].notna().sum()),
                    )
                )
                for name, value in (("melanoma", 1), ("benign", 0))
            },
        }
        for column in ARTEFACTS
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "bundles" / "real_dermoscopy")
    args = parser.parse_args()
    table = pd.read_parquet(args.out / "photographs.parquet")
    columns = Columns(table)
    is_held_out = table["split"] == "held out"
    result = {
        "n_photographs": len(table),
        "n_groups": table["group"].nunique(),
        "classifier": {
            split: classifier_area(columns, table["split"] == split)
            for split in ("trained on", "held out")
        },
        "together": together(columns),
        "slices": slices(table["score"].where(is_held_out).to_numpy(), columns),
    }
    RESULT.write_text(json.dumps(rounded(result), indent=1) + "\n")
    print(RESULT.read_text())


def rounded(value: Any) -> Any:
    """Floats to four places; NaN has no place in JSON."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    if isinstance(value, float):
        return None if np.isnan(value) else round(value, 4)
    return value


if __name__ == "__main__":
    main()
