"""Does MILAN name neurons better when it is shown what they look at?

MILAN's captioner was made for exemplars with all but the neuron's own regions masked. Here, of
neurons of the demo whose truth was measured, the exemplars are shown as they are (``whole``), grey
where the neuron's activation map is below half of its largest value (``masked``), cut to what is
left (``cropped``, as generators of candidates are shown them), or cut without grey (``boxed``). The
best way is chosen on one half of the neurons and confirmed on the other. Photographs are the demo's
thumbnails.

    python -m studies masked_exemplars [--layer MODEL/LAYER ...] [--limit N]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from scipy.stats import binomtest

from csp_engine.bundle import Bundle
from csp_engine.captioners.speaking import Speaking
from csp_engine.demo.shipping.bundling import load_demo_captioner, load_demo_encoder
from csp_engine.evaluation.label_accuracy import wording_key
from csp_engine.evaluation.paired_effects import halves, mean_effect
from csp_engine.methods.milan import MILAN, rerank
from csp_engine.networks.attributing.geometry import frame_of, onto_picture
from csp_engine.networks.attributing.neuron_maps import own_maps
from csp_engine.networks.layers import select_layers
from csp_engine.pipeline.mapping.crops import GREY, cropped, looked_at
from csp_engine.pipeline.mapping.neuron_pixels import pictures
from csp_engine.serving.map_process import network_of
from csp_engine.stats.intervals import share_of
from csp_engine.views.accuracy import MEASURED, known_neurons, wordings_of
from studies.real_dermoscopy import rounded
from studies.vocabulary_gap import DEMO

WHOLE = "whole"
RESULT = Path(__file__).parent / "results" / "masked_exemplars.json"


def masked(picture: Image.Image, map_yx: np.ndarray) -> Image.Image:
    """The picture, grey where the neuron looks at nothing."""
    kept = looked_at(map_yx)[..., None]
    return Image.fromarray(np.where(kept, np.asarray(picture.convert("RGB")), np.uint8(GREY)))


def boxed(picture: Image.Image, map_yx: np.ndarray) -> Image.Image:
    """The box around what the neuron looks at, nothing in it grey."""
    y, x = np.nonzero(looked_at(map_yx))
    box = (x.min(), y.min(), x.max() + 1, y.max() + 1)
    return picture.crop(tuple(int(each) for each in box))


WAYS: dict[str, Callable[[Image.Image, np.ndarray], Image.Image]] = {
    WHOLE: lambda picture, _: picture,
    "masked": masked,
    "cropped": cropped,
    "boxed": boxed,
}


def said_of_layer(
    bundle: Bundle, model: str, layer: str, units: list[int], encoder: Any, speaker: Any
) -> pd.DataFrame:
    """By unit and way, the best label."""
    network = network_of(bundle, model)
    (tap,) = select_layers(network, [layer])
    exemplars = bundle.exemplars(model, layer)
    settings = MILAN.params
    rows, frame = [], None
    for unit in units:
        n = min(int(exemplars.count_u[unit]), speaker.n_images, settings["n_score"])
        shown = pictures(bundle, exemplars.image_uk[unit, :n].tolist())
        pixels = np.stack([network.preprocess(picture) for picture in shown])
        maps = own_maps(network, tap, unit, pixels)
        onto = [
            onto_picture(grid, frame or (frame := frame_of(network.preprocess, *picture.size)))[0]
            for grid, picture in zip(maps, shown, strict=True)
        ]
        sets = []
        for way in WAYS.values():
            looked = [way(picture, at) for picture, at in zip(shown, onto, strict=True)]
            sets.append(encoder.embed_images(np.stack([encoder.preprocess(i) for i in looked])))
        found = speaker.propose(sets, settings["n_beams"])
        best = [rerank(own, settings["prior_weight"])[0].text for own in found]
        rows.append(
            {"model": model, "layer": layer, "unit": unit, **dict(zip(WAYS, best, strict=True))}
        )
    return pd.DataFrame(rows)


def figures(bundle: Bundle, said: pd.DataFrame, seed: int = 0) -> dict[str, Any]:
    """Right by way on both halves; the best region of one half beside whole ones on the other."""
    accepted = {
        name: {wording_key(text) for text in texts} for name, texts in wordings_of(bundle).items()
    }
    truth = known_neurons(bundle).set_index(["model", "layer", "unit"])["concepts"]
    concepts = [truth[tuple(row)][0] for row in said[["model", "layer", "unit"]].to_numpy()]
    right = {
        way: np.array(
            [wording_key(text) in accepted[c] for text, c in zip(said[way], concepts, strict=True)]
        )
        for way in WAYS
    }
    is_choosing_n = halves(np.arange(len(said)), seed)
    shares = {
        half: {way: share_of(int(own[of].sum()), int(of.sum())) for way, own in right.items()}
        for half, of in (("chosen on", is_choosing_n), ("confirmed on", ~is_choosing_n))
    }
    best = max(WAYS, key=lambda way: shares["chosen on"][way].share)
    other = max((w for w in WAYS if w != WHOLE), key=lambda w: shares["chosen on"][w].share)
    gain_n = right[other][~is_choosing_n].astype(float) - right[WHOLE][~is_choosing_n]
    n_only = [int((gain_n > 0).sum()), int((gain_n < 0).sum())]
    told = mean_effect(gain_n, np.arange(len(gain_n)), seed)
    layers = said["model"] + "/" + said["layer"]
    return {
        "neurons": len(said),
        "best where chosen": best,
        "best that shows a region": other,
        "right": {
            half: {way: [s.n_hits, s.n, s.share, s.low, s.high] for way, s in own.items()}
            for half, own in shares.items()
        },
        "region less whole, confirmed": [told.value, told.low, told.high],
        "only one right": n_only,
        "p": float(binomtest(n_only[0], sum(n_only)).pvalue) if sum(n_only) else 1.0,
        "by layer": {
            layer: {
                "n": int((layers == layer).sum()),
                **{
                    way: float(own[(layers == layer).to_numpy()].mean())
                    for way, own in right.items()
                },
            }
            for layer in dict.fromkeys(layers)
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=100, help="neurons of a layer")
    parser.add_argument("--out", type=Path, default=RESULT)
    asked = parser.parse_args()
    bundle = Bundle.open(DEMO)
    encoder = load_demo_encoder(DEMO.parent / "encoder")
    speaker = Speaking(load_demo_captioner(DEMO.parent / "captioner"))
    known = known_neurons(bundle)
    rows = []
    for (model, layer), own in known[known["kind"] == MEASURED].groupby(["model", "layer"]):
        units = own["unit"].to_numpy()
        rng = np.random.default_rng(0)
        if len(units) > asked.limit:
            units = np.sort(rng.choice(units, asked.limit, replace=False))
        rows.append(said_of_layer(bundle, model, layer, units.tolist(), encoder, speaker))
        print(model, layer, len(units), flush=True)
    said = pd.concat(rows, ignore_index=True)
    found = {"demo": bundle.digest, "limit": asked.limit, **figures(bundle, said)}
    asked.out.write_text(json.dumps(rounded(found), indent=1) + "\n", "utf-8")
    print(json.dumps(rounded(found), indent=1))


if __name__ == "__main__":
    main()
