"""Labels of layers that chose nothing: the demo's networks, where nobody looked when CSP+ was made.

Four layers and poolings of both classifiers that the demo does not browse are labelled with the
parameters, the words and the photographs (thumbnails) of the demo. Their truth is measured as the
demo's is, on photographs drawn anew. What comes out is a bundle, which ``csp evaluate`` judges as
any other; here the figures of acceptance are picked from it. And what the fourth condition of a
reliable label does, and another that was tried; both bars come from the demo's own layers
(``sure_and_wrong``).

    python -m studies other_layers [--out FOLDER]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from csp_engine import pipeline
from csp_engine.bundle import Bundle
from csp_engine.demo.shipping.bundling import HELD_OUT_LESSON, activations_of, load_demo_encoder
from csp_engine.demo.shipping.parts import FULL
from csp_engine.demo.simulator import captions, render
from csp_engine.demo.simulator.cases import CONCEPTS, concept_table
from csp_engine.demo.training import classifiers
from csp_engine.demo.training.pictures import Pictures, pictures
from csp_engine.evaluation.faithfulness.granularity import Utility, utility
from csp_engine.evaluation.label_accuracy import wording_key
from csp_engine.networks.layers import select_layers
from csp_engine.pipeline.recipe import Recipe
from csp_engine.probe.listing import read_probe_set
from csp_engine.types import Progress, silent
from csp_engine.views.accuracy import judged_labels, label_accuracy
from csp_engine.views.memo import Memo
from csp_engine.views.places import places
from csp_engine.views.table.granularity import granularity
from csp_engine.words.vocabularies import Vocabulary, label_table
from studies.real_dermoscopy import ROOT, rounded
from studies.sure_and_wrong import METHOD, THREE, claimed, figures, known, outdone
from studies.vocabulary_gap import DEMO

LAYERS = ("layer1@mean", "layer2@mean", "layer3@max", "layer4@max")
AHEAD = 0.06
"""Bar of another condition, chosen on the demo's own layers."""
RESULT = Path(__file__).parent / "results" / "other_layers.json"


def probe_folder(demo: Bundle, folder: Path) -> Path:
    """The demo's photographs as files."""
    for image in range(demo.n_images):
        file = folder / f"{image:05d}.jpg"
        if not file.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            file.write_bytes(demo.thumbnail(image))
    return folder


def held_out(out: Path, progress: Progress = silent) -> Pictures:
    """The photographs that the demo's truth was measured on, drawn anew."""
    seed = FULL.lesson_seed(HELD_OUT_LESSON)
    return pictures(out, "probe", FULL.n_held_out, seed, render.SIDE, progress)


def other_layers(
    demo: Bundle,
    out: Path,
    progress: Progress = silent,
    *,
    layers: Sequence[str] = LAYERS,
    methods: str = "",
) -> Bundle:
    """The bundle of other layers, with their truth; what is there is kept.

    ``methods`` instead of the demo's, with commas between.
    """
    targets = {
        name: classifiers.target_model(DEMO.parent / f"{name}.safetensors", name)
        for name in classifiers.MODELS
    }
    taps = {name: tuple(select_layers(model, [*layers])) for name, model in targets.items()}
    texts = demo.labels()["text"].tolist()
    built = pipeline.build(
        pipeline.BuildRequest(
            out=out / "other-layers.csp",
            probe=read_probe_set(probe_folder(demo, out / "photographs")),
            targets=tuple(pipeline.Target(targets[name], taps[name]) for name in targets),
            encoder=load_demo_encoder(DEMO.parent / "encoder"),
            vocabulary=Vocabulary("the demo's", label_table(texts, ["demo"] * len(texts))),
            recipe=Recipe.restated(demo.manifest.recipe, {"methods": methods} if methods else {}),
            thumbnail_side=FULL.thumbnail_side,
            n_influence_images=0,
        ),
        progress,
    )
    held = held_out(out / "held-out", progress)
    truth = {
        (name, layer): activation_un
        for name, model in targets.items()
        for layer, activation_un in activations_of(
            model, taps[name], held.image_nhwc, progress
        ).items()
    }
    concepts = concept_table(held.cases)
    return pipeline.add_truth(
        built.path,
        truth,
        concepts.to_numpy(bool),
        list(concepts),
        {name: captions.WORDINGS[name] + captions.HELD_OUT[name] for name in CONCEPTS},
        {
            "images": f"{FULL.n_held_out} simulated photographs",
            "truth": "controls of the simulator",
        },
        kinds={name: kind for name, (kind, _) in CONCEPTS.items()},
        progress=progress,
    )


