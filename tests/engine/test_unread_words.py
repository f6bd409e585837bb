"""Texts from another world: words that the encoder cannot read are noticed, and said."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from csp_engine.bundle import Bundle
from csp_engine.pipeline import build
from csp_engine.search import bundle_encoder, combine, query_vector
from csp_engine.views.finding import query as asking
from csp_engine.views.finding.standing import judged, judgement
from csp_engine.views.finding.unread import reads_every_word
from csp_engine.views.lists import found_neurons
from csp_engine.views.memo import Memo
from csp_engine.words.unread import NONSENSE
from tests.worlds import toys

DEMO = Path(__file__).parents[2] / "assets" / "demo" / "dermoscopy.csp"
OTHER_WORLDS = ("a red fire truck", "a red car", "blue whale", "yellow school bus", "green apple")


class FewWords(toys.ColourEncoder):
    """Knows the colours; every other word is one and the same to it."""

    def __init__(self) -> None:
        super().__init__()
        self.fingerprint = hashlib.sha256(b"few words").hexdigest()

    def embed_texts(self, texts):
        known = [" ".join(w if w in toys.COLOURS else "thing" for w in t.split()) for t in texts]
        return super().embed_texts(known)


def encoding(encoder):
    return lambda bundle, texts: [query_vector(bundle, text, encoder) for text in texts]


def ask(bundle, text, encoder):
    memo = Memo()
    query = asking.text_query(bundle, memo, [text], [], encoding(encoder), title=text)
    found = judged(bundle, memo, query, "csp", found_neurons(bundle, memo, "csp", query))
    return query, found, str(judgement(query, "csp", found))


@pytest.fixture(scope="module")
def few(tmp_path_factory) -> Bundle:
    folder = tmp_path_factory.mktemp("few")
    return build(toys.request(folder, folder / "few.csp", encoder=FewWords()))


def test_words_that_say_what_nonsense_says_are_unread(few):
    query, found, said = ask(few, "red fire truck", FewWords())
    assert query.unread == ("fire", "truck")
    assert found.best != "clear"
    assert found.best == "none" or "does not know “fire” and “truck”" in said
    assert not query.is_unread
    assert ask(few, "green red", FewWords())[0].unread == ()


def test_where_no_word_is_read_nothing_is_said_to_be_searched_for(few):
    query, _, said = ask(few, "fire truck", FewWords())
    assert query.is_unread
    assert "the rest" not in said
    assert "does not know “fire” and “truck”: every word that it does not know finds" in said


def test_an_encoder_that_reads_every_word_has_no_unread_ones(tmp_path):
    bundle = build(toys.request(tmp_path, tmp_path / "a.csp"))
    encode = encoding(toys.ColourEncoder())
    assert reads_every_word(bundle, Memo(), lambda words: np.stack(encode(bundle, words)))
    asked = []

    def counted(bundle, texts):
        asked.append(list(texts))
        return encode(bundle, texts)

    query = asking.text_query(bundle, Memo(), ["red fire"], [], counted, title="red fire")
    assert query.unread == ()
    assert asked == [["red fire"], list(NONSENSE)]


def test_the_encoder_is_asked_once_for_texts_and_words_together(few):
    """A question waits for another process longer than that one works."""
    asked, memo = [], Memo()

    def encode(bundle, texts):
        asked.append(list(texts))
        return encoding(FewWords())(bundle, texts)

    asking.rehearse_texts(few, memo, encode)
    assert asked == [list(NONSENSE)]
    texts, but_not = ["red fire truck", "red", "blue bus"], ["green fire"]
    query = asking.text_query(few, memo, texts, but_not, encode, title="x")
    words = ["red", "fire", "truck", "blue", "bus", "green"]
    new = [word for word in words if asking.stored_label(few, word) is None]
    assert asked[1:] == [["red fire truck", "blue bus", "green fire", *new]]
    assert query.unread == ("fire", "truck", "bus")
    positive_qd, negative_rd = (
        np.stack(encoding(FewWords())(few, each)) for each in (texts, but_not)
    )
    np.testing.assert_array_equal(query.vector_d, combine(positive_qd, negative_rd))
    asking.text_query(few, memo, texts, but_not, encode, title="x")
    assert len(asked) == 2


def test_labels_of_the_vocabulary_need_no_encoder(few):
    def nobody(_, text):
        raise AssertionError(f"the encoder was asked for {text}")

    query = asking.text_query(few, Memo(), ["red"], ["green"], nobody, title="red")
    assert query.unread == ()


@pytest.mark.slow
def test_on_the_demo_nothing_stands_out_for_other_worlds_and_concepts_still_do():
    bundle = Bundle.open(DEMO)
    encoder = bundle_encoder(bundle)
    for text in OTHER_WORLDS:
        query, found, _ = ask(bundle, text, encoder)
        assert found.best != "clear", text
        assert query.unread, text
    for text in ("bluish haze", "radial pseudopods", "white regression"):
        assert text not in bundle.label_ids
        query, found, _ = ask(bundle, text, encoder)
        assert query.unread == (), text
        assert found.best == "clear", text
