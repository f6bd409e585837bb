"""Put beside each other what the networks get of a few images: stages ``seen:MODEL``."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from PIL import Image

from csp_engine.bundle import kinds
from csp_engine.errors import UnreadableImageError
from csp_engine.pipeline.request import BuildRequest
from csp_engine.pipeline.run import Run
from csp_engine.probe.decoding import decode

N_IMAGES, SIDE, GAP = 5, 128, 4
"""Images of a sheet, the longest side of each picture in pixels, and what lies between two."""


def see(run: Run, request: BuildRequest) -> None:
    """A contact sheet for every model asked for: originals, its input, the encoder's input."""
    encoder = request.encoder if getattr(request.encoder, "needs_pixels", True) else None
    for target in request.targets:
        model = target.model
        name = kinds.SEEN.name(model.name)
        inputs = {"model": model.fingerprint, "encoder": request.encoder.fingerprint}
        identity = run.key(name, {"n_images": N_IMAGES, "side": SIDE}, ["images"], inputs)
        if run.is_fresh(name):
            continue
        described = {} if encoder is None else encoder.description.get("preprocessing", {})
        columns = []
        for image in _few_images(run, request):
            rows = [image, as_picture(model.preprocess(image), model.preprocessing)]
            if encoder is not None:
                rows.append(as_picture(encoder.preprocess(image), described))
            columns.append(rows)
        buffer = io.BytesIO()
        sheet(columns).save(buffer, "WEBP", quality=80, method=4)
        with run.writing(name, identity) as folder:
            (folder.path / "sheet.webp").write_bytes(buffer.getvalue())
            n_rows = 2 if encoder is None else 3
            folder.facts.update(n_images=len(columns), n_rows=n_rows)


def _few_images(run: Run, request: BuildRequest) -> Iterator[Image.Image]:
    """Images spread over the probe set, as they are decoded for the networks."""
    listed_n = run.bundle.table("images", "images")["listed"].to_numpy()
    chosen = np.unique(np.linspace(0, len(listed_n) - 1, N_IMAGES).round().astype(int))
    for listed in listed_n[chosen].tolist():
        try:
            yield decode(request.probe.read(listed))
        except (UnreadableImageError, OSError):
            continue  # it went since; the sheet is an illustration


def as_picture(pixels: np.ndarray, recipe: Any) -> Image.Image | None:
    """What a network gets, with its normalisation undone where the recipe tells how.

    Else its values are stretched from the lowest to the highest. None for what is no picture.
    """
    values = np.asarray(pixels, np.float64)
    if values.ndim != 3 or len(values) not in (1, 3) or not np.isfinite(values).all():
        return None
    recipe = recipe if isinstance(recipe, Mapping) else {}
    try:
        mean, std = (
            np.broadcast_to(np.asarray(recipe[key], np.float64), len(values))[:, None, None]
            for key in ("mean", "std")
        )
        shown = (values * std + mean) / (float(recipe.get("scale", 1 / 255)) * 255)
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        shown = values
    if shown.min() < -0.05 or shown.max() > 1.05:
        shown = (values - values.min()) / max(float(np.ptp(values)), 1e-9)
    if recipe.get("colour") == "bgr":
        shown = shown[::-1]
    picture_hwc = (shown.clip(0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 0)
    return Image.fromarray(np.broadcast_to(picture_hwc, (*picture_hwc.shape[:2], 3)).copy())


def sheet(columns: list[list[Image.Image | None]]) -> Image.Image:
    """Pictures on a grey ground, each shrunk or stretched to ``SIDE`` and centred in its place."""
    n_rows = max((len(rows) for rows in columns), default=1)
    step = SIDE + GAP
    size = (max(1, len(columns)) * step - GAP, n_rows * step - GAP)
    whole = Image.new("RGB", size, (128, 128, 128))
    for x, rows in enumerate(columns):
        for y, picture in enumerate(rows):
            if picture is None:
                continue
            width, height = (
                max(1, round(side * SIDE / max(picture.size))) for side in picture.size
            )
            shown = picture.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
            left, top = ((SIDE - side) // 2 for side in shown.size)
            whole.paste(shown, (x * step + left, y * step + top))
    return whole
