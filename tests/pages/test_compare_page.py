"""Compare: matches as the engine finds them, kinds, both sides in the URL, one encoder only."""

from __future__ import annotations

import io
import json

import numpy as np
import pandas as pd
import pytest

from csp_engine.bundle import Bundle
from csp_engine.search.matching import match
from csp_engine.views import comparison
from csp_engine.views.comparison import compare, pairs_csv, sides_of
from pages.ui.compare import pairs
from pages.ui.shell import store
from tests.pages.conftest import component, html, open_page, rewrite_manifest


def sides():
    return sides_of({name: store.open_bundle(name) for name in store.known_bundles()})


@pytest.fixture
def two(serve, small_bundle, copied):
    """The same build twice, under two names."""
    other = copied.rename(copied.with_name("other.csp"))
    serve(small_bundle, other)
    return other


def vectors(path, layer):
    return np.asarray(Bundle.open(path).scores("small", layer, "csp").vector_ud)


def test_two_layers_are_matched_as_the_engine_does(serve, small_bundle):
    serve(small_bundle)
    at = open_page("compare", layer="second@mean", layer2="first@mean")
    assert not at.exception
    shown = at.dataframe[0].value
    found = match(vectors(small_bundle, "second@mean"), vectors(small_bundle, "first@mean"))
    for row in shown.itertuples(index=False):
        unit = int(row[2])
        assert row[3] == pytest.approx(float(found.similarity_u[unit]))
        assert int(row[-1]) == found.other_u[unit]
        if row[4] in ("mutual", "meanings differ"):
            assert found.is_mutual_u[unit]


def test_without_a_choice_the_same_layer_of_another_model_is_taken(two, small_bundle):
    at = open_page("compare", bundle="small", layer="second@mean")
    assert "small / second@mean · other / small / second@mean" in html(at)
    shown = at.dataframe[0].value
    assert (shown["A unit"].astype(int) == shown["B unit"].astype(int)).all()
    np.testing.assert_allclose(shown["Similarity"], 1, atol=1e-5)
    assert (shown["Match"] == "mutual").all()
    assert "<b>12</b>" in html(at)


def test_kinds_split_the_neurons(small_bundle, serve):
    serve(small_bundle)
    every = sides()
    a, b = every["small", "small", "second@mean"], every["small", "small", "first@mean"]
    compared = compare(store.MEMO, a, b, "csp")
    counts = [compared.count(kind) for kind in ("mutual", "oneway", "unmatched")]
    assert sum(counts) + int((compared.rows["kind"] == "").sum()) == 12
    alike = compared.rows["similarity"].to_numpy()
    is_above = alike > compared.bars[0]
    assert ((compared.rows["kind"] == "unmatched").to_numpy() == ~is_above).all()
    at = open_page("compare", layer="second@mean", layer2="first@mean", only="unmatched")
    n_shown = len(at.dataframe[0].value) if at.dataframe else 0
    assert n_shown == compared.count("unmatched")


def test_two_encoders_are_refused_in_one_sentence(two, small_bundle):
    manifest = json.loads((two / "manifest.json").read_text())
    inputs = manifest["inputs"]
    inputs["encoder"] = {**inputs["encoder"], "fingerprint": "f" * 64}
    rewrite_manifest(two, inputs=inputs)
    at = open_page("compare", bundle="small", bundle2="other")
    assert not at.exception
    assert "different spaces and cannot be compared" in html(at)
    assert not at.dataframe
    # And it is not what is proposed when nothing was chosen.
    assert "· other" not in html(open_page("compare", bundle="small"))


def test_nonsense_of_the_other_side_is_named(two):
    at = open_page("compare", bundle="small", bundle2="othr", layer2="<b>", only="zzz")
    assert not at.exception
    for said in ("othr", "&lt;b&gt;", "zzz"):
        assert said in html(at)


