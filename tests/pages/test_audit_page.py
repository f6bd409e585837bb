"""The audit page: what it says is what the bundle holds, whatever artefacts are called."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter

import pytest
import streamlit

from csp_engine import pipeline
from csp_engine.bundle import Bundle
from csp_engine.pipeline.added.fixing import Trials
from csp_engine.pipeline.added.photographs import listed_photographs
from csp_engine.pipeline.factoring.finding import find_factors
from csp_engine.pipeline.factoring.keeping import add_factors
from csp_engine.views.audit import associations, interventions
from csp_engine.views.audit.factors import factored
from csp_engine.views.audit.figures import Figure
from csp_engine.views.audit.interventions import Asked, Swapped
from csp_engine.views.case.audit import melanoma
from csp_engine.views.memo import Memo
from csp_engine.words.own_concepts import as_link, from_link, written
from pages.ui.parts import intervened
from pages.ui.parts.cards import plain
from tests.pages.conftest import html, open_page
from tests.worlds import misled, toys


@pytest.fixture
def offered(monkeypatch):
    """What a page offers for download, by the label of its button."""
    found = {}
    real = streamlit.download_button

    def remembered(label, data, **looks):
        found[label] = data
        return real(label, data, **looks)

    monkeypatch.setattr(streamlit, "download_button", remembered)
    return found


def test_a_bundle_without_pairs_says_how_to_get_some(serve, small_bundle):
    serve(small_bundle)
    at = open_page("audit")
    assert not at.exception
    assert any("csp intervene" in each.value for each in at.text)


@pytest.mark.slow
def test_the_demo_shows_what_its_classifier_leans_on(serve, shipped_bundle):
    serve(shipped_bundle)
    at = open_page("audit")
    assert not at.exception
    shown = html(at)
    stored = Bundle.open(shipped_bundle).intervention("biased")
    found = {each.artefact: each for each in interventions.effects(stored)}
    assert found["colour patch"].effect.high < -2  # what was planted
    for each in found.values():
        assert each.effect.signed in shown
        assert each.neutral.signed in shown
    audited = interventions.audited(
        Bundle.open(shipped_bundle), "biased", "colour patch", "csp_plus"
    )
    assert audited.scope.layer == "layer2@max"
    assert audited.scope.n_carriers == 20
    assert interventions.carrier_sentence(audited, "melanoma") in shown
    assert found["colour patch"].sentence("melanoma") in shown
    held = Bundle.open(shipped_bundle).fix("biased", "carriers of colour patch")
    pushed = Bundle.open(shipped_bundle).factors("biased", "layer2@max")
    # Six pairs of three versions, wrong decisions that a factor pushes, and those that turn below.
    n_pictures = 18 + len(pushed.thumbs) + len(held.thumbs)
    assert shown.count("data:image/webp;base64") == n_pictures
    assert "Which neurons of layer2@max fire together is found in its activations" in shown


@pytest.mark.slow
@pytest.mark.slow
def test_what_is_in_question_comes_first_and_a_smaller_control_is_called_so(serve, shipped_bundle):
    """The largest effects on the retrained network are of signs of melanoma, which may matter."""
    serve(shipped_bundle)
    stored = Bundle.open(shipped_bundle).intervention("retrained")
    found = {each.artefact: each for each in interventions.effects(stored)}
    assert list(found)[:3] == ["streaks", "blue-white veil", "dark corners"]
    first = html(open_page("audit", model="retrained"))
    assert found["dark corners"].sentence("melanoma") in first
    assert found["streaks"].sentence("melanoma") not in first
    names = {"valid": ["streaks"], "neutral": ["dark corner", "blue-white veil"],
             "spurious": ["ruler"]}  # fmt: skip
    own = as_link(written("own", ["melanoma"], names))
    other = html(open_page("audit", model="retrained", concepts=own))
    assert found["hair"].sentence("melanoma") in other
    streaks = html(open_page("audit", model="retrained", artefact="streaks"))
    assert "50 neurons of the 256 of layer2@max carry it" in streaks
    assert "Of 20 random sets of 20 neurons (fewer, so a weaker control) as active" in streaks


def test_the_address_chooses_network_and_artefact(serve, shipped_bundle):
    serve(shipped_bundle)
    shown = html(open_page("audit", model="retrained", artefact="streaks"))
    stored = Bundle.open(shipped_bundle).intervention("retrained")
    found = {each.artefact: each for each in interventions.effects(stored)}
    assert found["streaks"].sentence("melanoma") in shown
    at = open_page("audit", artefact="nonsense")
    assert not at.exception
    assert "nonsense" in html(at)


@pytest.mark.slow
def test_the_report_is_that_of_the_page_made_when_asked(serve, shipped_bundle, offered):
    serve(shipped_bundle)
    own = as_link(written("own list", ["melanoma"], {"valid": ["ruler"], "spurious": ["dots"]}))
    at = open_page("audit", model="retrained", headings="model-card", concepts=own)
    assert not at.exception
    assert offered["The list in use (TOML)"] == from_link(own).content
    of_report = [label for label in offered if label.startswith(("Report", "Figures", "All"))]
    assert of_report == ["Report (PDF)", "Report (HTML)", "Figures (CSV)", "All of it (JSON)"]
    said = json.loads(offered["All of it (JSON)"]())
    assert said["options"]["model"] == "retrained"
    assert said["seal"]["concepts"] == own
    assert said["options"]["concepts_sha256"] == from_link(own).sha256
    assert said["parts"][0]["heading"] == "Model details"
    (effects,) = [section for part in said["parts"] for section in part["sections"]
                  if section["name"] == "effects"]  # fmt: skip
    shown = html(at)
    for row in effects["blocks"][0]["rows"]:
        assert row[1]["text"] in shown
        assert row[3]["text"] in shown


def test_names_are_never_markup(serve, copied):
    pairs = toys.CornerPairs()
    pairs.table["artefact"] = "<b onclick='x()'>&amp; \u202epatch"
    bundle = Bundle.open(copied)
    target = toys.target()
    asked = tuple(tap for tap in target.taps if str(tap.id) in bundle.layers("small"))
    pipeline.add_interventions(
        bundle.path, pipeline.Target(target.model, asked), pairs, "red", n_random=2
    )
    serve(bundle.path)
    at = open_page("audit")
    assert not at.exception
    shown = html(at)
    assert "<b onclick" not in shown
    assert "&lt;b onclick" in shown
    assert "\u202e" not in shown


@pytest.mark.slow
def test_suspects_stand_with_what_is_known_of_them(serve, shipped_bundle):
    serve(shipped_bundle)
    bundle = Bundle.open(shipped_bundle)
    concepts = melanoma(Memo())
    at = open_page("audit")
    assert not at.exception
    shown = html(at)
    found = associations.look(
        bundle, Memo(), "biased", "layer2@max", "colour patch", "csp_plus", concepts
    )
    assert found.sentence() in shown
    assert found.truth.n_right >= 0.9 * found.truth.n
    assert found.truth.sentence() in shown
    assert plain(found.confounding()) in shown
    for each in found.suspects:
        assert each.auroc.words in shown
    shown = html(open_page("audit", model="retrained", column="ruler", layer="layer4@mean"))
    ruler = associations.look(
        bundle, Memo(), "retrained", "layer4@mean", "ruler", "csp_plus", concepts
    )
    assert not ruler.suspects
    assert ruler.sentence() in shown
    assert "would have been found" in ruler.sentence()


VALID = {"milia-like cysts", "blue-white veil", "large lesion", "small lesion"}
"""What the case of melanoma calls valid, of columns with suspects in the retrained network."""


@pytest.mark.slow
def test_what_a_network_sees_is_told_apart_from_what_it_leans_on(serve, shipped_bundle):
    """The retrained network has suspects, which is said in a sentence of its own."""
    serve(shipped_bundle)
    bundle = Bundle.open(shipped_bundle)
    units, counts = set(), Counter()
    for layer in bundle.layers("retrained"):
        stored = bundle.association("retrained", layer)
        rows = stored.found[stored.found["is_suspect"]]
        for unit, column in zip(rows["unit"], rows["column"], strict=True):
            row = stored.columns.iloc[column]
            if row["kind"] == "concept" and row["name"] not in VALID:
                units.add((layer, unit))
                counts[row["name"]] += 1
    assert counts["dark corners"] > 2
    told = associations.all_suspects(bundle, "retrained", melanoma(Memo()))
    assert f"In all layers of retrained, {len(units)} neurons are suspects of what is not" in told
    for name, n in counts.items():
        assert f"{name} ({n})" in told
    shown = html(open_page("audit", model="retrained", column="dark corners", layer="layer2@max"))
    stored = bundle.intervention("retrained")
    effect = next(e for e in interventions.effects(stored) if e.artefact == "dark corners")
    assert plain(f"{told} {effect.sentence('melanoma')}") in shown
    assert "tries it on pairs of images" in associations.rests_on(bundle, "retrained", "dots")


@pytest.mark.slow
def test_one_output_is_followed_and_the_page_says_how_to_follow_another(serve, shipped_bundle):
    serve(shipped_bundle)
    bundle = Bundle.open(shipped_bundle)
    told = interventions.one_output(bundle, "biased", "melanoma")
    assert plain(told) in html(open_page("audit"))
    names = bundle.manifest.inputs["models"]["biased"]["class_names"]
    assert all(name in told for name in names[:4])


def test_of_one_output_nothing_is_said_and_of_two_that_they_are_opposite():
    def told(names):
        return interventions.one_of(names, "m", "a")

    assert told([]) == told(["a"]) == ""
    assert "raises the log-odds of a lowers those of b by as much" in told(["a", "b"])
    assert "This is about a, one of the 3 outputs of m." in told(["a", "b", "c"])
    assert "(b, c)" in told(["a", "b", "c"])


@pytest.mark.slow
def test_every_suspect_has_its_intervals_and_every_neuron_a_row(serve, shipped_bundle, offered):
    serve(shipped_bundle)
    shown = html(open_page("audit"))
    bundle = Bundle.open(shipped_bundle)
    audited = interventions.audited(bundle, "biased", "colour patch", "csp_plus")
    for each in audited.suspects:
        assert each.confirmed.fine in shown
        assert each.moved.fine in shown
    content = offered["Download what it does to every neuron (CSV)"]().decode()
    rows = list(csv.DictReader(io.StringIO(content)))
    assert len(rows) == sum(bundle.n_units("biased", each) for each in bundle.layers("biased"))
    first = audited.suspects[0]
    (own,) = (r for r in rows if (r["layer"], int(r["unit"])) == (
        first.neuron.layer, first.neuron.unit))  # fmt: skip
    assert float(own["confirmed_low"]) == pytest.approx(first.confirmed.low)
    assert float(own["moved_high"]) == pytest.approx(first.moved.high)


@pytest.mark.slow
def test_ones_own_list_is_chosen_and_carried_by_the_address(serve, shipped_bundle):
    serve(shipped_bundle)
    at = open_page("audit")
    sha256 = melanoma(Memo()).sha256[:12]
    at.multiselect(f"concepts_spurious_{sha256}").set_value(["streaks", "unheard of"])
    at.multiselect(f"concepts_valid_{sha256}").set_value(["ruler"])
    at.button("concepts_use").click().run()
    assert not at.exception
    own = from_link(at.query_params["concepts"])
    assert [group.tag for group in own.groups] == ["valid", "spurious"]
    shown = html(at)
    assert "“unheard of”" in shown
    assert "<bdi>streaks</bdi> <span class='csp-quiet'>spurious</span>" in shown
    assert "<bdi>ruler</bdi> <span class='csp-quiet'>valid</span>" in shown
    bundle = Bundle.open(shipped_bundle)
    rows = associations.sought_in(bundle, "biased", "layer2@max", own)
    table = shown[shown.index("least found is the smallest AUROC") :]
    places = [table.index(f"<bdi>{plain(row.name)}</bdi>") for row in rows]
    assert places == sorted(places)
    assert rows[0].name == "streaks"
    link = at.query_params["concepts"]
    assert f"concepts={link}" in shown  # the queue goes by it on the pages of neurons
    at.multiselect(f"concepts_neutral_{own.sha256[:12]}").set_value(["streak"])
    at.button("concepts_use").click().run()
    assert "both spurious and neutral" in html(at)
    assert at.query_params["concepts"] == link
    at.button("concepts_usual").click().run()
    assert "concepts" not in at.query_params


@pytest.mark.slow
def test_a_list_that_was_cut_off_is_said_and_the_usual_one_shown(serve, shipped_bundle):
    serve(shipped_bundle)
    at = open_page("audit", concepts="eNq<script>")
    assert not at.exception
    shown = html(at)
    assert "was cut off or altered" in shown
    assert "Shown is the list for melanoma" in shown
    at = open_page("neuron", queue="suspects", concepts="eNqqq", model="biased")
    assert not at.exception
    assert "was cut off or altered" in html(at)


@pytest.mark.slow
def test_columns_alone_are_enough(serve, tmp_path):
    path = pipeline.build(
        toys.request(tmp_path, tmp_path / "a.csp", probe=toys.with_columns(tmp_path))
    ).path
    serve(path)
    at = open_page("audit", column="nonsense")
    assert not at.exception
    shown = html(at)
    assert "was not tried" in shown
    assert "nonsense" in shown


@pytest.mark.slow
def test_factors_alone_are_enough(serve, tmp_path):
    images = toys.draw_images(tmp_path / "images")
    of = misled.target()
    made = toys.request(images, tmp_path / "own.csp", targets=(of,), n_influence_images=0)
    bundle = pipeline.build(made)
    shots = listed_photographs(misled.photographs(tmp_path))
    stored = find_factors(Trials(of, shots, "red"), "seen@mean", 3, n_random=2)
    found = factored(add_factors(bundle.path, "misled", "seen@mean", stored, 0), "misled",
                     "seen@mean", "csp")  # fmt: skip
    serve(bundle.path)
    at = open_page("audit")
    assert not at.exception
    shown = html(at)
    assert "What pushes its wrong decisions" in shown
    assert plain(found.sentence) in shown
    assert shown.count("role='listitem'") == len(found.factors[0].pictures) > 0
    blind = open_page("audit", blind="yes")
    assert "What pushes its wrong decisions" not in html(blind)


def test_given_parts_stand_with_both_shares_and_are_never_markup():
    swapped = Swapped(3, Figure(0.81, 0.7, 0.9), Figure(0.64, 0.5, 0.8))
    shown = intervened.given(
        (Asked("<b>mine</b>", "layer2", 0, swapped), Asked("file", "layer4", 2, swapped))
    )
    assert "<b>" not in shown
    assert "&lt;b&gt;mine&lt;/b&gt;: 3 neurons of layer2" in shown
    assert "file: 2 directions of layer4" in shown
    assert shown.count("0.81 (0.70 to 0.90)") == shown.count("0.64 (0.50 to 0.80)") == 2
