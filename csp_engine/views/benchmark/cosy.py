"""CoSy on the labels of a bundle: images made of each label, shown to the networks themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from PIL import Image

from csp_engine.bundle import Bundle, kinds
from csp_engine.errors import InputError
from csp_engine.evaluation.faithfulness.cosy import Cosy, cosy
from csp_engine.probe.images import thumbnail
from csp_engine.stats.paired import compare
from csp_engine.types import LayerId, Progress, silent
from csp_engine.views.benchmark.faithfulness import drawn_mean

if TYPE_CHECKING:
    from csp_engine.encoders.making import Maker
    from csp_engine.networks.models import TargetModel

N_IMAGES, N_CONTROL, N_NEURONS = 20, 200, 20
"""Images of each label, control images, and neurons of each layer."""


def cosy_benchmark(
    bundle: Bundle,
    maker: Maker,
    models: Mapping[str, TargetModel],
    *,
    n_neurons: int = N_NEURONS,
    n_images: int = N_IMAGES,
    n_control: int = N_CONTROL,
    seed: int = 0,
    progress: Progress = silent,
) -> dict[str, Any]:
    """AUROC and MAD of every method's best label for some neurons of each layer. JSON-ready.

    Control images are probe images at random; both kinds are seen as thumbnails, so that neither
    is sharper. ``methods`` holds means with neurons drawn anew, ``differences`` each two methods
    paired, ``neurons`` a row for each neuron and method; labels that the maker cannot show are
    counted as ``n_not_made``.

    Args:
        bundle: with labels.
        maker: makes images of a text.
        models: the networks by name, as they were built.
        n_neurons: of each layer, drawn among those with a label by every method.
        n_images: of each label.
        n_control: control images.
        seed: of neurons, control images and made images.
        progress: called with the labels done.

    Raises:
        InputError: if a network is not the one of the bundle, or no label can be shown.
    """
    rng = np.random.default_rng(seed)
    side = int(bundle.stage(kinds.IMAGES.name()).params["thumbnail_side"])
    picked = rng.permutation(bundle.n_images)[:n_control]
    control = [bundle.thumbnail(int(image)) for image in picked]
    chosen = [
        (name, layer, unit, texts)
        for name in models
        for layer in bundle.layers(name)
        if LayerId.parse(layer).sae is None
        for unit, texts in _neurons(bundle, name, layer, n_neurons, rng)
    ]
    said = list(dict.fromkeys(text for *_, texts in chosen for text in texts.values()))
    made: dict[str, list[bytes]] = {}
    for done, text in enumerate(said, start=1):
        made[text] = [thumbnail(image, side) for image in maker.images(text, n_images, seed)]
        progress("images of labels", done, len(said))
    shown = [text for text in said if len(made[text]) >= 2]
    if not shown:
        raise InputError(
            f"{maker.name} can show none of the {len(said)} labels of {bundle.name}; name another "
            "maker with --cosy."
        )
    seen = {
        name: _activations(bundle, name, model, {"": control, **{t: made[t] for t in shown}})
        for name, model in models.items()
    }
    rows = []
    for name, layer, unit, texts in chosen:
        for method, text in texts.items():
            own = seen[name][layer]
            found = cosy(own[text][unit], own[""][unit]) if text in shown else None
            where = {"neuron": f"{name}/{layer}/{unit}", "method": method, "label": text}
            rows.append({**where, **(_NOTHING if found is None else asdict(found))})
    table = pd.DataFrame(rows)
    methods = {
        str(method): {
            "n": int(own["auroc"].notna().sum()),
            "n_not_made": int(own["auroc"].isna().sum()),
            **{figure: drawn_mean(own[figure]) for figure in ("auroc", "mad")},
        }
        for method, own in table.groupby("method", sort=False)
    }
    wide = table.pivot(index="neuron", columns="method", values="auroc")
    pairs = compare({method: wide[method].to_numpy() for method in methods})
    return {
        "maker": maker.name,
        "n_images": n_images,
        "n_control": len(control),
        "methods": methods,
        "differences": [asdict(pair) for pair in pairs],
        "neurons": rows,
    }


_NOTHING = dict.fromkeys(Cosy.__dataclass_fields__, float("nan"))


def _neurons(
    bundle: Bundle, model: str, layer: str, n: int, rng: np.random.Generator
) -> list[tuple[int, dict[str, str]]]:
    """Some units that every method has a label for, with these labels."""
    best: dict[str, list[str]] = {}
    has_all_u = np.ones(bundle.n_units(model, layer), bool)
    for method in bundle.methods(model, layer):
        scores = bundle.scores(model, layer, method)
        best[method] = bundle.best_texts(model, layer, method).tolist()
        has_all_u &= np.asarray(scores.count_u) > 0
    units = np.flatnonzero(has_all_u)
    picked = np.sort(rng.permutation(units)[:n]).tolist() if best else []
    return [(unit, {method: best[method][unit] for method in best}) for unit in picked]


def _activations(
    bundle: Bundle, name: str, model: TargetModel, images: Mapping[str, Sequence[bytes]]
) -> dict[str, dict[str, np.ndarray]]:
    """Layer → what images are of → activations ``(u, n)``."""
    from csp_engine.networks.activations import ActivationRecorder
    from csp_engine.networks.layers import select_layers

    described = bundle.manifest.inputs["models"][name]
    if model.fingerprint != described["fingerprint"]:
        raise InputError(
            f"{name} is not the network that {bundle.name} was built with; CoSy needs the same "
            "weights and preprocessing."
        )
    layers = [layer for layer in bundle.layers(name) if LayerId.parse(layer).sae is None]
    found: dict[str, dict[str, np.ndarray]] = {layer: {} for layer in layers}
    with ActivationRecorder(model, select_layers(model, layers)) as recorder:
        for text, thumbs in images.items():
            shown = [Image.open(BytesIO(thumb)).convert("RGB") for thumb in thumbs]
            for layer, act_nu in recorder(np.stack([model.preprocess(i) for i in shown])).items():
                found[layer][text] = act_nu.T
    return found
