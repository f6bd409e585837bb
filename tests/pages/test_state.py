from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from csp_engine.bundle import Bundle
from csp_engine.views import address as state


@pytest.fixture(scope="module")
def bundle(small_bundle):
    return Bundle.open(small_bundle)


def test_an_empty_url_gives_the_first_neuron_and_no_note(bundle):
    view = state.read_view({}, "small", bundle)
    assert (view.model, view.layer, view.unit, view.method) == ("small", "first@mean", 0, "csp")
    assert view.notes == ()
    assert view.is_all_layers


def test_commas_alone_ask_for_nothing(bundle):
    view = state.read_view({"q": " ,; ", "not": ", ,"}, "small", bundle)
    assert (view.q, view.but_not, view.has_query) == ("", "", False)
    view = state.read_view({"q": "red, ", "not": ";blue"}, "small", bundle)
    assert (view.q, view.but_not) == ("red,", ";blue")


@pytest.mark.parametrize(
    ("params", "shown", "said"),
    [
        ({"layer": "secnd@mean"}, {"layer": "second@mean"}, "secnd@mean"),
        ({"layer": "zzz"}, {"layer": "first@mean"}, "zzz"),
        ({"model": "smal"}, {"model": "small"}, "no model"),
        ({"unit": "8"}, {"unit": 7}, "no unit 8 (0–7)"),
        ({"unit": "-3"}, {"unit": 0}, "no unit -3"),
        ({"unit": "9" * 31}, {"unit": 0}, "not a unit number"),
        ({"unit": "1e3"}, {"unit": 0}, "“1e3” is not a unit number"),
        ({"unit": "٣"}, {"unit": 0}, "is not a unit number"),
        ({"method": "CSP"}, {"method": "csp"}, "no method"),
        ({"k": "1000000"}, {"k": 12}, "number of results"),
        ({"show": "zzz"}, {"show": "contrast"}, "no sample"),
        ({"gamma": "1.5"}, {"gamma": 1.0}, "no γ 1.5 (0 to 1)"),
        ({"gamma": "-2"}, {"gamma": 0.0}, "no γ -2"),
        ({"gamma": "nan"}, {"gamma": None}, "“nan” is not a γ"),
        ({"gamma": "1e-3"}, {"gamma": None}, "is not a γ"),
        ({"v": "2"}, {}, "version 2"),
        ({"q": "x" * 301}, {"q": "x" * 300}, "300 characters"),
    ],
)
def test_nonsense_becomes_the_nearest_valid_view_and_says_so(bundle, params, shown, said):
    view = state.read_view(params, "small", bundle)
    assert {key: getattr(view, key) for key in shown} == shown
    assert len(view.notes) == 1
    assert said in view.notes[0]


def test_the_unit_range_is_that_of_the_layer_asked_for(bundle):
    view = state.read_view({"layer": "second@mean", "unit": "11"}, "small", bundle)
    assert (view.unit, view.notes, view.is_all_layers) == (11, (), False)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    params=st.dictionaries(
        st.sampled_from(
            ["bundle", "model", "layer", "unit", "method", "q", "not", "k", "show", "gamma", "v"]
        ),
        st.one_of(
            st.text(max_size=40),
            st.integers().map(str),
            st.floats(-1, 2).map(str),
            st.sampled_from(["second@mean"]),
        ),
    )
)
def test_every_url_gives_a_view_that_exists_and_whose_own_link_gives_it_again(bundle, params):
    view = state.read_view(params, "small", bundle)
    assert view.layer in bundle.layers(view.model)
    assert 0 <= view.unit < bundle.n_units(view.model, view.layer)
    assert view.method in bundle.methods(view.model, view.layer)
    again = state.read_view(view.params(), "small", bundle)
    assert again.notes == ()
    same = ("model", "layer", "unit", "method", "q", "but_not", "k", "show", "gamma")
    assert [getattr(again, key) for key in same] == [getattr(view, key) for key in same]


OLD_LINKS = [
    {"bundle": "small", "model": "small", "layer": "second@mean", "unit": "5", "method": "csp"},
    {"bundle": "small", "q": "red, blue", "not": "green", "k": "24", "v": "1"},
    {"layer": "all", "q": "red", "method": "semanticlens", "v": "1"},
    {"layer": "second@mean", "unit": "3", "show": "stratified", "k": "12", "v": "1"},
    {"layer": "second@mean", "unit": "3", "show": "random", "gamma": "0.35", "v": "1"},
]
"""Links as earlier versions wrote them: add to these, never change one."""


@pytest.mark.parametrize("params", OLD_LINKS)
def test_old_links_keep_their_meaning(bundle, params):
    view = state.read_view(params, "small", bundle)
    assert view.notes == ()
    shown = view.params()
    for key, value in params.items():
        if (key, value) not in {("layer", "all"), ("k", "12")}:
            assert shown[key] == value
    assert view.is_all_layers is (params.get("layer") in (None, "all"))


def test_several_texts_are_separated_by_commas_or_semicolons():
    assert state.split_texts(" red, striped cloth ;; blue,") == ["red", "striped cloth", "blue"]
