"""Who may do what on the pages and our own routes: strangers, those with the token, accounts."""

from __future__ import annotations

import json
import re
import shutil
from types import SimpleNamespace

import pytest
from streamlit.runtime.secrets import secrets_singleton
from streamlit.web.server.starlette.starlette_app_utils import create_signed_value

from csp_engine.bundle import Bundle
from csp_engine.errors import NotAllowedError
from csp_engine.http import tokens
from csp_engine.http.permissions import EVERYTHING, LOOKING, NOTHING, SHOWING, Permission
from pages.ui.shell import access, problems, server, store
from tests.engine.test_jobs import a_past_job
from tests.pages.conftest import HERE, html, open_page, rewrite_manifest, visiting

TOKEN = "the token of these tests"
AUTH = {"redirect_uri": f"{HERE}/oauth2callback", "cookie_secret": "a secret of the tests"}
ADA = {"is_logged_in": True, "name": "Ada", "email": "ada@example.org", "email_verified": True}


@pytest.fixture(autouse=True)
def bundles(serve, small_bundle, monkeypatch, tmp_path) -> None:
    serve(small_bundle)
    monkeypatch.setenv("CSP_REVIEWS", str(tmp_path / "reviews.sqlite"))
    monkeypatch.setenv("CSP_START_FOLDER", str(tmp_path))


@pytest.fixture
def token(monkeypatch) -> str:
    """A server as ``csp serve`` starts it: with a token that is named in the environment."""
    monkeypatch.setattr(access._Held, "token", TOKEN)
    monkeypatch.setattr(access._Held, "is_chosen", True)
    return TOKEN


@pytest.fixture
def with_pass(token, monkeypatch) -> None:
    """The browser has opened the printed address."""
    held = {access.cookie_name(): tokens.pass_of(token)}
    monkeypatch.setattr(access, "_cookies", lambda: held)


@pytest.fixture
def without(token, monkeypatch) -> None:
    """The browser has opened the address without the token, on a machine with other servers."""
    held = {"csp_pass_1": tokens.pass_of(token), "csp_pass_8501": tokens.pass_of("another token")}
    monkeypatch.setattr(access, "_cookies", lambda: held)


@pytest.fixture
def sign_in(monkeypatch):
    """Settings for signing in, as the server itself reads them."""

    def configure(**lists) -> None:
        held = {"auth": AUTH, **({"access": lists} if lists else {})}
        monkeypatch.setattr(secrets_singleton, "_secrets", held)

    yield configure
    secrets_singleton._secrets = None


def signed(user: dict, secret: str = AUTH["cookie_secret"], origin: str = HERE) -> str:
    """The cookie that Streamlit sets once somebody has signed in."""
    content = json.dumps({**user, "origin": origin, "provider": "default"})
    return f"_streamlit_user={create_signed_value(secret, '_streamlit_user', content).decode()}"


def routes(bundle: Bundle) -> list[tuple[str, str]]:
    at = f"small/{bundle.digest[:16]}"
    return [
        ("GET", f"/csp/card/{at}/csp/0-0"), ("GET", f"/csp/thumbs/{at}/0-1"),
        ("GET", f"/csp/strip/{at}/0-0"), ("GET", f"/csp/points/{at}"),
        ("GET", "/csp/ready"), ("GET", "/metrics"),
        ("GET", "/csp/docs/methods.md"), ("POST", "/csp/warm/small/csp"),
    ]  # fmt: skip


@pytest.fixture
def asked(small_bundle, monkeypatch):
    """The status of every route of ours for a browser with some headers."""
    warmed: list[object] = []
    monkeypatch.setattr(store.ENCODERS, "warm", lambda bundle, _: warmed.append(bundle))

    def ask(**headers: str) -> list[int]:
        client = visiting(**headers)
        return [client.request(*each).status_code for each in routes(Bundle.open(small_bundle))]

    return ask


FOUND = [200, 200, 200, 200, 200, 200, 200, 204]


