"""What the server answers about neurons: strips of images, points of the map, cards to hover."""

from __future__ import annotations

import io
import re

import anyio.to_thread
import pandas as pd
from PIL import Image
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.errors import CspError
from csp_engine.methods import method_title
from csp_engine.types import NeuronRef
from csp_engine.views.address import View
from csp_engine.views.neuron.label import best_label
from csp_engine.views.places import places
from pages.ui.map import neuron_map
from pages.ui.parts.cards import page_url
from pages.ui.shell import store

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


def points(bundle_name: str, digest: str) -> Response:
    """The points of a bundle's map, see ``neuron_map.points_body``."""
    try:
        bundle = known(bundle_name, digest)
        found = neuron_map.points(bundle)
    except (CspError, LookupError) as error:
        return Response(str(error), 404, media_type="text/plain")
    if found is None:
        return Response("this bundle has no map", 404, media_type="text/plain")
    body = neuron_map.points_body(bundle, found)
    return Response(
        body,
        media_type="application/octet-stream",
        headers={**FOR_EVER, "Content-Encoding": "identity"},
    )


def card(bundle_name: str, digest: str, method: str, address: str) -> Response:
    """What a card says about a neuron, as JSON: its label by a method and a few numbers."""
    try:
        bundle = known(bundle_name, digest)
        model, layer, unit = neuron_of(bundle, address)
        if method not in bundle.methods(model, layer):
            raise LookupError("no such method")
        label = best_label(bundle, NeuronRef(model, layer, unit), method)
        row = bundle.units(model, layer).iloc[unit]
        n_images = min(N_SHOTS, int(bundle.exemplars(model, layer).count_u[unit]))
    except (CspError, LookupError) as error:
        return Response(str(error), 404, media_type="text/plain")
    told = [f"{method_title(method)} {numbers.score(label.score)}"] if label.text else []
    for name in ("clarity", "density"):
        if name in row and pd.notna(row[name]):
            write = numbers.share if name == "density" else numbers.score
            told.append(f"{name} {write(float(row[name]))}")
    view = View(bundle_name, model, layer, unit, method)
    return JSONResponse(
        {
            "title": label.title,
            "isReliable": label.is_reliable,
            "id": str(NeuronRef(model, layer, unit)),
            "facts": " · ".join(told),
            "nImages": n_images,
            "href": page_url("neuron", view.params()),
        },
        headers=FOR_EVER,
    )


async def points_route(request: Request) -> Response:
    """``/csp/points/{bundle}/{digest}``."""
    parts = request.path_params
    return await anyio.to_thread.run_sync(points, parts["bundle"], parts["digest"])


async def card_route(request: Request) -> Response:
    """``/csp/card/{bundle}/{digest}/{method}/{place}-{unit}``."""
    parts = request.path_params
    return await anyio.to_thread.run_sync(
        card, parts["bundle"], parts["digest"], parts["method"], parts["neuron"]
    )


def routes(start: str) -> list[Route]:
    """The routes of this module below a path."""
    return [
        Route(f"{start}/strip/{{bundle}}/{{digest}}/{{neuron}}", strip_route),
        Route(f"{start}/points/{{bundle}}/{{digest}}", points_route),
        Route(f"{start}/card/{{bundle}}/{{digest}}/{{method}}/{{neuron}}", card_route),
    ]
