"""An S3 server of our own (moto's), behind a door that can misbehave."""

from __future__ import annotations

import http.client
import logging
import socket
import socketserver
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

BUCKET = "lab"
Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Door:
    """What stands between a reader and the bucket.

    Attributes:
        url: what a reader is told.
        asked: how often each object was read or written, as ``("GET", key)``.
        change: takes method, path and the answer of the server, and gives another one; bytes that
            are cut off are sent with the length of the whole, so that the connection is lost.
        delay: seconds before each answer.
    """

    url: str = ""
    asked: Counter = field(default_factory=Counter)
    change: Callable[[str, str, Answer], Answer] | None = None
    delay: float = 0.0


@contextmanager
def bucket() -> Iterator[Door]:
    """A server with one empty bucket; a skip where the tools for tests are not installed."""
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    behind = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    behind.start()
    host, port = behind.get_host_and_port()
    door = Door()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length)
            key = self.path.partition("?")[0].removeprefix(f"/{BUCKET}/")
            door.asked[self.command, key] += 1
            time.sleep(door.delay)
            there = http.client.HTTPConnection(host, port, timeout=30)
            headers = {k: v for k, v in self.headers.items() if k.lower() != "connection"}
            there.request(self.command, self.path, body, headers)
            answer = there.getresponse()
            content = answer.read()
            kept = {
                k: v
                for k, v in answer.getheaders()
                if k.lower() not in ("connection", "transfer-encoding", "server", "date")
            }
            if self.command != "HEAD":
                kept["Content-Length"] = str(len(content))
            found: Answer = (answer.status, kept, content)
            there.close()
            if door.change is not None:
                found = door.change(self.command, self.path, found)
            status, kept, content = found
            self.send_response(status)
            for name, value in kept.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                with suppress(ConnectionError):  # the reader waited no longer
                    self.wfile.write(content)
                if len(content) < int(kept.get("Content-Length", 0)):
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _pass

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    socketserver.TCPServer.allow_reuse_address = True
    front = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    front.daemon_threads = True
    threading.Thread(target=front.serve_forever, daemon=True).start()
    door.url = f"http://127.0.0.1:{front.server_port}"
    try:
        with pytest.MonkeyPatch.context() as patch:
            import fsspec
            from fsspec.asyn import get_loop
            from s3fs import S3FileSystem

            patch.setenv("AWS_ACCESS_KEY_ID", "tests")
            patch.setenv("AWS_SECRET_ACCESS_KEY", "tests")
            patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
            quick = {"connect_timeout": 2, "read_timeout": 2, "retries": {"max_attempts": 1}}
            patch.setitem(
                fsspec.config.conf,
                "s3",
                {"endpoint_url": door.url, "config_kwargs": quick, "use_listings_cache": False},
            )
            patch.setattr(S3FileSystem, "retries", 2)
            get_loop()
            S3FileSystem.clear_instance_cache()
            system = fsspec.filesystem("s3")
            if system.exists(BUCKET):  # the server forgets with its process, not when it stops
                system.rm(BUCKET, recursive=True)
            system.mkdir(BUCKET)
            yield door
            S3FileSystem.clear_instance_cache()
    finally:
        front.shutdown()
        behind.stop()
