"""One image changed in ways that leave what it shows: what a neuron and the decision do then."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from csp_engine.errors import UnansweredError

if TYPE_CHECKING:
    from csp_engine.pipeline.mapping.overlays import NeuronOverlays

KEPT = 0.7
"""What is left of either side once the edge is cut off."""
BLUR = 0.02
"""Standard deviation of the blur, as a share of the longer side."""
DARK = 0.6
"""Brightness once it is darker, as a share of what it was."""
HUE = 85
"""Steps of 256 by which hues are turned: a third of the circle."""


def _middle(picture: Image.Image) -> Image.Image:
    cut_x, cut_y = (round(side * (1 - KEPT) / 2) for side in picture.size)
    return picture.crop((cut_x, cut_y, picture.width - cut_x, picture.height - cut_y))


def _hues_turned(picture: Image.Image) -> Image.Image:
    hue, saturation, value = picture.convert("HSV").split()
    turned = hue.point(lambda step: (step + HUE) % 256)
    return Image.merge("HSV", (turned, saturation, value)).convert("RGB")


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "as it is": lambda picture: picture,
    "flipped left to right": ImageOps.mirror,
    "flipped upside down": ImageOps.flip,
    "cropped to the middle": _middle,
    "turned grey": lambda picture: ImageOps.grayscale(picture).convert("RGB"),
    "recoloured": _hues_turned,
    "darkened": lambda picture: ImageEnhance.Brightness(picture).enhance(DARK),
    "blurred": lambda picture: picture.filter(ImageFilter.GaussianBlur(BLUR * max(picture.size))),
}
"""Every change by its name; the first is none."""


@dataclass(frozen=True, slots=True)
class Version:
    """One version of an image.

    Attributes:
        name: a key of ``CHANGES``.
        activation: of the neuron, pooled as in the bundle.
        decided: the output decided for, by number; None where the network has no outputs. With
            one output, 1 where it is above 0, else 0.
        log_odds: of the output that the unchanged image is decided for; NaN where there is none.
        picture: WebP, under the neuron's map where one was asked for.
        n_outputs: of the network.
    """

    name: str
    activation: float
    decided: int | None
    log_odds: float
    picture: bytes
    n_outputs: int = 0


def versions(overlays: NeuronOverlays, picture: Image.Image, name: str = "") -> list[Version]:
    """What a neuron and its network make of each version of a picture.

    Args:
        overlays: of the neuron.
        picture: RGB.
        name: of the map to draw over the versions; empty for none.

    Raises:
        UnansweredError: if the network's outputs for a version are not numbers.
        InputError: if there is no such map of the neuron.
    """
    from csp_engine.networks.activations import ActivationRecorder
    from csp_engine.pipeline.mapping.overlays import shaded

    shown = [change(picture) for change in CHANGES.values()]
    pixels = np.stack([overlays.model.preprocess(each) for each in shown])
    layer = str(overlays.tap.id)
    with ActivationRecorder(overlays.model, [overlays.tap], keep_logits=True) as recorder:
        activation_v = recorder(pixels)[layer][:, overlays.unit]
        logit_vc = None if recorder.logits is None else np.asarray(recorder.logits, np.float64)
    if logit_vc is not None:
        is_lost_v = (np.isnan(logit_vc) | np.isposinf(logit_vc)).any(axis=1)
        if is_lost_v.any():
            at = int(is_lost_v.argmax())
            raise UnansweredError(overlays.model.name, at, image=f"the image {list(CHANGES)[at]}")
    n_outputs = 0 if logit_vc is None else logit_vc.shape[1]
    if logit_vc is not None and n_outputs == 1:
        decided_v: list[int | None] = [int(each > 0) for each in logit_vc[:, 0]]
        odds_v = logit_vc[:, 0] if decided_v[0] else -logit_vc[:, 0]
    elif logit_vc is not None:
        decided_v = logit_vc.argmax(axis=1).tolist()
        output = int(logit_vc[0].argmax())
        are_apart = overlays.model.outputs.are_apart
        odds_v = logit_vc[:, output] if are_apart else _log_odds(logit_vc, output)
    else:
        decided_v, odds_v = [None] * len(shown), np.full(len(shown), np.nan)
    if name:
        maps = overlays.over(name, shown)
        shown = [shaded(each, map_yx) for each, map_yx in zip(shown, maps, strict=True)]
    return [
        Version(change, float(activation), decided, float(odds), _webp(each), n_outputs)
        for change, activation, decided, odds, each in zip(
            CHANGES, activation_v, decided_v, odds_v, shown, strict=True
        )
    ]


def packed(found: Sequence[Version]) -> bytes:
    """Versions as JSON, each with its picture in base64."""
    return json.dumps(
        [
            {
                "name": each.name,
                "activation": each.activation,
                "decided": each.decided,
                "log_odds": each.log_odds if math.isfinite(each.log_odds) else None,
                "picture": base64.b64encode(each.picture).decode(),
                "n_outputs": each.n_outputs,
            }
            for each in found
        ]
    ).encode()


def unpacked(content: bytes) -> list[Version]:
    """What ``packed`` wrote."""
    return [
        Version(
            row["name"],
            row["activation"],
            row["decided"],
            math.nan if row["log_odds"] is None else row["log_odds"],
            base64.b64decode(row["picture"]),
            row["n_outputs"],
        )
        for row in json.loads(content)
    ]


def _log_odds(logit_vc: np.ndarray, output: int) -> np.ndarray:
    others_vc = np.delete(logit_vc, output, axis=1)
    most_v = others_vc.max(axis=1)
    rest_v = most_v + np.log(np.exp(others_vc - most_v[:, None]).sum(axis=1))
    return logit_vc[:, output] - rest_v


def _webp(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=80, method=4)
    return buffer.getvalue()
