"""Requests that the server below cannot read, or that never end, do not hold a connection."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from csp_engine.http import patience

WS = (
    b"GET /stream HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n"


ENDED: list[str] = []
"""Requests that ended before they were whole."""


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
    elif scope["type"] == "http":
        more = scope["method"] == "PUT"
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                ENDED.append(scope["path"])
                return
            more = message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})


@pytest.fixture(scope="module")
def server() -> Iterator[uvicorn.Server]:
    before = patience.WITHIN_S, patience.WHOLE_WITHIN_S
    patience.WITHIN_S, patience.WHOLE_WITHIN_S = 0.5, 2.0
    patience.end_what_cannot_be_answered()
    patience.end_what_cannot_be_answered()
    config = uvicorn.Config(
        app, port=0, ws="websockets-sansio", log_level="critical", timeout_keep_alive=60
    )
    server = uvicorn.Server(config)
    listening = socket.socket(socket.AF_INET)  # as Streamlit opens it
    listening.bind(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield server
    server.should_exit = True
    thread.join()
    patience.WITHIN_S, patience.WHOLE_WITHIN_S = before


@pytest.fixture(scope="module")
def port(server: uvicorn.Server) -> int:
    return server.servers[0].sockets[0].getsockname()[1]


def answer(port: int, *parts: bytes) -> bytes:
    """Everything the server says until it closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=120) as asking:
        said = b""
        for part in parts:
            asking.sendall(part)
        while more := asking.recv(1 << 16):
            said += more
        return said


REFUSED = {
    "a long header": (WS + b"X: " + b"a" * 9_000 + b"\r\n\r\n", b"431"),
    "a long cookie": (WS + b"Cookie: a=" + b"a" * 60_000 + b"\r\n\r\n", b"431"),
    "many headers": (WS + b"".join(b"X%d: a\r\n" % i for i in range(200)) + b"\r\n", b"431"),
    "a long address": (WS.replace(b"stream", b"s" * 9_000) + b"\r\n", b"414"),
    "a body": (WS + b"Content-Length: 5\r\n\r\nhello", b"400"),
    "a body in pieces": (WS + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_websocket_that_cannot_be_read_is_answered(port: int, case: str) -> None:
    request, status = REFUSED[case]
    assert answer(port, request).startswith(b"HTTP/1.1 " + status)


@pytest.mark.parametrize(
    "parts",
    [(), (b"G",), (GET,), (GET + b"X: ",), (GET + b"\r\n", GET)],
    ids=["nothing", "a letter", "no end", "half a header", "another after an answer"],
)
def test_a_request_that_does_not_end_is_ended(port: int, parts: tuple[bytes, ...]) -> None:
    assert (b"hello" in answer(port, *parts)) == (len(parts) == 2)


def put(port: int, name: bytes, n_bytes: int, pause_s: float, *, chunked: bool) -> bytes:
    """Send a body byte by byte, and what is said until the connection ends."""
    how = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % n_bytes
    with socket.create_connection(("127.0.0.1", port), timeout=30) as asking:
        asking.sendall(b"PUT /%s HTTP/1.1\r\nHost: localhost\r\n%s\r\n\r\n" % (name, how))
        try:
            for _ in range(n_bytes):
                asking.sendall(b"1\r\nx\r\n" if chunked else b"x")
                time.sleep(pause_s)
            asking.sendall(b"0\r\n\r\n" if chunked else b"")
            return asking.recv(1 << 12)
        except (ConnectionError, TimeoutError):
            return b""


@pytest.mark.slow
@pytest.mark.parametrize("chunked", [False, True], ids=["of a known length", "in pieces"])
def test_a_body_that_never_ends_is_ended(port: int, chunked: bool) -> None:
    name = b"slow%d" % chunked
    started = time.monotonic()
    assert put(port, name, 200, 0.1, chunked=chunked) == b""
    assert 1.5 < time.monotonic() - started < 8
    assert f"/{name.decode()}" in ENDED


@pytest.mark.parametrize("chunked", [False, True], ids=["of a known length", "in pieces"])
def test_a_slow_body_that_ends_in_time_is_answered(port: int, chunked: bool) -> None:
    assert put(port, b"whole%d" % chunked, 12, 0.1, chunked=chunked).startswith(b"HTTP/1.1 200")
    assert not [path for path in ENDED if path.startswith("/whole")]


@pytest.mark.slow
def test_a_websocket_stays(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as asking:
        asking.sendall(WS + b"\r\n")
        assert asking.recv(1 << 12).startswith(b"HTTP/1.1 101")
        asking.settimeout(1.6)
        with pytest.raises(TimeoutError):
            asking.recv(1)


@pytest.mark.parametrize("request_of", [GET, WS], ids=["requests", "a WebSocket"])
def test_no_answer_waits_for_the_one_before(
    server: uvicorn.Server, port: int, request_of: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as asking:
        asking.sendall(request_of + b"\r\n")
        asking.recv(1 << 12)
        mine = asking.getsockname()
        transports = [each.transport for each in list(server.server_state.connections)]
        own = next(each for each in transports if each.get_extra_info("peername") == mine)
        held = own.get_extra_info("socket")
        assert held.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
