"""The melanoma walk: its figures are those of the bundle, and what a bundle lacks is a sentence."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from csp_engine.bundle import Bundle
from csp_engine.views import random_sets
from csp_engine.views.case import audit
from csp_engine.views.case.fate import fate
from csp_engine.views.memo import Memo
from csp_engine.words.concepts import parse_concept_set
from pages.ui.case import charts as case_charts
from pages.ui.shell import store
from tests.pages.conftest import (
    HOSTILE,
    ROOT,
    component,
    follow,
    html,
    open_page,
    rewrite_manifest,
    visiting,
)
from tests.reference import alignment_reference as slow
from tests.worlds import case_world

VALID = ["irregular border", "blue-white veil", "streaks"]
SPURIOUS = ["ruler", "colour patch", "reddish skin"]


@pytest.fixture(scope="module")
def case_bundle(tmp_path_factory) -> Path:
    """Two classifiers, truth and test figures."""
    return case_world.with_facts(case_world.make(tmp_path_factory.mktemp("case")))


@pytest.fixture(scope="module")
def bare_bundle(tmp_path_factory) -> Path:
    """As of somebody's photographs: one classifier, other names, nothing known beside."""
    return case_world.make(
        tmp_path_factory.mktemp("bare"), "bare", models=["skin"], classes=["Malignant", "benign"]
    )


