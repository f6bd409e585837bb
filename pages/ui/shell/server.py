"""Streamlit's server with our routes and headers around it: what answers before anything is loaded.

Nothing that this module imports may take long; what takes long is imported by
``pages.ui.shell.loading``, while the first visitor's browser loads Streamlit's scripts.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import os
import re
import uuid
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st
from starlette.convertors import Convertor, register_url_convertor
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit import delta_generator, runtime
from streamlit.web.server.starlette.starlette_server_config import XSRF_COOKIE_NAME

from csp_engine.files import ROOT
from csp_engine.http import hosts, sockets, tokens
from csp_engine.http.compressed import Compressed
from csp_engine.http.guard import Guard, Rules
from csp_engine.http.metrics import Measured
from csp_engine.http.patience import end_what_cannot_be_answered
from csp_engine.http.permissions import LOOKING, Permission
from csp_engine.printable import guard_logs
from pages.ui.parts.cards import base_url, plain
from pages.ui.shell import access, accounts, loading
from pages.ui.shell.metrics import METRICS, may_watch
from pages.ui.shell.parent import follow_parent

log = logging.getLogger(__name__)


STYLE, EARLY = (Path(__file__).with_name(name) for name in ("style.css", "early.js"))
STATIC = Path(st.__file__).parent / "static"
ELEMENTS = ("Html", "BidiComponent", "PageLink", "TextInput", "Selectbox", "Button", "ButtonGroup")
"""The kinds of element that most pages begin with, as Streamlit names their scripts."""
ELEMENTS_OF = {
    "audit": ("Multiselect", "DownloadButton", "FileUploader"),
    "build": ("Multiselect", "NumberInput"),
    "compare": ("DataFrame",),
    "layer": ("DataFrame",),
    "melanoma": ("PlotlyChart", "DataFrame"),
    "neuron": ("NumberInput", "Checkbox"),
    "search": ("Checkbox", "Pagination", "DownloadButton"),
}
"""What some pages need besides: millions of bytes for tables and charts."""
LATER = ("neuron", "search")
"""Where most people go first: what these pages need is fetched once there is nothing else to do."""


HOST_CONFIG = {"useExternalAuthToken": False, "enableCustomParentMessages": False}
"""What Streamlit's page asks of its server before it connects, and is always told here."""


@cache
def start_page(prefix: str, page: str = "") -> str:
    """Streamlit's page, told where its server is, how our elements look and which it will need.

    Without the first, the page of a deep link asks for the server below its own address, is told
    that there is none, and waits a tenth of a second before it asks at the root. Without the others
    each kind of element is fetched when the first of it is drawn, with a grey bar in its place, and
    looks come after content: everything below jumps.

    What it shows first is asked for at once (``early.js``).

    Whoever holds the cookie against forged requests, which the answer to a first visit brings,
    connects without asking anything first. Without it the connection could not show who is signed
    in.

    Args:
        prefix: the path below which the server runs.
        page: the page that is asked for, as its address names it.
    """
    index = (STATIC / "index.html").read_text("utf-8")
    known = f"window.__streamlit={{BACKEND_BASE_URL:location.origin+{json.dumps(prefix)}}}"
    held = json.dumps({"allowedOrigins": st.get_option("client.allowedOrigins"), **HOST_CONFIG})
    known += f";document.cookie.includes('{XSRF_COOKIE_NAME}=')&&(__streamlit.HOST_CONFIG={held})"
    known += f";{EARLY.read_text('utf-8')}"
    now = parts((*ELEMENTS, *ELEMENTS_OF.get(page, ())))
    later = parts(kind for each in LATER for kind in ELEMENTS_OF[each])
    early = "".join(
        f"<link rel='modulepreload' crossorigin href='./static/js/{name}'>" for name in now
    )
    early += "".join(
        f"<link rel='prefetch' as='script' crossorigin href='./static/js/{name}'>"
        for name in later
        if name not in now
    )
    index = index.replace("<head>", f"<head><script>{known}</script>", 1)
    return index.replace("</head>", f"{early}<style>{STYLE.read_text('utf-8')}</style></head>", 1)


