"""A server that sends a byte now and then is given up after a time for the whole request."""

from __future__ import annotations

import contextlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from csp_engine.errors import InputError
from csp_engine.exchange import addresses
from csp_engine.exchange.addresses import fetched
from csp_engine.http.api.client import ApiError, Client
from csp_engine.probe.remote import kept, reading
from csp_engine.waiting import within

ASKED = {"path": None, "label": None}
LIST = b"<a href='a.jpg'>a.jpg</a>"


@pytest.fixture
def dripping():
    """An address of one image, which comes a byte in a fifth of a second, for ever."""

    class Drips(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()

        def do_GET(self) -> None:
            is_list = self.path.endswith("/photos/")
            self.send_response(200)
            self.send_header("Content-Length", str(len(LIST)) if is_list else "1000")
            self.end_headers()
            with contextlib.suppress(OSError):
                for byte in LIST if is_list else bytes(1000):
                    self.wfile.write(bytes([byte]))
                    time.sleep(0 if is_list else 0.2)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Drips)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_what_is_done_in_time_is_given_and_what_fails_fails():
    assert within(5.0, lambda: 7) == 7
    assert within(5.0, lambda: None) is None
    with pytest.raises(ZeroDivisionError):
        within(5.0, lambda: 1 // 0)
    start = time.monotonic()
    with pytest.raises(TimeoutError, match=r"not there within 0\.2 s"):
        within(0.2, lambda: time.sleep(30))
    assert time.monotonic() - start < 5


def test_an_image_that_comes_byte_by_byte_is_not_waited_for(dripping, monkeypatch):
    monkeypatch.setattr(reading, "PATIENCE_S", 1.0)
    found = reading.found_at(f"{dripping}/photos/", ASKED)
    assert found.table["file"].tolist() == ["a.jpg"]
    start = time.monotonic()
    with pytest.raises(InputError, match=r"stopped answering when 'a.jpg' was read .*within 1 s"):
        found.contents.read("a.jpg")
    assert time.monotonic() - start < 10


def test_a_block_and_a_list_that_come_byte_by_byte_are_not_waited_for(dripping, monkeypatch):
    monkeypatch.setattr(kept, "PATIENCE_S", 1.0)
    monkeypatch.setattr(reading, "LISTING_S", 1.0)
    import fsspec

    system, path = fsspec.core.url_to_fs(f"{dripping}/photos/many.tar")
    opened = kept.Blocks(dripping, system).open(path)
    with pytest.raises(InputError, match="within 1 s"):
        opened.read(10)
    with pytest.raises(InputError, match=r"cannot be reached .*within 1 s"):
        reading.found_at(f"{dripping}/slow/", ASKED)


def test_a_bundle_that_comes_byte_by_byte_is_not_waited_for(dripping, monkeypatch, tmp_path):
    monkeypatch.setattr(addresses, "PATIENCE_S", 1.0)
    monkeypatch.setattr(addresses, "LISTING_S", 1.0)
    with pytest.raises(InputError, match="within 1 s"):
        fetched(f"{dripping}/one.csp", tmp_path)
    assert not list(tmp_path.rglob("manifest.json"))


def test_the_client_does_not_wait_for_an_answer_byte_by_byte(dripping):
    with pytest.raises(ApiError, match="within 1 s"):
        Client(dripping, timeout=1.0).bundles()
