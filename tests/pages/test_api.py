"""The HTTP API says what pages, files and commands say, refuses the rest, and bounds visitors."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import shutil
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import numpy as np
import pytest
from starlette.requests import HTTPConnection, Request

from csp_engine.bundle import Bundle
from csp_engine.cli import main
from csp_engine.errors import InputError
from csp_engine.exchange import label_tables
from csp_engine.exchange.label_tables import label_rows
from csp_engine.http import tokens
from csp_engine.http.api import asking, shapes
from csp_engine.http.api import client as clients
from csp_engine.http.api.limits import Buckets
from csp_engine.views.audit.factors import factored
from csp_engine.views.lists import found_neurons
from csp_engine.views.memo import Memo
from csp_engine.views.table.columns import COLUMNS
from csp_engine.views.table.rows import csv_bytes
from csp_engine.words.concepts import SHIPPED
from csp_engine.words.own_concepts import as_link, written
from pages.ui.shell import access, server, store
from tests.pages.conftest import ROOT, visiting
from tests.worlds import toys
from tools import api_description

START = "/csp/api/v1"
AT = f"{START}/bundles/small"
TOKEN = "the token of these tests"


@pytest.fixture(autouse=True)
def bundles(serve, small_bundle, monkeypatch, tmp_path) -> None:
    serve(small_bundle)
    monkeypatch.setenv("CSP_REVIEWS", str(tmp_path / "reviews.sqlite"))


@pytest.fixture
def token(monkeypatch) -> str:
    monkeypatch.setattr(access._Held, "token", TOKEN)
    monkeypatch.setattr(access._Held, "is_chosen", True)
    return TOKEN


@pytest.fixture
def bundle(small_bundle) -> Bundle:
    return Bundle.open(small_bundle)


def read(path: str, status: int = 200, **headers: str):
    answer = visiting(**headers).get(path)
    assert answer.status_code == status, answer.text
    return answer.json()


def every(path: str) -> list[dict]:
    """All rows of a list, following its pages."""
    found, page = [], read(path)
    while True:
        found += page.get("neurons", page.get("rows"))
        if page["next"] is None:
            assert len(found) == page["total"]
            return found
        page = read(page["next"])


def in_json(value):
    """A cell of a CSV file or a table, as JSON has it."""
    return None if value == "" or (isinstance(value, float) and math.isnan(value)) else value


def test_the_description_is_that_of_the_api():
    written = api_description.DESCRIPTION_PATH.read_text("utf-8")
    assert written == api_description.render(), "docs/openapi.json is out of date; run: make docs"
    assert json.loads(written) == read(f"{START}/openapi.json")


def test_every_operation_says_what_it_does_and_every_parameter_what_it_means():
    for path, operations in api_description.description()["paths"].items():
        for operation in operations.values():
            assert operation["description"], path
            assert {"422", "401"} <= set(operation["responses"])
            for parameter in operation.get("parameters", ()):
                assert parameter.get("description"), (path, parameter["name"])


def test_the_bundle_says_what_it_holds(bundle):
    (listed,) = read(f"{START}/bundles")["bundles"]
    told = read(AT)
    assert listed["digest"] == told["digest"] == bundle.digest
    assert [(each["model"], each["layer"], each["n_units"]) for each in told["layers"]] == [
        (model, layer, bundle.n_units(model, layer))
        for model in bundle.model_names
        for layer in bundle.layers(model)
    ]
    assert told["n_neurons"] == listed["n_neurons"] == sum(x["n_units"] for x in told["layers"])
    assert str(bundle.path.parent) not in json.dumps(told)


def test_neurons_are_those_of_the_table_and_of_its_file(bundle):
    method = bundle.methods(*next((m, b) for m in bundle.model_names for b in bundle.layers(m)))[0]
    rows = found_neurons(bundle, Memo(), method)
    shown = [name for name in COLUMNS if name in rows]
    wanted = list(csv.DictReader(io.StringIO(csv_bytes(rows, shown).decode())))
    given = every(f"{AT}/neurons?limit=7")
    assert [row["neuron"] for row in given] == [row["neuron"] for row in wanted]
    n_numbers = 0
    for mine, file in zip(given, wanted, strict=True):
        for name in shown:
            value, text = mine[name], file[name]
            if isinstance(value, bool) or value is None or isinstance(value, str):
                assert str("" if value is None else value) == text, name
            else:
                n_numbers += 1
                assert np.float32(value) == np.float32(text), name
    assert n_numbers > 5 * len(given)


def test_a_search_is_that_of_the_command(bundle, small_bundle, capsys):
    word = next(iter(bundle.label_ids))
    with pytest.raises(SystemExit):
        main(["search", str(small_bundle), word, "-n", "5", "--json"])
    wanted = json.loads(capsys.readouterr().out)
    given = read(f"{AT}/neurons?q={quote(word)}&limit=5&method={wanted['method']}")
    assert [row["neuron"] for row in given["neurons"]] == [x["neuron"] for x in wanted["found"]]
    assert [round(row["match"], 4) for row in given["neurons"]] == [
        x["score"] for x in wanted["found"]
    ]
    assert given["judgement"] == wanted["judgement"]["words"]


def test_filters_and_order_are_those_of_links(bundle):
    model, layer = bundle.model_names[0], bundle.layers(bundle.model_names[0])[0]
    given = every(f"{AT}/neurons?model={model}&layer={layer}&only=reliable&sort=-score&limit=4")
    scores = bundle.scores(model, layer, bundle.methods(model, layer)[0])
    reliable = np.flatnonzero(np.asarray(scores.reliable_u) & (np.asarray(scores.count_u) > 0))
    best_u = np.asarray(scores.score_uk[:, 0])
    assert [row["unit"] for row in given] == sorted(
        reliable.tolist(), key=lambda unit: -best_u[unit]
    )


def test_one_neuron_is_that_of_its_command_and_its_arrays(bundle, small_bundle, capsys):
    model, layer = bundle.model_names[0], bundle.layers(bundle.model_names[0])[0]
    name = f"{model}/{layer}/1"
    with pytest.raises(SystemExit):
        main(["neuron", str(small_bundle), name, "--json"])
    wanted = json.loads(capsys.readouterr().out)
    given = read(f"{AT}/neurons/{name}")
    assert [(each["kind"], each["text"]) for each in given["conclusion"]] == [
        (each["kind"], each["text"]) for each in wanted["conclusion"]
    ]
    assert (given["neuron"], given["method"], given["states"]) == (
        name,
        wanted["method"],
        wanted["states"],
    )
    exemplars, contrast = bundle.exemplars(model, layer), bundle.contrast(model, layer)
    count = int(exemplars.count_u[1])
    shown = given["pairs"]
    assert len(shown) == min(12, count)
    for each in shown:
        k = each["rank"] - 1
        assert each["exemplar"]["image"] == exemplars.image_uk[1, k]
        assert np.float32(each["exemplar"]["activation"]) == exemplars.activation_uk[1, k]
        if each["contrast"] is None:
            assert contrast.n_partner_uk[1, k] == 0
        else:
            assert each["contrast"]["image"] == contrast.image_ukj[1, k, 0]
    for labels in given["labels"]:
        scores = bundle.scores(model, layer, labels["method"])
        texts = bundle.method_labels(model, layer, labels["method"])["text"]
        first = [texts.iloc[int(i)] for i in scores.label_uk[1, : len(labels["candidates"])]]
        assert [each["text"] for each in labels["candidates"]] == first
    picture = visiting().get(shown[0]["exemplar"]["thumbnail"])
    assert picture.content == bundle.thumbnail(shown[0]["exemplar"]["image"])
    assert picture.headers["content-type"] == "image/webp"


def test_labels_are_those_of_the_exported_table(bundle):
    wanted = label_rows(bundle, n_labels=2)
    given = every(f"{AT}/labels?n=2&limit=50")
    assert [row["neuron"] for row in given] == wanted["neuron"].tolist()
    assert [row["description"] for row in given] == wanted["description"].tolist()
    np.testing.assert_array_equal(
        np.array([row["score"] for row in given], np.float32),
        wanted["score"].to_numpy(np.float32),
    )


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (f"{AT}/neurons?layr=x", "There is no parameter 'layr'"),
        (f"{AT}/neurons?only=reliable&only=dead", "more than once"),
        (f"{AT}/neurons?layer=nope", "it can be"),
        (f"{AT}/neurons?model=nope", "There is no model 'nope'"),
        (f"{AT}/neurons?method=nope", "There is no method 'nope'"),
        (f"{AT}/neurons?only=nope", "Not answered"),
        (f"{AT}/neurons?where=score:a..b", "Not answered"),
        (f"{AT}/neurons?sort=nope", "Not answered"),
        (f"{AT}/neurons?sort=-", "There is no column to sort by “-”"),
        (f"{AT}/neurons?sort=--score", "There is no column to sort by “-score”"),
        (f"{AT}/neurons?sort=,", "There is no column to sort by “,”"),
        (f"{AT}/neurons?sort=%20score", "There is no column to sort by “score”"),
        (f"{AT}/neurons?sort=score,-unit", "There is no column to sort by “score,-unit”"),
        (f"{AT}/neurons?sort=-first", "There is no column to sort by “first”"),
        (f"{AT}/neurons?sort=Score", "There is no column to sort by “Score”"),
        (f"{AT}/neurons?order=score", "There is no parameter 'order'"),
        (f"{AT}/neurons?sort=score&sort=score", "more than once"),
        (f"{AT}/neurons?where=score:0..,score:..0.5", "several ranges of score"),
        (f"{AT}/neurons?where=score:nan..", "is not a range"),
        (f"{AT}/neurons?where=score:-inf..", "is not a range"),
        (f"{AT}/neurons?where=score:1e400..", "is not a range"),
        (f"{AT}/neurons?where=score:%D9%A1..", "is not a range"),
        (f"{AT}/neurons?where=score:0..%0A", "is not a range"),
        (f"{AT}/neurons?where=label:0..1", "is not a range"),
        (f"{AT}/neurons?where=,", "is not a range"),
        (f"{AT}/neurons?where=score:0..,", "is not a range"),
        (f"{AT}/neurons?q=,", "“,” holds no words"),
        (f"{AT}/neurons?q=%20;%20", "holds no words"),
        (f"{AT}/neurons?q=ruler&not=,", "“,” holds no words"),
        (f"{AT}/neurons?has=%20", "by spaces alone"),
        (f"{AT}/neurons?has={'a' * 400}", "cut to its first 300"),
        (f"{AT}/neurons?image=-1", "Not answered"),
        (f"{AT}/neurons?image=%D9%A1", "Not answered"),
        (f"{AT}/neurons?limit=-5", "limit cannot be '-5'"),
        (f"{AT}/neurons?limit=%D9%A1", "limit cannot be"),
        (f"{AT}/neurons?limit=nan", "limit cannot be 'nan'"),
        (f"{AT}/neurons?limit=5&limit=6", "more than once"),
        (f"{AT}/neurons?image=999999", "Not answered"),
        (f"{AT}/neurons?not=ruler", "alone describes nothing"),
        (f"{AT}/neurons?limit=10000000", "limit cannot be '10000000'"),
        (f"{AT}/neurons?limit=0", "limit cannot be '0'"),
        (f"{AT}/neurons?offset=-1", "offset cannot be '-1'"),
        (f"{AT}/neurons?q={'a' * 2000}", "q cannot be"),
        (f"{AT}/neurons/nope/x/1", "Model 'nope' is not in the bundle"),
        (f"{AT}/neurons/small", "small"),
        (f"{AT}/neurons/small/second@mean/9999999", "has no unit"),
        (f"{AT}/images/999999", "There is no image 999,999"),
        (f"{AT}/images/x", "image cannot be 'x'"),
        (f"{AT}/images/{'9' * 4000}", "image cannot be"),
        (f"{AT}/images/-1", "image cannot be '-1'"),
        (f"{AT}/images/1_0", "image cannot be '1_0': it should be a whole number in digits"),
        (f"{AT}/images/1.0", "image cannot be '1.0'"),
        (f"{AT}/neurons?limit=1_0", "limit cannot be '1_0'"),
        (f"{AT}/neurons?limit=%205", "limit cannot be ' 5'"),
        (f"{AT}/neurons?limit=1e2", "limit cannot be '1e2'"),
        (f"{AT}/neurons?offset={'9' * 40}", "offset cannot be"),
        (f"{AT}/neurons?limit=", "limit cannot be ''"),
        (f"{AT}/neurons/small/second@mean/%D9%A1", "is not a neuron"),
        (f"{AT}/neurons/small/second@mean/-1", "is not a neuron"),
        (f"{AT}/neurons/small%00/second@mean/1", "is not in the bundle"),
        (f"{AT}/neurons/%FF/%FE/1", "is not in the bundle"),
        (f"{AT}/neurons/..%2f..%2fetc/passwd/1", "is not in the bundle"),
        (f"{AT}/neurons?%00=1", "There is no parameter"),
        (f"{AT}/neurons?q=%ED%A0%80&like=%00", "Not answered"),
        (f"{AT}/audit/nope", "kind cannot be 'nope'"),
        (f"{AT}/audit/associations?concepts=eNqq", "was cut off or altered"),
        (f"{AT}/audit/fixes?concepts=melanoma", "concepts changes nothing of fixes"),
        (f"{AT}/reviews?neuron=a/b/c", "'a/b/c'"),
        (f"{AT}/labels?layer=nope", "nope"),
    ],
)
def test_what_does_not_exist_is_refused_in_a_sentence(path, said):
    told = read(path, 422)
    assert set(told) == {"error"}
    assert said in told["error"]
    assert "\n" not in told["error"]
    assert len(told["error"]) < 700


def test_a_bundle_that_is_not_there_and_an_address_that_is_not():
    assert "nope" in read(f"{START}/bundles/nope", 404)["error"]
    assert "openapi.json" in read(f"{START}/nope", 404)["error"]
    assert "DELETE" in visiting().delete(f"{AT}/reviews").json()["error"]


def test_a_damaged_bundle_is_told_without_its_folder(serve, copied):
    (copied / "manifest.json").write_bytes(b"{")
    serve(copied)
    (listed,) = read(f"{START}/bundles")["bundles"]
    assert listed["digest"] is None
    assert str(copied.parent) not in listed["problem"]
    told = read(AT, 404)["error"]
    assert str(copied.parent) not in told


def test_an_answer_is_sent_again_only_when_it_has_changed(bundle):
    visitor = visiting()
    first = visitor.get(f"{AT}/neurons?limit=3")
    again = visitor.get(f"{AT}/neurons?limit=3", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    other = visitor.get(f"{AT}/neurons?limit=2", headers={"If-None-Match": first.headers["etag"]})
    assert other.status_code == 200


@pytest.mark.parametrize(
    ("given", "is_kept"),
    [
        ([("If-None-Match", "*")], True),
        ([("If-None-Match", 'W/"a", W/TAG , "b"')], True),
        ([("If-None-Match", '"a"'), ("If-None-Match", "TAG")], True),
        ([("If-None-Match", '"a", "b"')], False),
        ([("If-None-Match", 'TAG"')], False),
        ([("If-None-Match", "\xe9, , ,")], False),
        ([("If-None-Match", "," * 5000)], False),
    ],
)
def test_tags_as_http_has_them(given, is_kept):
    visitor = visiting()
    first = visitor.get(f"{START}/columns")
    headers = [(name, value.replace("TAG", first.headers["etag"])) for name, value in given]
    again = visitor.get(f"{START}/columns", headers=[(n, v.encode("latin-1")) for n, v in headers])
    assert again.status_code == (304 if is_kept else 200)
    assert again.headers["etag"] == first.headers["etag"]


@pytest.mark.parametrize(
    "path", ["/columns", "/bundles/small/images/0", "/bundles/nope", "/nope", "/columns?x=1"]
)
def test_head_gives_the_head_of_what_get_gives(path):
    get, head = (visiting().request(way, f"{START}{path}") for way in ("GET", "HEAD"))
    assert head.content == b""
    assert (head.status_code, dict(head.headers)) == (get.status_code, dict(get.headers))
    assert int(head.headers["content-length"]) == len(get.content)


@pytest.mark.parametrize(
    ("way", "path", "ways"),
    [
        ("OPTIONS", f"{AT}/reviews", "GET, HEAD, POST"),
        ("PUT", AT, "GET, HEAD"),
        ("BREW", f"{AT}/neurons/a/b/1", "GET, HEAD"),
        ("TRACE", f"{START}/columns", "GET, HEAD"),
    ],
)
def test_another_way_to_ask_is_refused_with_those_that_there_are(way, path, ways):
    answer = visiting().request(way, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, ways)
    assert answer.json()["error"].startswith(f"{way} is not possible here")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "The body is missing"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"neuron": ' + b"1" * 5000 + b"}", "not JSON"),
        (b"null", "The body"),
        (b'"a"', "The body"),
        (b"[]", "The body"),
        (b'{"neuron": NaN, "verdict": "valid"}', "neuron cannot be nan"),
        (b'{"neuron": "\\ud800", "verdict": "valid"}', "is not a neuron"),
        (b'{"neuron": "a/b/1", "verdict": "valid", "note": {"a": 1}}', "note cannot be"),
        (b'{"neuron": "a/b/1", "verdict": "valid", "confidance": ""}', "no 'confidance' in what"),
    ],
)
def test_a_body_that_is_no_verdict_is_one_sentence(token, body, said):
    known = visiting(Authorization=f"Bearer {token}", **{"Content-Type": "application/json"})
    answer = known.post(f"{AT}/reviews", content=body)
    assert answer.status_code == 422, answer.text
    assert said in answer.json()["error"]
    assert len(answer.json()["error"]) < 400


def test_a_body_without_end_is_not_read_to_its_end():
    sent = []

    def body():
        for _ in range(1000):
            sent.append(1)
            yield b" " * 65_536

    answer = visiting(**{"Content-Type": "application/json"}).post(f"{AT}/reviews", content=body())
    assert answer.status_code == 413
    assert answer.json()["error"] == "The body is longer than 1,048,576 bytes."


def test_of_a_table_of_labels_only_the_page_is_made(bundle, monkeypatch):
    """Labels of a hundred thousand neurons are ten million rows."""
    whole, made = label_rows(bundle, n_labels=3), []
    rows = label_tables._method_rows

    def count(*given):
        made.append(given[-1].stop - given[-1].start)
        return rows(*given)

    monkeypatch.setattr(label_tables, "_method_rows", count)
    for offset in (0, 1, 7, len(whole) - 2, len(whole), len(whole) + 5):
        made.clear()
        told = read(f"{AT}/labels?n=3&limit=5&offset={offset}")
        assert sum(made) == len(told["rows"]) == max(0, min(5, len(whole) - offset))
        assert told["total"] == len(whole)
        assert [row["description"] for row in told["rows"]] == (
            whole["description"].tolist()[offset : offset + 5]
        )
        assert [row["rank"] for row in told["rows"]] == whole["rank"].tolist()[offset : offset + 5]


def verdict(bundle: Bundle, **more) -> dict:
    model, layer = bundle.model_names[0], bundle.layers(bundle.model_names[0])[0]
    return {"neuron": f"{model}/{layer}/1", "verdict": "spurious", **more}


def test_verdicts_are_given_by_those_who_may_and_by_name(token, bundle, monkeypatch):
    monkeypatch.delenv("CSP_REVIEWER", raising=False)
    given = verdict(bundle, reviewer="ada", note="=a patch", reason="images", confidence="high")
    assert visiting().post(f"{AT}/reviews", json=given).status_code == 401
    wrong = visiting(Authorization="Bearer not the token")
    assert wrong.post(f"{AT}/reviews", json=given).status_code == 401
    assert read(f"{AT}/reviews")["rows"] == []
    known = visiting(Authorization=f"Bearer {token}")
    told = known.post(f"{AT}/reviews", json=given)
    assert told.status_code == 201
    assert told.json() == {
        "neuron": given["neuron"],
        "reviewer": "ada",
        "revision": 1,
        "verdict": "spurious",
    }
    (row,) = read(f"{AT}/reviews")["rows"]
    assert (row["reviewer"], row["note"], row["reason"]) == ("ada", "=a patch", "images")
    for bad in (
        verdict(bundle),
        verdict(bundle, reviewer="ada", verdict="nope"),
        verdict(bundle, reviewer="ada", neuron="a/b/1"),
        verdict(bundle, reviewer="ada", note="x" * 501),
        verdict(bundle, reviewer="ada", reason="nope"),
        {"verdict": "valid"},
    ):
        refused = known.post(f"{AT}/reviews", json=bad)
        assert refused.status_code == 422, refused.text
        assert set(refused.json()) == {"error"}
    assert known.post(f"{AT}/reviews", content=b"{").status_code == 422
    foreign = visiting(Authorization=f"Bearer {token}", Origin="http://evil.example")
    assert foreign.post(f"{AT}/reviews", json=given).status_code == 403
    assert len(read(f"{AT}/reviews")["rows"]) == 1


def test_nobody_gives_verdicts_in_the_name_of_another(token, bundle, monkeypatch):
    monkeypatch.setenv("CSP_REVIEWER", "ada")
    known = visiting(Authorization=f"Bearer {token}")
    assert known.post(f"{AT}/reviews", json=verdict(bundle, reviewer="bob")).status_code == 422
    assert known.post(f"{AT}/reviews", json=verdict(bundle)).json()["reviewer"] == "ada"


@pytest.mark.slow
def test_a_server_that_only_shows_takes_no_verdicts(bundle, monkeypatch):
    monkeypatch.setenv(access.READ_ONLY, "1")
    told = visiting().post(f"{AT}/reviews", json=verdict(bundle, reviewer="ada"))
    assert (told.status_code, told.json()) == (
        401,
        {"error": "This server only shows bundles and verdicts."},
    )


def test_the_encoder_is_asked_only_for_those_who_may(token, monkeypatch, bundle):
    asked = []

    def text_vectors(held, texts, visitor):
        asked.extend(texts)
        return np.asarray(held.image_vectors()[[0] * len(texts)], np.float32)

    monkeypatch.setattr(store.ENCODERS, "text_vectors", text_vectors)
    odd = "zzz no label of this bundle"
    assert "Bearer" in read(f"{AT}/neurons?q={quote(odd)}", 401)["error"]
    assert asked == []
    read(f"{AT}/neurons?q={quote(odd)}", Authorization=f"Bearer {token}")
    assert any(odd in text for text in asked)


@pytest.mark.parametrize("header", ["", "Basic x", "Bearer", "Bearer  ", "bearer other", "Token x"])
def test_only_the_token_itself_opens(token, header):
    asking = HTTPConnection(
        {"type": "http", "headers": [(b"authorization", header.encode())], "client": None}
    )
    assert server.granted_to(asking) == access.permissions.LOOKING
    assert tokens.bearer({"authorization": f"bEARER {token} "}) == token


def test_a_bucket_fills_at_its_rate_and_is_that_of_one_visitor():
    now = [0.0]
    buckets = Buckets(2.0, 3, lambda: now[0])
    assert [buckets.wait("a") for _ in range(4)] == [0, 0, 0, 1]
    assert buckets.wait("b") == 0
    now[0] += 0.5
    assert [buckets.wait("a"), buckets.wait("a")] == [0, 1]
    now[0] += 100
    assert [buckets.wait("a") for _ in range(4)] == [0, 0, 0, 1]


@pytest.mark.slow
def test_too_many_requests_are_refused_with_the_time_to_wait():
    visitor = visiting()
    answers = [visitor.get(f"{START}/columns") for _ in range(400)]
    refused = [each for each in answers if each.status_code == 429]
    if not refused:
        pytest.skip("this machine is slower than the limit")
    assert int(refused[0].headers["retry-after"]) >= 1
    assert "times a second" in refused[0].json()["error"]


class Opened:
    """What ``urlopen`` gives, from the application itself."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def read(self) -> bytes:
        return self.body


