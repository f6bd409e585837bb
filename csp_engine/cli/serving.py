"""``csp serve`` and ``csp copy``."""

from __future__ import annotations

import atexit
import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
import webbrowser
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Annotated

import typer

from csp_engine.cli.declared import SummaryAsJson, new_folder
from csp_engine.cli.shown import progress_bars, write_json, write_lines
from csp_engine.errors import InputError
from csp_engine.files import ROOT
from csp_engine.http import hosts, tokens
from csp_engine.jobs.allowed import ALLOWED, named_folders

APP_PATH = ROOT / "app.py"
MOST_PORT = 65535
N_PORTS = 50
"""How many ports are tried, from the one that was asked for."""
ALLOWED_HOSTS = "STREAMLIT_SERVER_ALLOWED_HOSTS"
READ_ONLY = "CSP_READ_ONLY"
PARENT = "CSP_PARENT"
FORGET_AFTER_S = 60.0
"""By then, a browser has read the file that led it to the address."""
NEEDS_TOKEN = typer.Option(
    "--token/--no-token",
    help="Ask for the token in the printed address before anyone may build, give verdicts or use "
    "the encoder. The variable CSP_TOKEN sets a token of your own.",
)


def serve(
    bundles: Annotated[
        list[str] | None,
        typer.Argument(help="Bundles, folders of bundles, or addresses of bundles."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=1, max=MOST_PORT, help="Port; if it is busy, the next free one.")
    ] = 8501,
    open_browser: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the page in the default browser.")
    ] = False,
    read_only: Annotated[
        bool | None,
        typer.Option(
            "--read-only/--no-read-only",
            help="Only show bundles: no builds from the browser, no new verdicts. The default if "
            "other machines can reach the address.",
            show_default=False,
        ),
    ] = None,
    allow: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder that builds from the browser may read, with everything below it; may be "
            "given several times. By default, the folder in which the command runs.",
            show_default=False,
        ),
    ] = None,
    needs_token: Annotated[bool, NEEDS_TOKEN] = True,
) -> None:
    """Serve the browser for one or more bundles.

    Examples:
        csp serve resnet50.csp
        csp serve s3://lab/resnet50.csp
    """
    from csp_engine.bundle import Bundle

    paths = _paths(bundles or [])
    for path in paths:
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
    environment = dict(os.environ)
    tokens.require_long(environment.get(tokens.FOR_MACHINES, ""), tokens.FOR_MACHINES)
    port = _free_port(host, port)
    if paths:
        environment["CSP_BUNDLES"] = os.pathsep.join(str(path.resolve()) for path in paths)
    if read_only is not None:
        environment[READ_ONLY] = "1" if read_only else "0"
    if allow:
        environment[ALLOWED] = os.pathsep.join(map(str, named_folders(allow)))
    environment["CSP_START_FOLDER"] = str(Path.cwd())  # the server runs beside its pages
    environment[PARENT] = str(os.getpid())
    names = hosts.reachable(host)
    environment.setdefault(ALLOWED_HOSTS, " ".join(dict.fromkeys([*names, *hosts.LOOPBACK[:2]])))
    token = token_for(environment, host) if needs_token else None
    if token is not None or not needs_token:
        environment[tokens.VARIABLE] = token or ""
    base = environment.get("STREAMLIT_SERVER_BASE_URL_PATH", "")
    urls = [tokens.with_token(hosts.written(name, port, base), token) for name in names]
    told = [f"Browse at {urls[0]} (stop with Ctrl-C)"]
    if host in hosts.EVERY_ADDRESS:
        told += [f"From other machines: {url}" for url in urls[1:]]
    write_lines(told)
    sys.stdout.flush()
    command = [sys.executable, "-m", "streamlit", "run", str(APP_PATH)]
    command += ["--server.address", host, "--server.port", str(port), "--server.headless", "true"]
    signal.signal(signal.SIGTERM, _interrupt)  # so that the server never outlives this process
    server = subprocess.Popen(command, env=environment, cwd=APP_PATH.parent)
    try:
        if open_browser:
            _wait_for(host, port)
            _open(urls[0], is_secret=token is not None)
        code = server.wait()
    except KeyboardInterrupt:
        server.terminate()
        code = server.wait()
    raise typer.Exit(0 if code in (0, -15, -2, 130) else 1)


def _paths(given: list[str]) -> list[Path]:
    """Where the bundles lie; those at an address are fetched, and kept while this process runs."""
    from csp_engine.probe.remote import is_address

    paths = []
    for each in given:
        if not is_address(each):
            paths.append(Path(each))
            continue
        from csp_engine.exchange.addresses import fetched, in_use

        with progress_bars() as progress:
            path = fetched(each, progress=progress)
        held = in_use(path)
        held.__enter__()
        atexit.register(held.__exit__, None, None, None)
        paths.append(path)
    return paths


