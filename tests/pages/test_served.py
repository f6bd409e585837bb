"""``csp serve`` itself, asked over HTTP and WebSockets as a browser and as an attacker would."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from csp_engine.bundle import Bundle
from csp_engine.http import hosts
from tests.pages.conftest import ROOT

pytestmark = pytest.mark.slow


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(ready, seconds: float = 60.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if ready():
            return True
        time.sleep(0.1)
    return False


@dataclass
class Served:
    """A process of ``csp serve``, and what it printed."""

    folder: Path
    arguments: list[str]
    port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("CSP_", "STREAMLIT"))}
        command = [sys.executable, "-m", "csp_engine", "serve", *self.arguments]
        with (self.folder / "out.txt").open("wb") as out:
            self.process = subprocess.Popen(
                [*command, "--port", str(self.port)],
                cwd=self.folder,
                env={**inherited, "PYTHONPATH": str(ROOT), "HOME": str(self.folder)},
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        if not wait_until(self.is_well):
            self.stop()
            raise AssertionError(self.printed)

    def is_well(self) -> bool:
        try:
            return self.ask("GET", "/_stcore/health")[0] == 200
        except OSError:
            return False

    @property
    def printed(self) -> str:
        return (self.folder / "out.txt").read_text()

    @property
    def token(self) -> str:
        return re.search(r"http://localhost:\d+/\?token=(\S+) ", self.printed)[1]

    def ask(self, method: str, path: str, at: str = "localhost", **headers: str):
        """Status, headers and body; ``at`` is the name in the address."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        sent = {"Host": f"{at}:{self.port}", **headers}
        connection.request(method, path, headers=sent)
        answer = connection.getresponse()
        body = answer.read().decode("utf-8", "replace")
        connection.close()
        return answer.status, dict(answer.getheaders()), body

    def opens_socket(self, at: str = "localhost", origin: str | None = "own", **headers) -> bool:
        """Whether a WebSocket is let in; what it may do then, the pages decide."""
        stated = f"http://{at}:{self.port}" if origin == "own" else origin
        try:
            # One of the addresses that lead here, under the name that a browser would send.
            with (
                socket.create_connection(("127.0.0.1", self.port), 30) as sock,
                connect(
                    f"ws://{at}:{self.port}/_stcore/stream",
                    sock=sock,
                    origin=stated,
                    subprotocols=["streamlit"],
                    additional_headers=headers,
                    proxy=None,
                ),
            ):
                return True
        except InvalidStatus as refused:
            assert refused.response.status_code == 403  # noqa: PT017
            return False

    def cookie(self) -> str:
        """What the browser holds once it has opened the printed address."""
        status, headers, _ = self.ask("GET", f"/?token={self.token}")
        assert (status, headers["location"]) == (303, "/")
        return headers["set-cookie"].partition(";")[0]

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)


@pytest.fixture(scope="module")
def served(small_bundle, tmp_path_factory) -> Iterator[Served]:
    """A server that other machines can reach and that builds all the same."""
    folder = tmp_path_factory.mktemp("served")
    server = Served(folder, [str(small_bundle), "--host", "0.0.0.0", "--no-read-only"])
    try:
        yield server
    finally:
        server.stop()


def paths(bundle: Path) -> list[str]:
    at = f"small/{Bundle.open(bundle).digest[:16]}"
    return [f"/csp/card/{at}/csp/0-0", f"/csp/thumbs/{at}/0", f"/csp/strip/{at}/0-0",
            f"/csp/points/{at}", "/csp/ready", "/"]  # fmt: skip


def test_strangers_look_and_only_the_token_does_more(served, small_bundle):
    for path in paths(small_bundle):
        assert served.ask("GET", path)[0] == 200, path
    warm = ("POST", "/csp/warm/small/csp")
    assert served.ask(*warm)[0] == 401
    assert served.ask(*warm, Cookie=f"csp_pass_{served.port}={served.token}")[0] == 401
    assert served.ask("POST", f"/csp/warm/small/csp?token={served.token}")[0] == 401
    for wrong in ("", "wrong", served.token[:-1]):
        status, headers, _ = served.ask("GET", f"/?token={wrong}")
        assert status == 303
        assert "set-cookie" not in headers
    assert served.ask("GET", "/_stcore/metrics")[0] == 200
    assert served.ask(*warm, Cookie=served.cookie())[0] == 204
    assert served.ask("PUT", "/_stcore/upload_file/a/b")[0] == 401


def test_foreign_names_and_pages_are_refused_on_every_way_in(served, small_bundle):
    cookie = served.cookie()
    for path in paths(small_bundle):
        assert served.ask("GET", path, at="evil.example", Cookie=cookie)[0] == 403, path
        assert served.ask("GET", path, Origin="http://evil.example", Cookie=cookie)[0] == 403, path
    foreign = {"Origin": "http://localhost:1", "Cookie": cookie}
    assert served.ask("POST", "/csp/warm/small/csp", **foreign)[0] == 403
    assert served.opens_socket()
    assert served.opens_socket(origin=None)  # a program; without the cookie it may look
    assert not served.opens_socket(at="evil.example")
    for origin in ("http://evil.example", "http://localhost:1", "null"):
        assert not served.opens_socket(origin=origin), origin


def test_the_addresses_that_are_printed_work_for_page_and_socket(served):
    printed = re.findall(
        r"From other machines: http://([^:/]+):(\d+)/\?token=(\S+)", served.printed
    )
    assert {host for host, _, _ in printed} >= set(hosts.own_addresses())
    assert {port for _, port, _ in printed} <= {str(served.port)}
    assert {token for _, _, token in printed} <= {served.token}
    for host in ("localhost", "127.0.0.1", *(host for host, _, _ in printed)):
        status, headers, _ = served.ask("GET", "/neuron", at=host)
        assert status == 200
        assert f"ws://{host}:{served.port} " in headers["content-security-policy"]
        assert served.opens_socket(at=host), host


def test_the_token_stands_in_no_argument_and_nowhere_that_was_not_asked_for(served):
    served.cookie()
    assert served.printed.count(served.token) == served.printed.count("/?token=")
    if not Path("/proc").is_dir():
        return
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert served.token.encode() not in file.read_bytes()
        except OSError:
            continue


def test_a_server_ends_with_the_command_that_is_killed(small_bundle, tmp_path):
    server = Served(tmp_path, [str(small_bundle)])
    assert "From other machines" not in server.printed
    server.process.send_signal(signal.SIGKILL)
    server.process.wait(30)
    assert wait_until(lambda: not is_listening(server.port))


def test_a_server_that_only_shows_prints_no_token_and_needs_none(small_bundle, tmp_path):
    server = Served(tmp_path, [str(small_bundle), "--read-only"])
    try:
        assert f"Browse at http://localhost:{server.port} (stop" in server.printed
        assert server.ask("POST", "/csp/warm/small/csp")[0] == 204
    finally:
        server.stop()
    assert not is_listening(server.port)