def test_a_stranger_may_look_and_the_encoder_is_not_theirs(token, asked):
    assert asked() == [*FOUND[:-1], 401]
    assert asked(cookie=f"{access.cookie_name()}={TOKEN}") == [*FOUND[:-1], 401]
    assert asked(cookie=f"{access.cookie_name()}={tokens.pass_of(TOKEN)}") == FOUND


def test_the_token_for_machines_tells_how_the_server_does_and_nothing_else(
    sign_in, asked, monkeypatch
):
    sign_in(emails=["ada@example.org"])
    watch = "a token for machines"
    monkeypatch.setenv("CSP_METRICS_TOKEN", watch)
    assert asked(authorization=f"Bearer {watch}") == [401, 401, 401, 401, 200, 200, 401, 401]
    assert visiting(authorization=f"Bearer {watch}").get("/csp/api/v1/bundles").status_code == 401
    for wrong in ("Bearer a token for machine", f"Basic {watch}", "Bearer ", watch):
        assert asked(authorization=wrong) == [401] * len(FOUND)
    monkeypatch.setenv("CSP_METRICS_TOKEN", "short")
    assert asked(authorization="Bearer short") == [401] * len(FOUND)
    monkeypatch.setenv("CSP_METRICS_TOKEN", "")
    assert asked(authorization="Bearer ") == [401] * len(FOUND)


def test_foreign_hosts_and_pages_get_nothing_even_with_the_pass(token, asked):
    cookie = f"{access.cookie_name()}={tokens.pass_of(TOKEN)}"
    for headers in (
        {"host": "evil.com"},
        {"origin": "http://evil.com"},
        {"origin": "null"},
        {"origin": "http://["},
    ):
        assert asked(cookie=cookie, **headers) == [403] * len(FOUND)
    assert asked(cookie=cookie, origin=HERE) == FOUND


def test_sign_in_holds_for_every_route(sign_in, asked):
    sign_in(domains=["example.org"])
    assert asked() == [401] * len(FOUND)
    assert asked(cookie=signed(ADA)) == FOUND
    for cookie in (
        signed({**ADA, "is_logged_in": False}),
        signed({**ADA, "email": "eve@example.com"}),
        signed({**ADA, "email_verified": "false"}),
        signed(ADA, secret="another secret"),
        signed(ADA, origin="http://evil.com"),
        "_streamlit_user=" + json.dumps({**ADA, "origin": HERE}),
        "_streamlit_user=",
        "_streamlit_user=\xff",
    ):
        assert asked(cookie=cookie.encode("latin-1")) == [401] * len(FOUND), cookie


def test_sign_in_takes_the_place_of_the_token(token, sign_in, asked):
    sign_in()
    assert access.token() is None
    assert asked(cookie=f"{access.cookie_name()}={tokens.pass_of(TOKEN)}") == [401] * len(FOUND)
    assert access.granted(ADA, {}) == EVERYTHING
    assert access.granted({}, {}) == NOTHING


@pytest.mark.parametrize("said", [None, False, "false", "true", 1, "", "yes"])
def test_an_address_is_verified_only_where_its_provider_says_so(said):
    user = {key: value for key, value in ADA.items() if key != "email_verified"}
    assert access.email_of(user) == ""
    assert access.email_of({**user, "email_verified": said}) == ""
    assert access.email_of(ADA) == "ada@example.org"


def test_a_server_that_only_shows_grants_the_same_to_all(monkeypatch):
    monkeypatch.setenv("CSP_READ_ONLY", "1")
    monkeypatch.setattr(access._Held, "token", TOKEN)  # made up, of no use
    assert access.token() is None
    assert access.granted({}, {}) == SHOWING
    monkeypatch.setattr(access._Held, "is_chosen", True)
    assert access.granted({}, {}) == LOOKING
    assert access.granted({}, {access.cookie_name(): tokens.pass_of(TOKEN)}) == SHOWING


def test_a_server_takes_its_token_out_of_what_builds_inherit(monkeypatch):
    for named, expected in ((TOKEN, TOKEN), ("", "")):
        monkeypatch.setattr(access._Held, "token", None)
        monkeypatch.setenv(tokens.VARIABLE, named)
        access.hold_token()
        assert access._Held.token == expected
        assert tokens.VARIABLE not in server.os.environ
        access.hold_token()  # again, as when the app is imported twice
        assert (access._Held.token, access._Held.is_chosen) == (expected, True)
    monkeypatch.setattr(access._Held, "token", None)
    access.hold_token()
    assert len(access.made_up_token() or "") >= 32


