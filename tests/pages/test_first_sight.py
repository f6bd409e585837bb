"""What somebody sees first: a neuron with a name, words for what is asked, and no two stories."""

from __future__ import annotations

import re

import pytest

from csp_engine.bundle import Bundle
from csp_engine.views.confidence import Trust
from csp_engine.views.finding.examples import showcase
from csp_engine.views.memo import Memo
from csp_engine.views.neuron.label import BestLabel, Heading
from pages.ui.neuron.heading import worth
from tests.pages.conftest import html, open_page


def test_the_menu_leads_to_the_neuron_worth_showing_first(serve, small_bundle):
    serve(small_bundle)
    first = showcase(Bundle.open(small_bundle), Memo(), "csp")
    assert first is not None
    assert (first.layer, first.unit) != ("first@mean", 0)
    shown = html(open_page("neuron"))
    assert f"{first.model} / {first.layer} / {first.unit} " in shown
    for named in ({"unit": "0"}, {"layer": "first@mean"}, {"model": "small"}):
        assert "small / first@mean / 0 " in html(open_page("neuron", **named))


def test_the_search_says_what_it_is_for_before_anything_is_asked(serve, small_bundle):
    serve(small_bundle)
    shown = html(open_page("search"))
    assert re.findall("<h1[^>]*>([^<]*)", shown) == ["Find neurons by what they respond to"]
    asked = html(open_page("search", q="red"))
    assert re.findall("<h1[^>]*>([^<]*)", asked) == ["Search: red"]


@pytest.mark.parametrize(
    ("words", "is_good", "doubts", "kind"),
    [
        ("likely right (49 in 50)", True, False, "good"),
        ("plausible (7 in 10)", False, False, ""),
        ("probably wrong (3 in 10)", False, True, "warn"),
    ],
)
def test_beside_a_name_stands_one_word_on_its_worth(words, is_good, doubts, kind):
    """A name that passes its method's test may still be probably wrong: not both are told."""
    held = Heading(BestLabel("red", 1.2, is_reliable=True), "CSP", (), ())
    trust = Trust(words, is_good, is_learnt=True, doubt="", doubts=doubts)
    assert worth(held, trust) == f"<span class='csp-badge {kind}'>{words}</span>"
    assert worth(held, None) == "<span class='csp-badge good'>reliable by CSP</span>"
