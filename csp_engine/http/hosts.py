"""Under which names a server is reached, and which pages may ask it."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

LOOPBACK = ("127.0.0.1", "localhost", "::1")
EVERY_ADDRESS = ("0.0.0.0", "::", "")
PROXY = "CSP_PROXY"
"""Environment variable with the addresses of proxies on other machines, separated by spaces."""
DEFAULT_PORTS = {"http": 80, "https": 443}
_NOWHERE = ("192.0.2.1", 9)
"""An address kept for documents. To choose a way there sends nothing, and tells our own address."""


def split_host(host: str) -> tuple[str, int | None] | None:
    """Name and port of a Host header; None where it is none."""
    try:
        parts = urlsplit(f"//{host}")
        name, port = parts.hostname, parts.port
    except ValueError:
        return None
    is_more = "@" in parts.netloc or parts.path or parts.query or parts.fragment
    return None if name is None or is_more else (name.lower().rstrip("."), port)


def is_known(host: str | None, allowed: Sequence[str]) -> bool:
    """Whether a Host header is one of ``server.allowedHosts``, as Streamlit's WebSocket has it.

    A page elsewhere can have its own name lead to this machine (DNS rebinding); what it asks then
    comes with its name, and not with one of ours.
    """
    if not allowed:
        return True
    found = split_host(host or "")
    if found is None:
        return False
    for each in allowed:
        pattern = each.strip().lower().rstrip(".").strip("[]")
        is_below = pattern.startswith("*.") and found[0].endswith(pattern[1:])
        if pattern == "*" or is_below or found[0] == pattern:
            return True
    return False


def is_own(origin: str, host: str | None) -> bool:
    """Whether the page that asks, by its Origin header, comes from the host that is asked.

    The scheme may differ: a proxy speaks https to the browser and http to us.
    """
    try:
        asking = urlsplit(origin)
    except ValueError:
        return False
    asked, usual = split_host(host or ""), DEFAULT_PORTS.get(asking.scheme)
    found = split_host(asking.netloc)
    if usual is None or asked is None or found is None:
        return False
    return (found[0], found[1] or usual) == (asked[0], asked[1] or usual)


def asker(peer: str | None, forwarded: str | None) -> str:
    """The address of who asks: the one that a proxy of ours states, else that of the peer.

    Ours are proxies on this machine and those that ``CSP_PROXY`` names. What others state is not
    believed, and of several addresses only the last is the proxy's word.
    """
    if peer in (None, *LOOPBACK, *os.environ.get(PROXY, "").split()):
        stated = (forwarded or "").rpartition(",")[2].strip()
        return stated[:64] or peer or LOOPBACK[0]
    return str(peer)


def reachable(host: str) -> list[str]:
    """The names and addresses that reach a server which listens on ``host``, the best first."""
    if host not in EVERY_ADDRESS:
        return ["localhost", host] if host == LOOPBACK[0] else [host]
    found = dict.fromkeys(["localhost", *own_addresses()])
    name = socket.gethostname()
    if set(_resolved(name)) & set(found) - {"localhost"}:
        found[name.lower()] = None
    return list(found)


def own_addresses() -> list[str]:
    """The IPv4 addresses by which others may reach this machine; nothing is sent to learn them."""
    found: dict[str, None] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_NOWHERE)
            found[probe.getsockname()[0]] = None
        except OSError:
            pass  # no network at all
    found.update(dict.fromkeys(_resolved(socket.gethostname())))
    return [each for each in found if not each.startswith(("127.", "0."))]


def _resolved(name: str) -> list[str]:
    try:
        return socket.gethostbyname_ex(name)[2]
    except OSError:
        return []


def written(host: str, port: int, base: str = "") -> str:
    """The address of a host as browsers want it."""
    shown = f"[{host}]" if ":" in host else host
    path = base.strip("/")
    return f"http://{shown}:{port}{'/' + path if path else ''}"
