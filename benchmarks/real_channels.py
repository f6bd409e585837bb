"""Which channels of a network answer to what lies beside the lesion, on real dermoscopy.

ISIC 2017 photographs, and the classifier that ``python -m benchmarks.train_melanoma`` makes, beside
the ImageNet network it was made from. Of every channel: how well its activation tells photographs
with an artefact from those without (AUROC). The best one of a layer is chosen on one half of the
photographs and measured on the other, near-duplicates whole. Only aggregate figures are written.
Needs the shared test material (CSP_SHARED_DATA).

    python -m benchmarks.real_channels [--out FOLDER]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.dermoscopy_models import imagenet, melanoma
from benchmarks.real_dermoscopy import ROOT, Columns, area, rounded
from benchmarks.surrogate import shared_folder
from csp_engine.evaluation.ground_truth import association
from csp_engine.images import decode
from csp_engine.isic2017 import ARTEFACTS

RESULT = Path(__file__).parent / "results" / "real_channels.json"
COLUMNS = (*ARTEFACTS, "melanoma")
LAYERS = (13, 16, 18)
"""Blocks of ``features`` looked at. Training left the first 14 alone, so number 13 is shared."""

SHARED = 11
"""Blocks that run once for both networks; their output is kept, in halves."""

BATCH = 64
GOOD = 0.8
"""AUROC from which a channel counts as answering to a column."""

Activations = dict[tuple[str, str], np.ndarray]
"""By network and ``features.N@pooling``: one row a unit, one column a photograph."""


def shared_part(folder: Path, names: pd.Series, cache: Path) -> torch.Tensor:
    """Output of the blocks both networks share, ``(photograph, channel, row, column)``."""
    if cache.is_file():
        return torch.load(cache, weights_only=True)
    model = imagenet()
    stem, rows = model.network.features[:SHARED], []
    with torch.inference_mode():
        for name in names:
            image = decode((folder / f"{name}.jpg").read_bytes())
            rows.append(stem(torch.from_numpy(model.preprocess(image))[None])[0].half())
    torch.save(torch.stack(rows), cache)
    return torch.stack(rows)


def activations(shared: torch.Tensor) -> Activations:
    """Mean and maximum of every channel of the layers, for both networks."""
    found: dict[tuple[str, str], list[np.ndarray]] = {}
    with torch.inference_mode():
        for model in (imagenet(), melanoma()):
            for first in range(0, len(shared), BATCH):
                x = shared[first : first + BATCH].float()
                for number in range(SHARED, LAYERS[-1] + 1):
                    x = model.network.features[number](x)
                    if number in LAYERS:
                        mean, high = x.mean((2, 3)).numpy(), x.amax((2, 3)).numpy()
                        found.setdefault((model.name, f"features.{number}@mean"), []).append(mean)
                        found.setdefault((model.name, f"features.{number}@max"), []).append(high)
    return {key: np.concatenate(parts).T.copy() for key, parts in found.items()}


def areas(
    activation_un: np.ndarray, columns: Columns, model: str, half_n: np.ndarray
) -> dict[str, np.ndarray]:
    """AUROC of every unit for every column on one half: ``column -> u``."""
    found = {}
    for known in (ARTEFACTS, ("melanoma",)):  # artefacts are known for the same photographs
        rows_n = half_n & columns.rows(known[0], model)
        truth_nc = np.stack([columns.positive(name, rows_n) for name in known], axis=1)
        area_uc = association(activation_un[:, rows_n], truth_nc).auroc_uc
        found |= {name: area_uc[:, c] for c, name in enumerate(known)}
    return found


def single_channels(found: Activations, columns: Columns) -> list[dict[str, Any]]:
    """Of every layer and column the channel chosen on one half, with its figure on the other."""
    rows = []
    for (model, layer), activation_un in found.items():
        first = areas(activation_un, columns, model, columns.first_n)
        second = areas(activation_un, columns, model, columns.second_n)
        for column in COLUMNS:
            unit = int(np.argmax(first[column]))
            rows_n = columns.second_n & columns.rows(column, model)
            rows.append(
                {
                    "model": model,
                    "layer": layer,
                    "column": column,
                    "unit": unit,
                    "n_units": len(activation_un),
                    "first_half": float(first[column][unit]),
                    **area(activation_un[unit, rows_n], columns.positive(column, rows_n)),
                    "n_good": int((second[column] >= GOOD).sum()),
                }
            )
    return rows


def best_channels(rows: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    """By model and column, the layer's choice that did best on the half it was chosen on."""
    best: dict[str, dict[str, dict]] = {}
    for row in rows:
        held = best.setdefault(row["model"], {})
        if row["first_half"] > held.get(row["column"], {"first_half": -1})["first_half"]:
            held[row["column"]] = row
    return best