def copy(
    source: Annotated[str, typer.Argument(help="A bundle, NAME.csp, or its address.")],
    target: Annotated[str, typer.Argument(help="The address, or the new bundle.")],
    as_json: SummaryAsJson = False,
) -> None:
    """Copy a bundle to an address such as s3://lab/resnet50.csp, or from there.

    Every file is checked by its hash, and the manifest comes last: what is there is whole. Stopped,
    the same command goes on.

    Examples:
        csp copy resnet50.csp s3://lab/resnet50.csp
        csp copy s3://lab/resnet50.csp resnet50.csp
    """
    from csp_engine.bundle import Bundle, translated_os_errors
    from csp_engine.exchange.addresses import copy_to_address, fetched, in_use
    from csp_engine.probe.remote import is_address

    if is_address(source) == is_address(target):
        raise InputError(
            "One of the two is an address such as s3://lab/my.csp, and the other a bundle here."
        )
    with progress_bars() as progress:
        if is_address(target):
            n_bytes = copy_to_address(Bundle.open(Path(source)), target, progress)
        else:
            place = new_folder(Path(target), "TARGET")
            found = fetched(source, progress=progress)
            temporary = place.with_name(f".tmp-{place.name}")
            with translated_os_errors(place.parent), in_use(found):
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.rmtree(temporary, ignore_errors=True)
                shutil.copytree(found, temporary)
                temporary.rename(place)
            n_bytes = sum(each.stat().st_size for each in place.rglob("*") if each.is_file())
    if as_json:
        write_json({"source": source, "target": target, "bytes": n_bytes})
    else:
        write_lines([f"{target}: {n_bytes / 1e6:,.1f} MB."])


def token_for(environment: Mapping[str, str], host: str) -> str | None:
    """The token of a server: the one that is named, else a new one where it is of use.

    It is of none where people sign in, or where there is nothing but to look.

    Raises:
        InputError: if the named one is too short.
    """
    named = environment.get(tokens.VARIABLE)
    if asks_for_sign_in(environment):
        return None
    if named is not None:
        return tokens.require_long(named) or None
    asked = environment.get(READ_ONLY, "")
    only_shows = asked != "0" if asked else host not in hosts.LOOPBACK
    return None if only_shows else tokens.new_token()


def asks_for_sign_in(environment: Mapping[str, str]) -> bool:
    """Whether the file of secrets that the server will read has settings for signing in."""
    named = environment.get("STREAMLIT_SECRETS_FILES", "").split()
    usual = [Path.home() / ".streamlit" / "secrets.toml", ROOT / ".streamlit" / "secrets.toml"]
    for path in [Path(each).expanduser() for each in named] or usual:
        try:
            if "auth" in tomllib.loads(path.read_text("utf-8")):
                return True
        except (OSError, ValueError):
            continue  # not there, or the server says what is wrong with it
    return False


def _open(url: str, *, is_secret: bool) -> None:
    """Open a page in the browser; where its address is secret, by a file that leads there.

    Every account of a machine can see the arguments of a program, and so of a browser. The file
    has a plain name in the home folder, because some browsers can read nowhere else.
    """
    if not is_secret:
        webbrowser.open(url)
        return
    try:
        number, name = tempfile.mkstemp(".html", "csp-open-", Path.home())
    except OSError:
        write_lines(["Open the address above in your browser."])
        return
    with os.fdopen(number, "w", encoding="utf-8") as file:
        file.write(
            f'<!doctype html><meta name="referrer" content="no-referrer">'
            f'<meta http-equiv="refresh" content="0; url={escape(url)}">'
            f'<p><a href="{escape(url)}">Open the neuron browser</a></p>\n'
        )
    atexit.register(Path(name).unlink, missing_ok=True)
    webbrowser.open(Path(name).as_uri())
    forget = threading.Timer(FORGET_AFTER_S, Path(name).unlink, kwargs={"missing_ok": True})
    forget.daemon = True
    forget.start()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _free_port(host: str, first: int) -> int:
    try:
        found = socket.getaddrinfo(host, first, _family(host), socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        found = []
    if not host or not found:
        raise _no_address(host)
    last = min(first + N_PORTS - 1, MOST_PORT)
    for port in range(first, last + 1):
        with socket.socket(_family(host)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                if error.errno == errno.EADDRNOTAVAIL:
                    raise _no_address(host) from None
                continue
            return port
    raise InputError(f"No free port from {first} to {last} on {host}; name one with --port.")


def _no_address(host: str) -> InputError:
    return InputError(
        f"--host {host!r:.80} is not an address of this machine; give one such as 127.0.0.1, or "
        "0.0.0.0 for all of them."
    )


def _wait_for(host: str, port: int, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with socket.socket(_family(host)) as probe:
            probe.settimeout(0.5)
            if probe.connect_ex((host, port)) == 0:
                return
        time.sleep(0.1)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
