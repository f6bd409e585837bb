"""The layer table: what it holds, keeps, orders, exports, and what its URL may say."""

from __future__ import annotations

import dataclasses
import io
from types import SimpleNamespace
from urllib.parse import parse_qsl, quote

import numpy as np
import pandas as pd
import pytest
import streamlit
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from csp_engine.bundle import Bundle
from csp_engine.views import address as state
from csp_engine.views import glossary
from csp_engine.views.controls import SAME_AT
from csp_engine.views.memo import Memo
from csp_engine.views.table import agreement, columns
from csp_engine.views.table import rows as rows_of
from csp_engine.views.table.narrowed import narrowed
from pages.ui.parts import words
from pages.ui.parts.strips import strip_urls
from pages.ui.table import neuron_rows
from tests.pages.conftest import html, open_page, visiting

LAYER = "second@mean"
COLUMNS = ("score", "clarity", "density")


def shown(at) -> pd.DataFrame:
    return at.dataframe[0].value


def test_every_neuron_of_a_layer_has_a_row_with_its_best_label(serve, small_bundle):
    serve(small_bundle)
    rows = shown(open_page("layer", layer=LAYER, method="semanticlens", sort="layer"))
    bundle = Bundle.open(small_bundle)
    scores = bundle.scores("small", LAYER, "semanticlens")
    texts = bundle.labels()["text"]
    units = bundle.units("small", LAYER)
    assert rows["unit"].tolist() == list(range(12))
    for unit in range(12):
        assert rows["label"].iloc[unit] == texts.iloc[int(scores.label_uk[unit, 0])]
        assert rows["score"].iloc[unit] == pytest.approx(float(scores.score_uk[unit, 0]))
        assert (rows["reliable"].iloc[unit] == "yes") == bool(scores.reliable_u[unit])
        assert rows["percentile"].iloc[unit] == pytest.approx(
            100 * float(scores.best_percentile_u[unit])
        )
        assert rows["density"].iloc[unit] == pytest.approx(100 * units["density"].iloc[unit])


def test_without_a_layer_all_are_shown_and_the_column_says_which(serve, small_bundle):
    serve(small_bundle)
    rows = shown(open_page("layer", sort="layer"))
    assert len(rows) == 20
    assert rows["layer"].tolist() == ["first@mean"] * 8 + [LAYER] * 12


def test_the_url_filters_and_orders(serve, small_bundle):
    serve(small_bundle)
    whole = shown(open_page("layer", sort="layer"))
    middle = float(whole["score"].median())
    kept = shown(open_page("layer", where=f"score:{middle:.6f}..", sort="-score"))
    expected = whole[whole["score"] >= np.float32(f"{middle:.6f}")].sort_values(
        "score", ascending=False, kind="stable"
    )
    assert kept["unit"].tolist() == expected["unit"].tolist()
    assert 0 < len(kept) < len(whole)
    label = str(whole["label"].iloc[3])
    named = shown(open_page("layer", has=label[:3].upper()))
    assert set(named["label"]) == {t for t in whole["label"] if label[:3] in t}


def test_reliable_and_unclear_split_the_labelled(serve, small_bundle):
    serve(small_bundle)
    whole = shown(open_page("layer"))
    reliable = shown(open_page("layer", only="reliable"))
    unclear = shown(open_page("layer", only="unclear"))
    assert (reliable["reliable"] == "yes").all()
    assert unclear["reliable"].isna().all()
    assert len(reliable) + len(unclear) == len(whole)


def test_filters_that_nothing_passes_are_a_sentence(serve, small_bundle):
    serve(small_bundle)
    at = open_page("layer", where="clarity:5..")
    assert not at.exception
    assert "No neuron passes" in at.text[0].value


