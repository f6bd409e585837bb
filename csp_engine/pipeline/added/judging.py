"""What an encoder that did not choose the labels sees: held-out images, or the probe set's own."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from jaxtyping import Float32
from PIL import Image

from csp_engine.bundle import Bundle, kinds
from csp_engine.encoders.answering import embedded
from csp_engine.errors import InputError, UnreadableImageError
from csp_engine.pipeline.passing.image_pass import Target
from csp_engine.probe.decoding import decode
from csp_engine.probe.listing import ProbeSet
from csp_engine.reading.groups import known_groups
from csp_engine.types import Encoder, Progress, silent

log = logging.getLogger(__name__)

BATCH = 32
LEAST_IMAGES = 20
"""Fewer tell nothing about a correlation."""


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """Images as the judge sees them, and as the networks do.

    Attributes:
        judge: the encoder.
        image_nd: its unit vectors of the images.
        activations: model and layer → activations on the same images; any arrays of rows.
        group_n: what the images are grouped by; None where they are independent.
        is_held_out: whether the images took no part in choosing labels.
        images: what they are, in words.
    """

    judge: Encoder
    image_nd: Float32[np.ndarray, "n d"]
    activations: Mapping[tuple[str, str], np.ndarray]
    group_n: np.ndarray | None
    is_held_out: bool
    images: str


def require_independent(bundle: Bundle, judge: Encoder) -> None:
    """Refuse a judge that chose the labels itself, or that cannot look at images.

    Raises:
        InputError: naming it.
    """
    if judge.fingerprint == bundle.manifest.inputs["encoder"]["fingerprint"]:
        raise InputError(
            f"{judge.spec} chose the labels of {bundle.name}, so it cannot judge them; name "
            "another encoder with --judge."
        )
    if not getattr(judge, "needs_pixels", True):
        raise InputError(
            f"{judge.spec} holds stored vectors and cannot look at images; name an encoder that "
            "can with --judge."
        )


def thumbnail_vectors(
    bundle: Bundle, judge: Encoder, progress: Progress = silent
) -> Float32[np.ndarray, "n d"]:
    """The judge's vectors of the probe images, from their thumbnails.

    Raises:
        InputError: if it is the bundle's own encoder, or takes no images.
    """
    require_independent(bundle, judge)
    files = bundle.table(kinds.PROBE.name(), "probe")["file"].tolist()
    parts = []
    for start in range(0, bundle.n_images, BATCH):
        rows = range(start, min(start + BATCH, bundle.n_images))
        shown = [Image.open(BytesIO(bundle.thumbnail(row))).convert("RGB") for row in rows]
        pixels = np.stack([judge.preprocess(image) for image in shown])
        parts.append(embedded(judge, pixels, files[rows.start : rows.stop]))
        progress("judge", rows.stop, bundle.n_images)
    return np.concatenate(parts)


def judge_probe(bundle: Bundle, judge: Encoder, progress: Progress = silent) -> Judged:
    """The probe set itself, by its thumbnails; labels were chosen with these images in view.

    Raises:
        InputError: if it is the bundle's own encoder, or takes no images.
        BundleError: if the activations were left out of this copy.
    """
    image_nd = thumbnail_vectors(bundle, judge, progress)
    activations = {
        (model, layer): bundle.activations(model, layer)
        for model in bundle.model_names
        for layer in bundle.layers(model)
    }
    group_n = known_groups(bundle.images())
    return Judged(judge, image_nd, activations, group_n, False, "the probe set")


def judge_held_out(
    bundle: Bundle,
    judge: Encoder,
    images: ProbeSet,
    targets: Sequence[Target],
    progress: Progress = silent,
) -> Judged:
    """Images that took no part in anything, seen by the judge and by the networks.

    Images that cannot be read are left out, with a warning.

    Raises:
        InputError: if the judge is the bundle's own encoder or takes no images, if too few images
            can be read, or one of them is in the probe set.
    """
    from csp_engine.networks.activations import ActivationRecorder

    require_independent(bundle, judge)
    known = set(bundle.table(kinds.IMAGES.name(), "images")["sha256"])
    for file, sha256 in zip(images.table["file"], images.table["sha256"], strict=True):
        if sha256 in known:
            raise InputError(
                f"{file} is in the probe set of {bundle.name} too, so it is not held out; leave "
                "such images out of --held-out."
            )
    vectors: list[np.ndarray] = []
    parts: dict[tuple[str, str], list[np.ndarray]] = {}
    kept: list[int] = []
    n = len(images.table)
    with ExitStack() as stack:
        recorders = [
            stack.enter_context(ActivationRecorder(target.model, target.taps)) for target in targets
        ]
        for start in range(0, n, BATCH):
            shown: list[Any] = []
            for row in range(start, min(start + BATCH, n)):
                try:
                    shown.append(decode(images.read(row)))
                    kept.append(row)
                except (UnreadableImageError, OSError) as error:
                    log.warning("%s is left out: %s", images.table["file"].iloc[row], error)
            if not shown:
                continue
            named = images.table["file"].iloc[kept[-len(shown) :]].tolist()
            seen = np.stack([judge.preprocess(image) for image in shown])
            vectors.append(embedded(judge, seen, named))
            for target, recorder in zip(targets, recorders, strict=True):
                pixels = np.stack([target.model.preprocess(image) for image in shown])
                for layer, act_nu in recorder(pixels).items():
                    parts.setdefault((target.model.name, layer), []).append(act_nu)
            progress("held-out images", min(start + BATCH, n), n)
    if len(kept) < LEAST_IMAGES:
        raise InputError(
            f"{images.name} has {len(kept)} images that can be read, and at least {LEAST_IMAGES} "
            "are needed to judge labels; give more with --held-out."
        )
    activations = {key: np.concatenate(found).T for key, found in parts.items()}
    group_n = known_groups(images.table.iloc[kept])
    return Judged(judge, np.concatenate(vectors), activations, group_n, True, images.name)
