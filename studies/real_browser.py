"""What the browser finds on real dermoscopy: ISIC 2017 photographs, two skin classifiers.

Builds a bundle as ``csp isic2017`` and ``csp build`` do, over a classifier of nine skin lesions
made by others and the melanoma classifier that ``python -m studies train_melanoma`` makes. Then
measures every neuron against the artefact columns, stores that and the classifiers' accuracy in the
bundle, and asks whether search, labels and the page Melanoma show the neurons that answer to an
artefact. Only aggregate figures are written, one entry for each encoder. Needs the shared test
material (CSP_SHARED_DATA).

    python -m studies real_browser [--out FOLDER] [--encoder SPEC]
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import csp_engine.search as search
from csp_engine.bundle import Bundle
from csp_engine.encoders import load_encoder
from csp_engine.evaluation.ground_truth import association
from csp_engine.networks.layers import select_layers
from csp_engine.networks.models import TargetModel
from csp_engine.pipeline import BuildRequest, Target, add_performance, add_truth, build
from csp_engine.pipeline.recipe import Recipe
from csp_engine.probe.isic2017 import isic2017_table
from csp_engine.probe.listing import read_probe_set
from csp_engine.stats.intervals import share_of
from csp_engine.types import Encoder, Progress
from csp_engine.views.accuracy import known_neurons, label_accuracy
from csp_engine.views.case import audit
from csp_engine.views.memo import Memo
from csp_engine.words.vocabularies import read_vocabulary
from studies import dermoscopy_models
from studies.real_dermoscopy import ROOT, Columns, area, rounded
from studies.surrogate import shared_folder

RESULT = Path(__file__).parent / "results" / "real_browser.json"
MODULES = {
    "skin_isic9": ("blocks.2.2.bn2", "blocks.5.0.bn2", "blocks.6.0.bn2", "bn2"),
    "melanoma": ("features.4.conv.1", "features.14.conv.0", "features.18"),
}
"""Modules looked at, shallow to deep, mean and maximum of each channel."""

HEADS = {"skin_isic9": "classifier.1@none", "melanoma": "features.18@mean"}
"""The layer that each network's last linear layer reads."""

NAMES = {
    "dark_corner": "dark corners",
    "hair": "hair",
    "gel_border": "gel border",
    "gel_bubble": "gel bubbles",
    "ruler": "ruler",
    "ink": "ink marks",
    "patches": "colour patch",
}
"""Columns of the table, by the names that the page Melanoma and the vocabulary have for them."""

WORDINGS = {
    "colour patch": (
        "colour patch", "coloured sticker", "calibration patch", "colour chart", "blue sticker",
        "green sticker", "yellow sticker", "orange sticker", "round coloured plaster", "band-aid",
        "plaster on the skin",
    ),
    "ruler": (
        "ruler", "ruler marks", "scale bar", "measuring scale", "millimetre marks",
        "black tick marks", "measuring tape",
    ),
    "dark corners": (
        "dark corners", "black corners", "vignetting", "round dark frame",
        "circular field of view", "dermatoscope rim", "black border",
    ),
    "hair": (
        "hair", "thick hair", "thin hair", "light hair", "dark hair", "black hairs", "blond hairs",
        "many hairs", "dense body hair", "single hair", "crossing hairs", "curly hair",
    ),
    "ink marks": (
        "ink marks", "pen marks", "surgical pen marks", "purple ink", "blue ink", "gentian violet",
        "marker lines on the skin", "circle drawn on the skin",
    ),
    "gel bubbles": (
        "gel bubbles", "air bubbles", "small air bubbles", "large air bubble",
        "bubbles in immersion fluid",
    ),
    "gel border": ("gel border", "edge of the gel", "ultrasound gel", "liquid film"),
}  # fmt: skip
"""What counts as naming each artefact, and what is typed into the search."""

LABEL_METHODS = ("csp", "semanticlens", "clip_dissect")
SEARCH_METHODS = LABEL_METHODS[:2]
N_FOUND = 10
GOOD = (0.7, 0.8)
"""AUROCs from which a neuron counts as answering to an artefact: somewhat, and clearly."""


def probe_table(out: Path, photographs: pd.DataFrame) -> Path:
    """The table that ``csp isic2017`` writes, our split in place of the official one."""
    folder = shared_folder() / "images" / "isic2017"
    diagnoses = out / "diagnoses.csv"
    photographs[["image", "target"]].set_axis(["image", "melanoma"], axis=1).to_csv(
        diagnoses, index=False
    )
    table = isic2017_table(folder, [folder / "labels.csv", diagnoses])
    table["split"] = photographs.set_index("image")["split"].loc[table.index]
    table.to_csv(out / "isic2017.csv", index=False)
    return out / "isic2017.csv"