def through_channels(
    found: Activations, columns: Columns, n_top: int = 64
) -> Iterator[dict[str, Any]]:
    """Through which channels of the last layer an artefact moves the melanoma score.

    The score is linear in the mean-pooled last layer, so the difference of mean scores between
    benign lesions with and without an artefact is a sum over channels: weight times difference of
    mean activations. ``of_top`` is the part of the ``n_top`` channels of highest AUROC for the
    artefact; ``of_all`` their share of the sum of absolute parts, where chance is ``chance``.
    """
    activation_un = found["melanoma", "features.18@mean"].astype(np.float64)
    head = melanoma().network.classifier[-1].weight.numpy().astype(np.float64)
    weight_u = head[1] - head[0]
    target_n = columns.values("melanoma").to_numpy()
    held_out_n = (columns.photographs["split"] == "held out").to_numpy() & (target_n == 0)
    for column in ARTEFACTS:
        values_n = columns.values(column).to_numpy()
        with_n, without_n = held_out_n & (values_n == 1), held_out_n & (values_n == 0)
        moved_u = weight_u * (
            activation_un[:, with_n].mean(axis=1) - activation_un[:, without_n].mean(axis=1)
        )
        # Ranked on photographs of which none is in the difference itself.
        other_n = ~held_out_n & np.isfinite(values_n)
        truth_n1 = (values_n[other_n] == 1)[:, None]
        rank_u = association(activation_un[:, other_n].astype(np.float32), truth_n1).auroc_uc[:, 0]
        top = np.argsort(-rank_u, kind="stable")[:n_top]
        yield {
            "column": column,
            "n_with": int(with_n.sum()),
            "n_without": int(without_n.sum()),
            "difference": float(moved_u.sum()),
            "of_top": float(moved_u[top].sum()),
            "of_all": float(np.abs(moved_u[top]).sum() / np.abs(moved_u).sum()),
            "chance": n_top / len(moved_u),
            "sd_of_score": float((weight_u @ activation_un[:, held_out_n]).std()),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "bundles" / "real_dermoscopy")
    args = parser.parse_args()
    table = pd.read_parquet(args.out / "photographs.parquet")
    columns = Columns(table)
    folder = shared_folder() / "images" / "isic2017"
    found = activations(shared_part(folder, table["image"], args.out / "shared.pt"))
    channels = single_channels(found, columns)
    best = best_channels(channels)
    result = {
        "n_photographs": len(table),
        "best": best,
        "channels": channels,
        "through": list(through_channels(found, columns)),
    }
    RESULT.write_text(json.dumps(rounded(result), indent=1) + "\n")
    print("| column | " + " | ".join(best) + " |")
    for column in COLUMNS:
        cells = []
        for by_column in best.values():
            row = by_column[column]
            figure = f"{row['auroc']:.2f} ({row['low']:.2f}–{row['high']:.2f})"
            cells.append(f"{figure} `{row['layer']}/{row['unit']}`")
        print(f"| {column} | " + " | ".join(cells) + " |")
    print(pd.DataFrame(result["through"]).to_string(index=False))


if __name__ == "__main__":
    main()
