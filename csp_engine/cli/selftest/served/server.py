"""``csp serve`` as a process, and what it answers."""

from __future__ import annotations

import http.client
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from csp_engine.cli.selftest import NotHeldError, NotTriedError
from csp_engine.cli.selftest.world import World
from csp_engine.cli.serving import APP_PATH
from csp_engine.files import ROOT

SECONDS = 60.0


def inherited(home: Path) -> dict[str, str]:
    """The environment without settings of ours and of Streamlit; its home is an empty folder."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("CSP_", "STREAMLIT"))}
    return {**kept, "HOME": str(home)}


class Server:
    """A running server of the bundle ``a``."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path, digest: str) -> None:
        self.process, self.port, self._log, self.digest = process, port, log, digest
        self.name = f"localhost:{port}"

    @property
    def printed(self) -> str:
        """What it has printed so far."""
        return self._log.read_text("utf-8", "replace")

    def ask(self, method: str, path: str, **headers: str) -> tuple[int, dict[str, str]]:
        """Status and headers; ``Host`` may be any name, for only this machine is asked."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, headers={"Host": self.name, **headers})
            answer = connection.getresponse()
            answer.read()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}
        finally:
            connection.close()

    def status(self, method: str, path: str, **headers: str) -> int:
        """Status alone."""
        return self.ask(method, path, **headers)[0]

    def cookie(self, name: str = "", token: str = "") -> str:
        """What a browser holds once it has opened the printed address."""
        found = re.search(r"/\?token=(\S+)", self.printed)
        token = token or (found[1] if found else "")
        _, headers = self.ask("GET", f"/?token={token}", Host=name or self.name)
        return headers.get("set-cookie", "").partition(";")[0]


@contextmanager
def serving(world: World, *options: str, **settings: str) -> Generator[Server]:
    """A server of the case's bundle, on a free port; it has ended when the case has.

    Raises:
        NotTriedError: if the pages are not installed.
        NotHeldError: if it does not start.
    """
    if not APP_PATH.exists():
        raise NotTriedError("the pages are not installed here")
    bundle = world.bundle()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = world.folder / f"{port}.txt"
    command = [sys.executable, "-m", "csp_engine", "serve", str(bundle.path), "--port", str(port)]
    environment = {**inherited(world.folder), "PYTHONPATH": str(ROOT), **settings}
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, *options], cwd=world.folder, env=environment, stdout=out,
            stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    server = Server(process, port, log, bundle.digest)
    try:
        _wait(server)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(server: Server) -> None:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end and server.process.poll() is None:
        try:
            if server.status("GET", "/_stcore/health") == 200:
                return
        except (OSError, http.client.HTTPException):
            time.sleep(0.1)
    raise NotHeldError(f"'csp serve' did not start: {server.printed[-200:]}")
