"""A chat server on this machine that answers as it is told: well, badly, late, or not at all."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image


@dataclass(frozen=True)
class Reply:
    """What to do with one request: an answer of a chat, or something worse.

    ``half`` closes the connection within the body; ``silence_s`` is waited before anything is said;
    ``drip_s`` before every byte.
    """

    text: str | None = "[]"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    usage: dict[str, Any] | None = None
    half: bool = False
    drop: bool = False
    raw: bytes | None = None
    silence_s: float = 0.0
    drip_s: float = 0.0

    @property
    def whole(self) -> bytes:
        if self.body is not None:
            return self.body
        said: dict[str, Any] = {"choices": [{"message": {"content": self.text}}]}
        if self.usage is not None:
            said["usage"] = self.usage
        return json.dumps(said).encode()


@dataclass
class Asked:
    """One request as it came in."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def prompt(self) -> str:
        return self.content[-1]["text"]

    @property
    def content(self) -> list[dict[str, Any]]:
        return self.body["messages"][0]["content"]

    @property
    def images(self) -> list[Image.Image]:
        urls = [part["image_url"]["url"] for part in self.content if part["type"] == "image_url"]
        return [Image.open(io.BytesIO(base64.b64decode(url.split(",", 1)[1]))) for url in urls]

    @property
    def of_images(self) -> str:
        """The same for the same pictures."""
        return hashlib.sha256(json.dumps(self.content[:-1]).encode()).hexdigest()


class Loopback:
    """The server; ``reply`` is called with each request and may be exchanged at any time."""

    def __init__(self, reply: Callable[[Asked], Reply]) -> None:
        self.reply = reply
        self.asked: list[Asked] = []
        self.n_under_way = self.most_under_way = 0
        self._lock = threading.Lock()
        own = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                own._serve(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def spec(self, ending: str = "timeout=5") -> str:
        return f"openai/tiny@{self.url}#{ending}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _serve(self, request: BaseHTTPRequestHandler) -> None:
        sent = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        asked = Asked(request.path, dict(request.headers), json.loads(sent))
        with self._lock:
            self.asked.append(asked)
            self.n_under_way += 1
            self.most_under_way = max(self.most_under_way, self.n_under_way)
        try:
            with contextlib.suppress(ConnectionError):
                self._say(request, self.reply(asked))
        finally:
            with self._lock:
                self.n_under_way -= 1

    def _say(self, request: BaseHTTPRequestHandler, reply: Reply) -> None:
        time.sleep(reply.silence_s)
        request.close_connection = True
        if reply.drop:
            request.connection.shutdown(socket.SHUT_RDWR)
            return
        if reply.raw is not None:
            _drip(request, reply.raw, reply.drip_s)
            return
        body = reply.whole
        request.send_response(reply.status)
        for name, value in reply.headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if reply.half:
            request.wfile.write(body[: len(body) // 2])
            request.wfile.flush()
            request.connection.shutdown(socket.SHUT_RDWR)
        else:
            _drip(request, body, reply.drip_s)


def _drip(request: BaseHTTPRequestHandler, content: bytes, drip_s: float) -> None:
    """All at once, or so many seconds after every byte."""
    size = 1 if drip_s else max(1, len(content))
    for start in range(0, len(content), size):
        request.wfile.write(content[start : start + size])
        request.wfile.flush()
        time.sleep(drip_s)


@contextlib.contextmanager
def loopback(reply: Callable[[Asked], Reply]) -> Iterator[Loopback]:
    """A running server, closed at the end."""
    server = Loopback(reply)
    try:
        yield server
    finally:
        server.close()


def colours(asked: Asked) -> Reply:
    """What a model that names the mean colour of the first grid would say."""
    red, green, blue = asked.images[0].convert("RGB").resize((1, 1)).getpixel((0, 0))
    name = max((red, "red"), (green, "green"), (blue, "blue"))[1]
    text = json.dumps([f"{name} squares", "noisy pixels"])
    return Reply(text, usage={"prompt_tokens": 100, "completion_tokens": 7})
