"""What fires together, and ablation curves: page, report, API, client and command agree."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest

from csp_engine import pipeline
from csp_engine.bundle import Bundle
from csp_engine.exports import report
from csp_engine.http.api import client as clients
from csp_engine.numbers import plain_json
from csp_engine.pipeline.added.deleting import random_orders, try_orders
from csp_engine.pipeline.added.fixing import Trials
from csp_engine.pipeline.added.photographs import listed_photographs
from csp_engine.views.audit import groups
from csp_engine.views.curves import told as curves
from csp_engine.views.memo import Memo
from pages.ui.parts.cards import plain
from pages.ui.shell import access
from tests.engine.test_cli import run
from tests.pages.conftest import html, open_page, visiting
from tests.pages.test_api import TOKEN, Opened
from tests.worlds import toys

LAYER = "last@mean"
AT = "/csp/api/v1/bundles/own/audit"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A bundle whose artefact moves the output through a layer with groups, and curves of it."""
    folder = tmp_path_factory.mktemp("together")
    target = toys.target(["last"], factory="lively")
    images = toys.draw_images(folder / "images", 60)
    path = pipeline.build(
        toys.request(images, folder / "own.csp", targets=(target,), n_influence_images=0)
    ).path
    pipeline.add_interventions(path, target, toys.CornerPairs(), "red", n_random=2)
    trials = Trials(target, listed_photographs(toys.photographs(folder)), "red")
    orders = {"random": random_orders(range(12), 2), "influence": [np.arange(12)]}
    pipeline.add_curves(
        path, "small", LAYER, try_orders(trials, LAYER, orders, [1, 4], "zero", method="csp")
    )
    return path


@pytest.fixture
def bundle(path, serve):
    serve(path)
    return Bundle.open(path)


@pytest.fixture
def found(bundle):
    (found,) = groups.firings(bundle, Memo(), "small", "csp")
    assert found.layer == LAYER
    assert found.groups
    assert found.groups[0].share is not None
    return found


def read(address, status=200):
    answer = visiting().get(address)
    assert answer.status_code == status, answer.text
    return answer.json()


def sections(bundle):
    document = report.document_of(bundle, report.options_for(bundle), None)
    parts = document.as_json()["parts"]
    return document, {each["name"]: each["blocks"] for p in parts for each in p["sections"]}


def test_groups_of_the_report_are_those_of_the_page(bundle, found):
    document, told = sections(bundle)
    blocks = told["carriers"]
    assert any(found.sentence in each.get("text", "") for each in blocks)
    (table,) = [b for b in blocks if b.get("caption", "").endswith("that fire together")]
    shown = html(open_page("audit"))
    assert plain(found.sentence) in shown
    assert len(table["rows"]) == len(found.groups)
    for row, each in zip(table["rows"], found.groups, strict=True):
        assert row[0]["text"] == each.name
        assert row[1]["value"] == len(each.unit_k)
        assert (row[2]["text"], row[2]["value"]) == (each.part, each.share)
        assert row[3]["text"] == each.together.share
        assert [row[3][name] for name in ("value", "low", "high")] == [
            each.together.value, each.together.low, each.together.high
        ]  # fmt: skip
        assert all(f"{ref.unit} {label.title}" in row[4]["text"] for ref, label in each.members)
        for cell in (each.name, each.part, each.together.share):
            assert plain(cell) in shown
    rows = list(csv.reader(io.StringIO(report.as_bytes(document, "csv").decode("utf-8"))))
    text = "\n".join(",".join(row) for row in rows)
    assert found.groups[0].together.share in text
    assert found.groups[0].name in report.as_bytes(document, "html").decode("utf-8")


def test_a_slim_copy_says_in_the_report_what_it_lacks(shipped_bundle):
    _, told = sections(Bundle.open(shipped_bundle))
    said = [each["text"] for each in told["carriers"] if each["type"] == "text"]
    assert any("leaves out" in each and "fire together" in each for each in said)


def test_groups_of_the_api_are_those_of_the_command(bundle, found, path, capsys):
    wanted = plain_json(groups.firing_json(found))
    answer = read(f"{AT}/cofiring")
    assert (answer["kind"], answer["found"]) == ("cofiring", [wanted])
    assert read(f"{AT}/cofiring?artefact={found.artefact}")["found"] == [wanted]
    code, out, _ = run(
        capsys, "cofiring", path, "--layer", LAYER, "--artefact", found.artefact, "--json"
    )
    assert code == 0
    assert json.loads(out) == wanted
    (by_size,) = read(f"{AT}/cofiring?layer={LAYER}")["found"]
    assert by_size == plain_json(
        groups.firing_json(groups.firing(bundle, Memo(), "small", LAYER, "csp"))
    )
    assert {each["name"] for each in by_size["groups"]} == {each.name for each in found.groups}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("cofiring?layer=deep", "Layer 'deep' of small is not in the bundle"),
        ("cofiring?artefact=ruler", "'ruler' was not tried on small; tried were red corner."),
        ("cofiring?layer=last@mean&artefact=", ""),
        ("fixes?layer=last@mean", "layer changes nothing of fixes; ask for cofiring with it."),
        ("curves?artefact=x", "artefact changes nothing of curves; ask for cofiring with it."),
        ("cofiring?concepts=x", "concepts changes nothing of cofiring; ask for associations"),
    ],
)
def test_what_cannot_be_asked_is_said(bundle, asked, said):
    answer = visiting().get(f"{AT}/{asked}")
    assert answer.status_code == (422 if said else 200)
    assert said in answer.text.replace("\\u0027", "'")


def test_a_copy_without_activations_says_so(serve, shipped_bundle):
    serve(shipped_bundle)
    answer = visiting().get(f"/csp/api/v1/bundles/{shipped_bundle.stem}/audit/cofiring")
    assert answer.status_code == 409
    assert "leaves out activations" in answer.text


def test_curves_are_the_same_everywhere(bundle, path, capsys, monkeypatch):
    found = curves.figures("small", LAYER, bundle.curves("small", LAYER))
    wanted = plain_json(curves.as_json(found))
    assert read(f"{AT}/curves")["found"] == [wanted]
    code, out, _ = run(capsys, "ablate", path, "--json")
    assert code == 0
    assert json.loads(out) == [wanted]
    _, told = sections(bundle)
    text, table = told["curves"]
    assert found.sentence in text["text"]
    shown = html(open_page("audit"))
    for row, each in zip(table["rows"], found.steps, strict=True):
        assert [cell["text"] for cell in row[:2]] == [each.slice, found.name(each.order)]
        assert [cell["value"] for cell in row[2:6]] == [
            each.n_units, each.right, each.least, each.most
        ]  # fmt: skip
        told = [(cell["text"], cell.get("value")) for cell in row[6:]]
        against = (each.against.signed, each.against.value)
        assert told == [
            (each.change.signed, each.change.value),
            ("–", None) if each.order == "random" else against,
        ]
        assert all(plain(text) in shown for text, _ in told)

    def urlopen(asked, timeout):
        sent = asked.full_url.removeprefix("http://localhost:8501")
        return Opened(visiting(**dict(asked.header_items())).get(sent).content)

    monkeypatch.setattr(access._Held, "token", TOKEN)
    monkeypatch.setattr(access._Held, "is_chosen", True)
    monkeypatch.setattr(clients, "urlopen", urlopen)
    client = clients.Client("http://localhost:8501/", TOKEN)
    assert client.audit("own", "curves") == [wanted]
    (one,) = client.audit("own", "cofiring", layer=LAYER)
    assert one["layer"] == LAYER
