"""The token of a personal server: whoever opens the address that carries it may do all.

It is in the printed address only. The first request moves it out of the address into a cookie that
holds a keyed hash of it, so that no link, history or log of pages has it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from urllib.parse import quote, unquote_plus

from csp_engine.errors import InputError

VARIABLE = "CSP_TOKEN"
"""Environment variable with a token of one's own; empty for none."""
FOR_MACHINES = "CSP_METRICS_TOKEN"
"""Environment variable with the token of machines that watch a server, and may do nothing else."""
PARAMETER = "token"
LEAST = 16


def new_token() -> str:
    """A token that nobody guesses."""
    return secrets.token_urlsafe(24)


def require_long(token: str, setting: str = VARIABLE) -> str:
    """The token of a setting, if it is long enough; empty means none.

    Raises:
        InputError: if it can be guessed. It is not repeated: what is said may go into a log.
    """
    if token and len(token) < LEAST:
        other = "leave it out for a random one, " if setting == VARIABLE else ""
        raise InputError(
            f"{setting} has {len(token)} characters; give at least {LEAST}, {other}or set it to "
            "nothing for none."
        )
    return token


def with_token(address: str, token: str | None) -> str:
    """An address that carries a token, where there is one."""
    return f"{address}/?{PARAMETER}={quote(token, safe='')}" if token else address


def pass_of(token: str) -> str:
    """What the cookie of those who had the token holds; the token does not follow from it."""
    return hmac.new(token.encode(), b"csp: may do all", hashlib.sha256).hexdigest()


def cookie_name(port: object) -> str:
    """The cookie of a server: those of one host are sent to all of its ports."""
    return f"csp_pass_{port}"


def is_token(given: str, token: str) -> bool:
    """Whether it is the token, in a time that tells nothing of it."""
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), token.encode())


def has_pass(cookies: Mapping[str, str], name: str, token: str) -> bool:
    """Whether cookies are of somebody who had the token."""
    held = cookies.get(name, "")
    return hmac.compare_digest(held.encode("utf-8", "surrogateescape"), pass_of(token).encode())


def bearer(headers: Mapping[str, str]) -> str:
    """The token of a program, from ``Authorization: Bearer …``; empty where there is none."""
    scheme, _, given = headers.get("authorization", "").partition(" ")
    return given.strip() if scheme.lower() == "bearer" else ""


def taken_out(query: str) -> tuple[str, str | None]:
    """A query string without its token, the rest as it was; and the token, None if it has none."""
    given, rest = None, []
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if unquote_plus(name) == PARAMETER:
            given = unquote_plus(value)
        else:
            rest.append(part)
    return "&".join(rest), given