def build_bundle(
    out: Path, table: Path, models: Mapping[str, TargetModel], encoder: Encoder, show: Progress
) -> Bundle:
    """What two runs of ``csp build`` make; in one, so that each photograph is decoded once."""
    targets = []
    for name, model in models.items():
        patterns = [f"{module}@{p}" for module in MODULES[name] for p in ("mean", "max")]
        if HEADS[name] not in patterns:
            patterns.append(HEADS[name].removesuffix("@none"))
        targets.append(Target(model, tuple(select_layers(model, patterns))))
    folder = shared_folder() / "images" / "isic2017"
    request = BuildRequest(
        out=out,
        probe=read_probe_set(table, image_root=folder, progress=show),
        targets=tuple(targets),
        encoder=encoder,
        vocabulary=read_vocabulary(["dermoscopy"]),
        recipe=Recipe(),
        n_influence_images=256,
    )
    return build(request, show)


def add_columns(bundle: Bundle, columns: Columns, show: Progress) -> Bundle:
    """Store what each neuron answers to, of the seven artefacts, where those are known."""
    rows_n = columns.rows("ruler", "")
    truth_nc = np.stack([columns.positive(column, rows_n) for column in NAMES], axis=1)
    activations = {
        (model, layer): np.asarray(bundle.activations(model, layer))[:, rows_n]
        for model in bundle.model_names
        for layer in bundle.layers(model)
    }
    return add_truth(
        bundle.path,
        activations,
        truth_nc,
        list(NAMES.values()),
        WORDINGS,
        {
            "images": "photographs of the probe set whose artefacts were annotated",
            "truth": "published annotations of artefacts in ISIC 2017",
            "in_probe_set": True,
        },
        kinds=dict.fromkeys(NAMES.values(), "artefact"),
        groups=columns.group_n[rows_n].tolist(),
        progress=show,
    )


def predictions(bundle: Bundle, model: TargetModel) -> tuple[np.ndarray, np.ndarray]:
    """Whether a network calls each photograph melanoma, and the log odds that it gives."""
    head = model.network.classifier[-1]
    weight_cu, bias_c = head.weight.numpy().astype(np.float64), head.bias.numpy()
    activation_un = np.asarray(bundle.activations(model.name, HEADS[model.name]), np.float64)
    logit_nc = activation_un.T @ weight_cu.T + bias_c
    assert model.class_names is not None
    at = [name.lower() for name in model.class_names].index("melanoma")
    others_n = np.logaddexp.reduce(np.delete(logit_nc, at, axis=1), axis=1)
    return logit_nc.argmax(1) == at, logit_nc[:, at] - others_n


def accuracy(said_n: np.ndarray, columns: Columns, use_n: np.ndarray, unseen: bool) -> pd.DataFrame:
    """How often "melanoma or not" is right, with and without each artefact."""
    sick_n = columns.values("melanoma").to_numpy()
    use_n = use_n & np.isfinite(sick_n)
    slices = {"all": use_n}
    for column, name in NAMES.items():
        for prefix, value in (("", 1), ("no ", 0)):
            slices[prefix + name] = use_n & (columns.values(column) == value).to_numpy()
    rows = []
    for name, at_n in slices.items():
        right = share_of(int((said_n == (sick_n == 1))[at_n].sum()), int(at_n.sum()))
        sick, well = said_n[at_n & (sick_n == 1)], said_n[at_n & (sick_n == 0)]
        rows.append(
            {
                "slice": name,
                "n": right.n,
                "n_correct": right.n_hits,
                "accuracy": right.share,
                "low": right.low,
                "high": right.high,
                "n_melanoma": len(sick),
                "melanoma_found": float(sick.mean()) if len(sick) else np.nan,
                "benign_cleared": float(1 - well.mean()) if len(well) else np.nan,
                "unseen": unseen,
            }
        )
    return pd.DataFrame(rows)


def zero_shot(bundle: Bundle, columns: Columns, encoder: Encoder) -> list[dict[str, Any]]:
    """How well the encoder itself tells photographs with an artefact from those without."""
    rows = []
    for column, name in NAMES.items():
        known_n = columns.rows(column, "")
        image_nd = np.asarray(bundle.image_vectors())[known_n]
        for text in WORDINGS[name]:
            score_n = image_nd @ search.query_vector(bundle, text, encoder)
            rows.append({"text": text, **area(score_n, columns.positive(column, known_n))})
    return rows