def test_a_selected_row_shows_both_neurons_and_is_in_the_url(two):
    at = open_page("compare", bundle="small", layer="second@mean")
    unit = int(at.dataframe[0].value["A unit"].iloc[3])
    at.session_state["pairs"] = {"selection": {"rows": [3], "columns": [], "cells": []}}
    at.run()
    assert at.query_params["unit"] == str(unit)
    cards = component(at, "csp_cards")["cards"]
    assert cards[0]["id"] == f"second@mean / {unit}"


def test_other_way_round_swaps_the_sides(serve, small_bundle):
    serve(small_bundle)
    at = open_page("compare", layer="second@mean", layer2="first@mean")
    at.button(key="swap").click().run()
    assert "small / first@mean · small / second@mean" in html(at)
    assert at.query_params["layer2"] == "second@mean"


def test_layers_of_very_many_neurons_are_refused_in_a_sentence(serve, small_bundle, monkeypatch):
    serve(small_bundle)
    monkeypatch.setattr(comparison, "MOST_PAIRS", 50)
    at = open_page("compare", layer="second@mean", layer2="first@mean")
    assert not at.exception
    told = " ".join(each.value for each in (*at.error, *at.text)) + html(at)
    assert "up to 50 pairs of neurons, so choose a smaller layer." in told
    assert at.selectbox(key="_side2").options


def test_a_method_without_vectors_is_a_sentence(serve, small_bundle):
    serve(small_bundle)
    every = sides()
    side = every["small", "small", "first@mean"]
    with pytest.raises(Exception, match="has no concept vectors of small / first@mean"):
        compare(store.MEMO, side, side, "nothing")


def test_the_file_holds_the_pairs_with_the_ids_of_both(serve, small_bundle):
    serve(small_bundle)
    every = sides()
    a, b = every["small", "small", "second@mean"], every["small", "small", "first@mean"]
    compared = compare(store.MEMO, a, b, "csp")
    read = pd.read_csv(io.BytesIO(pairs_csv(a, b, compared.rows)), keep_default_na=False)
    found = match(vectors(small_bundle, "second@mean"), vectors(small_bundle, "first@mean"))
    for unit, row in enumerate(read.to_dict("records")):
        assert row["neuron"] == f"small/second@mean/{unit}"
        assert row["match"] == f"small/first@mean/{found.other_u[unit]}"
        assert float(row["similarity"]) == pytest.approx(float(found.similarity_u[unit]))


def test_headings_say_only_what_tells_the_sides_apart(two):
    every = sides()
    mine = every["small", "small", "second@mean"]
    assert pairs.short_titles(mine, every["other", "small", "second@mean"]) == ("small", "other")
    first = every["small", "small", "first@mean"]
    assert pairs.short_titles(mine, first) == ("second@mean", "first@mean")
    assert pairs.short_titles(mine, mine) == ("second@mean", "second@mean")


def test_what_differs_comes_first_and_twins_last(shipped_bundle):
    """Biased against retrained: labels in other words of one meaning do not count as different."""
    bundle = Bundle.open(shipped_bundle)
    every = sides_of({"dermoscopy": bundle})
    a, b = (every["dermoscopy", model, "layer4@mean"] for model in ("biased", "retrained"))
    compared = compare(store.MEMO, a, b, "csp_plus")
    rows = compared.ordered("all")
    n_differ = compared.count("differ")
    assert rows["differ"].iloc[:n_differ].all()
    assert not rows["differ"].iloc[n_differ:].any()
    own_td = np.asarray(bundle.label_vectors(), np.float64)
    own_td = own_td - own_td.mean(axis=0)
    own_td /= np.linalg.norm(own_td, axis=1, keepdims=True)
    ids, expected = bundle.label_ids, []
    for row in compared.rows.itertuples():
        alike = own_td[ids[row.label]] @ own_td[ids[row.label_b]]
        is_pair = row.kind == "mutual" and row.reliable and row.reliable_b
        expected.append(bool(is_pair and alike < 0.7 and row.label != row.label_b))
    assert compared.rows["differ"].tolist() == expected
    assert (
        sum(expected)
        < (
            (compared.rows["kind"] == "mutual")
            & compared.rows["reliable"]
            & compared.rows["reliable_b"]
            & (compared.rows["label"] != compared.rows["label_b"])
        ).sum()
    )
    alone = rows["kind"].iloc[n_differ : n_differ + compared.count("unmatched")]
    assert (alone == "unmatched").all()
    assert rows["similarity"].iloc[-1] == rows["similarity"].max()


