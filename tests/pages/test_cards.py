from __future__ import annotations

import math

import pytest

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.numbers import signed_alike
from pages.ui.parts import cards
from tests.pages.conftest import HOSTILE


@pytest.mark.parametrize("text", HOSTILE)
def test_plain_leaves_no_markup_and_no_direction_marks(text):
    shown = cards.plain(text)
    assert "<" not in shown
    assert '"' not in shown
    assert "\u202e" not in shown


def test_plain_keeps_every_visible_letter():
    assert cards.plain("a<b & 'c'") == "a&lt;b &amp; &#x27;c&#x27;"


def test_markdown_text_disarms_images_directives_and_emoji_names():
    shown = cards.markdown_text("![x](http://e) :red[y] :smile:")
    assert "](" not in shown
    assert ":smile:" not in shown
    assert ":red[" not in shown


def test_a_long_hostile_text_stays_text():
    assert "<" not in cards.plain("<" * 10_000)


def test_packs_place_each_image_once_and_split_requests(small_bundle):
    packs = cards.Packs("a b/c", Bundle.open(small_bundle))
    assert [packs.at(i) for i in (7, 3, 7)] == ["0:0", "0:1", "0:0"]
    for image in range(10, 10 + cards.PER_PACK):
        packs.at(image)
    urls = packs.urls()
    assert len(urls) == 2
    assert "/a%20b%2Fc/" in urls[0]
    assert urls[0].rsplit("/", 1)[1].startswith("7-3-10-")


def test_a_bar_table_escapes_names_and_cells():
    shown = cards.bar_table("<c>", ("<h>",), [("<n>", -0.5, ["<v>"])])
    assert "<n>" not in shown
    assert "<v>" not in shown
    assert "&lt;n&gt;" in shown
    assert "bar down' style='width:50.0%'" in shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0"),
        (5.3249, "5.32"),
        (-0.08211, "−0.0821"),
        (1234.5, "1,234"),
        (0.0123456, "0.0123"),
        (0.000862, "0.000862"),
        (-0.0000123, "−0.0000123"),
        (1e-7, "1.00e−07"),
        (math.nan, "–"),
    ],
)
def test_activations_keep_three_digits(value, shown):
    assert numbers.activation(value) == shown


def test_a_percentile_is_never_finer_than_its_draws():
    assert numbers.percentile(1.0, 200) == "> 99.5 %"
    assert numbers.percentile(0.5, 200) == "50.0 %"
    assert numbers.beats(1.0, 200) == "all 200 random image sets"
    assert numbers.beats(30 / 31, 30) == "all 30 random image sets"
    assert numbers.beats(0.25, 200) == "25.0 % of 200 random image sets"


def test_effects_of_one_column_show_the_same_digits():
    assert signed_alike([0.00546, -0.00272, 0.0000933]) == [
        "+0.00546",
        "−0.00272",
        "+0.00009",
    ]
    assert signed_alike([1234.5, 2]) == ["+1,234", "+2"]
    assert signed_alike([0.0, 0.0]) == ["0", "0"]
    assert signed_alike([]) == []
