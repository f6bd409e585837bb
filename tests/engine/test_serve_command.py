"""What ``csp serve`` decides before it starts anything: token, addresses, and how it opens them."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from csp_engine.cli import demo, serving
from csp_engine.errors import InputError
from csp_engine.http import hosts, tokens

MINE = "a token of my own choice"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(serving, "ROOT", tmp_path / "app")
    return tmp_path


class NotStartedError(Exception):
    """Where the server would start."""


@pytest.fixture
def started(monkeypatch):
    """What the server would be given, and what was printed."""

    def start(**options) -> tuple[dict[str, str], str]:
        seen: dict[str, str] = {}
        lines: list[str] = []

        def stop(command, env, cwd):
            seen.update(env)
            raise NotStartedError

        monkeypatch.setattr(serving, "APP_PATH", Path(__file__))
        monkeypatch.setattr(serving, "write_lines", lines.extend)
        monkeypatch.setattr(serving.subprocess, "Popen", stop)
        with pytest.raises(NotStartedError):
            serving.serve([], port=8791, **options)
        return seen, "\n".join(lines)

    for name in (tokens.VARIABLE, "CSP_READ_ONLY", "CSP_ALLOW", serving.ALLOWED_HOSTS,
                 "STREAMLIT_SERVER_BASE_URL_PATH", "STREAMLIT_SECRETS_FILES"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    return start


def test_a_personal_server_gets_a_new_token_each_time(started):
    told = [started() for _ in range(2)]
    found = {env[tokens.VARIABLE] for env, _ in told}
    assert len(found) == 2
    for env, printed in told:
        assert f":8791/?token={env[tokens.VARIABLE]} (stop" in printed or "/?token=" in printed


@pytest.mark.parametrize(
    ("options", "environment"),
    [({"read_only": True}, {}), ({"host": "0.0.0.0"}, {}), ({}, {"CSP_READ_ONLY": "1"})],
)
def test_where_there_is_nothing_but_to_look_there_is_no_token(
    started, monkeypatch, options, environment
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    env, printed = started(**options)
    assert tokens.VARIABLE not in env
    assert "token" not in printed


def test_others_who_may_build_need_it(started):
    env, printed = started(host="0.0.0.0", read_only=False)
    assert printed.count(env[tokens.VARIABLE]) == len(printed.splitlines())


def test_it_can_be_chosen_and_left_out(started, monkeypatch):
    env, printed = started(needs_token=False)
    assert env[tokens.VARIABLE] == ""
    assert "token" not in printed
    monkeypatch.setenv(tokens.VARIABLE, MINE)
    env, printed = started(read_only=True)
    assert env[tokens.VARIABLE] == MINE
    assert "/?token=a%20token%20of%20my%20own%20choice " in printed
    monkeypatch.setenv(tokens.VARIABLE, "")
    assert "token" not in started()[1]
    monkeypatch.setenv(tokens.VARIABLE, "short")
    with pytest.raises(InputError, match="5 characters"):
        serving.serve([], port=8791)


@pytest.mark.parametrize("where", ["home", "app", "named"])
def test_where_people_sign_in_there_is_none(started, monkeypatch, home, where):
    folder = {"home": home, "app": home / "app", "named": home / "elsewhere"}[where]
    file = folder / ".streamlit" / "secrets.toml"
    file.parent.mkdir(parents=True)
    file.write_text("[other]\nauth = 1\n")
    if where == "named":
        monkeypatch.setenv("STREAMLIT_SECRETS_FILES", str(file))
    assert "token" in started()[1]
    file.write_text("[auth]\ncookie_secret = 'x'\n")
    env, printed = started()
    assert "token" not in printed
    assert tokens.VARIABLE not in env


def test_hosts_are_those_that_are_printed_unless_they_were_named(started, monkeypatch):
    assert started()[0][serving.ALLOWED_HOSTS] == "localhost 127.0.0.1"
    env, printed = started(host="0.0.0.0")
    allowed = env[serving.ALLOWED_HOSTS].split()
    assert set(allowed) >= {"localhost", "127.0.0.1", *hosts.own_addresses()}
    for host in set(allowed) - {"127.0.0.1"}:
        assert hosts.written(host, 8791) in printed
    monkeypatch.setenv(serving.ALLOWED_HOSTS, "neurons.example.org")
    assert started(host="0.0.0.0")[0][serving.ALLOWED_HOSTS] == "neurons.example.org"
    monkeypatch.setenv("STREAMLIT_SERVER_BASE_URL_PATH", "/nb")
    assert "http://localhost:8791/nb/?token=" in started()[1]


def test_folders_to_allow_are_handed_on_without_links(started, home):
    (home / "photos").mkdir()
    (home / "link").symlink_to(home / "photos")
    assert "CSP_ALLOW" not in started()[0]
    given = [Path("link"), home]
    assert started(allow=given)[0]["CSP_ALLOW"] == f"{home / 'photos'}:{home}"
    with pytest.raises(InputError, match="nowhere to allow"):
        serving.serve([], port=8791, allow=[Path("nowhere")])


def test_a_secret_address_is_no_argument_of_the_browser(monkeypatch, home):
    opened: list[str] = []
    monkeypatch.setattr(serving.webbrowser, "open", opened.append)
    serving._open("http://localhost:8501/?token=abc&x=1", is_secret=True)
    assert "abc" not in opened[0]
    (file,) = home.glob("csp-open-*.html")
    assert opened[0] == file.as_uri()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert 'url=http://localhost:8501/?token=abc&amp;x=1"' in file.read_text()
    serving._open("http://localhost:8501", is_secret=False)
    assert opened[1] == "http://localhost:8501"


def test_the_demo_takes_the_same_choice(monkeypatch):
    seen: dict[str, object] = {}
    monkeypatch.setattr(demo, "serve", lambda bundles, **options: seen.update(options))
    monkeypatch.setattr(demo, "require_shipped", lambda folder: folder)
    assert CliRunner().invoke(demo.app, ["--no-token", "--no-open"]).exit_code == 0
    assert seen["needs_token"] is False
    assert CliRunner().invoke(demo.app, []).exit_code == 0
    assert seen["needs_token"] is True
