"""A server answers before its routes are loaded, and they are loaded once."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from functools import partial

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, Router
from starlette.testclient import TestClient

from csp_engine.files import ROOT
from pages.ui.shell import loading


def test_many_that_ask_together_load_once_and_get_the_same():
    made, found = [], []

    def make():
        made.append(1)
        time.sleep(0.1)
        return Router()

    late = loading.Late(make)
    threads = [threading.Thread(target=lambda: found.append(late.made())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert len(set(map(id, found))) == 1


def test_routes_get_the_parts_of_their_own_address_and_refuse_other_methods():
    def parts(request: Request) -> PlainTextResponse:
        return PlainTextResponse(repr(sorted(request.path_params.items())))

    late = loading.Late(lambda: Router([Route("/csp/of/{name}/{digest}", parts)]))
    client = TestClient(Starlette(routes=[Route("/csp/{rest:path}", late)]))
    assert client.get("/csp/of/a/b").text == "[('digest', 'b'), ('name', 'a')]"
    assert client.post("/csp/of/a/b").status_code == 405
    assert client.get("/csp/of/a").status_code == 404


def test_what_failed_to_load_is_tried_again_by_who_asks():
    def make():
        tries.append(1)
        if len(tries) == 1:
            raise ImportError("a library is missing")
        return Router()

    tries = []
    late = loading.Late(make)
    try:
        late.made()
    except ImportError:
        assert late.made() is late.made()
    assert len(tries) == 2


def test_a_server_that_cannot_load_its_pages_ends_and_says_so():
    """It would answer that it is well, and be good for nothing."""
    program = """
import time
from pages.ui.shell import loading
def make():
    raise ImportError("no module named so")
loading.begin(loading.Late(make))
time.sleep(60)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 1
    assert "cannot load its pages" in done.stderr
    assert "no module named so" in done.stderr


def test_little_is_imported_before_the_server_answers():
    """Each of these takes a tenth of a second or more, or brings one that does."""
    program = "import sys, app; print([m for m in LATE if m in sys.modules])"
    late = ("pandas", "numpy", "pyarrow", "faiss", "torch", "csp_engine.bundle", "csp_engine.views")
    done = subprocess.run(
        [sys.executable, "-c", program.replace("LATE", repr(late))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_tables_are_read_into_memory_that_goes_back_to_the_system():
    """The pool that pyarrow has of its own keeps what is free: a tenth of all that is resident."""
    program = (
        "import app; app.late.made(); import pyarrow; "
        "print(pyarrow.default_memory_pool().backend_name)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.strip() == "system", done.stderr


def test_what_loading_needed_is_given_back_at_its_end(monkeypatch):
    done = []
    for name in ("open_bundles", "rehearse_first", "give_back"):
        monkeypatch.setattr(loading, name, partial(done.append, name))
    loading._load(loading.Late(Router))
    assert done == ["open_bundles", "rehearse_first", "give_back"]
    monkeypatch.undo()
    loading.give_back()
