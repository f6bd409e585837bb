"""The map: points and cards from routes, colours from columns, a lasso in the URL."""

from __future__ import annotations

import base64
import struct

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csp_engine.bundle import Bundle
from csp_engine.errors import MissingModelError
from csp_engine.views import address as state
from csp_engine.views import neuron_map as map_data
from csp_engine.views.finding.matches import matches
from csp_engine.views.finding.query import query_of
from csp_engine.views.memo import Memo
from csp_engine.views.places import places
from csp_engine.views.table.rows import neuron_table
from pages.ui.map import neuron_map
from pages.ui.shell import store
from tests.pages.conftest import HOSTILE, component, html, open_page, rewrite_manifest, visiting

WHOLE = "0-0-65535-0-65535-65535-0-65535"


@pytest.fixture
def client(serve, small_bundle):
    serve(small_bundle)
    return visiting()


def read_points(body: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    (n,) = struct.unpack_from("<I", body)
    unit = np.frombuffer(body, "<u4", n, 4)
    xy = np.frombuffer(body, "<u2", 2 * n, 4 + 4 * n).reshape(n, 2)
    return unit, xy, np.frombuffer(body, "<u2", n, 4 + 8 * n)


def test_points_are_the_neurons_with_evidence_where_the_build_put_them(client, small_bundle):
    bundle = Bundle.open(small_bundle)
    answer = client.get(f"/csp/points/small/{bundle.digest[:16]}")
    assert "immutable" in answer.headers["cache-control"]
    unit, xy, place = read_points(answer.content)
    laid = bundle.projection()
    known = np.isfinite(laid.xy_u2).all(axis=1)
    layers = list(bundle.layers("small"))
    assert unit.tolist() == laid.rows["unit"][known].tolist()
    assert [layers[p] for p in place] == laid.rows["layer"][known].tolist()
    expected = laid.xy_u2[known].astype(float)
    span = np.ptp(expected, axis=0).max()
    np.testing.assert_allclose(
        xy / 65535 - xy.mean(axis=0) / 65535,
        0.96 * (expected - expected.mean(axis=0)) / span,
        atol=1e-4,
    )


def test_a_card_says_what_the_neuron_is(client, small_bundle):
    bundle = Bundle.open(small_bundle)
    root = f"/csp/card/small/{bundle.digest[:16]}"
    about = client.get(f"{root}/csp/1-5").json()
    scores = bundle.scores("small", "second@mean", "csp")
    text = bundle.labels()["text"].iloc[int(scores.label_uk[5, 0])]
    assert text in about["title"]
    assert about["isReliable"] == bool(scores.reliable_u[5])
    assert about["id"] == "small/second@mean/5"
    assert f"CSP {float(scores.score_uk[5, 0]):.3f}" in about["facts"].replace("−", "-")
    assert about["href"].startswith("/neuron?bundle=small&model=small&layer=second%40mean&unit=5")
    for wrong in ("csp/2-0", "csp/1-12", "nonsense/1-5", "csp/x"):
        assert client.get(f"{root}/{wrong}").status_code == 404


def test_the_page_colours_by_what_the_url_says(serve, small_bundle):
    serve(small_bundle)
    at = open_page("map", colour="clarity")
    assert not at.exception
    sent = component(at, "csp_map")
    assert sent["legend"]["title"] == "Clarity"
    values = np.frombuffer(base64.b64decode(sent["values"]), np.uint8)
    rows = neuron_table(Bundle.open(small_bundle), Memo(), "csp")
    order = rows["clarity"].rank().to_numpy()
    assert np.corrcoef(values[values < 255], order[values < 255])[0, 1] > 0.9
    assert component(open_page("map", colour="layer"), "csp_map")["legend"]["names"] == [
        "first@mean",
        "second@mean",
    ]


def test_a_word_colours_by_match(serve, small_bundle):
    serve(small_bundle)
    sent = component(open_page("map", q="red"), "csp_map")
    assert sent["legend"]["title"] == "Match"


def test_a_query_that_the_encoder_refuses_leaves_the_map(serve, small_bundle, monkeypatch):
    def refuse(bundle, texts):
        raise MissingModelError("There is no encoder here.")

    monkeypatch.setattr(store, "text_vectors", refuse)
    serve(small_bundle)
    at = open_page("map", q="a word that no vocabulary has")
    assert "There is no encoder here." in html(at)
    assert component(at, "csp_map")["legend"]["title"] != "Match"


def test_the_best_answer_is_named_where_it_lies(serve, small_bundle):
    serve(small_bundle)
    sent = component(open_page("map", q="red"), "csp_map")
    values = np.frombuffer(base64.b64decode(sent["values"]), np.uint8)
    points = map_data.points_of(Bundle.open(small_bundle), Memo())
    best = points.xy_m2[values == values[values < 255].max()].tolist()
    name, *place = sent["names"][0]
    assert sent["grows"]
    assert name.startswith("best: ")
    assert place in best
    plain = component(open_page("map"), "csp_map")
    assert not plain["grows"]
    assert not any(each[0].startswith("best") for each in plain["names"])


def test_what_matches_no_better_than_chance_has_no_colour_and_the_rest_spans_the_scale(
    serve, shipped_bundle
):
    serve(shipped_bundle)
    sent = component(open_page("map", q="ruler"), "csp_map")
    values = np.frombuffer(base64.b64decode(sent["values"]), np.uint8)
    bundle = Bundle.open(shipped_bundle)
    points = map_data.points_of(bundle, Memo())
    model, layer = places(bundle)[0]
    view = state.View("dermoscopy", model, layer, 0, "csp_plus", q="ruler")
    query = query_of(bundle, Memo(), view, lambda *_: pytest.fail("it is in the vocabulary"))
    found = matches(bundle, Memo(), query, "csp_plus").iloc[points.row_m]
    is_kept = (found["match_null"] >= 0.95).to_numpy()
    assert ((values < 255) == is_kept).all()
    assert f"no more than chance gives ({(~is_kept).sum():,})" == sent["legend"]["missing"]
    best = int(found["match"].argmax())
    assert values[best] == 254
    assert values[is_kept].min() == 0
    assert sent["legend"]["high"] == f"{found['match'].iloc[best]:.3f}"


@pytest.mark.slow
def test_names_stand_among_their_own(serve, shipped_bundle):
    """Each of the largest families, the largest first, where most of its neurons lie together."""
    serve(shipped_bundle)
    sent = component(open_page("map"), "csp_map")
    assert sent["legend"]["title"] == "Family"
    bundle = Bundle.open(shipped_bundle)
    points = map_data.points_of(bundle, Memo())
    family = neuron_table(bundle, Memo(), "csp_plus").iloc[points.row_m]["family"]
    sizes = family.value_counts()
    expected = [name for name in sizes.index if sizes[name] >= 5][:24]
    assert [name for name, _, _ in sent["names"]] == expected
    for name, x, y in sent["names"]:
        own = points.xy_m2[(family == name).to_numpy()].astype(float)
        cells = [tuple((each * 12 // 65536).astype(int)) for each in own]
        fullest = max(cells.count(cell) for cell in cells)
        assert cells.count((x * 12 // 65536, y * 12 // 65536)) == fullest


def test_the_selection_is_listed_best_first(serve, small_bundle):
    serve(small_bundle)
    by_match = open_page("map", q="red", area=WHOLE)
    assert "by match, highest first" in html(by_match)
    assert by_match.dataframe[0].value["match"].is_monotonic_decreasing
    assert open_page("map", area=WHOLE).dataframe[0].value["score"].is_monotonic_decreasing


def test_an_area_lists_its_neurons_and_nonsense_lists_none(serve, small_bundle):
    serve(small_bundle)
    at = open_page("map", area=WHOLE)
    assert not at.exception
    assert "20 neurons in the selection" in html(at)
    assert len(at.dataframe[0].value) == 20
    assert component(at, "csp_map")["area"] == [int(part) for part in WHOLE.split("-")]
    at = open_page("map", area="<b>1-2</b>", colour="zzz")
    assert not at.exception
    assert "&lt;b&gt;1-2" in html(at)
    assert "There is no colour" in html(at)
    assert not at.dataframe


def test_what_the_browser_sends_is_checked(small_bundle):
    bundle = Bundle.open(small_bundle)
    assert neuron_map._pair([1, 5], bundle) == (1, 5)
    for bad in (None, [1], [2, 0], [1, 12], [-1, 0], ["1", "5"], {"a": 1}, [1, 5, 0]):
        assert neuron_map._pair(bad, bundle) is None
    assert neuron_map._polygon([1, 2, 3.0]) == (1, 2, 3)
    for bad in (None, [70000], [-1], ["a"], [0] * 401, "12"):
        assert neuron_map._polygon(bad) is None


def test_a_bundle_without_a_map_says_how_to_get_one(serve, copied):
    import json

    manifest = json.loads((copied / "manifest.json").read_text())
    stages = {k: v for k, v in manifest["stages"].items() if not k.startswith("projection:")}
    rewrite_manifest(copied, stages=stages)
    serve(copied)
    at = open_page("map")
    assert not at.exception
    assert "No map of small yet" in html(at)


def test_hostile_labels_reach_the_legend_as_text(serve, hostile_bundle):
    serve(hostile_bundle)
    at = open_page("map", colour="label", area=WHOLE)
    assert not at.exception
    assert "<script" not in html(at).lower()
    names = component(at, "csp_map")["legend"].get("names", [])
    assert set(names) <= set(HOSTILE) | set(
        neuron_table(Bundle.open(hostile_bundle), Memo(), "csp")["label"]
    )


def test_few_texts_keep_a_colour_each_and_many_only_the_commonest():
    few = map_data.colouring(pd.Series(["b", "a", None, "b"]), "label")
    assert few.legend["names"] == ["b", "a"]
    assert few.value_m.tolist() == [0, 1, 255, 0]
    assert few.legend["missing"] == "not reliable (1)"
    many = pd.Series([f"w{i}" for i in range(20)] + ["w7", "w3", "w3"])
    shown = map_data.colouring(many, "label")
    assert shown.legend["names"][:2] == ["w3", "w7"]
    assert len(shown.legend["names"]) == map_data.MOST_NAMES
    assert shown.legend["missing"] == "other (11)"


def test_numbers_run_along_the_ramp_and_unknown_ones_are_apart():
    shown = map_data.colouring(pd.Series([0.0, np.nan, 0.5, 1.0], dtype="float32"), "clarity")
    assert shown.value_m[[0, 1, 3]].tolist() == [0, 255, 254]
    assert 120 < shown.value_m[2] < 134
    flat = map_data.colouring(pd.Series([0.3, 0.3]), "clarity")
    assert flat.value_m.tolist() == [0, 0]
    none = map_data.colouring(pd.Series([np.nan, np.nan]), "clarity")
    assert none.value_m.tolist() == [255, 255]


@settings(max_examples=60, deadline=None)
@given(
    corners=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=3, max_size=8),
    at=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=20),
)
def test_inside_counts_crossings_of_a_ray(corners, at):
    """Against the rule itself: edges crossed by a ray to the left, half-open in y."""
    xy = np.array(at, np.uint16)
    found = map_data.inside(xy, tuple(v for pair in corners for v in pair))
    for (x, y), is_in in zip(at, found, strict=True):
        n_right = 0
        for (ax, ay), (bx, by) in zip(corners, corners[-1:] + corners[:-1], strict=True):
            if (ay > y) != (by > y):
                n_right += x < (bx - ax) * (y - ay) / (by - ay) + ax
        assert is_in == bool(n_right % 2)


@pytest.mark.parametrize(
    "text", ["1-2-3-4", "1-2-3-4-5", "1-2-3-4-5-99999", "a", "1-2-3-4-5-6-", "-".join(["1"] * 122)]
)
def test_an_area_that_is_none_is_left_out_with_a_note(text):
    area, note = state.read_area({"area": text})
    assert area == ()
    assert "not an area" in note


def test_an_area_comes_back_from_its_own_link():
    area = (0, 0, 65535, 0, 5, 65535)
    assert state.read_area({"area": state.area_text(area)}) == (area, None)
