"""The gate of a server: every host, origin and token, against an app that would answer anything."""

from __future__ import annotations

import hashlib
import re
from contextlib import ExitStack

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocket, WebSocketDisconnect
from streamlit.web.server.starlette import starlette_websocket

from csp_engine.errors import InputError
from csp_engine.http import hosts, sockets, tokens
from csp_engine.http.guard import Guard, Rules
from csp_engine.http.permissions import EVERYTHING, LOOKING, NOTHING, Permission, needed
from pages.ui.shell import server

TOKEN = "a token of our own, with ü & = signs"
HERE = "http://localhost:8501"
DATA = (
    "/csp/card/b/d/m/0-0", "/csp/thumbs/b/d/0", "/csp/strip/b/d/0-0", "/csp/points/b/d",
    "/csp/ready", "/csp/docs/a.md", "/media/abc.csv", "/_stcore/metrics", "/_stcore/agent/interact",
    "/metrics",
)  # fmt: skip
"""What holds something of a bundle or of the server."""
ASKING = (("POST", "/csp/warm/b/m"), ("PUT", "/_stcore/upload_file/s/f"),
          ("DELETE", "/_stcore/upload_file/s/f"))  # fmt: skip
"""What costs memory."""
FREE = ("/", "/neuron", "/static/js/index.js", "/_stcore/health", "/_stcore/host-config",
        "/auth/login", "/oauth2callback", "/_stcore/bidi-components/x.js")  # fmt: skip


async def anything(request) -> PlainTextResponse:
    return PlainTextResponse(f"{request.url.path}?{request.url.query}")


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text("let in")
    await websocket.receive()  # until it is closed


def client(
    anyone: frozenset[Permission] = LOOKING, token: str | None = TOKEN, base: str = "", **changes
) -> TestClient:
    """A client of an app behind the gate, with what visitors without the token may do."""

    def granted(asking: HTTPConnection) -> frozenset[Permission]:
        cookies = asking.cookies
        is_in = token is not None and tokens.has_pass(cookies, "pass", token)
        return EVERYTHING if is_in else anyone

    rules = Rules(
        base=base,
        hosts=changes.get("hosts", ["localhost", "127.0.0.1"]),
        origins=changes.get("origins", []),
        cookie="pass",
        token=lambda: token,
        granted=granted,
        refusal=lambda permission: f"needs {permission}",
        too_much=lambda session: "too much" if session == "full" else "",
        visitor=lambda asking: asking.headers.get("x-visitor", "somebody"),
        most_pages=3,
    )
    methods = ["GET", "POST", "PUT", "DELETE"]
    app = Starlette(
        routes=[
            WebSocketRoute("/{path:path}", echo),
            Route("/{path:path}", anything, methods=methods),
        ],
        middleware=[Middleware(Guard, rules=lambda: rules)],
    )
    return TestClient(app, base_url=HERE, follow_redirects=False)


def let_in(asked: TestClient, **headers: str) -> bool:
    headers = {"host": "localhost:8501", **headers}
    try:
        with asked.websocket_connect("/_stcore/stream", headers=headers) as socket:
            return socket.receive_text() == "let in"
    except WebSocketDisconnect:
        return False


def test_a_visitor_has_no_more_pages_open_than_allowed():
    asked = client()
    with ExitStack() as pages:

        def opened(visitor: str):
            headers = {"host": "localhost:8501", "x-visitor": visitor}
            return asked.websocket_connect("/_stcore/stream", headers=headers)

        for _ in range(2):
            pages.enter_context(opened("ada"))
        for _ in range(2):  # the first of these has left when the second comes
            with opened("ada"):
                pass
        pages.enter_context(opened("ada"))
        with pytest.raises(WebSocketDenialResponse) as refused, opened("ada"):
            pass
        assert refused.value.status_code == 429
        assert refused.value.text == sockets.too_many(3)
        pages.enter_context(opened("bob"))
    for _ in range(5):  # all have left
        assert let_in(asked, **{"x-visitor": "ada"})


def test_a_page_that_fails_is_counted_no_longer():
    held = sockets.Sockets()
    assert [held.enter("ada", 2) for _ in range(3)] == [True, True, False]
    assert held.enter("bob", 2)
    held.leave("ada")
    assert [held.enter("ada", 2) for _ in range(2)] == [True, False]


@pytest.mark.parametrize(
    ("stated", "most"),
    [("", 200), ("7", 7), ("0", 200), ("-3", 200), ("many", 200), (" 900 ", 900)],
)
def test_how_many_pages_may_be_open_is_set_by_the_environment(monkeypatch, stated, most):
    monkeypatch.setenv(sockets.VARIABLE, stated)
    assert sockets.most_pages() == most