@pytest.fixture
def damaged(case_bundle: Path, tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setattr(store, "MEMO", Memo())
    return Path(shutil.copytree(case_bundle, tmp_path / "case.csp"))


def whole(bundle_path: Path, model: str = "biased") -> audit.Case:
    bundle = Bundle.open(bundle_path)
    memo = Memo()
    concepts = audit.melanoma(memo)
    found = audit.examine(bundle, memo, concepts, model, bundle.layers(model), "csp")
    assert isinstance(found, audit.Case)
    return found


def test_the_walk_has_six_steps_and_no_problem(serve, case_bundle):
    serve(case_bundle)
    at = open_page("melanoma")
    assert not at.exception
    shown = html(at)
    assert shown.count("csp-step") == 6
    assert "csp-problem" not in shown
    assert "csp-note" not in shown
    assert "not a medical device" in shown


def test_accuracy_is_what_the_bundle_holds_with_its_interval(serve, case_bundle):
    serve(case_bundle)
    shown = html(open_page("melanoma"))
    assert "On images that were not used in training" in shown
    for model in ("biased", "retrained"):
        for row in Bundle.open(case_bundle).performance(model).to_dict("records"):
            assert f"{model} · {row['slice']}" in shown
            assert f"{100 * row['low']:.0f} to {100 * row['high']:.0f} %" in shown
    assert "92 % of <i>artefact</i>" in shown
    assert "48 % of <i>counter-artefact</i> images, a change of −44 percentage points" in shown
    assert "a change of −4 percentage points (95 % interval: −" in shown


def test_every_neuron_has_the_alignment_of_the_formula(case_bundle):
    bundle, case = Bundle.open(case_bundle), whole(case_bundle)
    texts = bundle.labels()["text"].tolist()
    assert set(case.texts["valid"]) == set(VALID)
    assert set(case.texts["spurious"]) == set(SPURIOUS)
    empty = bundle.empty_text_vector()
    for layer in bundle.layers("biased"):
        vectors = bundle.scores("biased", layer, "csp").vector_ud
        rows = case.rows[case.rows["layer"] == layer]
        for names, column in ((case.texts["valid"], "valid"), (case.texts["spurious"], "spurious")):
            labels = [bundle.label_vectors()[texts.index(name)] for name in names]
            expected = slow.best_alignment(vectors, labels, empty)
            np.testing.assert_allclose(rows[column], [v for v, _ in expected], atol=1e-5)
            for said, (value, at) in zip(rows[f"{column}_text"], expected, strict=True):
                assert said == ("" if math.isnan(value) else names[at])


def test_influence_kinds_and_choice_are_those_of_the_rule(case_bundle):
    bundle, case = Bundle.open(case_bundle), whole(case_bundle)
    for layer in bundle.layers("biased"):
        stored = bundle.influence("biased", layer)
        effect = stored.gradient_activation_cu[stored.output_names.index("melanoma")]
        rows = case.rows[case.rows["layer"] == layer]
        np.testing.assert_allclose(rows["share"], effect / np.abs(effect).sum(), rtol=1e-5)
        chosen = set(rows["unit"][rows["is_influential"]])
        assert chosen == slow.fewest_that_carry(effect.tolist(), audit.SHARE)
    found = [
        slow.kind(v, s, case.bars["valid"], case.bars["spurious"])
        for v, s in case.rows[["valid", "spurious"]].to_numpy()
    ]
    assert case.rows["kind"].tolist() == found
    assert (case.rows["kind"] == "spurious").any()


@pytest.mark.slow
def test_the_table_lists_the_influential_neurons_and_opens_them(serve, case_bundle):
    serve(case_bundle)
    at = open_page("melanoma")
    case = whole(case_bundle)
    listed = at.dataframe[0].value
    assert listed["neuron"].tolist() == [
        f"biased/{r.layer}/{r.unit}" for r in case.influential.itertuples()
    ]
    np.testing.assert_allclose(listed["share"], 100 * case.influential["share"])
    at.session_state["influential"] = {"selection": {"rows": [1], "columns": [], "cells": []}}
    second = case.influential.iloc[1]
    assert f"biased / {second['layer']} / {second['unit']}" in html(follow(at.run()))


@pytest.mark.parametrize("wrap", [lambda at: at, lambda at: [at]])
def test_a_point_of_the_plot_opens_its_neuron(serve, case_bundle, wrap):
    serve(case_bundle)
    at = open_page("melanoma")
    row = whole(case_bundle).influential.iloc[0]
    point = {"customdata": wrap(int(row.name))}
    at.session_state["alignment"] = {
        "selection": {"points": [point], "point_indices": [0], "box": [], "lasso": []}
    }
    assert f"biased / {row['layer']} / {row['unit']}" in html(follow(at.run()))


def test_the_plot_holds_every_influential_neuron_once(case_bundle):
    case = whole(case_bundle)
    figure, words = case_charts.alignment_plot(case, "dark")
    drawn = np.concatenate([trace.customdata for trace in figure.data])
    assert sorted(drawn) == sorted(case.rows.index[case.rows["valid"].notna()])
    for trace in figure.data:
        rows = case.rows.loc[trace.customdata]
        np.testing.assert_allclose(trace.x, rows["valid"])
        np.testing.assert_allclose(trace.y, rows["spurious"])
    assert str(len(case.influential)) in words


def test_spurious_neurons_stand_with_pairs_truth_and_influence(serve, case_bundle):
    serve(case_bundle)
    at = open_page("melanoma")
    first = whole(case_bundle).of_kind("spurious").iloc[0]
    tiles = component(at, "csp_tiles")["tiles"]
    exemplars = Bundle.open(case_bundle).exemplars("biased", first["layer"])
    images = [dict(tile["images"][0]["facts"])["image"] for tile in tiles]
    assert images == [str(i) for i in exemplars.image_uk[first["unit"], : len(tiles)]]
    shown = html(at)
    assert audit.signed_share(first["share"]) in shown
    assert "true concept" in shown
    assert "measured on 160 held-out images" in shown
    assert "to a clinical criterion, and the others" in shown
    assert f"AUROC {first['auroc']:.2f}" in shown or "no concept is clear enough" in shown


def test_what_is_recorded_of_exemplars_stands_beside_a_neuron_if_chance_does_not_explain_it(
    serve, case_bundle
):
    from csp_engine.views.neuron.shared import shared
    from pages.ui.case import audit as case_audit

    bundle, case = Bundle.open(case_bundle), whole(case_bundle)
    told = {}
    for _, row in case.rows.iterrows():
        here = audit.neuron_of(row)
        told[row["layer"], row["unit"]] = said = case_audit.recorded(bundle, here)
        striking = [r for r in shared(bundle, Memo(), here).rows if r.q <= 0.05]
        assert bool(said) == bool(striking)
        for each in striking[:3]:
            assert each.name in said[0]
            assert f"{100 * each.n_here / each.n_chosen:.0f} %" in said[0]
    assert any(told.values())
    assert not all(told.values())


@pytest.mark.slow
def test_figures_of_images_that_were_seen_before_are_not_called_independent(serve, damaged):
    serve(case_world.with_facts(damaged, {"ruler": "artefact"}, is_own=True))
    shown = html(open_page("melanoma"))
    assert "On images of which some may have been used in training" in shown
    assert "measured on 160 photographs of the probe set itself" in shown
    assert "to a clinical criterion, and the others" not in shown  # of those none was looked at
    assert "held-out" not in shown


@pytest.mark.slow
def test_matches_are_the_nearest_concept_vectors_of_the_same_layer(serve, case_bundle):
    bundle, case = Bundle.open(case_bundle), whole(case_bundle)
    found = fate(bundle, case, whole(case_bundle, "retrained"), "csp")
    for row in found.rows.itertuples():
        mine = bundle.scores("biased", row.layer, "csp").vector_ud[row.unit]
        theirs = bundle.scores("retrained", row.layer, "csp").vector_ud
        cosines = [slow.cosine(mine, v) if np.any(v) else -2 for v in theirs]
        assert row.cosine == pytest.approx(max(cosines), abs=1e-5)
        assert cosines[row.match] == pytest.approx(max(cosines), abs=1e-5)
        assert row.is_smaller == (abs(row.match_share) < abs(row.share))
    smaller = found.smaller["spurious"]
    assert smaller.n == len(case.of_kind("spurious"))
    serve(case_bundle)
    at = open_page("melanoma")
    assert audit.with_interval(smaller) in html(at)
    at.session_state["matches"] = {"selection": {"rows": [0], "columns": [], "cells": []}}
    row = found.rows[found.rows["kind"] == "spurious"].iloc[0]
    assert f"retrained / {row['layer']} / {row['match']}" in html(follow(at.run()))


def test_a_true_concept_counts_under_any_name_of_the_list(case_bundle):
    """Whichever name of a concept stands in the vocabulary, and in whatever case or number."""
    own = parse_concept_set(
        b"""title = "own"
outputs = ["melanoma"]
[[valid]]
name = "v"
source = "s"
concepts = [["streaks"]]
[[spurious]]
name = "s"
source = "s"
concepts = [["Rulers"], ["band-aid", "colour patch"]]
""",
        "own",
    )
    bundle = Bundle.open(case_bundle)
    case = audit.examine(bundle, Memo(), own, "biased", bundle.layers("biased"), "csp")
    assert isinstance(case, audit.Case)
    assert case.texts["spurious"] == ("colour patch",)  # the vocabulary has no plural
    rows = pd.DataFrame({"truth": ["ruler", "colour patch", "streaks", "", "ruler", "noise"]})
    assert (case.true_share(rows, "spurious").n_hits, len(rows)) == (3, 6)
    assert case.true_share(rows, "valid").n_hits == 1


def test_kinds_share_out_all_influence(case_bundle):
    assert sum(whole(case_bundle).influence_by_kind().values()) == pytest.approx(1)


def test_searches_show_the_nearest_neurons_of_the_classifier(serve, case_bundle):
    serve(case_bundle)
    at = open_page("melanoma", model="retrained")
    links = [link.proto for link in at.get("page_link")]
    assert [p.label.replace("\u2060", "") for p in links] == [
        "Search “ruler”", "Search “colour patch”", "Search “blue\\-white veil”",
    ]  # fmt: skip
    cards = component(at, "csp_cards")["cards"]
    assert len(cards) == 3
    assert all("/retrained/" in f"/{card['id'].replace(' ', '')}" for card in cards)
    found = component(open_page("search", q="ruler", k="96"), "csp_cards")["cards"]
    marks = {card["id"]: card["mark"] for card in found}
    assert [card["mark"] for card in cards] == [marks[card["id"]] for card in cards]
    assert any(marks.values())


@pytest.mark.slow
def test_the_layer_and_method_of_the_url_are_kept_to(serve, case_bundle):
    serve(case_bundle)
    at = open_page("melanoma", layer="last@mean", method="semanticlens")
    assert set(at.dataframe[0].value["neuron"].str.split("/").str[1]) == {"last@mean"}
    assert ">SemanticLens</a>; t: vector of a text" in html(at)
    at.selectbox(key="_layer").select("all").run()
    assert "layer" not in at.query_params
    at.selectbox(key="_model").select("retrained").run()
    assert at.query_params["model"] == "retrained"
    assert at.dataframe[0].value["neuron"].str.startswith("retrained/").all()


@pytest.mark.slow
def test_a_bundle_of_photographs_says_what_is_not_known(serve, bare_bundle):
    serve(bare_bundle)
    at = open_page("melanoma")
    assert not at.exception
    shown = html(at)
    assert "no test figures of skin" in shown
    assert "influence on <i>Malignant</i>" in shown
    assert "This bundle does not say what these neurons truly respond to" in shown
    assert "no second classifier" in shown
    assert "those of this bundle" in shown
    assert "csp-problem" not in shown


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"words": ["red", "noise"]}, "names no valid concept of “melanoma”"),
        ({"words": ["streaks", "noise"]}, "names no spurious concept"),
        ({"classes": ["cat", "dog", "bird"]}, "no output called melanoma; its outputs are cat"),
    ],
)
def test_what_a_bundle_lacks_is_one_sentence(serve, tmp_path, changes, said):
    serve(case_world.make(tmp_path, "lacking", **changes))
    at = open_page("melanoma")
    assert not at.exception
    assert html(at).count(said) == 1
    assert html(at).count("follows from step 3") == 2


