"""One gate for everything that a server is asked: which host, from which page, and by whom."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from csp_engine.http import hosts, sockets, tokens
from csp_engine.http.permissions import Permission, needed

log = logging.getLogger(__name__)

UNKNOWN_HOST = (
    "This server does not go by the name in this address. If the name is right, start the server "
    "with STREAMLIT_SERVER_ALLOWED_HOSTS set to it."
)
FOREIGN = "This was asked by a page of another site, so it is refused."


@dataclass(frozen=True, slots=True)
class Rules:
    """What the gate goes by; asked for each time, because settings come after the app is made.

    Args:
        base: path under which everything is served, without slashes around it.
        hosts: names under which the server may be reached; none for any.
        origins: origins of other sites whose pages may ask all the same.
        cookie: name of the cookie of those who had the token.
        token: the token, None where there is none.
        granted: what whoever asks may do.
        refusal: what a visitor is told who may not do something.
        too_much: why a session may upload no more now, as a sentence; empty where it may.
        visitor: whose pages are counted together, the account or the address.
        most_pages: how many of them may be open at a time.
    """

    base: str
    hosts: Sequence[str]
    origins: Sequence[str]
    cookie: str
    token: Callable[[], str | None]
    granted: Callable[[HTTPConnection], frozenset[Permission]]
    refusal: Callable[[Permission], str]
    too_much: Callable[[str], str]
    visitor: Callable[[HTTPConnection], str]
    most_pages: int


class Guard:
    """Lets a request or a WebSocket through, or answers itself."""

    def __init__(self, app: ASGIApp, rules: Callable[[], Rules]) -> None:
        self.app = app
        self.rules = rules
        self.sockets = sockets.Sockets()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the app does, where it may be asked."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        rules = self.rules()
        refused = self._answer(scope, rules)
        if refused is not None:
            await _refuse(refused, scope, receive, send)
        elif scope["type"] == "http":
            await self.app(scope, receive, send)
        else:
            await self._open(rules, scope, receive, send)

    async def _open(self, rules: Rules, scope: Scope, receive: Receive, send: Send) -> None:
        """A WebSocket, for as long as it lasts, unless its visitor has too many."""
        visitor, most = rules.visitor(HTTPConnection(scope)), rules.most_pages
        if not self.sockets.enter(visitor, most):
            log.warning("refused a page of a visitor who has %d open", most)
            answer = PlainTextResponse(sockets.too_many(most), 429)
            await _refuse(answer, scope, receive, send)
            return
        try:
            await self.app(scope, receive, send)
        finally:
            self.sockets.leave(visitor)

    def _answer(self, scope: Scope, rules: Rules) -> Response | None:
        headers = Headers(scope=scope)
        parts = parts_of(scope["path"], rules.base)
        host = headers.get("host")
        # Those who only ask whether the server lives know its address, not its name.
        if not hosts.is_known(host, rules.hosts) and parts != ["_stcore", "health"]:
            return PlainTextResponse(UNKNOWN_HOST, 403)
        if _is_foreign(headers, rules.origins):
            return PlainTextResponse(FOREIGN, 403)
        if scope["type"] == "http" and scope["method"] in ("GET", "HEAD"):
            rest, given = tokens.taken_out(scope["query_string"].decode("latin-1"))
            if given is not None:
                return _moved(scope, headers, rules, rest, given)
        need = needed(parts)
        if need is not None and need not in rules.granted(HTTPConnection(scope)):
            return PlainTextResponse(rules.refusal(need), 401, {"Cache-Control": "no-store"})
        match parts:
            case ["_stcore", "upload_file", session, *_] if scope["method"] == "PUT":
                sentence = rules.too_much(session)
                return PlainTextResponse(sentence, 429) if sentence else None
        return None


async def _refuse(answer: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Give an answer instead; a WebSocket gets it where its server can, else is closed."""
    if scope["type"] == "http" or "websocket.http.response" in scope.get("extensions", {}):
        await answer(scope, receive, send)
    else:
        await send({"type": "websocket.close", "code": 1008, "reason": ""})


def parts_of(path: str, base: str) -> list[str]:
    """The parts of an address below the path that everything is served under."""
    parts = [part for part in path.split("/") if part]
    above = [part for part in base.split("/") if part]
    return parts[len(above) :] if parts[: len(above)] == above else parts


def _is_foreign(headers: Headers, allowed: Sequence[str]) -> bool:
    """Whether a page of another site asks.

    Browsers state the origin of every WebSocket and of all that changes something, so what states
    none is no page: a program, which needs the cookie or the token like anybody else. Of the rest
    browsers say how it was asked for; links from other sites are welcome.
    """
    origin = headers.get("origin")
    if origin is not None:
        return origin not in allowed and not hosts.is_own(origin, headers.get("host"))
    is_elsewhere = headers.get("sec-fetch-site") in ("cross-site", "same-site")
    return is_elsewhere and headers.get("sec-fetch-mode") != "navigate"


def _moved(scope: Scope, headers: Headers, rules: Rules, rest: str, given: str) -> Response:
    """The same address without the token; whoever gave the right one gets a cookie instead."""
    # One slash: with two, the browser would read what follows as another host.
    path = "/" + quote(scope["path"].lstrip("/"))
    answer = Response(status_code=303, headers={"Cache-Control": "no-store"})
    answer.headers["Location"] = f"{path}?{rest}" if rest else path
    token = rules.token()
    if token is not None and tokens.is_token(given, token):
        is_secure = "https" in (scope.get("scheme"), headers.get("x-forwarded-proto"))
        answer.set_cookie(
            rules.cookie,
            tokens.pass_of(token),
            path="/" + rules.base.strip("/"),
            secure=is_secure,
            httponly=True,
            samesite="strict",
        )
    elif token is not None:
        log.warning("somebody opened an address with a wrong token")
    return answer
