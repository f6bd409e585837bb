"""What somebody sees first: a neuron with a name, words for what is asked, and no two stories."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from csp_engine.bundle import Bundle
from csp_engine.pipeline import build
from csp_engine.views.confidence import Trust
from csp_engine.views.finding.examples import showcase
from csp_engine.views.memo import Memo
from csp_engine.views.neuron.label import BestLabel, Heading
from pages.ui.neuron.heading import worth
from tests.pages.conftest import html, open_page
from tests.worlds import damage, toys


def test_the_menu_leads_to_the_neuron_worth_showing_first(serve, small_bundle):
    serve(small_bundle)
    first = showcase(Bundle.open(small_bundle), Memo(), "csp")
    assert first is not None
    assert (first.layer, first.unit) != ("first@mean", 0)
    shown = html(open_page("neuron"))
    assert f"{first.model} / {first.layer} / {first.unit} " in shown
    for named in ({"unit": "0"}, {"layer": "first@mean"}, {"model": "small"}):
        assert "small / first@mean / 0 " in html(open_page("neuron", **named))


def test_a_damaged_bundle_leaves_the_frame_of_a_neuron(serve, copied):
    """The clearest neuron cannot be told then; the page says what is wrong within its frame."""
    for path in copied.glob("scores-small-first@mean-csp-*/best_percentile_u.npy"):
        path.write_bytes(path.read_bytes()[:50])
    serve(copied)
    at = open_page("neuron")
    assert not at.exception
    assert "is damaged" in html(at)
    assert [button.label for button in at.button][:2] == ["Previous", "Next"]


def test_a_bundle_without_labels_says_so_and_how_to_get_them(serve, copied):
    kinds = ("scores", "index", "map")

    def drop(body):
        for stage in [each for each in body["stages"] if each.split(":")[0] in kinds]:
            del body["stages"][stage]

    damage.edit(copied, drop)
    serve(copied)
    for page in ("search", "layer", "compare", "labels"):
        at = open_page(page)
        told = html(at) + " ".join(each.value for each in at.text)
        assert "csp label" in told, page
        assert not re.search(r"(?<![-\w])none has no|Labels by none", told), page


def test_one_image_gives_no_labels_and_every_page_says_what_is_missing(serve, tmp_path):
    toys.draw_images(tmp_path / "images", 1)
    few = replace(toys.SMALL, n_exemplars=1, n_score=1, n_partners=1)
    build(toys.request(tmp_path, tmp_path / "one.csp", recipe=few))
    serve(tmp_path / "one.csp")
    shown = html(open_page("overview"))
    assert "in 1 image." in shown
    assert "No neuron has a label: no image excites one more than another." in shown
    assert "Build again with more images" in shown
    assert "have one" not in shown
    at = open_page("search", q="red")
    assert "build again with more images" in " ".join(each.value for each in at.text)


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