def test_a_query_orders_as_the_search_does(serve, small_bundle):
    from csp_engine.search import open_index, query_vector, rank

    serve(small_bundle)
    rows = shown(open_page("layer", q="red"))
    bundle = Bundle.open(small_bundle)
    index, names = open_index(bundle, "csp")
    ranking = rank(index, query_vector(bundle, "red"), 20)
    best = names.iloc[ranking.row_m]
    score = dict(zip(zip(best["layer"], best["unit"], strict=True), ranking.score_m, strict=True))
    mine = [score[key] for key in zip(rows["layer"], rows["unit"], strict=True)]
    np.testing.assert_allclose(rows["match"], mine, atol=1e-6)
    np.testing.assert_allclose(rows["match"], ranking.score_m, atol=1e-6)  # and best first


def test_a_text_that_cancels_itself_is_a_sentence(serve, small_bundle):
    serve(small_bundle)
    at = open_page("layer", q="red", **{"not": "red"})
    assert "cancel each other out" in html(at)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"sort": "nonsense"}, "column to sort by"),
        ({"only": "everything"}, "choice"),
        ({"where": "<script>:1..2"}, "&lt;script&gt;"),
        ({"where": "clarity:a..b"}, "is not a range"),
        ({"where": "unit:1..2"}, "is not a range"),
        ({"where": "clarity:nan..inf"}, "is not a range"),
    ],
)
def test_nonsense_is_left_out_and_named(serve, small_bundle, params, said):
    serve(small_bundle)
    at = open_page("layer", **params)
    assert not at.exception
    assert said in html(at)
    assert len(shown(at)) == 20


def test_controls_write_the_url_and_clear_it_again(serve, small_bundle):
    serve(small_bundle)
    at = open_page("layer")
    at.selectbox(key="_only").select("reliable").run()
    assert at.query_params["only"] == "reliable"
    at.selectbox(key="_sort").select("-clarity").run()
    assert at.query_params["sort"] == "-clarity"
    slider = at.slider(key="_where_clarity")
    slider.set_value((sum(slider.value) / 2, slider.value[1])).run()
    assert at.query_params["where"].startswith("clarity:")
    assert at.query_params["where"].endswith("..")
    at.button(key="clear").click().run()
    assert "where" not in at.query_params
    assert "only" not in at.query_params
    assert at.query_params["sort"] == "-clarity"


def ticked(at, *rows):
    at.session_state["neurons"] = {"selection": {"rows": list(rows), "columns": [], "cells": []}}
    return at.run()


def test_ticked_rows_lead_to_the_test_of_the_fix_also_when_ordered(serve, small_bundle):
    serve(small_bundle)
    at = open_page("layer", layer=LAYER, sort="-score")
    assert not to_audit(at)
    units = sorted(int(shown(at)["unit"].iloc[row]) for row in (2, 0))
    ((label, asked),) = to_audit(ticked(at, 2, 0))
    assert label == "Test the fix with the 2 ticked neurons held still"
    assert asked["hold"] == f"{LAYER}:{units[0]},{units[1]}"
    assert asked["model"] == "small"
    (one,) = to_audit(ticked(at, 0))
    assert one[0] == "Test the fix with the ticked neuron held still"


def to_audit(at):
    """Links to the page Audit: what they say, and what their address asks for."""
    found = []
    for each in at.get("page_link"):
        if each.proto.page == "audit":
            found.append((each.proto.label, dict(parse_qsl(each.proto.query_string))))
    return found


def test_neurons_of_two_networks_or_too_many_are_not_held_together(
    serve, small_bundle, monkeypatch
):
    monkeypatch.setattr(neuron_rows, "MOST_HELD", 2)
    serve(small_bundle)
    at = ticked(open_page("layer", layer=LAYER), 0, 1, 2)
    assert not to_audit(at)
    assert "Tick at most 2 neurons of one network" in html(at)


def test_a_pressed_label_opens_its_neuron():
    event = SimpleNamespace(selection=SimpleNamespace(rows=[]))
    streamlit.session_state["pressed"] = {"row": 3, "label": "<b>"}
    try:
        assert neuron_rows.chosen(event, "pressed", 4) == 3
        assert neuron_rows.chosen(event, "pressed", 3) is None
        assert neuron_rows.chosen(event, "other", 4) is None
    finally:
        del streamlit.session_state["pressed"]


