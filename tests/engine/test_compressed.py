"""Scripts go compressed to other machines, and as they are to this one."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from csp_engine.http.compressed import Compressed

SCRIPT = b"export const word = 'pigment network'\n" * 200


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "static" / "js").mkdir(parents=True)
    (tmp_path / "static" / "js" / "a.js").write_bytes(SCRIPT)
    (tmp_path / "static" / "js" / "small.js").write_bytes(b"1")
    (tmp_path / "static" / "js" / "picture.woff2").write_bytes(SCRIPT)
    (tmp_path / "secret.js").write_bytes(SCRIPT)
    return tmp_path / "static"


def asking(folder: Path, base: str = "", address: str = "192.0.2.7") -> TestClient:
    async def plain(_: object) -> PlainTextResponse:
        return PlainTextResponse("as it is")

    app = Starlette(
        routes=[Route("/{path:path}", plain, methods=["GET", "POST", "HEAD"])],
        middleware=[Middleware(Compressed, folder=folder, base=lambda: base)],
    )
    return TestClient(app, client=(address, 5000))


def encoding_of(client: TestClient, path: str, takes: str = "gzip, br", **headers: str) -> str:
    return client.get(path, headers={"Accept-Encoding": takes, **headers}).headers.get(
        "content-encoding", ""
    )


@pytest.mark.parametrize("base", ["", "team/browser"])
def test_what_comes_out_is_the_file(folder, base):
    client = asking(folder, base)
    start = f"/{base}/static" if base else "/static"
    with client.stream("GET", f"{start}/js/a.js") as answer:
        sent = b"".join(answer.iter_raw())
    assert gzip.decompress(sent) == SCRIPT
    assert len(sent) < len(SCRIPT) / 10
    assert int(answer.headers["content-length"]) == len(sent)
    assert "javascript" in answer.headers["content-type"]
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["vary"] == "Accept-Encoding"
    head = client.head(f"{start}/js/a.js")
    assert head.headers["content-length"] == answer.headers["content-length"]
    assert head.content == b""


@pytest.mark.parametrize(
    ("takes", "is_sent"),
    [
        ("gzip", True),
        ("br;q=1.0, gzip;q=0.5, *;q=0.1", True),
        ("GZIP", True),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip; q=0.0, br", False),
        ("xgzip", False),
        ("", False),
    ],
)
def test_only_who_takes_it_gets_it(folder, takes, is_sent):
    assert encoding_of(asking(folder), "/static/js/a.js", takes) == ("gzip" if is_sent else "")


@pytest.mark.parametrize(
    "path",
    [
        "/static/js/small.js",
        "/static/js/picture.woff2",
        "/static/js/none.js",
        "/static/js",
        "/static/",
        "/static/../secret.js",
        "/static/%2e%2e/secret.js",
        "/static/js/../../secret.js",
        "/static/js/..%2f..%2fsecret.js",
        "/static//js/a.js",
        "/js/a.js",
        "/other/static/js/a.js",
    ],
)
def test_everything_else_is_left_to_the_server(folder, path):
    assert encoding_of(asking(folder), path) == ""


def test_this_machine_and_parts_of_a_file_are_left_to_the_server(folder):
    assert encoding_of(asking(folder, address="127.0.0.1"), "/static/js/a.js") == ""
    assert encoding_of(asking(folder, address="::1"), "/static/js/a.js") == ""
    assert encoding_of(asking(folder), "/static/js/a.js", Range="bytes=0-9") == ""
    assert asking(folder).post("/static/js/a.js").text == "as it is"
    # A proxy on this machine says for whom it asks.
    far = {"X-Forwarded-For": "203.0.113.9"}
    assert encoding_of(asking(folder, address="127.0.0.1"), "/static/js/a.js", **far) == "gzip"


def test_a_link_out_of_the_folder_is_not_followed_to_another_place(folder):
    (folder / "js" / "out.js").symlink_to(folder.parent / "secret.js")
    assert encoding_of(asking(folder), "/static/js/out.js") == ""