@pytest.fixture
def client(monkeypatch) -> clients.Client:
    def urlopen(asked, timeout):
        visitor = visiting(**dict(asked.header_items()))
        path = asked.full_url.removeprefix("http://localhost:8501")
        send = visitor.get if asked.data is None else visitor.post
        answer = send(path, **({} if asked.data is None else {"content": asked.data}))
        if answer.status_code >= 400:
            body = io.BytesIO(answer.content)
            raise clients.HTTPError(asked.full_url, answer.status_code, "", answer.headers, body)
        return Opened(answer.content)

    monkeypatch.setattr(clients, "urlopen", urlopen)
    return clients.Client("http://localhost:8501/", TOKEN)


@pytest.mark.slow
def test_associations_and_factors_go_by_the_list_that_is_asked_for(serve, shipped_bundle):
    serve(shipped_bundle)
    at = f"{START}/bundles/{shipped_bundle.stem}/audit"
    content = SHIPPED["melanoma"].read_bytes() + b"# mine\n"
    own = as_link(written("own", ["melanoma"], {"valid": ["ruler"], "spurious": ["streaks"]}))
    tags = {}
    for link in ("", as_link(content), own):
        (first, *_) = read(f"{at}/associations?model=biased&concepts={link}")["found"]
        tags[link] = {each["column"]: each["tag"] for each in first["columns"]}
    assert tags[""] == tags[as_link(content)]
    assert (tags[""]["ruler"], tags[""]["streaks"]) == ("spurious", "valid")
    assert (tags[own]["ruler"], tags[own]["streaks"]) == ("valid", "spurious")
    assert tags[own]["hair"] is None
    (told,) = read(f"{at}/factors?model=biased&method=csp_plus")["found"]
    found = factored(Bundle.open(shipped_bundle), "biased", "layer2@max", "csp_plus")
    assert told["factors"][0]["gap"] == found.factors[0].gap.as_json()