def test_the_margin_is_the_lead_over_the_second_label_and_can_be_narrowed(serve, small_bundle):
    serve(small_bundle)
    scores = Bundle.open(small_bundle).scores("small", LAYER, "csp")
    lead = np.asarray(scores.score_uk[:, 0]) - np.asarray(scores.score_uk[:, 1])
    assert "margin" not in shown(open_page("layer", layer=LAYER))
    rows = shown(open_page("layer", layer=LAYER, sort="-margin"))
    np.testing.assert_allclose(rows["margin"], np.sort(lead)[::-1])
    most = float(f"{np.median(lead):.4f}")
    kept = shown(open_page("layer", layer=LAYER, where=f"margin:..{most}", sort="layer"))
    assert kept["unit"].tolist() == np.flatnonzero(lead <= np.float32(most)).tolist()


def test_the_lead_is_over_the_next_label_that_means_something_else(serve, small_bundle):
    serve(small_bundle)
    bundle = Bundle.open(small_bundle)
    scores = bundle.scores("small", LAYER, "csp")
    words_td = bundle.label_vectors() - bundle.label_vectors().mean(axis=0)
    words_td /= np.linalg.norm(words_td, axis=1, keepdims=True)
    expected = []
    for label_k, score_k, count in zip(
        scores.label_uk, scores.score_uk, scores.count_u, strict=True
    ):
        others = [
            k for k in range(1, count) if words_td[label_k[k]] @ words_td[label_k[0]] < SAME_AT
        ]
        expected.append(score_k[0] - score_k[others[0]] if others else np.nan)
    assert np.isfinite(expected).any()
    rows = shown(open_page("layer", layer=LAYER, sort="layer"))
    np.testing.assert_allclose(rows["lead"].astype(float), expected, atol=1e-6)


def test_methods_disagree_where_two_reliable_best_labels_differ(serve, small_bundle):
    said = {
        "csp": np.array(["red", "red", "red", "", "red"], object),
        "semanticlens": np.array(["blue", "blue", "red", "blue", "red"], object),
        "clip_dissect": np.array(["green", "red", "red", "green", "blue"], object),
    }
    reliable = {
        "csp": np.array([True, False, True, False, True]),
        "semanticlens": np.array([True, True, True, True, True]),
        "clip_dissect": np.array([False, False, True, True, True]),
    }
    near = {("blue", "red"): 0.5, ("green", "red"): np.nan, ("blue", "green"): 0.3}
    found = agreement.disagreement(
        said,
        reliable,
        lambda a, b: np.array(
            [0.0 if x == y else near[min(x, y), max(x, y)] for x, y in zip(a, b, strict=True)],
            np.float32,
        ),
    )
    # In the fourth, blue and green are the same in other words; of green and red nothing is known.
    assert found["disagree"].tolist() == [True, False, False, False, True]
    np.testing.assert_allclose(found["disagreement"], [0.5, np.nan, 0, 0.3, 0.5], rtol=1e-6)
    assert rows_of.other_methods("csp", said, reliable).tolist() == [
        "SemanticLens: blue",
        "SemanticLens: blue",
        "SemanticLens: red · CLIP-Dissect: red",
        "SemanticLens: blue · CLIP-Dissect: green",
        "SemanticLens: red · CLIP-Dissect: blue",
    ]
    unread = {"csp": np.array(["red"], object), "clip_dissect": np.array(["green"], object)}
    sure = dict.fromkeys(unread, np.array([True]))
    unknown = agreement.disagreement(unread, sure, lambda a, b: np.full(len(a), np.nan))
    assert unknown["disagree"].tolist() == [True]
    assert np.isnan(unknown["disagreement"]).all()
    serve(small_bundle)
    assert "others" not in shown(open_page("layer", layer=LAYER))
    ordered = shown(open_page("layer", layer=LAYER, sort="-disagreement"))
    assert ordered["disagreement"].dropna().is_monotonic_decreasing
    assert list(ordered.columns)[:3] == ["label", "strip", "others"]
    nobody = open_page("layer", layer=LAYER, only="disagree")
    assert "No neuron passes these filters" in nobody.text[0].value


