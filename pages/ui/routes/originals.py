"""Images at full size, for who may build here: files of the folders that a build may read."""

from __future__ import annotations

import re
from collections.abc import Callable

import anyio.to_thread
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import Route

from csp_engine.demo.shipping.redrawing import redrawn
from csp_engine.errors import CspError
from csp_engine.files import allowed_folders
from csp_engine.http.answers import FOR_EVER, MAX_DIGITS
from csp_engine.http.permissions import Permission
from csp_engine.serving.originals import original
from pages.ui.parts.cards import base_url
from pages.ui.shell import store

Granted = Callable[[HTTPConnection], frozenset[Permission]]


def route(granted: Granted) -> Route:
    """``/csp/original/{bundle}/{digest}/{image}``: the image, or 204 where it is not at hand.

    ``granted`` says what whoever asks may do.
    """

    async def endpoint(request: Request) -> Response:
        if Permission.BUILD not in granted(request):
            return _nothing()
        named = request.path_params
        return await anyio.to_thread.run_sync(
            answer, named["bundle"], named["digest"], named["image"]
        )

    return Route(base_url("csp/original/{bundle}/{digest}/{image}"), endpoint)


def answer(bundle_name: str, digest: str, image: str) -> Response:
    """The original of a probe image; 404 where there is no such image."""
    try:
        bundle = store.open_bundle(bundle_name)
        is_known = re.fullmatch(r"[0-9a-f]{16}", digest) and bundle.digest.startswith(digest)
        is_number = re.fullmatch(rf"[0-9]{{1,{MAX_DIGITS}}}", image, re.ASCII)
        if not is_known or not is_number or int(image) >= bundle.n_images:
            raise LookupError("no such image")
        folders = allowed_folders() or (store.start_folder().resolve(),)
        found = original(bundle, int(image), folders)
        again = redrawn(bundle, int(image)) if found is None else None
    except (CspError, LookupError):
        return Response("no such image", 404, media_type="text/plain")
    if found is not None:
        return Response(found[0], media_type=found[1], headers=FOR_EVER)
    return (
        _nothing() if again is None else Response(again, media_type="image/png", headers=FOR_EVER)
    )


def _nothing() -> Response:
    return Response(status_code=204, headers={"Cache-Control": "no-store"})
