"""A label that means what a likely one means is not called probably wrong beside it."""

from __future__ import annotations

import re

from csp_engine.bundle import Bundle
from csp_engine.types import NeuronRef
from csp_engine.views.conclusion.echoes import beside_one_another
from csp_engine.views.conclusion.meaning import same_meaning
from csp_engine.views.confidence import trust_of
from csp_engine.views.memo import Memo
from csp_engine.views.neuron.candidates import stored
from csp_engine.views.places import places
from tests.pages.conftest import html, open_page

PLACE, UNIT = ("biased", "layer4@mean"), 575
"""CSP+ says "coloured sticker", SemanticLens and CLIP-Dissect say "color patch"."""


def of(bundle, memo, neuron):
    methods = bundle.methods(neuron.model, neuron.layer)
    found = [stored(bundle, neuron, name) for name in methods]
    trusted = [trust_of(bundle, memo, neuron, each) for each in found]
    return found, trusted, beside_one_another(bundle, memo, found, trusted)


def test_only_doubted_words_change_and_only_where_the_meaning_is_that_of_a_likely_one(
    shipped_bundle,
):
    bundle, memo = Bundle.open(shipped_bundle), Memo()
    same = same_meaning(bundle, memo)
    n_changed = n_kept = 0
    for place in places(bundle):
        for unit in range(0, bundle.n_units(*place), 37):
            found, before, after = of(bundle, memo, NeuronRef(*place, unit))
            texts = [each.rows[0].text if each.rows else "" for each in found]
            likely = [
                text
                for text, trust in zip(texts, before, strict=True)
                if text and trust.words.startswith("likely right")
            ]
            for text, old, new in zip(texts, before, after, strict=True):
                echoes = text and any(same(text, other) for other in likely)
                if old.words.startswith("probably wrong") and echoes:
                    assert re.fullmatch(r"means what .+ says", new.words)
                    n_changed += 1
                elif not old.words.startswith("as likely"):
                    assert new == old
                    n_kept += 1
    assert n_changed > 5
    assert n_kept > 50


def test_the_page_tells_one_story(serve, shipped_bundle):
    serve(shipped_bundle)
    model, layer = PLACE
    shown = html(open_page("neuron", model=model, layer=layer, unit=str(UNIT), method="csp_plus"))
    table = re.search(r"<table class='csp-table methods'[^>]*>.*?</table>", shown, re.S)[0]
    assert table.count("means what CSP+ says") == 2
    row = next(each for each in table.split("<tr") if ">SemanticLens<" in each)
    assert "probably wrong" not in row
