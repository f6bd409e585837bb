"""Where typed letters may lead: only to what the bundle has, the surest first."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csp_engine.bundle import Bundle
from csp_engine.http.answers import Answers
from csp_engine.types import NeuronRef
from csp_engine.views.finding.jumps import jumps
from csp_engine.views.memo import Memo
from csp_engine.views.neuron.label import best_label
from tests.conftest import ROOT

METHOD = "csp_plus"
DEMO = Bundle.open(ROOT / "assets" / "demo" / "dermoscopy.csp")
MEMO = Memo()


def to(typed):
    return jumps(DEMO, MEMO, "dermoscopy", METHOD, typed)


def test_a_whole_address_comes_first():
    first = to("biased/layer2@max/50")[0]
    assert (first.kind, first.title, first.page) == ("Neuron", "biased/layer2@max/50", "neuron")
    assert (first.params["layer"], first.params["unit"]) == ("layer2@max", "50")
    assert [j.title for j in to("biased / layer2@max / 50")][:1] == ["biased/layer2@max/50"]
    assert to("LAYER2@MAX 50")[0].title == "biased/layer2@max/50"


def test_a_number_is_that_unit_of_every_layer_that_has_it():
    found = [j.title for j in to("767") if j.kind == "Neuron"]
    assert found == ["biased/layer4@mean/767", "retrained/layer4@mean/767"]
    assert [j for j in to("768") if j.kind == "Neuron"] == []


def test_words_that_begin_with_it_come_before_those_that_hold_it():
    words = [j.title for j in to("ruler") if j.kind == "Word"]
    assert words[0] == "ruler"
    starts = [word.startswith("ruler") for word in words]
    assert starts == sorted(starts, reverse=True)
    assert all("ruler" in word for word in words)


def test_neurons_are_found_by_what_they_are_reliably_called():
    found = [j for j in to("golden sticker") if j.kind == "Neuron"]
    assert found
    for jump in found:
        label = best_label(DEMO, NeuronRef.parse(jump.title), METHOD)
        assert label.is_reliable
        assert "golden sticker" in label.text


def test_a_layer_leads_to_its_table():
    (layer,) = [j for j in to("planted/planted") if j.kind == "Layer"]
    assert layer.page == "layer"
    assert layer.params["layer"] == "planted@none"
    assert "unit" not in layer.params


@pytest.mark.parametrize("typed", ["retrained layer3", "layer3 retrained", "retrained / layer3"])
def test_a_layer_is_found_by_parts_of_its_name_in_any_order(typed):
    assert [j.title for j in to(typed) if j.kind == "Layer"] == ["retrained / layer3@mean"]


@given(st.text(max_size=300))
def test_whatever_is_typed_leads_only_to_what_is_there(typed):
    found = to(typed)
    assert len(found) <= 20
    for jump in found:
        if jump.kind == "Neuron":
            ref = NeuronRef.parse(jump.title)
            assert ref.unit < DEMO.n_units(ref.model, ref.layer)
        elif jump.kind == "Word":
            assert jump.title in DEMO.label_ids


def test_nothing_typed_leads_nowhere():
    assert to("") == to("  \t") == []


def test_the_route_answers_the_same_and_hides_where_bundles_lie():
    answers = Answers(lambda _: DEMO, Memo(), str)
    body = json.loads(answers.jump("dermoscopy", METHOD, "ruler").body)
    assert [row["title"] for row in body] == [j.title for j in to("ruler")]

    def missing(name):
        return Bundle.open(ROOT / "nowhere" / name)

    refused = Answers(missing, Memo(), str).jump("x.csp", METHOD, "ruler")
    assert refused.status_code == 404
    assert str(ROOT).encode() not in refused.body


def test_a_method_that_labelled_nothing_still_finds_addresses_and_words():
    found = jumps(DEMO, Memo(), "dermoscopy", "no such method", "ruler")
    assert {j.kind for j in found} == {"Word"}
    assert jumps(DEMO, Memo(), "dermoscopy", "none", "3")[0].kind == "Neuron"


@pytest.mark.parametrize("typed", ["x" * 5000, "9" * 5000, "/" * 200, "((((", "\\", "%00"])
def test_odd_texts_are_answered(typed):
    assert isinstance(to(typed), list)