def test_without_the_token_the_build_page_says_what_to_do_and_builds_nothing(without, tmp_path):
    a_past_job(tmp_path / "bundles" / "gone.csp.job", "", folder=str(tmp_path))
    for params in ({}, {"job": "gone"}):
        at = open_page("build", **params)
        assert not at.exception
        assert "To build from here, open the address with ?token=" in html(at)
        assert len(at.button) == len(at.text_input) == len(at.selectbox) == len(at.code) == 0


def test_a_form_that_was_open_before_starts_nothing(with_pass, monkeypatch, tmp_path):
    at = open_page("build")
    assert at.button(key="start_build")
    monkeypatch.setattr(access, "_cookies", dict)
    at.button(key="start_build").click().run()
    assert "To build from here" in html(at)
    assert not list(tmp_path.rglob("*.job"))


def test_verdicts_are_read_without_the_token_and_given_with_it(token, monkeypatch):
    monkeypatch.setattr(access, "_cookies", lambda: {access.cookie_name(): tokens.pass_of(TOKEN)})
    at = open_page("neuron")
    (choice,) = [each for each in at.button_group if each.key.startswith("_verdict ")]
    choice.set_value("valid").run()
    assert "Saved as" in html(at)
    monkeypatch.setattr(access, "_cookies", dict)
    at = open_page("neuron")
    assert "To give a verdict, open the address" in html(at)
    assert ">valid</span>" in html(at)
    assert "Your verdict" not in html(at)


def test_words_that_the_encoder_has_to_read_need_the_token(without, small_bundle, monkeypatch):
    questions: list[str] = []

    def answer(bundle, texts, visitor=""):
        questions.extend(texts)
        raise NotAllowedError("asked")

    monkeypatch.setattr(store.ENCODERS, "text_vectors", answer)
    known = Bundle.open(small_bundle).labels()["text"][0]
    at = open_page("search", q=known)
    assert "csp-problem" not in html(at)
    at = open_page("search", q="a word that is no label")
    assert "To search by words that are not in the vocabulary" in html(at)
    assert questions == []
    assert not [each for each in at.get("bidi_component")
                if each.proto.component_name.endswith(("csp_warm", "csp_paste"))]  # fmt: skip


def test_with_the_token_all_is_as_it_was(with_pass):
    at = open_page("build")
    assert at.button(key="start_build")
    assert "?token=" not in html(at) + html(open_page("neuron")) + html(open_page("search"))


def test_ready_and_refusals_tell_no_folder(serve, copied, tmp_path):
    odd = tmp_path / "a place, with (signs)"
    odd.mkdir()
    copied = copied.rename(odd / "small.csp")
    rewrite_manifest(copied, schema=99)
    serve(copied, odd / "gone.csp")
    client = visiting()
    told = client.get("/csp/ready").json()["problems"]
    assert set(told) == {"small", "gone"}
    assert "gone.csp" in told["gone"]
    texts = [*told.values(), client.post("/csp/warm/gone/csp").text,
             client.get(f"/csp/points/gone/{'0' * 16}").text]  # fmt: skip
    for text in texts:
        assert str(tmp_path) not in text
        assert "/" not in text, text


def test_pages_tell_folders_to_those_who_may_build_there_and_to_no_others(
    serve, copied, with_pass, monkeypatch
):
    (copied / "manifest.json").unlink()
    serve(copied)
    assert str(copied.parent) in html(open_page())
    monkeypatch.setattr(access, "_cookies", dict)
    at = open_page()
    assert "small cannot be opened" in html(at)
    assert str(copied.parent) not in html(at)
    serve(copied.parent / "empty")
    assert str(copied.parent) not in html(open_page())


