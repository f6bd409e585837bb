"""How good the demo is: every figure that its cards quote, measured where nothing was trained."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from csp_engine.bundle import Bundle, kinds
from csp_engine.captioners import load_captioner
from csp_engine.demo.shipping.bundling import (
    METHODS,
    held_out,
    load_demo_encoder,
)
from csp_engine.demo.shipping.parts import BUNDLE, World
from csp_engine.demo.simulator import captions
from csp_engine.demo.simulator.cases import CONCEPTS, concept_table
from csp_engine.demo.training import captioner, encoder
from csp_engine.demo.training.pictures import embed_pictures
from csp_engine.evaluation.label_accuracy import recall_summary
from csp_engine.numbers import plain_json
from csp_engine.views.accuracy import label_accuracy, search_recall

PHOTOGRAPHS_PER_SET = 3
"""Held-out photographs for each simulated neuron that the captioner is measured on."""


def quality(world: World) -> dict[str, Any]:
    """Every figure the cards quote, measured on held-out photographs and on the bundle."""
    held = held_out(world)
    concepts = concept_table(held.cases)
    loaded = load_demo_encoder(world.path("encoder"))
    image_nd = embed_pictures(loaded, held.image_nhwc)
    zero_shot = {
        kind: encoder.zero_shot_auroc(loaded, image_nd, concepts, wordings)
        for kind, wordings in {
            "names": {name: (name,) for name in CONCEPTS},
            "wordings": captions.WORDINGS,
            "held_out_wordings": captions.HELD_OUT,
        }.items()
    }
    bundle = Bundle.open(world.path(BUNDLE))
    recall = search_recall(bundle, METHODS[0], loaded, progress=world.progress)
    return {
        "n_held_out": len(held.cases),
        "zero_shot": {
            kind: {
                "mean": round(float(np.mean(list(found.values()))), 4),
                "lowest": min(found, key=found.__getitem__),
                "by_concept": {name: round(value, 4) for name, value in found.items()},
            }
            for kind, found in zero_shot.items()
        },
        "accuracy": pd.read_csv(world.path("slices.csv")).round(4).to_dict("records"),
        "captioner": captioner.measure_captioner(
            load_captioner(world.path("captioner")),
            image_nd,
            concepts.to_numpy(bool),
            captions.WORDINGS,
            n_sets=world.plan.n_held_out // PHOTOGRAPHS_PER_SET,
        ),
        "labels": plain_json(label_accuracy(bundle)),
        "search": plain_json(recall_summary(recall)),
        "search_missed": recall.loc[~recall["is_found"], ["concept", "wording"]].to_dict("records"),
        "neurons": {
            f"{model}/{layer}": bundle.stage(kinds.TRUTH.name(model, layer)).facts
            for model in bundle.model_names
            for layer in bundle.layers(model)
        },
    }
