"""``csp serve``."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from csp_engine.cli.shown import write_lines
from csp_engine.errors import InputError
from csp_engine.files import ROOT

APP_PATH = ROOT / "app.py"


def serve(
    bundles: Annotated[
        list[Path] | None, typer.Argument(help="Bundles, or folders of bundles.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; if it is busy, the next free one.")] = 8501,
    open_browser: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the page in the default browser.")
    ] = False,
    read_only: Annotated[
        bool | None,
        typer.Option(
            "--read-only/--no-read-only",
            help="Only show bundles, and build none from the browser; the default if other "
            "machines can reach the address.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Serve the browser for one or more bundles.

    Example:
        csp serve resnet50.csp
    """
    from csp_engine.bundle import Bundle

    for path in bundles or []:
        if not path.is_dir():
            raise InputError(
                f"There is no bundle or folder at {path}; make one with: csp build --help"
            )
        if path.suffix == ".csp":
            Bundle.open(path)
    if not APP_PATH.exists():
        raise InputError(
            f"The pages are missing ({APP_PATH} is not there); install csp-neuron-browser again."
        )
    port = _free_port(host, port)
    environment = dict(os.environ)
    if bundles:
        environment["CSP_BUNDLES"] = os.pathsep.join(str(path.resolve()) for path in bundles)
    if read_only is not None:
        environment["CSP_READ_ONLY"] = "1" if read_only else "0"
    environment["CSP_START_FOLDER"] = str(Path.cwd())  # the server runs beside its pages
    url = f"http://{'localhost' if host in ('127.0.0.1', '0.0.0.0') else host}:{port}"
    write_lines([f"Browse at {url} (stop with Ctrl-C)"])
    sys.stdout.flush()
    command = [sys.executable, "-m", "streamlit", "run", str(APP_PATH)]
    command += ["--server.address", host, "--server.port", str(port), "--server.headless", "true"]
    signal.signal(signal.SIGTERM, _interrupt)  # so that the server never outlives this process
    server = subprocess.Popen(command, env=environment, cwd=APP_PATH.parent)
    try:
        if open_browser:
            _wait_for(host, port)
            webbrowser.open(url)
        code = server.wait()
    except KeyboardInterrupt:
        server.terminate()
        code = server.wait()
    raise typer.Exit(0 if code in (0, -15, -2, 130) else 1)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _free_port(host: str, first: int) -> int:
    for port in range(first, first + 50):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise InputError(f"No free port from {first} to {first + 49} on {host}; name one with --port.")


def _wait_for(host: str, port: int, seconds: float = 20.0) -> None:
    import time

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with socket.socket() as probe:
            probe.settimeout(0.5)
            if probe.connect_ex((host, port)) == 0:
                return
        time.sleep(0.1)