def test_uploads_are_held_up_to_a_limit(monkeypatch):
    held = {"many": dict.fromkeys(range(4), SimpleNamespace(data=b"x")), "few": {}}
    manager = SimpleNamespace(file_storage=held)
    monkeypatch.setattr(server.runtime, "exists", lambda: True)
    monkeypatch.setattr(
        server.runtime, "get_instance", lambda: SimpleNamespace(uploaded_file_mgr=manager)
    )
    assert "uploaded 4 images" in server.uploads_too_much("many")
    assert server.uploads_too_much("few") == server.uploads_too_much("unknown") == ""
    monkeypatch.setattr(server, "MOST_UPLOADED", 3)
    assert "as many images as it can" in server.uploads_too_much("few")
    assert visiting().put("/_stcore/upload_file/few/f").status_code == 429


def test_the_policy_names_our_own_sockets_and_no_others():
    for host in ("localhost:8501", "127.0.0.1"):
        policy = visiting(host=host).get("/").headers["content-security-policy"]
        sources = re.search("connect-src ([^;]*)", policy)[1].split()
        assert sources == ["'self'", "blob:", f"ws://{host}", f"wss://{host}"]
    for host in ("a; script-src *", "[::1]:8501", "", "evil.com/x", "a b"):
        assert server.own_sockets(host) == ""


def test_every_sentence_of_refusal_says_what_to_do(token, monkeypatch):
    for permission in Permission:
        assert "open the address with ?token= that was printed" in access.refusal(permission)
    monkeypatch.setenv("CSP_READ_ONLY", "1")
    assert access.refusal(Permission.BUILD) == "This server only shows bundles and verdicts."


def test_folders_with_spaces_and_databases_are_told_to_no_strangers(tmp_path):
    folder = tmp_path / "our models" / "of 2026"
    (folder / "enc").mkdir(parents=True)
    for said, told in (
        (
            f"The encoder {folder}/enc is gone; build again.",
            "The encoder enc is gone; build again.",
        ),
        (f"'{folder}/none.json' is missing.", "'none.json' is missing."),
        (f"sqlite:///{folder}/r.db cannot be opened (locked).", "r.db cannot be opened (locked)."),
        (f"Open file://{folder}/a.html or {folder}/b c.html.", "Open a.html or b c.html."),
        (f"python:{folder}/net.py:Net", "python:net.py:Net"),
        ("/nowhere at/all/x.npy is cut off", "/nowhere at/all/x.npy is cut off"),
        ("/nowhere/at/all/x.npy is cut off", "x.npy is cut off"),
        ("See https://example.org/a/b and either/or, 1/2.", None),
        ("open_clip/ViT-B-32/laion2b and model/layer/3", None),
    ):
        found = problems.without_folders(said, [])
        assert found.removeprefix("sqlite:") == (said if told is None else told), said


@pytest.mark.usefixtures("without")
def test_strangers_are_not_told_where_the_encoder_lies(serve, small_bundle, tmp_path):
    moved = tmp_path / "our bundles" / "b.csp"
    shutil.copytree(small_bundle, moved)
    folder = tmp_path / "our models" / "enc"
    folder.mkdir(parents=True)
    inputs = dict(Bundle.open(moved).manifest.inputs)
    inputs["encoder"] = {**inputs["encoder"], "spec": str(folder)}
    inputs["probe"] = {**inputs["probe"], "notice": f"Read from {folder}/x.csv."}
    rewrite_manifest(moved, inputs=inputs)
    serve(moved)
    for page in ("overview", "search", "neuron", "layer"):
        text = html(open_page(page, q="red")) if page == "search" else html(open_page(page))
        assert "our models" not in text, page
        assert "our bundles" not in text, page
        assert "Read from x.csv." in text, page


@pytest.mark.usefixtures("without")
def test_strangers_are_not_told_where_verdicts_lie(small_bundle, tmp_path, monkeypatch):
    folder = tmp_path / "our verdicts"
    folder.mkdir()
    (folder / "r.sqlite").write_bytes(b"no database at all" * 300)
    monkeypatch.setenv("CSP_REVIEWS", str(folder / "r.sqlite"))
    for page in ("neuron", "layer"):
        text = html(open_page(page))
        assert "r.sqlite" in text, page
        assert "our verdicts" not in text, page