def test_a_bundle_of_shapes_is_walked_through_too(serve, small_bundle):
    serve(small_bundle)
    at = open_page("melanoma")
    assert not at.exception
    assert "no output called melanoma" in html(at)


def test_without_a_bundle_it_says_how_to_make_one(serve, tmp_path):
    serve(tmp_path)
    at = open_page("melanoma")
    assert not at.exception
    assert at.title[0].value == "No bundle yet"


def test_a_newer_schema_is_refused(serve, damaged):
    rewrite_manifest(damaged, schema=99)
    serve(damaged)
    at = open_page("melanoma")
    assert not at.exception
    assert "99" in html(at)


@pytest.mark.parametrize(
    "file",
    ["exemplar_image.npy", "gradient_activation.npy", "vector_ud.npy", "text.npy", "empty.npy",
     "slices.parquet", "auroc_uc.npy", "contrast_image.npy"],
)  # fmt: skip
def test_a_cut_off_file_is_a_sentence_and_the_other_steps_stay(serve, damaged, file):
    for path in damaged.glob(f"*/{file}"):
        path.write_bytes(path.read_bytes()[:-4])
    serve(damaged)
    at = open_page("melanoma")
    assert not at.exception
    assert "damaged" in html(at)
    assert html(at).count("csp-problem") >= 1


