"""Maps of neurons in a process of their own, as overlays for the pictures that pages show.

Networks are run on the thumbnails that the bundle keeps. A neuron that fires otherwise on those
than it did on the photographs gets no map.
"""

from __future__ import annotations

import os
import struct
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from csp_engine import errors
from csp_engine.bundle import Bundle
from csp_engine.pipeline.mapping.changes import Version, packed, unpacked, versions
from csp_engine.printable import shown_spec
from csp_engine.serving.encoder_process import Apart, main
from csp_engine.serving.turns import Turns
from csp_engine.trust import TRUST, require_trust
from csp_engine.types import NeuronRef

if TYPE_CHECKING:
    from csp_engine.pipeline.mapping.overlays import NeuronOverlays

MOST_KEPT = 4096
"""Overlays that are kept, of a few kilobytes each."""


class MapProcess(Apart):
    """Overlays of neurons' maps; each network is loaded when it is first needed."""

    module = __name__

    def __init__(self, turns: Turns | None = None) -> None:
        super().__init__(turns or Turns(what="network"))

    def overlays(
        self, bundle: Bundle, neuron: NeuronRef, name: str, images: Sequence[int], visitor: str = ""
    ) -> bytes:
        """A pack as thumbnails come in: count and lengths (uint32), then a WebP file for each.

        Raises:
            BusyError: if too many ask, or this visitor has asked for too much.
            CspError: if the network is not at hand or the layer has no such map.
        """
        return self._asked(bundle, neuron, name, visitor, images=list(map(int, images)))

    def versions(
        self, bundle: Bundle, neuron: NeuronRef, name: str, image: int, visitor: str = ""
    ) -> list[Version]:
        """What a neuron and its network make of one image changed.

        Args:
            bundle: of the neuron.
            neuron: whose activation is measured.
            name: of the map to draw over the versions; empty for none.
            image: number of the probe image.
            visitor: who asks.

        Raises:
            BusyError: if too many ask, or this visitor has asked for too much.
            CspError: if the network is not at hand or the layer has no such map.
        """
        return unpacked(self._asked(bundle, neuron, name, visitor, changed=int(image)))

    def _asked(
        self, bundle: Bundle, neuron: NeuronRef, name: str, visitor: str, **asked: Any
    ) -> bytes:
        held = bundle.manifest.inputs["models"][neuron.model]
        question = {"neuron": [neuron.model, neuron.layer, neuron.unit], "map": name, **asked}
        what = f"The network {shown_spec(held['spec'])}"
        return self._ask(bundle, question, visitor=visitor, needed=held["fingerprint"], what=what)


def answer(question: dict[str, Any], content: bytes, loaded: dict[Any, Any]) -> tuple[str, bytes]:
    """The fingerprint of the network, and a pack of overlays, or versions of one image.

    ``loaded`` holds networks by fingerprint, bundles by path and digest, and overlays; what is new
    is added.

    Raises:
        CspError: as ``MapProcess.overlays``.
    """
    from csp_engine.pipeline.mapping.neuron_pixels import pictures

    os.environ[TRUST] = question[TRUST]
    place = question["bundle"], question["digest"]
    bundle = loaded[place] = loaded.get(place) or Bundle.open(question["bundle"])
    model, layer, unit = question["neuron"]
    fingerprint = bundle.manifest.inputs["models"][model]["fingerprint"]
    if fingerprint not in loaded:
        loaded[fingerprint] = network_of(bundle, model)
    neuron = NeuronRef(model, layer, int(unit))
    if "changed" in question:
        overlays = _overlays(bundle, loaded[fingerprint], neuron)
        (picture,) = pictures(bundle, [question["changed"]])
        return fingerprint, packed(versions(overlays, picture, question["map"]))
    kept: OrderedDict[Any, bytes] = loaded.setdefault("overlays", OrderedDict())
    keys = {i: (place, model, layer, unit, question["map"], i) for i in question["images"]}
    new = [image for image, key in keys.items() if key not in kept]
    if new:
        overlays = _overlays(bundle, loaded[fingerprint], neuron)
        drawn = overlays.of(question["map"], np.asarray(new, np.int64).tolist())
        kept.update({keys[image]: body for image, body in zip(new, drawn, strict=True)})
    bodies = [kept[keys[image]] for image in question["images"]]
    while len(kept) > MOST_KEPT:
        kept.popitem(last=False)
    head = struct.pack(f"<{len(bodies) + 1}I", len(bodies), *map(len, bodies))
    return fingerprint, head + b"".join(bodies)


def network_of(bundle: Bundle, name: str) -> Any:
    """The network of a bundle, if it is at hand and is the same; nothing is downloaded.

    Raises:
        MissingModelError: if it is Python code that nobody trusts, or is not on this machine.
        StaleError: if it has other weights or another preprocessing.
    """
    from csp_engine.networks.loading.preprocessing import kept_recipe
    from csp_engine.networks.models import load_model

    held = bundle.manifest.inputs["models"][name]
    spec = held["spec"]
    require_trust(f"The network {name}", spec)
    os.environ["HF_HUB_OFFLINE"] = "1"
    model = load_model(
        spec,
        name=name,
        preprocessing=kept_recipe(held.get("preprocessing")),
        precision=held.get("precision", "float32"),
    )
    if model.fingerprint != held["fingerprint"]:
        raise errors.StaleError(
            f"{shown_spec(spec)} is not the network that made {bundle.name}: its weights or its "
            "preprocessing differ, as where a checkpoint was given to the build; use 'csp maps' "
            "with --weights."
        )
    return model


def _overlays(bundle: Bundle, model: Any, neuron: NeuronRef) -> NeuronOverlays:
    from csp_engine.networks.layers import select_layers
    from csp_engine.pipeline.mapping.overlays import NeuronOverlays

    if "+" in neuron.layer:
        raise errors.InputError(
            f"{neuron.layer} is read through an autoencoder, which the bundle does not hold; use "
            "'csp maps'."
        )
    (tap,) = select_layers(model, [neuron.layer])
    overlays = NeuronOverlays(bundle, model, tap, neuron.unit)
    overlays.require_alike()
    return overlays


if __name__ == "__main__":
    main(answer)
