"""Who may do what: signing in where it is configured, and servers that only show."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.errors import Error as StreamlitError

from csp_engine.errors import NotAllowedError
from csp_engine.http import permissions, tokens
from csp_engine.http.hosts import LOOPBACK, asker
from csp_engine.http.permissions import Permission
from pages.ui.parts.cards import markdown_text, plain, show

READ_ONLY = "CSP_READ_ONLY"
REVIEWER = "CSP_REVIEWER"
TYPED = "reviewer_typed"
"""Where a session keeps the name that its reviewer typed."""
TO = {
    Permission.READ: "look",
    Permission.ENCODE: "search by words that are not in the vocabulary, or by an image",
    Permission.BUILD: "build from here",
    Permission.REVIEW: "give a verdict",
}
UNREADABLE = (
    "Nobody can be let in: the file of secrets cannot be read, and it may ask for sign-in. "
    "The server's log says what is wrong with it."
)


def is_read_only() -> bool:
    """Whether this server only shows: as ``CSP_READ_ONLY`` says, else if others can reach it."""
    asked = os.environ.get(READ_ONLY, "")
    if asked:
        return asked != "0"
    return st.get_option("server.address") not in LOOPBACK


class _Held:
    """The token of this process, taken out of the environment that builds and encoders inherit."""

    token: str | None = None
    is_chosen = False


def hold_token() -> None:
    """Take the token that the environment names, else make one up; a server does so as it starts.

    Raises:
        InputError: if the named one is short enough to be guessed.
    """
    if _Held.token is not None:
        return
    named = os.environ.pop(tokens.VARIABLE, None)
    _Held.is_chosen = named is not None
    _Held.token = tokens.new_token() if named is None else tokens.require_long(named)


def token() -> str | None:
    """The token without which a visitor may only look; None where there is none.

    None is made up where people sign in instead, or where the server only shows.
    """
    return None if not _Held.token or asks_for_sign_in() else _needed()


def _needed() -> str | None:
    """The token of a server where nobody signs in."""
    if not _Held.token:
        return None
    return _Held.token if _Held.is_chosen or not is_read_only() else None


def made_up_token() -> str | None:
    """The token, if nobody but this process knows it yet."""
    return None if _Held.is_chosen else token()


def cookie_name() -> str:
    """The cookie of those who opened the address with the token."""
    return tokens.cookie_name(st.get_option("server.port"))


def asks_for_sign_in() -> bool:
    """Whether visitors have to sign in; also where nobody can tell."""
    secrets = _secrets()
    return secrets is None or "auth" in secrets


def granted(
    user: Mapping[str, Any], cookies: Mapping[str, str], given: str = ""
) -> frozenset[Permission]:
    """What a visitor may do: by the account that is signed in, the browser's cookies, or a token.

    Programs send the token itself, with every request; pages have its cookie.
    """
    secrets = _secrets()
    all_of_it = permissions.SHOWING if is_read_only() else permissions.EVERYTHING
    if secrets is None:
        return permissions.NOTHING
    if "auth" in secrets:
        is_in = user.get("is_logged_in") is True and _is_listed(
            email_of(user), secrets.get("access", {})
        )
        return all_of_it if is_in else permissions.NOTHING
    needed = _needed()
    if needed is None or tokens.has_pass(cookies, cookie_name(), needed):
        return all_of_it
    if given and tokens.is_token(given, needed):
        return all_of_it
    return permissions.LOOKING


def may(permission: Permission) -> bool:
    """Whether whoever looks at this page may do something."""
    cookies = _cookies() if token() is not None else {}
    return permission in granted(st.user.to_dict(), cookies)


def require(permission: Permission) -> None:
    """Raise unless whoever looks at this page may do something.

    Raises:
        NotAllowedError: saying what to do about it.
    """
    if not may(permission):
        raise NotAllowedError(refusal(permission))


def visitor() -> str:
    """Whose share of the encoder's time is used: the account's, else that of the address."""
    if st.user.get("is_logged_in"):
        return str(st.user.get("sub") or email_of(st.user))
    peer = st.context.ip_address
    forwarded = st.context.headers.get("X-Forwarded-For")
    return asker(None if peer is None else str(peer), forwarded)


def refusal(permission: Permission) -> str:
    """What a visitor is told who may not do something: why, and what to do about it."""
    if asks_for_sign_in():
        return "Sign in first; until then, this server shows nothing."
    if is_read_only() and permission not in permissions.SHOWING:
        return "This server only shows bundles and verdicts."
    return (
        f"To {TO[permission]}, open the address with ?token= that was printed in the terminal "
        "when this server started."
    )


def let_in() -> bool:
    """Whether the visitor may see pages; where not, what to do about it is drawn instead."""
    secrets = _secrets()
    if secrets is None:
        _refuse("Closed", UNREADABLE)
        return False
    if "auth" not in secrets:
        return True
    if not st.user.get("is_logged_in"):
        _sign_in(secrets["auth"])
        return False
    email = email_of(st.user)
    if not _is_listed(email, secrets.get("access", {})):
        _refuse("No access", f"{email or 'This account'} is not on the list of this server.")
        st.button("Sign out", on_click=st.logout, key="sign_out")
        return False
    return True


def signed_in() -> None:
    """Who is signed in and the way out; nothing where there is no sign-in."""
    if not st.user.get("is_logged_in"):
        return
    name = str(st.user.get("name") or email_of(st.user) or "Signed in")
    with st.container(key="signed_in"), st.popover(markdown_text(name[:40]), width="content"):
        show(f"<p class='csp-quiet'>Signed in as {plain(name)}<br>{plain(email_of(st.user))}</p>")
        st.button("Sign out", on_click=st.logout, key="sign_out")


def reviewer() -> str:
    """Whose verdicts are recorded: the account's, else ``CSP_REVIEWER``, else the name typed here.

    Empty where nobody has typed one. The server's own account is nobody's name.
    """
    return known_reviewer(st.user) or str(st.session_state.get(TYPED, "")).strip()


def known_reviewer(user: Mapping[str, Any]) -> str:
    """The reviewer that an account or ``CSP_REVIEWER`` names; empty where neither does."""
    if user.get("is_logged_in"):
        name, account = user.get("name") or "unnamed", user.get("sub") or "no account"
        return email_of(user) or f"{name} ({account})"
    return os.environ.get(REVIEWER, "").strip()


def asks_for_name() -> bool:
    """Whether a reviewer has to type a name: nobody signs in, and the environment names nobody."""
    return not st.user.get("is_logged_in") and not os.environ.get(REVIEWER, "").strip()


def _secrets() -> Mapping[str, Any] | None:
    """What the files of secrets hold; None where one is there and cannot be read."""
    paths = [Path(path).expanduser() for path in st.get_option("secrets.files")]
    try:
        return dict(st.secrets)
    except (OSError, StreamlitError, ValueError):
        return None if any(path.exists() for path in paths) else {}


def _sign_in(auth: Mapping[str, Any]) -> None:
    """The page of those who are not signed in: a button for each provider."""
    st.title("Sign in")
    show("<p class='csp-lead'>This server asks who you are before it shows anything.</p>")
    providers = [name for name, value in auth.items() if isinstance(value, Mapping)]
    try:
        for name in providers or [None]:
            label = f"Sign in with {name}" if name else "Sign in"
            if st.button(markdown_text(label), key=f"sign_in_{name}", type="primary"):
                st.login(name)
    except StreamlitError as error:
        _refuse("", f"Sign-in is not set up correctly: {str(error).strip().splitlines()[0]}")


def email_of(user: Mapping[str, Any]) -> str:
    """The address of an account, empty unless its provider says that it has verified it."""
    is_verified = user.get("email_verified") is True  # "false", as text, would count as true
    return str(user.get("email") or "").lower() if is_verified else ""


def _cookies() -> Mapping[str, str]:
    return st.context.cookies


def _is_listed(email: str, access: Mapping[str, Any]) -> bool:
    """Whether an account is let in: anybody's where no list is kept."""
    emails = [str(each).lower() for each in access.get("emails", [])]
    domains = [str(each).lower() for each in access.get("domains", [])]
    if not emails and not domains:
        return "emails" not in access and "domains" not in access
    return bool(email) and (email in emails or email.rpartition("@")[2] in domains)


def _refuse(title: str, sentence: str) -> None:
    if title:
        st.title(title)
    show(f"<p class='csp-problem' role='alert'>{plain(sentence)}</p>")