def test_a_nonsense_url_shows_something_and_says_what_was_replaced(serve, case_bundle):
    serve(case_bundle)
    at = open_page(
        "melanoma", bundle="cas", model="biasd", layer="nope", unit="-1e9", method="<b>", v="7"
    )
    assert not at.exception
    for said in ("cas", "biasd", "nope", "-1e9", "&lt;b&gt;", "version 7"):
        assert said in html(at)


@pytest.mark.slow
def test_hostile_words_are_text_on_the_page_and_in_the_figure(serve, tmp_path):
    path = case_world.make(
        tmp_path, "hostile", words=[*HOSTILE, *case_world.WORDS], classes=["melanoma", HOSTILE[1]]
    )
    slices = case_world.slices(50).assign(slice=HOSTILE[:3])
    from csp_engine.pipeline import add_performance

    add_performance(path, {"biased": slices})
    serve(path)
    at = open_page("melanoma", model=HOSTILE[0], layer=HOSTILE[1])
    assert not at.exception
    shown = html(at).lower()
    assert "<script" not in shown
    assert "<img" not in shown
    for element in at.get("plotly_chart"):
        drawn = json.loads(element.proto.spec)
        assert "<script" not in json.dumps(drawn).lower()
        assert "<img" not in json.dumps(drawn).lower()
    assert case_charts.figure_text("<b>\u202ex") == "&lt;b&gt;x"


def test_an_untrained_eye_is_told_the_bars_of_chance(case_bundle):
    bundle, case = Bundle.open(case_bundle), whole(case_bundle)
    null = random_sets.null_of(bundle, store.MEMO, "biased", "second@mean", "csp")
    texts = bundle.labels()["text"].tolist()
    for names, bar in ((case.texts[tag], case.bars[tag]) for tag in ("valid", "spurious")):
        labels = [bundle.label_vectors()[texts.index(name)] for name in names]
        values = [v for v, _ in slow.best_alignment(null, labels, bundle.empty_text_vector())]
        known = pd.Series(values).dropna()
        assert (known <= bar + 1e-6).mean() == pytest.approx(0.95, abs=0.02)


def test_documents_are_served_as_text_and_nothing_else(serve, case_bundle):
    serve(case_bundle)
    client = visiting()
    answer = client.get("/csp/docs/methods.md")
    assert answer.text == (ROOT / "docs" / "methods.md").read_text("utf-8")
    assert answer.headers["content-type"].startswith("text/plain")
    for name in ("..%2FREADME.md", "pictures.py", "none.md", "%2e%2e", "methods.md%00"):
        assert client.get(f"/csp/docs/{name}").status_code == 404
