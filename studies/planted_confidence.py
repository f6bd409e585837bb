"""Does a confidence learnt from planted units keep its word on neurons whose truth is known?

Units are planted into the demo and into real photographs (ISIC 2017, annotated for artefacts)
without their columns (``studies.altered``). What they teach is then judged by the columns: the
expected calibration error and the log loss of the probabilities, with intervals from drawing
neurons. Beside it what the columns themselves teach, on layers left out; and the reverse, what the
columns teach, judged on the planted units. The real photographs need the shared test material
(CSP_SHARED_DATA); their vocabulary is the names of the seven artefacts.

    python -m studies planted_confidence [--out FOLDER] [--only demo]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import mannwhitneyu

from csp_engine.bundle import Bundle
from csp_engine.encoders import load_encoder
from csp_engine.evaluation.confidence import (
    calibrate,
    calibration_error,
    can_learn,
    left_out,
    reliability,
)
from csp_engine.networks.layers import select_layers
from csp_engine.pipeline import BuildRequest, Target, add_truth, build
from csp_engine.pipeline.recipe import Recipe
from csp_engine.probe.listing import read_probe_set
from csp_engine.search import bundle_encoder
from csp_engine.types import Progress
from csp_engine.views.accuracy import kept_judged_labels
from csp_engine.views.confidence import features
from csp_engine.views.memo import Memo
from csp_engine.words.vocabularies import Vocabulary, label_table
from studies import dermoscopy_models
from studies.altered import PlantedLabels, planted_labels
from studies.real_browser import NAMES, WORDINGS
from studies.real_dermoscopy import ROOT, rounded
from studies.surrogate import shared_folder
from studies.vocabulary_gap import DEMO

N_DRAWS = 200
AGREEMENT = 2
"""The feature that says how many of the other methods agree."""
RESULT = Path(__file__).parent / "results" / "planted_confidence.json"
MODULES = {
    "skin_isic9": ("blocks.2.2.bn2@max", "blocks.5.0.bn2@max", "bn2@max"),
    "imagenet": ("features.4.conv.1@max", "features.14.conv.0@max"),
}
ENCODER = "python:studies.surrogate:encoder"
METHODS = ("csp_plus", "csp", "semanticlens", "clip_dissect")


def real_bundle(out: Path, progress: Progress) -> Bundle:
    """ISIC 2017 photographs and two networks, with the truth of seven artefacts."""
    folder = shared_folder() / "images" / "isic2017"
    table = pd.read_csv(folder / "labels.csv").set_index("image")
    table = table.loc[sorted(p.stem for p in folder.glob("*.jpg") if p.stem in table.index)]
    known_n = table[list(NAMES)].notna().all(axis=1).to_numpy()
    out.mkdir(parents=True, exist_ok=True)
    listed = pd.DataFrame({"file": [f"{name}.jpg" for name in table.index]})
    listed.to_csv(out / "isic2017.csv", index=False)
    targets = []
    for name, patterns in MODULES.items():
        model = getattr(dermoscopy_models, name)()
        targets.append(Target(model, tuple(select_layers(model, [*patterns]))))
    bundle = build(
        BuildRequest(
            out=out / "isic2017.csp",
            probe=read_probe_set(out / "isic2017.csv", image_root=folder),
            targets=tuple(targets),
            encoder=load_encoder(ENCODER),
            vocabulary=Vocabulary("artefacts", label_table([*NAMES.values()], ["columns"] * 7)),
            recipe=Recipe(methods=METHODS),
            n_influence_images=0,
        ),
        progress,
    )
    activations = {
        (model, layer): np.asarray(bundle.activations(model, layer))[:, known_n]
        for model in bundle.model_names
        for layer in bundle.layers(model)
    }
    truth_nc = (table.loc[known_n, list(NAMES)] == 1).to_numpy()
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
    )


def figures(p_u: np.ndarray, right_u: np.ndarray) -> dict[str, Any]:
    """Calibration error, log loss and order of probabilities, with intervals from drawing rows."""
    rng = np.random.default_rng(0)
    draws = [np.arange(len(p_u)), *rng.integers(len(p_u), size=(N_DRAWS, len(p_u)))]
    bound_u = np.clip(p_u, 1e-4, 1 - 1e-4)
    loss_u = -np.log(np.where(right_u, bound_u, 1 - bound_u))
    found: dict[str, Any] = {"n": len(p_u), "right": right_u.mean(), "said": p_u.mean()}
    values = {
        "error": [calibration_error(reliability(p_u[u], right_u[u])) for u in draws],
        "log loss": [loss_u[u].mean() for u in draws],
    }
    for name, (value, *drawn) in values.items():
        low, high = np.quantile(drawn, (0.025, 0.975))
        found[name] = {"value": value, "low": low, "high": high}
    above = mannwhitneyu(p_u[right_u], p_u[~right_u]).statistic
    found["auroc"] = above / (right_u.sum() * (~right_u).sum())
    base = np.clip(right_u.mean(), 1e-4, 1 - 1e-4)
    found["log loss of the share that is right"] = -(
        base * np.log(base) + (1 - base) * np.log(1 - base)
    )
    found["bins"] = [[b.mean, b.right.share, b.right.n] for b in reliability(p_u, right_u)]
    return found


def by_columns(bundle: Bundle, method: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, Any]:
    """Features of neurons with a known truth, whether they are right, relied on, and where."""
    memo = Memo()
    table = kept_judged_labels(bundle, memo)[method]
    x, relied, order = [], [], []
    for _, own in table.groupby(["model", "layer"], sort=False):
        place = tuple(own[["model", "layer"]].iloc[0])
        x.append(features(bundle, memo, *place, method)[own["unit"].to_numpy()])
        relied.append(np.asarray(bundle.scores(*place, method).reliable_u)[own["unit"]])
        order.append(own)
    ordered = pd.concat(order)
    where = (ordered["model"] + "/" + ordered["layer"]).tolist()
    return np.concatenate(x), ordered["best"].to_numpy(bool), ordered["concepts"].map(len), where


def compared(bundle: Bundle, planted: PlantedLabels) -> dict[str, Any]:
    """Both ways, for every method."""
    found: dict[str, Any] = {}
    for method in planted.params:
        own = (planted.labels["method"] == method).to_numpy()
        x_qf = planted.feature_qf[own]
        x_qf = x_qf[:, ~np.isnan(x_qf).all(axis=0)]
        right_q = planted.labels["is_right"].to_numpy(bool)[own]
        of_q = planted.labels["alteration"].to_numpy(object)[own]
        group_q = [name or f"nothing {at % 5}" for at, name in enumerate(of_q)]
        x_uf, right_u, n_true_u, where_u = by_columns(bundle, method)
        held: dict[str, Any] = {
            "n_planted": len(right_q),
            "planted right, by row": {
                str(row): [int(each.sum()), len(each)]
                for row, each in planted.labels[own].groupby("row", sort=False)["is_right"]
            },
        }
        found[method] = held
        if not (can_learn(right_q) and can_learn(right_u)):
            held["too few of a kind"] = {"planted": right_q.mean(), "columns": right_u.mean()}
            continue
        p_q = left_out(x_qf, right_q, group_q)
        held["planted, concepts left out"] = figures(p_q, right_q)
        told_u = calibrate(x_qf, right_q).probability(x_uf)
        has_u = n_true_u.to_numpy() > 0
        held["planted, judged by columns"] = figures(told_u, right_u)
        if has_u.any():
            held["the same, neurons with a true concept"] = figures(told_u[has_u], right_u[has_u])
        own_u = left_out(x_uf, right_u, where_u)
        no_f = [f for f in range(x_qf.shape[1]) if f != AGREEMENT]
        told_u = calibrate(x_qf[:, no_f], right_q).probability(x_uf[:, no_f])
        held["the same, without agreement"] = figures(told_u, right_u)
        held["columns, layers left out"] = figures(own_u, right_u)
        back_q = calibrate(x_uf, right_u).probability(x_qf)
        held["columns, judged by planted"] = figures(back_q, right_q)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "bundles" / "planted_confidence")
    parser.add_argument("--only", choices=("demo", "isic2017"), help="Leave the other as it is.")
    args = parser.parse_args()

    def show(stage: str, done: int, total: int) -> None:
        if done == total:
            print(f"{stage}: {total}", flush=True)

    result = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    for name in ("demo", "isic2017") if args.only is None else (args.only,):
        bundle = Bundle.open(DEMO) if name == "demo" else real_bundle(args.out, show)
        encoder = bundle_encoder(bundle, None if name == "demo" else ENCODER)
        planted = planted_labels(bundle, encoder, progress=show)
        found = {
            "n_images": planted.n_images,
            "alterations": list(planted.alterations),
            **compared(bundle, planted),
        }
        result[name] = rounded(found)
        print(json.dumps(result[name], indent=1), flush=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
