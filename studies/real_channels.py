"""Which channels of a network answer to what lies beside the lesion, on real dermoscopy.

ISIC 2017 photographs; a classifier of nine skin lesions made by others, the melanoma classifier
that ``python -m studies train_melanoma`` makes, and the ImageNet network it was made from. Of
every channel of every block: how well its activation tells photographs with an artefact from those
without (AUROC). The best one is chosen on one half of the photographs and measured on the other,
near-duplicates whole. Only aggregate figures are written. Needs the shared test material
(CSP_SHARED_DATA).

    python -m studies real_channels [--out FOLDER]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from csp_engine.evaluation.ground_truth import association
from csp_engine.networks.activations import ActivationRecorder
from csp_engine.networks.layers import select_layers
from csp_engine.probe.decoding import decode
from csp_engine.probe.isic2017 import ARTEFACTS
from studies import dermoscopy_models
from studies.dermoscopy_models import melanoma
from studies.real_dermoscopy import ROOT, Columns, area, rounded
from studies.surrogate import shared_folder

RESULT = Path(__file__).parent / "results" / "real_channels.json"
COLUMNS = (*ARTEFACTS, "melanoma")
TORCHVISION = ("features.*", "features.*.conv.0", "features.*.conv.1")
MODULES = {
    "imagenet": TORCHVISION,
    "melanoma": TORCHVISION,
    "skin_isic9": ("blocks.*.*", "blocks.*.*.bn1", "blocks.*.*.bn2", "bn2"),
}
"""What is looked at in each network: every block, its hidden channels, and the last layer."""

LAST = ("features.18@mean", "features.18@max", "bn2@mean", "bn2@max")
"""Layers of which the figures of every column are kept, not only those that are best."""

BATCH = 16
GOOD = 0.8
"""AUROC from which a channel counts as answering to a column."""

Activations = dict[tuple[str, str], np.ndarray]
"""By network and ``MODULE@pooling``: one row a unit, one column a photograph."""


def activations(folder: Path, names: pd.Series) -> Activations:
    """Mean and maximum of every channel of the layers, for all networks."""
    found: Activations = {}
    for name, modules in MODULES.items():
        model = getattr(dermoscopy_models, name)()
        patterns = [f"{module}@{pooling}" for module in modules for pooling in ("mean", "max")]
        parts: dict[str, list[np.ndarray]] = {}
        with ActivationRecorder(model, select_layers(model, patterns)) as recorder:
            for first in range(0, len(names), BATCH):
                files = [folder / f"{image}.jpg" for image in names[first : first + BATCH]]
                images = [model.preprocess(decode(file.read_bytes())) for file in files]
                for layer, value_nu in recorder(np.stack(images)).items():
                    parts.setdefault(layer, []).append(value_nu)
                if first % (20 * BATCH) == 0:
                    print(f"{name}: {first} of {len(names)}", flush=True)
        for layer, values in parts.items():
            found[name, layer] = np.concatenate(values).T.copy()
    return found


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
    found = activations(shared_folder() / "images" / "isic2017", table["image"])
    channels = single_channels(found, columns)
    best = best_channels(channels)
    result = {
        "n_photographs": len(table),
        "n_layers": pd.Series([model for model, _ in found]).value_counts().to_dict(),
        "n_channels": {
            name: sum(len(value) for (model, _), value in found.items() if model == name)
            for name in MODULES
        },
        "best": best,
        "best_by_pooling": {
            pooling: best_channels([r for r in channels if r["layer"].endswith(f"@{pooling}")])
            for pooling in ("mean", "max")
        },
        "last_layers": [row for row in channels if row["layer"] in LAST],
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
