"""The start page: a decision that turns where pairs were tried, else what a bundle amounts to."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from csp_engine import pipeline
from csp_engine.bundle import Bundle
from csp_engine.types import NeuronRef
from csp_engine.views.audit import interventions
from csp_engine.views.finding.examples import showcase, starting_points
from csp_engine.views.memo import Memo
from csp_engine.views.neuron.label import best_label
from csp_engine.views.overview.story import story_of
from csp_engine.views.overview.summary import summary_of
from csp_engine.views.places import places
from pages.ui.shell import loading, store
from tests.pages.conftest import component, html, open_page
from tests.worlds import toys


def tried(path, artefact="patch"):
    """A bundle whose network was tried on pairs of images."""
    pairs = toys.CornerPairs()
    pairs.table["artefact"] = artefact
    bundle = Bundle.open(path)
    target = toys.target()
    asked = tuple(tap for tap in target.taps if str(tap.id) in bundle.layers("small"))
    pipeline.add_interventions(path, pipeline.Target(target.model, asked), pairs, "red", n_random=2)
    return Bundle.open(path)


@pytest.mark.slow
def test_the_demo_opens_on_the_patch_that_was_planted(serve, shipped_bundle):
    serve(shipped_bundle)
    shown = html(open_page())
    bundle = Bundle.open(shipped_bundle)
    pairs = bundle.intervention("biased").pairs
    own = pairs[pairs["artefact"] == "colour patch"]
    called = own["is_called_neutral"]
    n_lost = int((called & ~own["is_called_with"]).sum())
    assert (
        f"<h1 class='csp-title csp-loud'>Colour patch added: {n_lost} of {int(called.sum())} "
        in (shown)
    )
    assert re.search(r"href='/audit\?[^']*model=biased[^']*artefact=colour%20patch'", shown)
    assert shown.index("csp-loud") < shown.index("How to read a neuron")


def test_the_pair_turns_with_the_artefact_alone_and_shows_its_own_scores(shipped_bundle):
    bundle = Bundle.open(shipped_bundle)
    story = story_of(bundle, Memo(), "csp_plus")
    stored = bundle.intervention(story.model)
    before, after = story.pair
    shown = stored.shown
    pair = shown["pair"].iloc[before.picture]
    assert shown["pair"].iloc[after.picture] == pair
    row = stored.pairs.iloc[int(pair)]
    assert row["artefact"] == story.artefact
    for shot in (before, after):
        assert shown["version"].iloc[shot.picture] == shot.version
        odds = math.exp(row[f"score_{shot.version}"])
        assert shot.share == pytest.approx(odds / (1 + odds))
        assert shot.is_called == row[f"is_called_{shot.version}"]
    assert (row["is_called_without"], row["is_called_neutral"]) == (True, True)
    assert not row["is_called_with"]


def test_no_other_artefact_turns_a_larger_share_of_decisions(shipped_bundle):
    bundle = Bundle.open(shipped_bundle)
    story = story_of(bundle, Memo(), "csp_plus")
    shares = {}
    for model in ("biased", "retrained"):
        for artefact, own in bundle.intervention(model).pairs.groupby("artefact"):
            if own["is_called_neutral"].isna().any() or "neutral" not in set(
                bundle.intervention(model).effects.set_index("artefact").loc[[artefact], "foil"]
            ):
                continue
            foil, after = own["is_called_neutral"].astype(bool), own["is_called_with"].astype(bool)
            lowers = (own["score_with"] - own["score_neutral"]).mean() < 0
            turned = (foil & ~after) if lowers else (~foil & after)
            shares[model, artefact] = turned.sum() / max(1, (foil if lowers else ~foil).sum())
    assert max(shares, key=shares.get) == (story.model, story.artefact)


@pytest.mark.slow
def test_carriers_are_those_of_the_audit_and_lead_to_their_pages(serve, shipped_bundle):
    serve(shipped_bundle)
    at = open_page()
    cards = component(at, "csp_cards")["cards"]
    bundle = Bundle.open(shipped_bundle)
    found = interventions.audited(bundle, "biased", "colour patch", "csp_plus")
    assert [card["id"] for card in cards] == [
        f"biased / {each.neuron.layer} / {each.neuron.unit}" for each in found.suspects[:3]
    ]
    for card, each in zip(cards, found.suspects, strict=False):
        assert card["score"] == f"{100 * each.share:.0f} %"
        assert each.truth in card["note"]
        assert f"unit={each.neuron.unit}" in card["href"]


@pytest.mark.slow
def test_a_bundle_with_pairs_of_its_own_tells_its_own_story(serve, copied):
    bundle = tried(copied)
    serve(copied)
    shown = html(open_page())
    effect = interventions.effects(bundle.intervention("small"))[0]
    story = story_of(bundle, Memo(), "csp")
    if not effect.effect.is_away_from_zero:
        assert story is None
        assert "To be doubted" in shown
    else:
        assert "Patch added: " in shown
        turned = effect.n_lost if effect.effect.value < 0 else effect.n_gained
        assert (f"{turned} of " in story.headline) == (turned > 0)


def test_names_of_artefacts_are_never_markup(serve, copied):
    tried(copied, "<b onclick='x()'>&amp; \u202epatch")
    serve(copied)
    at = open_page()
    assert not at.exception
    assert "<b onclick" not in html(at)
    assert "\u202e" not in html(at)


def test_a_bundle_of_ones_own_is_summed_up(serve, small_bundle):
    serve(small_bundle)
    shown = html(open_page())
    bundle = Bundle.open(small_bundle)
    n_good, labels = 0, []
    for layer in bundle.layers("small"):
        scores = bundle.scores("small", layer, "csp")
        texts = bundle.method_labels("small", layer, "csp")["text"]
        for unit in np.flatnonzero(scores.reliable_u & (scores.count_u > 0)):
            n_good += 1
            labels.append(texts.iloc[scores.label_uk[unit, 0]])
    assert f"{n_good} of 20 neurons have a reliable label by CSP." in shown
    assert f"{20 - n_good} neurons have none" in shown
    most = max(set(labels), key=labels.count)
    assert re.search(rf"q={most}[^>]*>{most}</a> \({labels.count(most)}\)", shown)
    assert re.search(r"href='/layer\?[^']*only=unclear", shown)
    assert "csp intervene small.csp" in shown


def test_labels_that_nothing_judges_are_not_called_unreliable(copied):
    bundle = Bundle.open(copied)
    found = summary_of(bundle, Memo(), "no such method")
    assert found.found == ("No method has labelled these neurons.",)
    assert not any("have none" in each for each in found.doubtful)


def test_examples_are_what_was_tried_then_columns_then_labels(shipped_bundle, small_bundle):
    bundle = Bundle.open(shipped_bundle)
    texts = starting_points(bundle, Memo(), "csp_plus")
    assert texts[:3] == ["colour patch", "streaks", "blue-white veil"]
    assert "ruler" in texts
    assert set(texts) <= set(bundle.label_ids)
    assert set(starting_points(Bundle.open(small_bundle), Memo(), "csp")) <= {
        *Bundle.open(small_bundle).label_ids
    }


def test_a_damaged_story_leaves_the_rest_of_the_page(serve, copied, monkeypatch):
    monkeypatch.setattr(store, "MEMO", Memo())
    tried(copied)
    for path in copied.glob("*/effects.parquet"):
        path.write_bytes(path.read_bytes()[:-40])
    serve(copied)
    at = open_page()
    assert not at.exception
    assert "damaged" in html(at)
    assert "<h1" in html(at)
    assert "How to read a neuron" in html(at)


def test_what_was_rehearsed_is_not_worked_out_again(serve, shipped_bundle, monkeypatch):
    """Every memo that the page asks for is there, so the first visitor waits for none."""
    serve(shipped_bundle)
    monkeypatch.setattr(store, "MEMO", Memo())
    loading.rehearse_first()
    asked, made = set(), set()
    once = store.MEMO.once

    def watched(key, make):
        asked.add(key)
        return once(key, lambda: (made.add(key), make())[1])

    monkeypatch.setattr(store.MEMO, "once", watched)
    html(open_page())
    names = {key[0] for key in asked}
    assert {"story", "showcase", "starting"} <= names
    assert made <= {key for key in asked if key[0] == "has case"}  # of the navigation, not the page


def test_a_damaged_bundle_is_left_to_the_page(serve, copied):
    (copied / "manifest.json").write_text("{")
    serve(copied)
    loading.rehearse_first()


def test_the_neuron_shown_first_is_the_one_that_a_slow_search_finds(shipped_bundle):
    bundle, method = Bundle.open(shipped_bundle), "csp_plus"
    best, chosen = None, None
    for place in places(bundle):
        scores = bundle.scores(*place, method)
        good = [u for u in range(bundle.n_units(*place)) if scores.reliable_u[u]]
        for unit in sorted(good, key=lambda u: -scores.score_uk[u, 0])[:40]:
            neuron = NeuronRef(*place, unit)
            said = [best_label(bundle, neuron, each).text for each in bundle.methods(*place)]
            n_agreeing = said.count(best_label(bundle, neuron, method).text)
            rank = (
                n_agreeing,
                bundle.units(*place)["clarity"].iloc[unit],
                scores.score_uk[unit, 0],
            )
            if best is None or rank > best:
                best, chosen = rank, neuron
    assert showcase(bundle, Memo(), method) == chosen