def useful_where_true(bundle: Bundle, method: str) -> Utility:
    """Utility of the labels of those neurons that have a measured true concept."""
    pearson: list[np.ndarray] = []
    said: list[int | None] = []
    for model, layer in places(bundle):
        truth = bundle.truth(model, layer)
        assert truth is not None, "truth was measured on every layer"
        wordings = truth.wordings()
        column_of = {
            wording_key(text): c
            for c, name in enumerate(truth.concepts["name"])
            for text in (name, *wordings[name])
        }
        texts = bundle.method_labels(model, layer, method)["text"].tolist()
        scores = bundle.scores(model, layer, method)
        for unit in np.flatnonzero(truth.units["true_concept"].notna()):
            pearson.append(np.asarray(truth.pearson_uc[unit], np.float64))
            has_label = int(scores.count_u[unit]) > 0
            text = texts[int(scores.label_uk[unit, 0])] if has_label else ""
            said.append(column_of.get(wording_key(text)))
    return utility(np.stack(pearson), said)


def acceptance(bundle: Bundle) -> dict[str, Any]:
    """What every method says rightly, claims and refuses, as ``csp evaluate`` counts it."""
    found = label_accuracy(bundle, judged_labels(bundle))
    useful = {grain.method: grain.utility for grain in granularity(bundle, Memo())}
    picked = (
        "best", "best_over_neurons", "best_by_concept", "claimed_and_right", "claimed_and_wrong",
        "silent_where_none",
    )  # fmt: skip
    methods = {}
    for method, own in found["methods"].items():
        utility = useful.get(method)
        shares = None if utility is None else [utility.share, utility.low, utility.high]
        of_true = useful_where_true(bundle, method)
        methods[method] = {name: own[name] for name in picked} | {
            "utility": shares,
            "utility where a concept is true": [of_true.share, of_true.low, of_true.high],
        }
    return {
        "neurons": found["n_neurons"],
        "with truth": found["n_with_truth"],
        "methods": methods,
        "differences": [pair for pair in found["differences"] if METHOD in str(pair)],
        "by layer": found["methods"][METHOD]["by_layer"],
    }


def further(bundle: Bundle) -> dict[str, Any]:
    """Reliable labels of CSP+ by its first three conditions, and with either fourth one."""
    table = known(bundle)
    made = {
        f"{model}/{layer}": np.asarray(bundle.activations(model, layer))
        for model in bundle.model_names
        for layer in bundle.layers(model)
    }
    three_u = claimed(table, THREE)
    cases: dict[str, pd.Series] = {
        "three conditions": three_u,
        f"no other meaning ahead by {AHEAD:g}": three_u & ~(outdone(bundle, table, made) >= AHEAD),
        "as it is": claimed(table, {}),
    }
    found = {name: figures(table, own_u) for name, own_u in cases.items()}
    return {name: own["all"] | {"none refused": own["none refused"]} for name, own in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "bundles" / "other-layers")
    args = parser.parse_args()

    def progress(what: str, done: int, total: int) -> None:
        if done == total or done % 500 < 50:
            print(f"{what}: {done}/{total}", flush=True)

    bundle = other_layers(Bundle.open(DEMO), args.out, progress)
    result = {**acceptance(bundle), "further conditions": further(bundle)}
    print(json.dumps(rounded(result), indent=1))
    RESULT.write_text(json.dumps(rounded(result), indent=1) + "\n")


if __name__ == "__main__":
    main()