def auroc_of(bundle: Bundle, rows: pd.DataFrame, name: str) -> np.ndarray:
    """AUROC of an artefact for every row of an index table."""
    found_u = np.full(len(rows), np.nan)
    for model, layer in rows[["model", "layer"]].drop_duplicates().itertuples(index=False):
        truth = bundle.truth(model, layer)
        assert truth is not None
        at = truth.concepts["name"].tolist().index(name)
        is_it_u = ((rows["model"] == model) & (rows["layer"] == layer)).to_numpy()
        found_u[is_it_u] = truth.auroc_uc[rows["unit"].to_numpy()[is_it_u], at]
    return found_u


def best_channels(bundle: Bundle, columns: Columns) -> list[dict[str, Any]]:
    """Of every model and artefact the channel chosen on one half, measured on the other."""
    found = []
    for model in bundle.model_names:
        layers = bundle.layers(model)
        place = [(layer, u) for layer in layers for u in range(bundle.n_units(model, layer))]
        activation_un = np.concatenate([np.asarray(bundle.activations(model, x)) for x in layers])
        for column, name in NAMES.items():
            known_n = columns.rows(column, model)
            first_n, second_n = known_n & columns.first_n, known_n & columns.second_n
            truth_n1 = columns.positive(column, first_n)[:, None]
            best = int(np.nanargmax(association(activation_un[:, first_n], truth_n1).auroc_uc))
            figures = area(activation_un[best, second_n], columns.positive(column, second_n))
            layer, unit = place[best]
            found.append(
                {"model": model, "artefact": name, "layer": layer, "unit": unit, **figures}
            )
    return found


def answering(bundle: Bundle) -> list[dict[str, Any]]:
    """How many neurons of each model answer to each artefact, somewhat and clearly."""
    _, rows = search.open_index(bundle, SEARCH_METHODS[0])
    found = []
    for name in NAMES.values():
        area_u = auroc_of(bundle, rows, name)
        for model, own in rows.groupby("model").indices.items():
            counts = {f"n_{bar}": int((area_u[own] >= bar).sum()) for bar in GOOD}
            mean = float(np.nanmean(area_u[own]))
            found.append({"model": model, "artefact": name, "mean": mean, **counts})
    return found


def searches(bundle: Bundle, best: list[dict[str, Any]], encoder: Encoder) -> list[dict[str, Any]]:
    """Where neurons that answer to an artefact come when a person types its name."""
    found = []
    for method in SEARCH_METHODS:
        index, table = search.open_index(bundle, method)
        areas = {name: auroc_of(bundle, table, name) for name in NAMES.values()}
        for chosen in best:
            allowed_u = search.allowed_rows(table, model=chosen["model"])
            assert allowed_u is not None
            n, name = int(allowed_u.sum()), chosen["artefact"]
            for text in WORDINGS[name]:
                query_d = search.query_vector(bundle, text, encoder)
                rows_m = search.rank(index, query_d, n, allowed_u=allowed_u).row_m
                area_m = areas[name][rows_m]
                row = {"model": chosen["model"], "method": method, "artefact": name, "text": text}
                for bar in GOOD:
                    row[f"first_{bar}"] = _first(area_m >= bar)
                found.append(row | {"mean_of_ten": float(area_m[:N_FOUND].mean())})
    return found


def _first(is_it_m: np.ndarray) -> int | None:
    """Rank, from 1, of the first that is, or None."""
    return int(np.argmax(is_it_m)) + 1 if is_it_m.any() else None


