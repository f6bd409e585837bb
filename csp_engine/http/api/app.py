"""The API as one application: addresses, one form for errors, tags, a limit for each visitor."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic_core import PydanticSerializationError
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from csp_engine.errors import (
    BundleError,
    BusyError,
    CspError,
    InputError,
    LeftOutError,
    NotAllowedError,
)
from csp_engine.http.api import auditing, bundles, neurons, reviewing, shapes
from csp_engine.http.api.asking import refuse_unknown
from csp_engine.http.api.desk import Desk
from csp_engine.http.api.limits import Buckets

TITLE = "CSP Neuron Browser"
VERSION = "1"
ABOUT = (
    "What the pages show, as JSON: the same views, ids and figures. Reading needs what looking at "
    "the pages needs; POST needs the permission to give verdicts. Numbers are not rounded; one "
    "that is not known is null. An error is a sentence in `error`."
)
MOST_BYTES = 1 << 20
"""Of the body of a request; the longest verdict takes less than a hundredth of it."""
_STATUS: tuple[tuple[type[CspError], int], ...] = (
    (InputError, 422),
    (NotAllowedError, 401),
    (BusyError, 503),
    (LeftOutError, 409),
    (BundleError, 404),
)
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": shapes.Problem, "description": meaning}
    for status, meaning in {
        401: "It needs a permission that the request does not have.",
        404: "There is no such bundle, or it cannot be read.",
        409: "It cannot be had from this bundle on this server.",
        413: "What the request sends is too long.",
        422: "What was asked for does not exist.",
        429: "Too many requests.",
        503: "The server has too much to do.",
    }.items()
}


def make_api(desk: Desk, buckets: Buckets | None = None) -> ASGIApp:
    """The application, for a server to mount."""
    api = api_of(desk)
    return _Limited(_Tagged(api), desk.visitor, buckets or Buckets())


def api_of(desk: Desk) -> FastAPI:
    """The addresses alone."""
    api = FastAPI(
        title=TITLE,
        version=VERSION,
        description=ABOUT,
        docs_url=None,  # its page fetches scripts from elsewhere
        redoc_url=None,
        dependencies=[Depends(refuse_unknown)],
        responses=_ERRORS,
        # Functions are named once, and so are operations.
        generate_unique_id_function=lambda route: route.name,
    )
    # An address before one that begins the same and takes the rest of the path.
    for each in (bundles, auditing, reviewing, neurons):
        api.include_router(each.router(desk))

    @api.exception_handler(CspError)
    def refused(_: Request, error: Exception) -> Response:
        status = next((code for kind, code in _STATUS if isinstance(error, kind)), 409)
        return _problem(desk.sentence(error), status)

    @api.exception_handler(PydanticSerializationError)
    def unwritable(_: Request, error: Exception) -> Response:
        return _problem("What the bundle says there is no text that JSON can have.", 409)

    @api.exception_handler(RequestValidationError)
    def misunderstood(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return _problem(_said(error), 422)

    @api.exception_handler(HTTPException)
    def elsewhere(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        match error.status_code:
            case 405:
                said = f"{request.method[:20]} is not possible here; openapi.json lists what is."
                return _problem(said, 405, Allow=", ".join(_possible(request)))
            case 400:  # as where it is no UTF-8, or nested too deeply
                return _problem("The body is not JSON.", 422)
            case 413:
                return _problem(f"The body is longer than {MOST_BYTES:,} bytes.", 413)
        said = f"There is nothing at {request.url.path[:200]!r}; openapi.json lists what there is."
        return _problem(said, error.status_code)

    return api


def _possible(request: Request) -> list[str]:
    """What can be done at an address."""

    def is_possible(method: str) -> bool:
        scope = {**request.scope, "method": method}
        return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)

    found = [method for method in ("GET", "POST") if is_possible(method)]
    return [found[0], "HEAD", *found[1:]] if found[:1] == ["GET"] else found


def _problem(sentence: str, status: int, **headers: str) -> Response:
    return JSONResponse({"error": sentence}, status, {"Cache-Control": "no-store", **headers})


def _said(error: RequestValidationError) -> str:
    """The first of what does not fit, as a sentence."""
    first = error.errors()[0]
    place = [str(part) for part in first["loc"] if part not in ("path", "query", "body")]
    given = first.get("input")
    shown = f"{given!r:.60}" if isinstance(given, str | int | float) else "what was given"
    if first["type"] == "missing":
        return f"{'.'.join(place) or 'The body'} is missing."
    if first["type"] == "json_invalid":
        return "The body is not JSON."
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return (
            f"There is no {'.'.join(place)!r} in what can be sent here; openapi.json says what is."
        )
    reason = str(first["msg"]).removeprefix("Input ").removeprefix("Value error, ")
    return f"{'.'.join(place) or 'The body'} cannot be {shown}: it {reason}."


class _Tagged:
    """Gives each answer a tag by its content, and 304 to those who have it already.

    To HEAD it gives the head of what GET would get.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the app does, with the tag."""
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            await self.app(scope, receive, send)
            return
        start: Message = {}
        body = bytearray()
        asking = HTTPConnection(scope)

        async def hold(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
                return
            body.extend(message.get("body", b""))
            if message.get("more_body"):
                return
            await self._end(start, bytes(body), asking, send)

        await self.app({**scope, "method": "GET"}, receive, hold)

    async def _end(self, start: Message, body: bytes, asking: HTTPConnection, send: Send) -> None:
        if start["status"] == 200:
            tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
            headers = [(b"etag", tag.encode())]
            if not any(name.lower() == b"cache-control" for name, _ in start["headers"]):
                headers.append((b"cache-control", b"private, no-cache"))
            start = {**start, "headers": [*start["headers"], *headers]}
            known = ",".join(asking.headers.getlist("if-none-match")).split(",")
            if {tag, "*"} & {each.strip().removeprefix("W/") for each in known}:
                kept = [each for each in start["headers"] if each[0].lower() in _KEPT]
                start, body = {**start, "status": 304, "headers": kept}, b""
        await send(start)
        is_head = asking.scope["method"] == "HEAD"
        await send({"type": "http.response.body", "body": b"" if is_head else body})


_KEPT = (b"etag", b"cache-control")


class _Limited:
    """Refuses the requests of a visitor who makes too many, and bodies that are too long."""

    def __init__(
        self, app: ASGIApp, visitor: Callable[[HTTPConnection], str], buckets: Buckets
    ) -> None:
        self.app, self.visitor, self.buckets = app, visitor, buckets

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the app does, where it may be asked now."""
        seconds = n_bytes = 0
        if scope["type"] == "http":
            seconds = self.buckets.wait(self.visitor(HTTPConnection(scope)))

        async def bounded() -> Message:
            nonlocal n_bytes
            message = await receive()
            n_bytes += len(message.get("body", b""))
            if n_bytes > MOST_BYTES:
                raise HTTPException(413)
            return message

        if seconds:
            said = f"Too many requests; ask again in {seconds} s, and at most "
            said += f"{self.buckets.per_second:g} times a second."
            await _problem(said, 429, **{"Retry-After": str(seconds)})(scope, receive, send)
            return
        await self.app(scope, bounded, send)
