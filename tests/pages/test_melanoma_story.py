"""The melanoma story on the shipped demo: figures of Audit, picked by stated rules."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from csp_engine.bundle import Bundle
from csp_engine.views.audit import fixes, interventions
from csp_engine.views.case.audit import melanoma
from csp_engine.views.case.story import found_less, story_of
from csp_engine.views.memo import Memo
from pages.ui import page_table
from pages.ui.parts.cards import plain
from pages.ui.shell import store
from tests.pages.conftest import html, open_page


@pytest.fixture(scope="module")
def told(shipped_bundle):
    bundle, memo = Bundle.open(shipped_bundle), Memo()
    story = story_of(bundle, memo, melanoma(memo), "biased", "csp_plus")
    assert story is not None
    return bundle, story


def test_it_picks_the_largest_effect_of_what_should_not_matter(told):
    bundle, story = told
    stored = bundle.intervention("biased")
    found = {e.artefact: e for e in interventions.effects(stored)}
    assert story.main.effect == found["colour patch"]
    assert {name for name, _ in story.others} == {
        "ruler", "dark corners", "ink marks", "hair", "gel bubbles"
    }  # fmt: skip
    assert max(found, key=lambda name: abs(found[name].effect.value)) == "colour patch"
    retrained = interventions.compared_models(bundle, "biased", stored)["retrained"]
    assert story.beside == (("retrained", retrained["colour patch"]),)
    clear = story.clearest
    assert clear.is_true
    truth = bundle.truth("biased", clear.suspect.neuron.layer).units
    row = truth.iloc[clear.suspect.neuron.unit]
    assert row["true_concept"] == "colour patch"
    assert clear.auroc.value == row["auroc"]
    before = story.main.suspects[: story.main.suspects.index(clear.suspect)]
    assert all(each.truth != "colour patch" for each in before)
    nothing = replace(clear, is_true=False, suspect=replace(clear.suspect, truth="none"))
    assert "responds to nothing that is known" in nothing.sentence
    assert "AUROC" not in nothing.sentence


def test_melanomas_found_are_counted(told):
    bundle, _ = told
    rows = bundle.performance("biased")
    found = found_less(rows, "biased")
    by_name = rows.set_index("slice")
    for share, name in ((found.high, found.best), (found.low, found.worst)):
        assert share.n == by_name.loc[name, "n_melanoma"]
        assert share.n_hits / share.n == pytest.approx(by_name.loc[name, "melanoma_found"])
    assert found.gap == pytest.approx(found.high.share - found.low.share)
    assert found.least > 0
    assert found_less(rows.drop(columns="n_melanoma"), "biased") is None
    assert found_less(rows.head(1), "biased") is None
    empty = rows.assign(n_melanoma=0, melanoma_found=float("nan"))
    assert found_less(pd.DataFrame(empty), "biased") is None


@pytest.mark.slow
def test_the_page_tells_it_in_the_words_of_audit(serve, shipped_bundle, told):
    bundle, story = told
    serve(shipped_bundle)
    at = open_page("melanoma", model="biased")
    assert not at.exception
    shown = html(at)
    assert "csp-problem" not in shown
    assert shown.count("csp-step") == 12
    fix = fixes.kept(bundle, Memo(), "biased", bundle.fixes("biased")[0])
    said = (
        found_less(bundle.performance("biased"), "biased").sentence,
        story.main.effect.sentence("melanoma"),
        story.compared,
        interventions.carrier_sentence(story.main, "melanoma"),
        story.clearest.sentence,
        *(sentence for _, sentence in story.others),
        fix.sentence,
        fix.verdict,
        fix.gap_sentence,
    )
    places = [shown.index(plain(each)) for each in said]
    assert places == sorted(places)
    assert "No neuron of" in dict(story.others)["ruler"]
    assert "Nobody has judged a neuron of this network yet" in shown
    assert "cannot show evolution" in shown
    assert "that removing such a neuron would change a decision" not in shown
    # The retrained network has no shown effect against a neutral paste but small ones.
    other = html(open_page("melanoma", model="retrained"))
    assert "csp-problem" not in other


def test_it_is_listed_where_there_is_a_case_alone(serve, small_bundle, shipped_bundle, monkeypatch):
    for path, is_there in ((shipped_bundle, True), (small_bundle, False)):
        monkeypatch.setattr(store, "MEMO", Memo())
        serve(path)
        assert page_table.has_case() is is_there