def labels_of(bundle: Bundle, best: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the methods call the channels that answer best, and how much they drive melanoma."""
    found = []
    for chosen in best:
        model, layer, unit = chosen["model"], chosen["layer"], chosen["unit"]
        row = {key: chosen[key] for key in ("model", "artefact", "layer", "unit", "auroc")}
        for method in LABEL_METHODS:
            scores = bundle.scores(model, layer, method)
            texts = bundle.method_labels(model, layer, method)["text"]
            row[method] = [texts[int(t)] for t in scores.label_uk[unit, :3]]
            row[f"{method}_reliable"] = bool(scores.reliable_u[unit])
        stored = bundle.influence(model, layer)
        if stored is not None:
            at = [name.lower() for name in stored.output_names].index("melanoma")
            size_u = np.abs(np.asarray(stored.gradient_activation_cu[at]))
            row["influence_rank"] = int((size_u > size_u[unit]).sum()) + 1
            row["n_units"] = len(size_u)
        found.append(row)
    return found


def label_figures(bundle: Bundle) -> dict[str, Any]:
    """How often labels are right about neurons with a true concept."""
    found = label_accuracy(bundle)
    kept = ("best", "top", "claims_where_true", "right_where_claimed", "silent_where_none")
    methods = {
        method: {name: figures[name] for name in kept}
        for method, figures in found["methods"].items()
    }
    return {"n_with_truth": found["n_with_truth"], "methods": methods}


def walk(bundle: Bundle) -> list[dict[str, Any]]:
    """What the page Melanoma counts: influential neurons by kind, and how the calls compare."""
    found, memo = [], Memo()
    concepts = audit.melanoma(memo)
    for model in bundle.model_names:
        layers = audit.layers_of(bundle, concepts, model)
        for method in SEARCH_METHODS:
            seen = audit.examine(bundle, memo, concepts, model, layers, method)
            if isinstance(seen, str):
                found.append({"model": model, "method": method, "said": seen})
                continue
            called = seen.of_kind("spurious")
            truly = seen.influential[seen.influential["truth"].isin(seen.texts["spurious"])]
            found.append(
                {
                    "model": model,
                    "method": method,
                    "n_influential": len(seen.influential),
                    "kinds": seen.influential["kind"].value_counts().to_dict(),
                    "called_right": asdict(seen.true_share(called, "spurious")),
                    "found": asdict(share_of(int((truly["kind"] == "spurious").sum()), len(truly))),
                    "truth_of_influential": truly["truth"].value_counts().to_dict(),
                    "influence_by_kind": seen.influence_by_kind(),
                }
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "bundles" / "real_dermoscopy")
    parser.add_argument("--encoder", default="python:studies.surrogate:encoder")
    args = parser.parse_args()

    def show(stage: str, done: int, total: int) -> None:
        if done == total:
            print(f"{stage}: {total}", flush=True)

    encoder = load_encoder(args.encoder)
    models = {name: getattr(dermoscopy_models, name)() for name in MODULES}
    photographs = pd.read_parquet(args.out / "photographs.parquet").sort_values("image")
    columns = Columns(photographs.reset_index(drop=True))
    path = args.out / f"isic2017-{re.sub(r'[^a-z0-9]+', '-', args.encoder.lower())}.csp"
    bundle = build_bundle(path, probe_table(args.out, photographs), models, encoder, show)
    assert list(bundle.images()["file"].str.removesuffix(".jpg")) == list(photographs["image"])
    bundle = add_columns(bundle, columns, show)
    held_out_n = (columns.photographs["split"] == "held out").to_numpy()
    said = {name: predictions(bundle, model) for name, model in models.items()}
    slices = {
        "skin_isic9": accuracy(said["skin_isic9"][0], columns, np.ones_like(held_out_n), False),
        "melanoma": accuracy(said["melanoma"][0], columns, held_out_n, True),
    }
    bundle = add_performance(path, slices)
    best = best_channels(bundle, columns)
    sick_n = columns.rows("melanoma", "")
    networks = {
        "n_photographs": bundle.n_images,
        "n_neurons": {
            model: sum(bundle.n_units(model, layer) for layer in bundle.layers(model))
            for model in bundle.model_names
        },
        "skin_isic9_melanoma": area(
            said["skin_isic9"][1][sick_n], columns.positive("melanoma", sick_n)
        ),
        "slices": {name: table.to_dict("records") for name, table in slices.items()},
        "best": best,
        "answering": answering(bundle),
        "true_concepts": known_neurons(bundle)["concepts"].str[0].value_counts().to_dict(),
    }
    browsed = {
        "fingerprint": encoder.fingerprint,
        "labels_of_best": labels_of(bundle, best),
        "zero_shot": zero_shot(bundle, columns, encoder),
        "search": searches(bundle, best, encoder),
        "labels": label_figures(bundle),
        "walk": walk(bundle),
    }
    held = json.loads(RESULT.read_text()) if RESULT.is_file() else {"encoders": {}}
    held["networks"] = rounded(networks)
    held["encoders"][args.encoder] = rounded(browsed)
    RESULT.write_text(json.dumps(held, indent=1) + "\n")
    print(f"{RESULT.name}: {args.encoder}")


if __name__ == "__main__":
    main()