def test_labels_are_as_far_apart_as_their_vectors_less_what_all_share(small_bundle):
    bundle = Bundle.open(small_bundle)
    texts = bundle.labels()["text"].tolist()
    vectors = bundle.label_vectors().astype(float)
    mean = [sum(row[at] for row in vectors) / len(vectors) for at in range(vectors.shape[1])]
    one, other = vectors[0] - mean, vectors[1] - mean
    cosine = sum(one * other) / (sum(one**2) * sum(other**2)) ** 0.5
    asked = np.array([texts[0], texts[0], texts[1]]), np.array([texts[1], texts[0], "no label"])
    found = agreement.label_distance(bundle, Memo())(*asked)
    np.testing.assert_allclose(found, [1 - cosine, 0, np.nan], atol=1e-5)


def test_every_column_is_explained_by_the_glossary():
    for column in columns.COLUMNS.values():
        assert column.term in glossary.meanings()
        assert f"word={quote(column.term)}" in words.about_column(column)


def test_the_file_holds_the_shown_rows_unrounded(small_bundle):
    bundle = Bundle.open(small_bundle)
    rows = rows_of.neuron_table(bundle, Memo(), "csp")
    kept = narrowed(rows, state.Narrowing(sort="-score", only="reliable"))
    text = rows_of.csv_bytes(kept, ["label", "score", "reliable"]).decode()
    read = pd.read_csv(io.StringIO(text))
    assert read["neuron"].tolist() == rows_of.neuron_ids(kept)
    np.testing.assert_array_equal(read["score"].to_numpy(np.float32), kept["score"])
    assert read["reliable"].all()


def test_neurons_without_a_number_go_last_and_pass_no_range():
    rows = pd.DataFrame(
        {
            "label": ["b", "", "A"],
            "state": ["", "dead", ""],
            "reliable": [True, False, False],
            "score": np.array([0.2, np.nan, 0.9], np.float32),
        }
    )

    def units(**keep) -> list[int]:
        return narrowed(rows, state.Narrowing(**keep)).index.tolist()

    assert units(sort="score") == [0, 2, 1]
    assert units(sort="-score") == [2, 0, 1]
    assert units(sort="label") == [1, 2, 0]
    assert units(where=(("score", (None, 5.0)),)) == [0, 2]
    assert units(where=(("score", (0.2, None)),)) == [0, 2]
    assert units(only="live") == [0, 2]
    assert units(only="dead") == [1]
    assert units(only="unclear") == [2]


@settings(max_examples=200, deadline=None)
@given(
    params=st.dictionaries(
        st.sampled_from(["has", "only", "where", "sort", "class"]),
        st.one_of(
            st.text(max_size=40),
            st.sampled_from(["clarity:0.1..0.25", "score:..1,density:0..", "-score", "dead"]),
        ),
    )
)
def test_any_url_gives_a_narrowing_whose_own_link_gives_it_again(params):
    keep = state.read_narrowing(params, COLUMNS, COLUMNS, ["dead", "grey"])
    again = state.read_narrowing(keep.params(), COLUMNS, COLUMNS, ["dead", "grey"])
    assert again.notes == ()
    assert dataclasses.replace(again, notes=keep.notes) == keep


@pytest.fixture
def client(serve, small_bundle):
    serve(small_bundle)
    return visiting()


