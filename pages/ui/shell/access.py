"""Who may do what: signing in where it is configured, and servers that only show."""

from __future__ import annotations

import getpass
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.errors import Error as StreamlitError

from pages.ui.parts.cards import markdown_text, plain, show

READ_ONLY = "CSP_READ_ONLY"
REVIEWER = "CSP_REVIEWER"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
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
    email = _email()
    if not _is_listed(email, secrets.get("access", {})):
        _refuse("No access", f"{email or 'This account'} is not on the list of this server.")
        st.button("Sign out", on_click=st.logout, key="sign_out")
        return False
    return True


def signed_in() -> None:
    """Who is signed in and the way out; nothing where there is no sign-in."""
    if not st.user.get("is_logged_in"):
        return
    name = str(st.user.get("name") or _email() or "Signed in")
    with st.container(key="signed_in"), st.popover(markdown_text(name[:40]), width="content"):
        show(f"<p class='csp-quiet'>Signed in as {plain(name)}<br>{plain(_email())}</p>")
        st.button("Sign out", on_click=st.logout, key="sign_out")


def reviewer() -> str:
    """Whose verdicts are recorded: the account's, else ``CSP_REVIEWER``, else the system's user."""
    if st.user.get("is_logged_in"):
        name, account = st.user.get("name") or "unnamed", st.user.get("sub") or "no account"
        return _email() or f"{name} ({account})"
    named = os.environ.get(REVIEWER, "").strip()
    if named:
        return named
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container whose user has no name
        return "reviewer"


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


def _email() -> str:
    """The address of the visitor's account, empty where its provider has not verified it."""
    is_verified = st.user.get("email_verified", True)
    return str(st.user.get("email") or "").lower() if is_verified else ""


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
