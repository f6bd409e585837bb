"""Suspects by columns on one half of real photographs, judged by the other half: ISIC 2017.

Neurons of two networks are called suspects of an artefact by the annotations of one half of the
photographs, near-duplicates whole, and looked at again on the other half; then the halves change
places. A call is right if the neuron's AUROC on photographs that did not choose it reaches the bar
too. What is not found is listed with the area that would have been. Only aggregate figures are
written. Needs the shared test material (CSP_SHARED_DATA).

    python -m studies real_suspects
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from csp_engine.evaluation.associations.asking import ColumnsAsked, columns_asked
from csp_engine.evaluation.associations.measuring import Asked, Rule, associate
from csp_engine.evaluation.ground_truth import halves
from csp_engine.networks.activations import ActivationRecorder
from csp_engine.networks.layers import select_layers
from csp_engine.probe.decoding import decode
from csp_engine.probe.images import near_duplicate_groups, perceptual_hash
from csp_engine.probe.isic2017 import ARTEFACTS
from csp_engine.stats.intervals import share_of
from csp_engine.stats.rank_sum import Blocks, midranks, rank_sums
from studies import dermoscopy_models
from studies.real_dermoscopy import rounded
from studies.surrogate import shared_folder

RESULT = Path(__file__).parent / "results" / "real_suspects.json"
LAYERS = {
    "imagenet": [f"features.{n}@{how}" for n in (7, 14, 18) for how in ("mean", "max")],
    "skin_isic9": [f"{name}@{how}" for name in ("blocks.3.0", "bn2") for how in ("mean", "max")],
}
BARS = (0.7, 0.8)
BATCH = 16


def measured(
    folder: Path, names: pd.Series
) -> tuple[dict[tuple[str, str], np.ndarray], np.ndarray]:
    """Activations by network and layer, ``(u, n)``, and groups of near-duplicates."""
    found: dict[tuple[str, str], list[np.ndarray]] = {}
    hashes = []
    models = {name: getattr(dermoscopy_models, name)() for name in LAYERS}
    recorders = {
        name: ActivationRecorder(model, select_layers(model, LAYERS[name]))
        for name, model in models.items()
    }
    with ExitStack() as stack:
        records = {name: stack.enter_context(each) for name, each in recorders.items()}
        for first in range(0, len(names), BATCH):
            files = [folder / f"{image}.jpg" for image in names[first : first + BATCH]]
            images = [decode(file.read_bytes()) for file in files]
            hashes += [perceptual_hash(image) for image in images]
            for name, record in records.items():
                pixels = np.stack([models[name].preprocess(image) for image in images])
                for layer, value_nu in record(pixels).items():
                    found.setdefault((name, layer), []).append(value_nu)
    ids = [f"{i:064x}" for i in range(len(names))]
    group_n = near_duplicate_groups(np.array(hashes, np.uint64), ids)
    return {place: np.concatenate(parts).T.copy() for place, parts in found.items()}, group_n


def half_of(columns: ColumnsAsked, is_in_n: np.ndarray) -> Asked:
    """The same columns on some of the photographs."""
    asked = columns.asked
    assert asked.group_n is not None
    return replace(
        asked,
        value_nc=asked.value_nc[is_in_n],
        stratum_nc=asked.stratum_nc[is_in_n],
        group_n=asked.group_n[is_in_n],
    )


def judged(
    activation_un: np.ndarray, columns: ColumnsAsked, choose_n: np.ndarray, rule: Rule
) -> list[dict[str, Any]]:
    """What one half calls, column by column, and what the other says of it."""
    found = associate(activation_un[:, choose_n], half_of(columns, choose_n), rule)
    other = half_of(columns, ~choose_n)
    rows = []
    for c, name in enumerate(columns.names):
        if columns.kinds[c] != "concept":
            continue
        own = (found.kept.column_k == c) & found.kept.is_suspect_k
        unit_k = found.kept.unit_k[own]
        is_known_n = ~np.isnan(other.value_nc[:, c])
        label = other.value_nc[is_known_n, c][:, None] == 1
        right = above = 0
        if len(unit_k):
            values = activation_un[unit_k][:, ~choose_n][:, is_known_n]
            assert other.group_n is not None
            sums = rank_sums(midranks(values), label, Blocks(len(label), other.group_n[is_known_n]))
            right = int((sums.auroc_uc[:, 0] >= rule.auroc_min).sum())
            above = int(((sums.p_uc[:, 0] <= 0.05) & (sums.auroc_uc[:, 0] > 0.5)).sum())
        best = found.kept.auroc_k3[found.kept.column_k == c]
        rows.append(
            {
                "column": name,
                "n_with": int(found.n_with_c[c]),
                "is_tried": bool(found.is_tried_c[c]),
                "n_suspects": len(unit_k),
                "n_right": right,
                "n_associated": above,
                "best": float(best[:, 0].max()) if len(best) else None,
                "least": float(found.least_c[c]),
            }
        )
    return rows


def main() -> None:
    folder = shared_folder() / "images" / "isic2017"
    table = pd.read_csv(folder / "labels.csv", dtype={"image": str})
    table = table[table["image"].map(lambda name: (folder / f"{name}.jpg").is_file())]
    table = table.reset_index(drop=True)
    activations, group_n = measured(folder, table["image"])
    images = table[[*ARTEFACTS, "age", "sex"]].assign(
        **{"class": table["melanoma"].map({0.0: "benign", 1.0: "melanoma"}), "group": group_n}
    )
    columns = columns_asked(images, ARTEFACTS)
    assert columns.asked.group_n is not None
    first_n, _ = halves(len(table), columns.asked.group_n, seed=0)
    result: dict[str, Any] = {
        "n_photographs": len(table),
        "n_groups": len(np.unique(group_n)),
        "goes_with": {
            name: None if each is None else {"name": each.name, "v": each.v}
            for name, each in zip(columns.names, columns.beside, strict=True)
        },
        "bars": [],
    }
    for bar in BARS:
        rule = Rule(auroc_min=bar, n_permutations=99, n_resamples=100)
        rows = [
            {"model": model, "layer": layer, "half": half, **row}
            for (model, layer), activation_un in activations.items()
            for half, choose_n in (("first", first_n), ("second", ~first_n))
            for row in judged(activation_un, columns, choose_n, rule)
        ]
        by_column = {}
        for name in ARTEFACTS:
            own = [row for row in rows if row["column"] == name]
            n, right, some = (
                sum(row[key] for row in own) for key in ("n_suspects", "n_right", "n_associated")
            )
            by_column[name] = {
                "precision": asdict(share_of(right, n)),
                "associated": asdict(share_of(some, n)),
                "best": max(row["best"] for row in own if row["best"] is not None),
                "least": [min(row["least"] for row in own), max(row["least"] for row in own)],
                "n_with": [min(row["n_with"] for row in own), max(row["n_with"] for row in own)],
            }
        n, right, some = (
            sum(row[key] for row in rows) for key in ("n_suspects", "n_right", "n_associated")
        )
        result["bars"].append(
            {
                "bar": bar,
                "precision": asdict(share_of(right, n)),
                "associated": asdict(share_of(some, n)),
                "columns": by_column,
                "layers": [
                    {key: row[key] for key in ("model", "layer", "half", "column", "n_suspects",
                                               "n_right")}
                    for row in rows
                    if row["n_suspects"]
                ],
            }
        )  # fmt: skip
    RESULT.write_text(json.dumps(rounded(result), indent=1) + "\n", encoding="utf-8")
    print(RESULT.read_text("utf-8"))


if __name__ == "__main__":
    main()