def parts(kinds: Iterable[str]) -> list[str]:
    """The scripts that draw kinds of element and those they import, less what the page names."""
    folder = STATIC / "static" / "js"
    named = (STATIC / "index.html").read_text("utf-8")
    found = [path.name for kind in dict.fromkeys(kinds) for path in folder.glob(f"{kind}.*.js")]
    for name in found:  # grows while it is walked
        script = (folder / name).read_text("utf-8")
        needed = re.findall(r'(?:from|import)"\./([^"]+\.js)"', script)
        found += [each for each in dict.fromkeys(needed) if each not in found and each not in named]
    return found


async def deep_link(request: Request) -> Response:
    """The page of any view."""
    page = request.url.path.rstrip("/").rpartition("/")[2]
    page = page if page in ELEMENTS_OF else ""  # what is kept is bounded
    return HTMLResponse(start_page(base_url(""), page), headers={"Cache-Control": "no-cache"})


SERVED = ("_stcore", "app", "auth", "component", "csp", "media", "static")
"""The first parts of addresses below which Streamlit, or we, answer."""


class Named(Convertor[str]):
    """One name, which may be that of a page of an extension, or of none; no file or sign-in."""

    regex = r"(?!oauth2callback$)[^/._][^/.]*"

    def convert(self, value: str) -> str:
        """The path as it is."""
        return value

    def to_string(self, value: str) -> str:
        """The path as it is."""
        return value


class Below(Named):
    """A path of several parts that nobody serves: Streamlit would send a page that stays empty."""

    regex = rf"(?!(?:{'|'.join(SERVED)})/)[^/]+/.+"


register_url_convertor("named", Named())
register_url_convertor("below", Below())


async def nowhere(request: Request) -> Response:
    """What is said at an address below a page."""
    path = plain(request.url.path[:200])
    return HTMLResponse(
        "<!doctype html><html lang='en'><head><title>No such page · Neuron Browser</title>"
        "<meta name='viewport' content='width=device-width'><style>:root {color-scheme: light dark}"
        " body {font: 1rem sans-serif; margin: 2rem; overflow-wrap: anywhere}</style></head>"
        f"<body><main><h1>There is no page {path}</h1><p>Pages have one name, such as "
        f"{base_url('neuron')}; what they show follows after a question mark. "
        f"<a href='{base_url('')}'>Go to the overview</a></p></main></body></html>",
        404,
    )


def routes(late: loading.Late) -> list[BaseRoute]:
    """The pages' addresses, and those below which ``late`` answers: all our own routes."""
    pages = sorted(path.stem for path in (ROOT / "pages").glob("*.py"))
    return [
        *(Route(base_url("" if page == "overview" else page), deep_link) for page in pages),
        Route(base_url("csp/{rest:path}"), late),
        Route(base_url("metrics"), late),
        Route(base_url("{path:named}"), deep_link),
        Route(base_url("{path:below}"), nowhere),
    ]


