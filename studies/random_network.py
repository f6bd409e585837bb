"""What does CSP+ claim of the demo's network before any training, and how often is that wrong?

The architecture of the demo's classifiers with random weights runs on the demo's thumbnails, on the
layers that the demo browses, and its units are labelled with the demo's words and parameters. Their
truth is that of ground truth's rule on the probe set's own columns. A random network can be read
too: what it claims should be right of what its units answer to, although nothing was learnt.

    python -m studies random_network [--seeds N]
"""

from __future__ import annotations

import argparse
import io
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from csp_engine.bundle import Bundle
from csp_engine.demo.training import classifiers
from csp_engine.evaluation.ground_truth import true_concepts
from csp_engine.evaluation.label_accuracy import wording_key
from csp_engine.evaluation.planted_units import Unit
from csp_engine.networks.activations import ActivationRecorder
from csp_engine.networks.layers import select_layers
from csp_engine.networks.random_weights import with_random_weights
from csp_engine.stats.intervals import share_of
from csp_engine.views.benchmark.planted import World, judged_units, labelled, world_of
from studies.real_dermoscopy import rounded
from studies.sure_and_wrong import METHOD
from studies.vocabulary_gap import DEMO

RESULT = Path(__file__).parent / "results" / "random_network.json"


def activations(bundle: Bundle, seed: int) -> dict[str, np.ndarray]:
    """What the units of every layer do on the thumbnails."""
    name = next(iter(classifiers.MODELS))
    trained = classifiers.target_model(DEMO.parent / f"{name}.safetensors", name)
    model = with_random_weights(trained, seed)
    parts: dict[str, list[np.ndarray]] = {}
    with ActivationRecorder(model, select_layers(model, [*classifiers.LAYERS])) as recorder:
        for first in range(0, bundle.n_images, 50):
            some = range(first, min(first + 50, bundle.n_images))
            images = [Image.open(io.BytesIO(bundle.thumbnail(image))) for image in some]
            seen = np.stack([model.preprocess(image.convert("RGB")) for image in images])
            for layer, value_nu in recorder(seen).items():
                parts.setdefault(layer, []).append(value_nu)
    return {layer: np.concatenate(own).T for layer, own in parts.items()}


def judged(world: World, activation_un: np.ndarray) -> pd.DataFrame:
    """A row per unit: whether it is claimed, answers to a concept, and is named by it."""
    acts_un = np.ascontiguousarray(activation_un, np.float32)
    varied_u = np.flatnonzero(acts_un.max(axis=1) > acts_un.min(axis=1))
    units = [Unit("random", (), acts_un[u]) for u in varied_u]
    own = replace(world, params={METHOD: world.params[METHOD]})
    done = labelled(own, units, own.recipe.n_null, 1)[METHOD]
    table = judged_units(own, units, METHOD, done)
    truth = true_concepts(acts_un[varied_u], world.is_shown_nc)
    named = [
        not pd.isna(label) and wording_key(world.texts[label]) in world.accepted_c[concept]
        for label, concept in zip(table["label"], truth.concept_u, strict=True)
    ]
    return pd.DataFrame(
        {
            "claimed": table["is_reliable"].astype(bool),
            "answers": truth.is_true_u,
            "right": truth.is_true_u & np.array(named),
        }
    )


def figures(table: pd.DataFrame) -> dict[str, Any]:
    """Claims among all units, right and wrong ones where a concept is true, refusals elsewhere."""
    claimed_u, answers_u, right_u = (table[name] for name in ("claimed", "answers", "right"))
    counts = {
        "claimed": (claimed_u, claimed_u | True),
        "answer to a concept": (answers_u, answers_u | True),
        "right, where one is true": (right_u, answers_u),
        "claims wrong, where one is true": (
            claimed_u & answers_u & ~right_u,
            claimed_u & answers_u,
        ),
        "refused, where none is": (~claimed_u & ~answers_u, ~answers_u),
    }
    return {name: asdict(share_of(int(a.sum()), int(of.sum()))) for name, (a, of) in counts.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=2, help="draws of the weights")
    args = parser.parse_args()
    bundle = Bundle.open(DEMO)
    world = world_of(bundle)
    tables = {
        f"seed {seed}, {layer}": judged(world, activation_un)
        for seed in range(args.seeds)
        for layer, activation_un in activations(bundle, seed).items()
    }
    result = {
        "all": figures(pd.concat(tables.values(), ignore_index=True)),
        "by layer": {name: figures(table) for name, table in tables.items()},
    }
    RESULT.write_text(json.dumps(rounded(result), indent=1) + "\n", "utf-8")
    print(json.dumps(rounded(result), indent=1))


if __name__ == "__main__":
    main()