def test_pages_are_counted_by_account_else_by_address(monkeypatch):
    def whose(address: str, cookies: str = "", **headers: str) -> str:
        told = [(b"cookie", cookies.encode())]
        told += [
            (name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()
        ]
        return server.visitor_of(
            HTTPConnection({"type": "websocket", "client": (address, 1), "headers": told})
        )

    monkeypatch.setattr(
        server.accounts, "user_of", lambda cookies: {"sub": "7"} if "user" in cookies else {}
    )
    assert whose("10.0.0.1") == "10.0.0.1"
    assert whose("127.0.0.1", x_forwarded_for="10.0.0.2") == "10.0.0.2"
    assert whose("10.0.0.1", x_forwarded_for="10.0.0.2") == "10.0.0.1"
    assert whose("10.0.0.1", "user=1") == whose("10.0.0.9", "user=1") == "7"


def test_without_the_token_one_looks_and_asks_for_nothing_that_costs():
    anyone = client()
    for path in (*DATA, *FREE):
        assert anyone.get(path).status_code == 200, path
    for method, path in ASKING:
        answer = anyone.request(method, path)
        assert (answer.status_code, answer.text) == (401, "needs encode"), path


def test_where_people_sign_in_nothing_of_a_bundle_is_answered_before():
    stranger = client(NOTHING, None)
    for path in FREE:
        assert stranger.get(path).status_code == 200, path
    for method, path in (*ASKING, *(("GET", path) for path in DATA), ("HEAD", DATA[0])):
        assert stranger.request(method, path).status_code == 401, path


@pytest.mark.parametrize("path", ["//csp/ready", "/csp//ready", "/%63sp/ready", "/csp/ready/",
                                  "/nb/csp/ready", "/nb//csp/ready", "/csp/ready",
                                  "/nb/metrics", "//metrics"])  # fmt: skip
def test_no_other_spelling_of_an_address_gets_around(path):
    assert client(NOTHING, None, base="nb").get(HERE + path).status_code == 401


def test_the_address_with_the_token_leads_to_the_same_without_it_and_a_cookie():
    asked = client()
    moved = asked.get("/neuron", params={"unit": "5", "token": TOKEN, "q": "a b"})
    assert moved.status_code == 303
    assert moved.headers["location"] == "/neuron?unit=5&q=a+b"
    assert moved.headers["cache-control"] == "no-store"
    cookie = moved.headers["set-cookie"]
    for part in ("HttpOnly", "SameSite=strict", "Path=/"):
        assert part in cookie
    assert "Secure" not in cookie
    # Neither the token nor a plain hash of it: a guess cannot be tried without the key.
    assert TOKEN not in cookie
    assert hashlib.sha256(TOKEN.encode()).hexdigest() not in cookie
    for method, path in ASKING:
        assert asked.request(method, path).status_code == 200


def test_behind_https_the_cookie_is_kept_from_http():
    headers = {"x-forwarded-proto": "https"}
    moved = client().get("/", params={"token": TOKEN}, headers=headers)
    assert "Secure" in moved.headers["set-cookie"]


@pytest.mark.parametrize(
    "given", ["", "guessed", TOKEN[:-1], TOKEN + " ", TOKEN.upper(), "ü", "%ff"]
)
def test_a_wrong_token_is_taken_out_and_opens_nothing(given, caplog):
    asked = client()
    moved = asked.get("/neuron", params={"token": given})
    assert (moved.status_code, moved.headers["location"]) == (303, "/neuron")
    assert "set-cookie" not in moved.headers
    assert asked.post("/csp/warm/b/m").status_code == 401
    assert len(given) < 3 or given not in caplog.text


@pytest.mark.parametrize("held", ["", "0" * 64, TOKEN, hashlib.sha256(TOKEN.encode()).hexdigest()])
def test_no_other_cookie_is_the_pass(held):
    asked = client()
    headers = {"cookie": f"pass={held}".encode()}
    assert asked.post("/csp/warm/b/m", headers=headers).status_code == 401


def test_a_page_that_has_uploaded_enough_is_told_so():
    asked = client(EVERYTHING)
    full, other = "/_stcore/upload_file/full/f", "/_stcore/upload_file/s/f"
    assert (asked.put(full).status_code, asked.put(full).text) == (429, "too much")
    assert asked.delete(full).status_code == asked.put(other).status_code == 200
    assert client().put(full).status_code == 401


def test_a_token_nobody_asks_for_is_taken_out_all_the_same():
    moved = client(EVERYTHING, None).get("/?token=from-an-old-bookmark")
    assert (moved.status_code, moved.headers["location"]) == (303, "/")
    assert "set-cookie" not in moved.headers


@pytest.mark.parametrize("path", ["//evil.com/x", "/\\evil.com", "///evil.com", "/%2F/evil.com"])
def test_the_way_without_the_token_never_leaves_the_server(path):
    answer = client().get(f"{HERE}{path}?token={TOKEN}")
    assert re.match(r"/(?![/\\])", answer.headers["location"])


@pytest.mark.parametrize("host", ["evil.com", "evil.com:8501", "localhost.evil.com:8501", "",
                                  "localhost@evil.com", "127.0.0.1.nip.io:8501"])  # fmt: skip
def test_no_route_answers_under_a_foreign_name(host):
    asked = client(EVERYTHING)
    for method, path in (*ASKING, *(("GET", path) for path in (*DATA, *FREE))):
        status = asked.request(method, path, headers={"host": host}).status_code
        assert status == (200 if path == "/_stcore/health" else 403), path
    assert not let_in(asked, host=host, origin=f"http://{host}")
    # Not even the token is taken from there.
    answer = asked.get("/", params={"token": TOKEN}, headers={"host": host})
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


ORIGINS = ("http://evil.com", "http://localhost:9999", "https://localhost", "null", "", "localhost",
           "http://localhost:8501.evil.com", "file://", "http://127.0.0.1:8501")  # fmt: skip


@pytest.mark.parametrize("origin", ORIGINS)
def test_no_route_answers_a_page_of_another_site(origin):
    asked = client(EVERYTHING)
    for method, path in (*ASKING, *(("GET", path) for path in (*DATA, *FREE))):
        status = asked.request(method, path, headers={"origin": origin}).status_code
        assert status == 403, path
    assert not let_in(asked, origin=origin)


def test_our_own_pages_and_those_that_are_named_may_ask():
    asked = client(EVERYTHING, origins=["https://wiki.example.org"])
    for origin in (HERE, "https://localhost:8501", "https://wiki.example.org"):
        assert asked.post("/csp/warm/b/m", headers={"origin": origin}).status_code == 200
        assert let_in(asked, origin=origin)
    assert let_in(asked)  # a program, for browsers state the origin of a WebSocket always
    # Browsers leave out usual ports.
    headers = {"host": "localhost", "origin": "https://localhost"}
    assert asked.post("/csp/warm/b/m", headers=headers).status_code == 200


def test_pictures_in_pages_of_others_are_refused_and_links_are_welcome():
    asked = client()
    for site in ("cross-site", "same-site"):
        headers = {"sec-fetch-site": site, "sec-fetch-mode": "no-cors"}
        assert asked.get(DATA[0], headers=headers).status_code == 403
        headers["sec-fetch-mode"] = "navigate"
        assert asked.get("/neuron", headers=headers).status_code == 200
    assert asked.get(DATA[0], headers={"sec-fetch-site": "same-origin"}).status_code == 200


@pytest.mark.parametrize("allowed", [[], ["*"], ["localhost"], ["*.example.org", "10.0.0.7"]])
@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:80", "localhost.", "a.example.org:1", "example.org", "10.0.0.7:8501",
     "10.0.0.77", "localhost:x", "localhost:99999", "u@localhost", "localhost/", "localhost?a", ""],
)  # fmt: skip
def test_names_are_known_as_the_websocket_of_streamlit_knows_them(host, allowed, monkeypatch):
    monkeypatch.setattr(starlette_websocket.config, "get_option", lambda _: allowed)
    assert hosts.is_known(host, allowed) == starlette_websocket.is_host_allowed(host)


