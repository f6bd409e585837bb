"""Who may do what with ``csp serve``: the server itself, asked over HTTP as a stranger would.

The engine knows no pages. So the server runs as a process, as it does for everybody, and what pages
grant is asked of them in another. Where the pages are not installed, nothing of this is tried.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

from csp_engine.cli.selftest import kind, require
from csp_engine.cli.selftest.served.server import inherited, serving
from csp_engine.cli.selftest.world import World
from csp_engine.files import ROOT
from csp_engine.http import hosts, tokens
from csp_engine.http.permissions import EVERYTHING, LOOKING, NOTHING, SHOWING

AREA = "security"
SECRETS = """
[auth]
redirect_uri = "http://localhost:8501/oauth2callback"
cookie_secret = "a text of more than thirty-two letters"
client_id = "csp"
client_secret = "none"
server_metadata_url = "http://127.0.0.1:1/none"

[access]
emails = ["ada@example.org"]
"""
ASKS = """
import json, os, sys
from streamlit import config
from csp_engine.http import tokens
from pages.ui.shell import access

if files := os.environ.get("STREAMLIT_SECRETS_FILES"):  # which 'streamlit run' would read
    config.set_option("secrets.files", files.split())
access.hold_token()
found = []
for case in json.load(sys.stdin):
    os.environ["CSP_READ_ONLY"] = case["read_only"]
    cookies = {access.cookie_name(): tokens.pass_of(case["token"])} if case["token"] else {}
    found.append(sorted(access.granted(case["user"], cookies)))
print(json.dumps(found))
"""
"""What pages ask before they show, load, build or keep anything, asked outside of them."""
TOKEN = "t" * 32


def _granted(world: World, cases: list[dict[str, Any]], **more: str) -> list[frozenset[str]]:
    """What pages grant in each case."""
    given = [{"user": {}, "token": "", "read_only": "0", **case} for case in cases]
    settings = {**inherited(world.folder), "CSP_TOKEN": TOKEN, "PYTHONPATH": str(ROOT), **more}
    done = subprocess.run(
        [sys.executable, "-c", ASKS], input=json.dumps(given), env=settings, cwd=ROOT, text=True,
        capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    require(done.returncode == 0, done.stderr[-200:])
    return [frozenset(each) for each in json.loads(done.stdout.splitlines()[-1])]


@kind(AREA, "reading, the encoder, builds and verdicts are granted one by one")
def four_permissions(world: World) -> str:
    """A stranger, somebody with the token, with another one, and a server that only shows."""
    with serving(world, "--no-read-only") as server:
        cookie = server.cookie()
        asked = [
            server.status("GET", f"/csp/thumbs/a/{server.digest[:16]}/0"),
            server.status("POST", "/csp/warm/a/csp"),
            server.status("PUT", "/_stcore/upload_file/a/b"),
            server.status("POST", "/csp/warm/a/csp", Cookie=cookie),
        ]
    require(asked == [200, 401, 401, 204], f"answered {asked}")
    cases = [{}, {"token": TOKEN}, {"token": "u" * 32}, {"token": TOKEN, "read_only": "1"}]
    found = _granted(world, cases)
    expected = [LOOKING, EVERYTHING, LOOKING, SHOWING]
    require(found == expected, f"granted {[sorted(each) for each in found]}")
    return "without the token: read; with it: read, encode, build, review; only shown: read, encode"


@kind(AREA, "who is not signed in, or whose address is not verified, sees nothing")
def sign_in(world: World) -> str:
    """The server asks for accounts; claims as providers send them, right ones and others."""
    secrets = world.folder / "secrets.toml"
    secrets.write_text(SECRETS, "utf-8")
    settings = {"STREAMLIT_SECRETS_FILES": str(secrets)}
    with serving(world, "--no-read-only", **settings) as server:
        asked = [server.status("GET", path) for path in ("/csp/points/a/x", "/media/x", "/")]
        require("token=" not in server.printed, "a token was printed beside sign-in")
    require(asked == [401, 401, 200], f"answered {asked}")
    ada = {"is_logged_in": True, "email": "ada@example.org"}
    verified = [True, False, "true", 1, None]
    users = [ada, *({**ada, "email_verified": each} for each in verified)]
    users += [{**ada, "email": "eve@example.org", "email_verified": True}]
    found = _granted(world, [{"user": user, "token": TOKEN} for user in users], **settings)
    let_in = [user for user, each in zip(users, found, strict=True) if each != NOTHING]
    require(let_in == [{**ada, "email_verified": True}], f"let in: {let_in}")
    return "email_verified must be true and the address listed"


@kind(AREA, "pages reach their own host and no other")
def connections(world: World) -> str:
    """The content security policy of a page, as the server sends it."""
    with serving(world) as server:
        policy = server.ask("GET", "/")[1].get("content-security-policy", "")
    sources = re.search("connect-src ([^;]*)", policy)
    require(sources, f"no connect-src in {policy[:60]!r}")
    assert sources is not None
    own = {f"{kind}://{server.name}" for kind in ("ws", "wss", "http", "https")}
    foreign = [
        each for each in sources[1].split() if each not in own | {"'self'", "blob:", "data:"}
    ]
    return require(not foreign and "default-src" in policy, f"connect-src {sources[1]}")


@kind(AREA, "the addresses that --host 0.0.0.0 prints work, and other names do not")
def every_address(world: World) -> str:
    """Each printed name with its token; then another name and another page, with the same one."""
    with serving(world, "--host", "0.0.0.0", "--no-read-only") as server:
        printed = re.findall(r"http://([^/\s]+)/\?token=(\S+)", server.printed)
        names = [name for name, _ in printed]
        lacking = {f"{each}:{server.port}" for each in hosts.own_addresses()} - set(names)
        require(not lacking, f"not printed: {lacking}")
        for name, token in printed:
            given = server.cookie(name, token)
            found = server.status("POST", "/csp/warm/a/csp", Host=name, Cookie=given)
            require(found == 204, f"{name} answers {found}")
        elsewhere = ("evil.example", f"evil.example:{server.port}")
        refused = [
            server.status("GET", "/csp/ready", Host=each, Cookie=given) for each in elsewhere
        ]
        page = {"Origin": "http://evil.example", "Cookie": given}
        refused.append(server.status("GET", "/csp/ready", **page))
        socket = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
                  "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="}  # fmt: skip
        refused.append(server.status("GET", "/_stcore/stream", **socket, **page))
    require(refused == [403] * 4, f"other names and pages are answered {refused}")
    return f"{len(printed)} addresses, such as {tokens.with_token(f'http://{names[-1]}', 'TOKEN')}"