class SafeHeaders:
    """Headers that keep scripts, frames and images of other places out, on every answer."""

    def __init__(self, app: ASGIApp, policy: str) -> None:
        self.app = app
        self.policy = policy
        self.headers = [
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
            (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the app does, with the headers added."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        policy = self.policy.replace(SOCKETS, own_sockets(Headers(scope=scope).get("host", "")))
        headers = [(b"content-security-policy", policy.encode()), *self.headers]

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                held = {name.lower() for name, _ in message["headers"]}
                extra = [(name, value) for name, value in headers if name not in held]
                message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)

        await self.app(scope, receive, send_with_headers)


SOCKETS = "{sockets}"


def own_sockets(host: str) -> str:
    """The WebSockets of the host that was asked, as a policy names them.

    Not every browser takes ``'self'`` to mean them. What is no plain host and port adds nothing.
    """
    is_plain = re.fullmatch(r"[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?", host)
    return f"ws://{host} wss://{host}" if is_plain else ""


def content_policy() -> str:
    """A policy under which Streamlit runs; the two inline scripts are allowed by hash."""
    scripts = re.findall(r"<script>(.*?)</script>", start_page(base_url("")), re.DOTALL)
    hashes = " ".join(
        "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"
        for text in scripts
    )
    return (
        f"default-src 'self'; script-src 'self' blob: {hashes}; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' blob: "
        f"{SOCKETS}; "
        "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; "
        f"frame-ancestors 'self'{framing_origins()}"
    )


def framing_origins() -> str:
    """Origins that may frame our pages, from ``CSP_FRAME_ANCESTORS``; what is none is left out."""
    asked = os.environ.get("CSP_FRAME_ANCESTORS", "").split()
    known = [
        each for each in asked if re.fullmatch(r"https?://[A-Za-z0-9.*-]+(:[0-9]{1,5})?", each)
    ]
    for each in set(asked) - set(known):
        log.warning(
            "CSP_FRAME_ANCESTORS: %r is not an origin such as https://wiki.example.org", each
        )
    return "".join(f" {each}" for each in known)


MOST_UPLOADS, MOST_UPLOADED = 4, 400_000_000
"""Files of one page that are held in memory, and bytes of all pages. A page uses the last file."""


def uploads_too_much(session: str) -> str:
    """Why a page may upload no more now; empty where it may."""
    if not runtime.exists():
        return ""
    held = getattr(runtime.get_instance().uploaded_file_mgr, "file_storage", {})
    if len(held.get(session, {})) >= MOST_UPLOADS:
        return f"This page has uploaded {MOST_UPLOADS} images; remove one, or reload the page."
    if sum(len(file.data) for files in list(held.values()) for file in list(files.values())) > (
        MOST_UPLOADED
    ):
        return "The server holds as many images as it can; try again in a few minutes."
    return ""


def rules() -> Rules:
    """What the gate goes by, as settings and environment say now."""
    return Rules(
        base=base_url("").strip("/"),
        hosts=st.get_option("server.allowedHosts"),
        origins=st.get_option("server.corsAllowedOrigins"),
        cookie=access.cookie_name(),
        token=access.token,
        granted=granted_to,
        refusal=access.refusal,
        too_much=uploads_too_much,
        visitor=visitor_of,
        most_pages=sockets.most_pages(),
    )


def granted_to(asking: HTTPConnection) -> frozenset[Permission]:
    """What whoever makes a request may do."""
    cookies = asking.cookies
    found = access.granted(accounts.user_of(cookies), cookies, tokens.bearer(asking.headers))
    return found | LOOKING if may_watch(asking, base_url("").strip("/")) else found


def visitor_of(asking: HTTPConnection) -> str:
    """Whom a request counts for: the account that is signed in, else the address."""
    user = accounts.user_of(asking.cookies)
    peer = asking.client.host if asking.client else None
    return str(user.get("sub") or access.email_of(user)) or hosts.asker(
        peer, asking.headers.get("x-forwarded-for")
    )


def middleware() -> list[Middleware]:
    """What runs around every answer."""
    return [
        Middleware(Measured, metrics=METRICS, base=lambda: base_url("").strip("/")),
        Middleware(SafeHeaders, policy=content_policy()),
        Middleware(Guard, rules=rules),
        Middleware(Compressed, folder=STATIC / "static", base=lambda: base_url("").strip("/")),
    ]


def tell_address() -> None:
    """Print the address, with the token that was made up here if any."""
    host = hosts.reachable(st.get_option("server.address") or "")[0]
    url = hosts.written(host, st.get_option("server.port"), st.get_option("server.baseUrlPath"))
    url = tokens.with_token(url, access.made_up_token())
    print(f"Browse at {url} (stop with Ctrl-C)", flush=True)  # noqa: T201


@asynccontextmanager
async def lifespan(_: Any, late: loading.Late) -> AsyncGenerator[None]:
    """Answer at once, and load meanwhile what the first visitor will ask for."""
    guard_logs()
    end_what_cannot_be_answered()
    if not follow_parent():  # else ``csp serve`` has told
        tell_address()
    # Else Streamlit asks at the first element whether this is a console, and walks all modules.
    delta_generator._use_warning_has_been_displayed = True
    loading.begin(late)
    yield


def on_script_error(error: BaseException) -> bool:
    """Show a sentence and a number to find in the log, never a traceback."""
    number = uuid.uuid4().hex[:8]
    log.error("page failed, number %s", number, exc_info=error)
    st.error(
        f"This page failed (number {number}; the server's log has the details). "
        "Go back, or reload the page."
    )
    return True
