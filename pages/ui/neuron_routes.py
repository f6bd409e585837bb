"""What the server answers about single neurons: a strip of their strongest images, for tables."""

from __future__ import annotations

import io
import re

import anyio.to_thread
from PIL import Image
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from csp_engine.bundle import Bundle
from csp_engine.errors import CspError
from pages.ui import store
from pages.ui.table import places

FOR_EVER = {"Cache-Control": "private, max-age=31536000, immutable"}
N_SHOTS, SIDE, GAP = 4, 96, 6


def known(bundle_name: str, digest: str) -> Bundle:
    """The bundle of a name if it still is the one with this digest.

    Raises:
        CspError: if it is not there or cannot be read.
        LookupError: if it has changed.
    """
    bundle = store.open_bundle(bundle_name)
    if not re.fullmatch(r"[0-9a-f]{16}", digest) or not bundle.digest.startswith(digest):
        raise LookupError("the bundle has changed; reload the page")
    return bundle


def neuron_of(bundle: Bundle, address: str) -> tuple[str, str, int]:
    """Model, layer and unit of ``place-unit``.

    Raises:
        LookupError: if there is no such neuron.
    """
    match = re.fullmatch(r"([0-9]{1,6})-([0-9]{1,9})", address)
    every = places(bundle)
    if match is None or int(match[1]) >= len(every):
        raise LookupError("no such neuron")
    model, layer = every[int(match[1])]
    unit = int(match[2])
    if unit >= bundle.n_units(model, layer):
        raise LookupError("no such neuron")
    return model, layer, unit


def strip(bundle_name: str, digest: str, address: str) -> Response:
    """The strongest exemplars of a neuron side by side in one WebP image, strongest first."""
    try:
        bundle = known(bundle_name, digest)
        model, layer, unit = neuron_of(bundle, address)
        exemplars = bundle.exemplars(model, layer)
        n_shots = min(N_SHOTS, int(exemplars.count_u[unit]))
        bodies = [bundle.thumbnail(int(i)) for i in exemplars.image_uk[unit, :n_shots]]
    except (CspError, LookupError) as error:
        return Response(str(error), 404, media_type="text/plain")
    width = N_SHOTS * (SIDE + GAP) - GAP
    canvas = Image.new("RGBA", (width, SIDE), (0, 0, 0, 0))
    for at, body in enumerate(bodies):
        with Image.open(io.BytesIO(body)) as shot:
            side = min(shot.size)
            left, top = (shot.width - side) // 2, (shot.height - side) // 2
            box = (left, top, left + side, top + side)
            square = shot.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR, box)
        canvas.paste(square, (at * (SIDE + GAP), 0))
    out = io.BytesIO()
    canvas.save(out, "WEBP", quality=78, method=2)
    return Response(out.getvalue(), media_type="image/webp", headers=FOR_EVER)


async def strip_route(request: Request) -> Response:
    """``/csp/strip/{bundle}/{digest}/{place}-{unit}``."""
    parts = request.path_params
    return await anyio.to_thread.run_sync(strip, parts["bundle"], parts["digest"], parts["neuron"])


def routes(start: str) -> list[Route]:
    """The routes of this module below a path."""
    return [Route(f"{start}/strip/{{bundle}}/{{digest}}/{{neuron}}", strip_route)]
