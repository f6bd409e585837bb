from __future__ import annotations

import base64
import hashlib
import re
import struct

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from csp_engine.bundle import Bundle
from csp_engine.files import ROOT
from csp_engine.views import lists, random_sets
from csp_engine.views.address import View
from csp_engine.views.finding.standing import judged
from csp_engine.views.table import rows
from pages.ui.routes import ours
from pages.ui.shell import server, store
from tests.pages.conftest import rewrite_manifest, visiting

PAGES = sorted(path.stem for path in (ROOT / "pages").glob("*.py") if path.stem != "__init__")


@pytest.fixture
def client(serve, small_bundle):
    serve(small_bundle)
    return visiting()


@pytest.fixture
def root(small_bundle):
    return f"/csp/thumbs/small/{Bundle.open(small_bundle).digest[:16]}"


def test_a_pack_holds_the_thumbnails_in_the_order_asked(client, root, small_bundle):
    answer = client.get(f"{root}/5-0-5")
    bundle = Bundle.open(small_bundle)
    expected = [bundle.thumbnail(i) for i in (5, 0, 5)]
    assert answer.content == struct.pack("<4I", 3, *map(len, expected)) + b"".join(expected)
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["content-encoding"] == "identity"


@pytest.mark.parametrize(
    "images",
    ["28", "-1", "1--2", "1-", "abc", "1" * 11, "..%2F..%2Fmanifest.json", "0-" * 200 + "0", "٣"],
)
def test_anything_but_image_numbers_in_range_is_not_found(client, root, images):
    assert client.get(f"{root}/{images}").status_code == 404


def test_the_last_image_is_served_and_the_next_is_not(client, root):
    assert client.get(f"{root}/27").status_code == 200
    assert client.get(f"{root}/28").status_code == 404


def test_an_old_digest_is_not_answered_from_a_new_bundle(client):
    assert client.get("/csp/thumbs/small/0123456789abcdef/0").status_code == 404


def test_only_known_names_open_bundles(client, root, small_bundle):
    for name in ("other", "..", "%2Fetc", str(small_bundle).replace("/", "%2F")):
        assert client.get(root.replace("small", name) + "/0").status_code == 404


def test_ready_tells_which_bundle_cannot_be_opened(serve, small_bundle, copied):
    client = TestClient(Starlette(routes=ours.routes()))
    serve(small_bundle)
    assert client.get("/csp/ready").json() == {"ready": True, "problems": {}}
    rewrite_manifest(copied, schema=99)
    serve(copied)
    answer = client.get("/csp/ready")
    assert answer.status_code == 503
    assert "99" in answer.json()["problems"]["small"]


def test_every_answer_carries_a_policy_that_allows_no_other_host(client, root):
    headers = client.get(f"{root}/0").headers
    policy = headers["content-security-policy"]
    assert "http:" not in policy
    assert "'unsafe-eval'" not in policy
    assert "script-src 'self' blob: 'sha256-" in policy
    assert headers["x-content-type-options"] == "nosniff"


def test_an_encoder_is_warmed_by_those_who_will_ask_and_only_for_known_bundles(
    client, small_bundle, monkeypatch
):
    warmed = []
    monkeypatch.setattr(store.ENCODERS, "warm", lambda bundle, _: warmed.append(bundle.name))
    assert client.post("/csp/warm/small/csp").status_code == 204
    assert client.post("/csp/warm/small/no-such-method").status_code == 204
    assert client.post("/csp/warm/other/csp").status_code == 404
    assert client.get("/csp/warm/small/csp").status_code == 405
    assert warmed == ["small", "small"]


def test_what_a_first_search_reads_is_at_hand_once_a_box_was_entered(
    client, small_bundle, monkeypatch
):
    monkeypatch.setattr(store.ENCODERS, "warm", lambda *_: None)
    client.post("/csp/warm/small/csp")
    bundle = store.open_bundle("small")
    monkeypatch.setattr(random_sets, "null_vectors", None)  # reading any of these again would fail
    monkeypatch.setattr(random_sets, "remainders", None)
    monkeypatch.setattr(rows, "_layer_rows", None)
    view = View("small", "small", bundle.layers("small")[0], 0, "csp", q=bundle.labels()["text"][1])
    query = store.query_of(bundle, view)
    found = lists.searched(bundle, store.MEMO, view, query)
    assert judged(bundle, store.MEMO, query, "csp", found).standing


def test_every_page_brings_its_looks_and_the_scripts_of_its_first_elements(client):
    for page in ("", "neuron", "glossary", "layer", "melanoma"):
        text = client.get(f"/{page}").text
        assert "dl.csp-facts" in text.split("</head>")[0]
        for kind in (*server.ELEMENTS, *server.ELEMENTS_OF.get(page, ())):
            script = re.search(
                rf"rel='modulepreload' crossorigin href='\./([^']*/{kind}\.[^']*)", text
            )[1]
            assert (server.STATIC / script).is_file()


def test_tables_and_charts_are_fetched_where_they_are_drawn_alone(client):
    heavy = {"DataFrame": {"layer", "compare", "melanoma"}, "PlotlyChart": {"melanoma"}}
    assert set(server.ELEMENTS_OF) | {"map", "labels", "glossary"} <= set(PAGES)
    for page in PAGES:
        text = client.get(f"/{'' if page == 'overview' else page}").text
        for kind, where in heavy.items():
            assert (f"/{kind}." in text) == (page in where)


def test_another_machine_gets_scripts_compressed(client):
    answer = client.get("/neuron")
    script = re.search(r"modulepreload' crossorigin href='\./([^']+)'", answer.text)[1]
    sent = client.get(f"/{script}")  # this client has no address of this machine
    assert sent.headers["content-encoding"] == "gzip"
    assert sent.content == (server.STATIC / script).read_bytes()
    assert sent.headers["x-content-type-options"] == "nosniff"


def test_a_deep_link_is_told_where_its_server_is_and_may_run_that_script(client):
    for page in ("neuron", "search", "build"):
        answer = client.get(f"/{page}?unit=5")
        script = re.search("<head><script>(.*?)</script>", answer.text, re.DOTALL)[1]
        known = 'window.__streamlit={BACKEND_BASE_URL:location.origin+"/"};'
        assert script.startswith(known + "document.cookie.includes('_streamlit_xsrf=')&&(")
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-cache"  # it names files of this version


def test_an_address_of_no_page_gets_the_page_that_says_so_and_one_below_a_page_a_sentence(client):
    for name in ("nosuchpage", "of_mine", "über", "overview"):
        assert "window.__streamlit=" in client.get(f"/{name}").text
    for path in ("neuron/biased/layer4", "nosuch/page", "neuron/_stcore/health", "search/<b>"):
        answer = client.get(f"/{path}")
        assert answer.status_code == 404
        assert "There is no page /" in answer.text
        assert "<b>" not in answer.text
        assert "href='/'" in answer.text
        assert "script" not in answer.text
        assert "default-src 'self'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    "path", ["favicon.png", "static/js/none.js", "_stcore/health", "csp/nothing", "media/x"]
)
def test_what_streamlit_or_we_serve_is_no_page(client, path):
    answer = client.get(f"/{path}")
    assert "There is no page" not in answer.text
    assert "window.__streamlit=" not in answer.text
