"""Do label methods name neurons better by what they look at than by whole images? The demo.

Of neurons whose truth was measured, the thirty strongest exemplars are embedded as they are, and
cut to the box around the places where the neuron's activation map is at least half of its largest
value (``masked_exemplars``). Either set of vectors is labelled three ways: by the cosine of its
mean (SemanticLens), by its mean beside each label's mean and spread over all such vectors (CSP+ at
one depth, gamma 0), and the same less what each exemplar shares with its nearest contrast image,
which stays whole (gamma 1). Photographs are the demo's thumbnails.

    python -m studies regions [--limit N]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from csp_engine.bundle import Bundle
from csp_engine.demo.shipping.bundling import load_demo_encoder
from csp_engine.evaluation.label_accuracy import wording_key
from csp_engine.evaluation.paired_effects import mean_effect
from csp_engine.networks.attributing.geometry import frame_of, onto_picture
from csp_engine.networks.attributing.neuron_maps import own_maps
from csp_engine.networks.layers import select_layers
from csp_engine.pipeline.mapping.neuron_pixels import pictures
from csp_engine.serving.map_process import network_of
from csp_engine.stats.intervals import share_of
from csp_engine.views.accuracy import MEASURED, known_neurons, wordings_of
from studies.masked_exemplars import boxed
from studies.real_dermoscopy import rounded
from studies.vocabulary_gap import DEMO

N_SCORE = 30
KINDS = ("whole", "region")
WAYS = ("SemanticLens", "CSP+ at one depth, gamma 0", "CSP+ at one depth, gamma 1")
RESULT = Path(__file__).parent / "results" / "regions.json"


def vectors_of_layer(
    bundle: Bundle, model: str, layer: str, units: list[int], encoder: Any
) -> Iterator[dict[str, Any]]:
    """For each unit the vectors of its exemplars, whole and cut, and of their contrast images."""
    network = network_of(bundle, model)
    (tap,) = select_layers(network, [layer])
    exemplars, contrast = bundle.exemplars(model, layer), bundle.contrast(model, layer)
    image_nd, frame = np.asarray(bundle.image_vectors()), None
    for unit in units:
        n = min(int(exemplars.count_u[unit]), N_SCORE)
        shown = pictures(bundle, exemplars.image_uk[unit, :n].tolist())
        maps = own_maps(network, tap, unit, np.stack([network.preprocess(p) for p in shown]))
        onto = [
            onto_picture(grid, frame or (frame := frame_of(network.preprocess, *picture.size)))[0]
            for grid, picture in zip(maps, shown, strict=True)
        ]
        cut = [boxed(picture, at) for picture, at in zip(shown, onto, strict=True)]
        found = {
            kind: encoder.embed_images(np.stack([encoder.preprocess(i) for i in each]))
            for kind, each in zip(KINDS, (shown, cut), strict=True)
        }
        quiet = image_nd[np.asarray(contrast.image_ukj)[unit, :n, 0]]
        has_k = np.asarray(contrast.n_partner_uk)[unit, :n] > 0
        yield {
            "model": model,
            "layer": layer,
            "unit": unit,
            "quiet": quiet * has_k[:, None],
        } | found


def without(row: dict[str, Any], kind: str) -> np.ndarray:
    """Vectors less what they share with the contrast image of their exemplar."""
    shared = (row[kind] * row["quiet"]).sum(axis=1, keepdims=True)
    return np.asarray(row[kind] - shared * row["quiet"])


def labelled(rows: list[dict[str, Any]], label_td: np.ndarray) -> pd.DataFrame:
    """The best label of every unit, by way and kind of image."""
    said: dict[tuple[str, str], list[int]] = {}
    for kind in KINDS:
        sets = {WAYS[1]: [row[kind] for row in rows], WAYS[2]: [without(row, kind) for row in rows]}
        said[WAYS[0], kind] = [
            int((label_td @ each.mean(axis=0)).argmax()) for each in sets[WAYS[1]]
        ]
        for way, each_set in sets.items():
            value_kt = np.concatenate(each_set) @ label_td.T
            centre_t, spread_t = value_kt.mean(axis=0), value_kt.std(axis=0)
            said[way, kind] = [
                int(((each.mean(axis=0) @ label_td.T - centre_t) / spread_t).argmax())
                for each in each_set
            ]
    return pd.DataFrame(said)


def figures(right: pd.DataFrame, seed: int = 0) -> dict[str, Any]:
    """Right by way and kind of image, and regions less whole images in pairs."""
    found: dict[str, Any] = {}
    for way in WAYS:
        whole_u, region_u = (right[way, kind].to_numpy(float) for kind in KINDS)
        gain_u = region_u - whole_u
        n_only = [int((gain_u > 0).sum()), int((gain_u < 0).sum())]
        told = mean_effect(gain_u, np.arange(len(gain_u)), seed)
        shares = [share_of(int(own_u.sum()), len(own_u)) for own_u in (whole_u, region_u)]
        found[way] = {
            **{k: [s.share, s.low, s.high] for k, s in zip(KINDS, shares, strict=True)},
            "region less whole": [told.value, told.low, told.high],
            "only one right": n_only,
            "p": float(binomtest(n_only[0], sum(n_only)).pvalue) if sum(n_only) else 1.0,
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=20, help="neurons of a layer")
    args = parser.parse_args()
    bundle = Bundle.open(DEMO)
    encoder = load_demo_encoder(DEMO.parent / "encoder")
    known = known_neurons(bundle)
    rows, truth = [], []
    for (model, layer), own in known[known["kind"] == MEASURED].groupby(["model", "layer"]):
        place = np.random.default_rng(0).permutation(len(own))[: args.limit]
        some = own.iloc[np.sort(place)]
        rows += vectors_of_layer(bundle, model, layer, some["unit"].tolist(), encoder)
        truth += some["concepts"].tolist()
        print(model, layer, len(some), flush=True)
    texts = bundle.labels()["text"].tolist()
    single = [t for t, text in enumerate(texts) if " and " not in text]
    said = labelled(rows, np.asarray(bundle.label_vectors())[single])
    keys = {n: {wording_key(w) for w in own} for n, own in wordings_of(bundle).items()}
    accepted = [set().union(*(keys[name] for name in names)) for names in truth]
    right = said.apply(
        lambda column: [
            wording_key(texts[single[label]]) in ok
            for label, ok in zip(column, accepted, strict=True)
        ]
    )
    layers = np.array([f"{row['model']}/{row['layer']}" for row in rows])
    found = {
        "neurons": len(rows),
        "all": figures(right),
        "by layer": {
            layer: {
                way: {kind: float(right.loc[layers == layer, (way, kind)].mean()) for kind in KINDS}
                for way in WAYS
            }
            for layer in dict.fromkeys(layers.tolist())
        },
    }
    RESULT.write_text(json.dumps(rounded(found), indent=1) + "\n", "utf-8")
    print(json.dumps(rounded(found), indent=1))


if __name__ == "__main__":
    main()
