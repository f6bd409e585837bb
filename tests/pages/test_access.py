"""Signing in: switched on by the file of secrets alone, and closed when in doubt."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from pages.ui.shell import access
from tests.pages.conftest import MAIN, html

AUTH = {
    "redirect_uri": "http://localhost:8501/oauth2callback",
    "cookie_secret": "s",
    "client_id": "c",
    "client_secret": "x",
    "server_metadata_url": "http://localhost:1/.well-known/openid-configuration",
}
ADA = {"is_logged_in": True, "name": "Ada <b>", "email": "Ada@Example.org", "email_verified": True}


def visited(secrets: dict, user: dict | None = None) -> AppTest:
    at = AppTest.from_file(str(MAIN), default_timeout=60)
    for name, value in secrets.items():
        at.secrets[name] = value
    if user is not None:
        at.user = user
    return at.run()


@pytest.fixture(autouse=True)
def bundles(serve, small_bundle) -> None:
    serve(small_bundle)


def is_open(at: AppTest) -> bool:
    assert not at.exception
    return "20 neurons of small" in html(at)


def test_without_configuration_nobody_is_asked(small_bundle):
    at = visited({})
    assert is_open(at)
    assert [button.key for button in at.button if "sign" in (button.key or "")] == []


def test_with_it_a_stranger_sees_only_the_way_in():
    at = visited({"auth": AUTH}, {"is_logged_in": False})
    assert not is_open(at)
    assert at.title[0].value == "Sign in"
    assert [button.label for button in at.button] == ["Sign in"]
    assert "small" not in html(at)


def test_each_provider_has_its_button():
    shared = {key: AUTH[key] for key in ("redirect_uri", "cookie_secret")}
    at = visited({"auth": {**shared, "clinic": AUTH, "lab": AUTH}}, {"is_logged_in": False})
    assert [button.label for button in at.button] == ["Sign in with clinic", "Sign in with lab"]


def test_who_is_signed_in_is_named_and_can_leave():
    at = visited({"auth": AUTH}, ADA)
    assert is_open(at)
    assert "Signed in as Ada &lt;b&gt;<br>ada@example.org" in html(at)
    assert "sign_out" in [button.key for button in at.button]


@pytest.mark.parametrize(
    ("lists", "user", "expected"),
    [
        ({"emails": ["ada@example.org"]}, ADA, True),
        ({"domains": ["example.org"]}, ADA, True),
        ({"domains": ["ample.org"]}, ADA, False),
        ({"emails": ["bob@example.org"]}, ADA, False),
        ({"emails": [], "domains": []}, ADA, False),
        ({"domains": ["example.org"]}, {**ADA, "email_verified": False}, False),
        ({"domains": ["example.org"]}, {"is_logged_in": True, "name": "Ada"}, False),
    ],
)
def test_a_list_lets_in_only_who_stands_on_it(lists, user, expected):
    at = visited({"auth": AUTH, "access": lists}, user)
    assert is_open(at) is expected
    if not expected:
        assert at.title[0].value == "No access"
        assert "is not on the list" in html(at)


def test_a_damaged_file_of_secrets_closes_the_server(tmp_path: Path, monkeypatch):
    import streamlit as st

    path = tmp_path / "secrets.toml"
    path.write_text("[auth\n")
    monkeypatch.setattr(
        "streamlit.get_option",
        lambda name, real=st.get_option: [str(path)] if name == "secrets.files" else real(name),
    )
    assert access._secrets() is None
    at = visited({})
    assert not is_open(at)
    assert at.title[0].value == "Closed"
