"""All our own routes, with everything that they and the pages need."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial

import anyio.to_thread
import numpy as np
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from csp_engine.bundle import Bundle
from csp_engine.errors import CspError, NotAllowedError
from csp_engine.files import ROOT
from csp_engine.http.answers import Answers, said_of
from csp_engine.http.api.desk import Desk
from csp_engine.http.api.late import LateApi
from csp_engine.http.permissions import Permission
from csp_engine.http.routes import routes as routes_of
from csp_engine.reviews import Reviews
from csp_engine.views import lists
from csp_engine.views.finding.index import searchable_methods
from csp_engine.views.finding.query import TextEncoder, rehearse_texts
from pages.ui.neuron import ahead, ranked
from pages.ui.parts.cards import base_url, page_url
from pages.ui.routes import originals
from pages.ui.shell import access, accounts, problems, reviewer, store
from pages.ui.shell.metrics import metrics
from pages.ui.shell.server import granted_to, visitor_of


async def ready(_: Request) -> Response:
    """``/csp/ready``: 200 when every known bundle opens, else 503 with the sentences."""
    found: dict[str, str] = {}
    for name, path in store.known_bundles().items():
        try:
            store.open_bundle(name)
        except CspError as error:
            found[name] = problems.without_folders(str(error), [path])
    return JSONResponse({"ready": not found, "problems": found}, 503 if found else 200)


def warm(bundle_name: str, method: str, visitor: str = "") -> Response:
    """Begin to load the encoder of a bundle, and do meanwhile what a first search would wait for.

    The answer does not wait for the encoder.
    """
    try:
        bundle = store.open_bundle(bundle_name)
        encode = partial(store.ENCODERS.text_vectors, visitor=visitor)
        store.ENCODERS.warm(bundle, lambda: rehearse_texts(bundle, store.MEMO, encode))
        if method in searchable_methods(bundle):
            lists.rehearse(bundle, store.MEMO, bundle_name, method, encode)
    except CspError as error:
        return Response(said_of(error), 404, media_type="text/plain")
    return Response(status_code=204)


async def warm_route(request: Request) -> Response:
    """``POST /csp/warm/{bundle}/{method}``."""
    parts, visitor = request.path_params, visitor_of(request)
    return await anyio.to_thread.run_sync(warm, parts["bundle"], parts["method"], visitor)


def document(name: str) -> Response:
    """A page of the project's documents, as text."""
    path = ROOT / "docs" / name
    if not re.fullmatch(r"[a-z_]{1,40}\.md", name) or not path.is_file():
        return Response("no such document", 404, media_type="text/plain")
    return Response(path.read_text("utf-8"), media_type="text/plain")


async def documents(request: Request) -> Response:
    """``/csp/docs/{name}``."""
    return await anyio.to_thread.run_sync(document, request.path_params["name"])


def desk() -> Desk:
    """What the API is given: what pages use, for whoever asks."""

    def require(asking: HTTPConnection, permission: Permission) -> None:
        if permission not in granted_to(asking):
            said = access.refusal(permission)
            if access.token() is not None:
                said += " A program sends the token itself: 'Authorization: Bearer TOKEN'."
            raise NotAllowedError(said)

    def encoder(asking: HTTPConnection) -> TextEncoder:
        def encode(bundle: Bundle, texts: Sequence[str]) -> np.ndarray:
            require(asking, Permission.ENCODE)
            return store.ENCODERS.text_vectors(bundle, texts, visitor_of(asking))

        return encode

    def reviews(is_to_write: bool) -> Reviews | None:
        place = reviewer.place()
        return reviewer.database(place) if is_to_write or place.is_there else None

    return Desk(
        known_bundles=store.known_bundles,
        open_bundle=store.open_bundle,
        memo=store.MEMO,
        page_url=partial(page_url, "neuron"),
        encoder=encoder,
        verdicts=reviewer.column,
        reviews=reviews,
        require=require,
        reviewer=lambda asking: access.known_reviewer(accounts.user_of(asking.cookies)),
        visitor=visitor_of,
        told=problems.without_folders,
    )


def routes() -> list[BaseRoute]:
    """Our own routes, below the prefix the server may run under."""
    start = base_url("csp")
    answers = Answers(
        store.open_bundle,
        store.MEMO,
        partial(page_url, "neuron"),
        store.MAPS.overlays,
        lambda sentence: problems.without_folders(sentence, store.known_bundles().values()),
    )

    async def maps(request: Request) -> Response:
        """``/csp/maps/{bundle}/{digest}/{name}/{neuron}/{images}``."""
        asked = request.path_params.values()
        return await anyio.to_thread.run_sync(answers.maps, *asked, visitor_of(request))

    return [
        Route(f"{start}/ready", ready),
        Route(base_url("metrics"), metrics),
        Route(f"{start}/maps/{{bundle}}/{{digest}}/{{name}}/{{neuron}}/{{images}}", maps),
        Route(f"{start}/warm/{{bundle}}/{{method}}", warm_route, methods=["POST"]),
        Route(f"{start}/docs/{{name}}", documents),
        Mount(f"{start}/api/v1", LateApi(desk)),
        originals.route(granted_to),
        *ahead.routes(),
        ranked.route(),
        *routes_of(start, answers),
    ]