@pytest.mark.slow
def test_the_client_reads_every_answer(client, token, bundle):
    model, layer = bundle.model_names[0], bundle.layers(bundle.model_names[0])[0]
    name = f"{model}/{layer}/1"
    assert client.bundles()[0].digest == client.bundle("small").digest == bundle.digest
    rows = list(client.every_neuron("small", limit=3))
    assert len(rows) == client.bundle("small").n_neurons
    assert len(list(client.labels("small", limit=9))) == len(label_rows(bundle))
    neuron = client.neuron("small", name, pairs=2)
    assert isinstance(neuron.pairs[0].exemplar, shapes.Shot)
    assert client.thumbnail(neuron.pairs[0].exemplar)[:4] == b"RIFF"
    assert {each.name for each in client.columns()} == set(COLUMNS)
    assert client.audit("small", "fixes") == client.audit("small", "factors") == []
    told = client.review("small", shapes.Verdict(name, "valid"))
    assert [row["revision"] for row in client.reviews("small")] == [told.revision]
    with pytest.raises(clients.ApiError, match="is not in the bundle; it has small") as refused:
        client.neuron("small", "a/b/1")
    assert refused.value.status == 422
    with pytest.raises(InputError, match="no address"):
        clients.Client("localhost:8501")


NAMES = ("neurons", "a b", "50%? of #1", "über", "שלום", "a+b")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_whatever_a_bundle_is_called_its_answers_lead_to_it(
    client, serve, small_bundle, tmp_path, name
):
    """Beside others whose names differ in how they are written in an address."""
    paths = [Path(shutil.copytree(small_bundle, tmp_path / f"{each}.csp")) for each in NAMES]
    toys.with_truth(Bundle.open(paths[NAMES.index(name)]))  # so that its digest is its own
    serve(*paths)
    bundle = Bundle.open(paths[NAMES.index(name)])
    first, *_ = (page := client.neurons(name, limit=3)).neurons
    assert (page.bundle, page.digest) == (name, bundle.digest)
    again = read(page.next)
    assert (again["bundle"], again["digest"], again["offset"]) == (name, bundle.digest, 3)
    assert not re.search(r"[^!-~]", page.next)  # no blanks, and nothing beyond ASCII
    assert len(list(client.every_neuron(name, limit=7))) == page.total
    assert len(list(client.labels(name, limit=9))) == len(label_rows(bundle))
    shot = client.neuron(name, first["neuron"], pairs=1).pairs[0].exemplar
    assert client.thumbnail(shot) == bundle.thumbnail(shot.image)