def test_a_strip_shows_the_strongest_exemplars_in_order(client, small_bundle):
    bundle = Bundle.open(small_bundle)
    answer = client.get(f"/csp/strip/small/{bundle.digest[:16]}/1-5")
    assert answer.headers["content-type"] == "image/webp"
    assert "immutable" in answer.headers["cache-control"]
    drawn = np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB"), float)
    for place, image in enumerate(bundle.exemplars("small", LAYER).image_uk[5, :4]):
        part = drawn[:, place * 102 : place * 102 + 96].mean(axis=(0, 1))
        body = io.BytesIO(bundle.thumbnail(int(image)))
        whole = np.asarray(Image.open(body).convert("RGB"), float).mean(axis=(0, 1))
        np.testing.assert_allclose(part, whole, atol=6)


@pytest.mark.parametrize("neuron", ["2-0", "1-12", "0--1", "x", "1", "-1-0", "٣-0", "..%2F0-0"])
def test_a_strip_of_no_neuron_is_not_found(client, small_bundle, neuron):
    digest = Bundle.open(small_bundle).digest[:16]
    assert client.get(f"/csp/strip/small/{digest}/{neuron}").status_code == 404


def test_a_strip_of_another_digest_or_bundle_is_not_found(client, small_bundle):
    digest = Bundle.open(small_bundle).digest[:16]
    assert client.get("/csp/strip/small/0123456789abcdef/0-0").status_code == 404
    assert client.get(f"/csp/strip/other/{digest}/0-0").status_code == 404


def test_strip_addresses_name_the_neurons_of_the_rows(client, small_bundle):
    bundle = Bundle.open(small_bundle)
    rows = rows_of.neuron_table(bundle, Memo(), "csp")
    urls = strip_urls("small", bundle, rows)
    assert client.get(urls.iloc[-1]).status_code == 200
    assert urls.iloc[-1].endswith("/1-11")


def test_truth_and_what_a_neuron_moves_stand_beside_its_label(serve, shipped_bundle):
    serve(shipped_bundle)
    at = open_page("layer", model="biased", layer="layer2@max", sort="moves_rank")
    shown = at.dataframe[0].value
    first = list(shown.columns)[:7]
    assert first == ["label", "strip", "family", "confidence", "truth", "moves", "moves_rank"]
    assert shown["moves_rank"].is_monotonic_increasing
    assert shown["moves_rank"].iloc[0] == 1


def test_of_very_many_neurons_the_first_are_drawn_and_the_file_has_all(
    serve, small_bundle, monkeypatch
):
    serve(small_bundle)
    files = []
    monkeypatch.setattr(
        neuron_rows.exporting, "csv_button", lambda _, make, **__: files.append(make)
    )
    whole = open_page("layer", sort="-score").dataframe[0].value
    monkeypatch.setattr(neuron_rows, "MOST_DRAWN", 5)
    at = open_page("layer", sort="-score")
    assert at.dataframe[0].value.equals(whole.head(5))
    assert f"The first 5 of {len(whole)} neurons in this order" in at.caption[0].value
    assert len(pd.read_csv(io.BytesIO(files[-1]()))) == len(whole)
    assert not open_page("layer", sort="-score", has="nothing like it").dataframe


def test_a_family_is_filtered_by_name_and_another_name_is_told(serve, small_bundle):
    serve(small_bundle)
    whole = rows_of.neuron_table(Bundle.open(small_bundle), Memo(), "csp")
    name = str(whole["family"].cat.categories[0])
    kept = shown(open_page("layer", family=name))
    assert len(kept) == (whole["family"] == name).sum() > 0
    assert set(kept["family"]) == {name}
    at = open_page("layer", family=f"{name}x")
    assert f"There is no family “{name}x” here; showing {name} instead." in html(at)


def test_where_there_is_one_layer_its_name_is_in_no_row(small_bundle):
    bundle = Bundle.open(small_bundle)
    rows = rows_of.neuron_table(bundle, Memo(), "csp")
    view = state.read_view({}, "small", bundle)
    assert "layer" in neuron_rows.shown_columns(rows, view)
    assert "layer" not in neuron_rows.shown_columns(rows[rows["layer"] == LAYER], view)
