"""Are directions of the embeddings at random off the vocabulary? And what would refuse them?

Directions are drawn as ``planted_units`` does, none of them anew, and labelled by CSP+ with the
demo's words; the rule of ground truth says by the probe set's own columns which concept each
answers to, if any, and no encoder has a say in that. Then three further conditions: that the images
which show the label (Otsu) explain so much of ``reach``, that the label and one more word do, and a
higher ``explained``. Each has the bar that takes 0.5 % of the right claims away on half of the
demo's neurons, and the second also the highest, in steps of .025, that takes none: it is the sixth
condition of CSP+. The other half confirms, and so do layers that chose nothing, six further layers,
units planted with new seeds, and the directions; the last seeds of both were drawn afterwards.

    python -m studies off_vocabulary [--others FOLDER] [--further FOLDER] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from csp_engine.bundle import Bundle
from csp_engine.evaluation.ground_truth import true_concepts
from csp_engine.evaluation.label_accuracy import wording_key
from csp_engine.evaluation.planted_units import Plan, Unit, plant
from csp_engine.methods.depths.columns import LabelColumns, correlation
from csp_engine.methods.depths.two_words import TwoWords
from csp_engine.stats.intervals import share_of
from csp_engine.stats.otsu import otsu
from csp_engine.views.benchmark.planted import World, judged_units, labelled, world_of
from studies.fourth_condition import LAYERS
from studies.other_layers import other_layers
from studies.real_dermoscopy import ROOT, rounded
from studies.sure_and_wrong import FIVE, METHOD, claimed, known
from studies.vocabulary_gap import DEMO, activations

N_DIRECTIONS, SEEDS, LATER_SEEDS = 2000, (0, 1), (2, 3)
PLANTED_SEEDS, LATER_PLANTED_SEEDS = (401, 402, 403, 404), (501, 502, 503, 504)
LOSS, STEP = 0.005, 0.025
CONDITIONS = ("shown", "two words", "explained")
RESULT = Path(__file__).parent / "results" / "off_vocabulary.json"


class Words:
    """What images say of the labels of a bundle."""

    def __init__(self, image_nd: np.ndarray, label_td: np.ndarray, texts: Sequence[str]) -> None:
        self.place = {text: t for t, text in reversed(list(enumerate(texts)))}
        self.similarity_nt = np.asarray(image_nd) @ np.asarray(label_td).T
        single_t = np.array([" and " not in text for text in texts])
        columns = LabelColumns(image_nd, label_td)
        self.two_words = TwoWords(columns, columns.image_nd, label_td, single_t)

    def measured(self, activation_un: np.ndarray, told: pd.DataFrame) -> pd.DataFrame:
        """Of each claimed label, as shares of ``reach``, what the conditions ask for."""
        found = pd.DataFrame(np.nan, columns=list(CONDITIONS), index=told.index)
        for place in np.flatnonzero(told["claimed"]):
            activation_n, own = activation_un[place], told.iloc[place]
            label = self.place[own["label"]]
            similarity_n = self.similarity_nt[:, label]
            shown = correlation(activation_n, similarity_n > otsu(similarity_n))
            r = np.float32([correlation(activation_n, similarity_n)])
            (two,) = self.two_words.explained(np.float32(activation_n)[None], np.array([label]), r)
            asked = np.array([shown, two, own["fit"]])
            found.iloc[place] = asked / max(own["reach"], 1e-9)
        return found


def neurons(bundle: Bundle, made: Mapping[str, np.ndarray] | None = None) -> pd.DataFrame:
    """Every neuron: what is true and claimed, and what the conditions ask for."""
    words = Words(bundle.image_vectors(), bundle.label_vectors(), bundle.labels()["text"].tolist())
    parts = []
    table = known(bundle).reset_index(drop=True)
    table["claimed"] = claimed(table, FIVE)
    for (model, layer), own in table.groupby(["model", "layer"], sort=False):
        if made is not None and f"{model}/{layer}" not in made:
            continue  # the planted network's activations do not come from photographs
        activation_un = made[f"{model}/{layer}"] if made else bundle.activations(model, layer)
        acts_un = np.asarray(activation_un)[own["unit"].to_numpy()]
        has_truth_u = own["concepts"].map(len) > 0
        told = pd.DataFrame(
            {
                "right": own["best"].astype("boolean").mask(~has_truth_u),
                **{name: own[name] for name in ("claimed", "label", "fit", "reach")},
            }
        )
        parts.append(told.join(words.measured(acts_un, told)))
    return pd.concat(parts, ignore_index=True)


def of_units(world: World, words: Words, units: Sequence[Unit]) -> pd.DataFrame:
    """The same of planted units, with ``row``, ``label`` and ``is_noise``."""
    own = replace(world, params={METHOD: {**world.params[METHOD], **FIVE}})
    done = labelled(own, units, own.recipe.n_null, 1)[METHOD]
    table = judged_units(own, units, METHOD, done)
    told = pd.DataFrame(
        {
            "row": table["row"],
            "label": [world.texts[label] for label in table["label"]],
            "right": table["is_right"].astype("boolean"),
            "claimed": table["is_reliable"].astype(bool),
            "fit": np.asarray(done.arrays["fit"]),
            "reach": np.asarray(done.arrays["reach"]),
        }
    )
    told.loc[told["row"].str.startswith("noise"), "right"] = pd.NA
    return told.join(words.measured(np.stack([unit.activation_n for unit in units]), told))


def directions(world: World, words: Words, seed: int) -> pd.DataFrame:
    """Directions at random: which concept is true of each, and which goes with it best."""
    centred_nd = world.image_nd - world.image_nd.mean(axis=0)
    rng = np.random.default_rng([seed, 12])
    direction_ud = rng.standard_normal((N_DIRECTIONS, centred_nd.shape[1]))
    activation_un = (direction_ud @ centred_nd.T).astype(np.float32)
    table = of_units(world, words, [Unit("noise", (), each_n) for each_n in activation_un])
    truth = true_concepts(activation_un, world.is_shown_nc)
    shown_nc = world.is_shown_nc - world.is_shown_nc.mean(axis=0)
    shown_nc /= np.maximum(np.linalg.norm(shown_nc, axis=0), 1e-9)
    best_u = (activation_un @ shown_nc).argmax(axis=1)
    key_u = table["label"].map(wording_key)

    def says(concept_u: np.ndarray) -> list[bool]:
        return [key in world.accepted_c[c] for key, c in zip(key_u, concept_u, strict=True)]

    table["is_named"] = truth.is_true_u
    table["right"] = pd.array(says(truth.concept_u), "boolean")
    table.loc[~truth.is_true_u, "right"] = pd.NA
    table["says best column"] = says(best_u)
    return table


def figures(table: pd.DataFrame, said_u: pd.Series) -> dict[str, Any]:
    """Claims that are right and wrong where something is true, and refusals where nothing is."""
    has_truth_u = table["right"].notna()
    right_u = table["right"].fillna(False).astype(bool)
    counts = {
        "right": (said_u & right_u, has_truth_u),
        "wrong": (said_u & has_truth_u & ~right_u, has_truth_u),
        "none refused": (~said_u & ~has_truth_u, ~has_truth_u),
    }
    return {
        name: asdict(share_of(int(hits.sum()), int(of.sum())))
        for name, (hits, of) in counts.items()
        if of.any()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    bundles = ROOT / "bundles"
    parser.add_argument("--others", type=Path, default=bundles / "other-layers")
    parser.add_argument("--further", type=Path, default=bundles / "fifth-condition")
    parser.add_argument("--out", type=Path, default=bundles / "vocabulary_gap")
    args = parser.parse_args()
    demo = Bundle.open(DEMO)
    world = world_of(demo)
    words = Words(world.image_nd, world.label_td, world.texts)
    drawn, drawn_later = (
        pd.concat([directions(world, words, seed) for seed in seeds], ignore_index=True)
        for seeds in (SEEDS, LATER_SEEDS)
    )
    accepted = drawn[drawn["claimed"]]
    own = neurons(demo, activations(demo, args.out))
    chooses_u = np.random.default_rng(0).random(len(own)) < 0.5
    chosen = own[chooses_u & own["claimed"] & own["right"].fillna(False).astype(bool)]
    bars = {name: (name, float(chosen[name].quantile(LOSS))) for name in CONDITIONS}
    bars["sixth"] = ("two words", float(np.floor(chosen["two words"].min() / STEP) * STEP))
    planted, planted_later = (
        pd.concat([
            of_units(world, words, plant(world.is_shown_nc, world.image_nd, Plan(seed=seed)))
            for seed in seeds
        ], ignore_index=True)
        for seeds in (PLANTED_SEEDS, LATER_PLANTED_SEEDS)
    )  # fmt: skip
    tables = {
        "demo, half that chose": own[chooses_u],
        "demo, other half": own[~chooses_u],
        "layers that chose nothing": neurons(other_layers(demo, args.others)),
        "six other layers": neurons(
            other_layers(demo, args.further, layers=LAYERS, methods=METHOD)
        ),
        "planted units": planted,
        "planted units, later seeds": planted_later,
        "directions": drawn,
        "directions, later seeds": drawn_later,
    }
    result: dict[str, Any] = {
        "directions": {
            "n": len(drawn),
            "answer to a concept": int(drawn["is_named"].sum()),
            "accepted": len(accepted),
            "accepted, its true concept": int(accepted["right"].fillna(False).sum()),
            "accepted, its best column": int(accepted["says best column"].sum()),
            "least reach": float(drawn["reach"].min()),
        },
        "greatest reach of a neuron": float(known(demo)["reach"].max()),
        "bars": {which: bar for which, (_, bar) in bars.items()},
        "figures": {
            name: {
                "as it is": figures(table, table["claimed"]),
                **{
                    which: figures(table, table["claimed"] & (table[name] >= bar))
                    for which, (name, bar) in bars.items()
                },
            }
            for name, table in tables.items()
        },
    }
    print(json.dumps(rounded(result), indent=1))
    RESULT.write_text(json.dumps(rounded(result), indent=1) + "\n")


if __name__ == "__main__":
    main()