@pytest.mark.parametrize("name", [*NAMES, "a%20b", "..%2fsmall"])
def test_a_path_as_it_was_asked_for_leads_to_the_same_path(name):
    """By hand: a server takes signs out of an address once, and clients that are tested twice."""
    path = f"{START}/bundles/{name}/neurons/lab/net/first@mean/3"
    asked = Request({"type": "http", "path": path, "headers": []})
    found = urlsplit(asking.address_of(asked, "/neurons/lab/net/first@mean/3"))
    assert (found.query, found.fragment, found.netloc) == ("", "", "")
    assert unquote(found.path) == f"{START}/bundles/{name}"


def test_the_client_never_mixes_rows_of_two_bundles(client, serve, copied):
    serve(copied)
    rows, labels = client.every_neuron("small", limit=3), client.labels("small", limit=3)
    for each in (rows, labels):
        next(each)
    toys.with_truth(Bundle.open(copied))
    for each in (rows, labels):
        with pytest.raises(clients.ApiError, match="small was replaced while its rows were read"):
            list(each)


def test_the_client_says_when_nobody_answers():
    with pytest.raises(clients.ApiError, match="does not answer"):
        clients.Client("http://127.0.0.1:9", timeout=2.0).bundles()


@pytest.mark.slow
def test_the_examples_of_the_document_work(serve):
    serve(ROOT / "assets" / "demo" / "dermoscopy.csp")
    text = (api_description.DESCRIPTION_PATH.parent / "api.md").read_text("utf-8")
    asked = re.findall(r"^curl (?:-o \S+ )?'http://localhost:8501(\S+)'$", text, re.MULTILINE)
    assert len(asked) >= 10
    for path in asked:
        answer = visiting().get(path)
        assert answer.status_code == 200, (path, answer.text[:300])