def test_what_an_address_needs_is_told_by_its_first_parts():
    assert needed([]) is None
    assert needed(["csp"]) is Permission.READ
    assert needed(["_stcore", "something", "new"]) is Permission.READ
    assert needed(["of_mine", "csp"]) is None


def test_tokens_are_new_each_time_and_those_that_can_be_guessed_are_refused():
    made = {tokens.new_token() for _ in range(50)}
    assert len(made) == 50
    assert all(tokens.require_long(each) == each and len(each) >= 32 for each in made)
    assert tokens.require_long("") == ""
    with pytest.raises(InputError, match="12 characters; give at least 16") as refused:
        tokens.require_long("hunter2hunte")
    assert "hunter2" not in str(refused.value)


def test_the_proxies_that_are_ours_are_believed_and_nobody_else(monkeypatch):
    assert hosts.asker("127.0.0.1", "6.6.6.6, 10.0.0.9") == "10.0.0.9"
    assert hosts.asker("127.0.0.1", None) == hosts.asker(None, "") == "127.0.0.1"
    assert hosts.asker("10.0.0.9", "6.6.6.6") == "10.0.0.9"
    monkeypatch.setenv("CSP_PROXY", "10.0.0.9 10.0.0.10")
    assert hosts.asker("10.0.0.10", "6.6.6.6, 7.7.7.7") == "7.7.7.7"
    assert hosts.asker("10.0.0.9", None) == "10.0.0.9"
    assert hosts.asker("10.0.0.1", "6.6.6.6") == "10.0.0.1"


def test_addresses_are_written_as_browsers_want_them():
    assert hosts.written("localhost", 8501) == "http://localhost:8501"
    assert hosts.written("::1", 80, "/nb/") == "http://[::1]:80/nb"
    assert hosts.reachable("127.0.0.1") == ["localhost", "127.0.0.1"]
    assert hosts.reachable("10.0.0.9") == ["10.0.0.9"]
    assert hosts.reachable("0.0.0.0")[0] == "localhost"