def test_it_opens_with_the_layer_that_differs_most_unless_the_link_names_one(serve, shipped_bundle):
    serve(shipped_bundle)
    every = sides()
    found = {}
    for layer in Bundle.open(shipped_bundle).layers("biased"):
        a, b = (every[shipped_bundle.stem, model, layer] for model in ("biased", "retrained"))
        rows = compare(store.MEMO, a, b, "csp_plus").rows
        n_alone = len(rows[(rows["kind"] == "unmatched") & rows["reliable"]])
        found[layer] = (int(rows["differ"].sum()), n_alone)
    most = max(found, key=found.__getitem__)
    first, last = min(found), max(found)
    assert most != first
    assert f"biased / {most} · " in html(open_page("compare", method="csp_plus"))
    assert f"biased / {first} · " in html(open_page("compare", method="csp_plus", layer=first))
    # A unit alone is one of the first layer, as in every other address.
    assert f"biased / {first} · " in html(open_page("compare", method="csp_plus", unit="3"))
    asked = open_page("compare", method="csp_plus", model2="retrained", layer2=last)
    assert f"biased / {first} · " in html(asked)


@pytest.mark.parametrize("layer", ["layer2@max", "layer4@mean"])
def test_those_without_a_match_are_counted_alike_on_both_sides(serve, shipped_bundle, layer):
    serve(shipped_bundle)
    bundle, every = Bundle.open(shipped_bundle), sides()
    a, b = (every[shipped_bundle.stem, model, layer] for model in ("biased", "retrained"))
    there, back = compare(store.MEMO, a, b, "csp_plus"), compare(store.MEMO, b, a, "csp_plus")
    assert there.n_other_unmatched == back.count("unmatched")
    assert back.n_other_unmatched == there.count("unmatched")
    one_ud, other_vd = (
        np.asarray(bundle.scores(model, layer, "csp_plus").vector_ud, np.float64)
        for model in ("biased", "retrained")
    )
    low, high = back.bars
    best_v = np.array([max(vector @ each for each in one_ud) for vector in other_vd])
    has_v = np.any(other_vd, axis=1)
    # Where all neurons have as many images, one bar decides; else it lies between the two.
    assert (best_v[has_v] <= low - 1e-5).sum() <= there.n_other_unmatched
    assert there.n_other_unmatched <= (best_v[has_v] <= high + 1e-5).sum()
    both = {"layer": layer, "model2": "retrained", "layer2": layer}
    words = html(open_page("compare", method="csp_plus", **both))
    assert f"<b>{there.n_other_unmatched}</b> of {there.n_other} of <bdi>retrained</bdi>" in words
    # What they are called is counted from the table of neurons.
    alone = back.rows[back.rows["kind"] == "unmatched"]
    every_row = b.rows(store.MEMO, "csp_plus")
    wanted = every_row["family"].astype(object)[alone["unit"]].value_counts()
    assert there.other_alone.dropna().astype(str).value_counts().to_dict() == wanted.to_dict()
    for name, n in wanted.head(1).items():
        assert f"{n} <bdi>“{name}”</bdi>" in words


def test_one_layer_is_not_compared_with_itself(serve, small_bundle, monkeypatch):
    serve(small_bundle)
    one = next(iter(sides().items()))
    monkeypatch.setattr("csp_engine.views.comparison.sides_of", lambda bundles: dict([one]))
    at = open_page("compare", layer=one[1].layer)
    assert "Nothing to compare with yet" in html(at)
    assert not at.dataframe
    assert f"csp serve {small_bundle.name}" in at.text[0].value
