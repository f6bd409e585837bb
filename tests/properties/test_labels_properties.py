"""Properties of cleaning and merging labels."""

from __future__ import annotations

import tempfile
import unicodedata
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from csp_engine.errors import InputError
from csp_engine.words.vocabularies import Vocabulary, clean_label, read_vocabulary

TRICKY = st.text(
    st.one_of(
        st.sampled_from("abAB TV_-*•\"'“”‘’.,;#1)/{}\t\u200b\u200d\ufeff\u0301\u0130ßΣ"),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=30,
)


@given(TRICKY)
@settings(deadline=None, max_examples=500)
def test_cleaning_is_idempotent_and_plain(text):
    once = clean_label(text)
    assert clean_label(once) == once
    assert once == unicodedata.normalize("NFC", once)
    assert once == " ".join(once.split())
    assert "_" not in once
    assert not any(unicodedata.category(c) == "Cc" for c in once)


def read_texts(lists: list[tuple[int, list[str]]]) -> Vocabulary | str:
    """The vocabulary of these lists as files 0.txt, 1.txt, …, or the message of the refusal."""
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for number, labels in lists:
            path = Path(folder) / f"{number}.txt"
            path.write_text("\n".join(labels), encoding="utf-8", newline="")
            paths.append(str(path))
        try:
            return read_vocabulary(paths)
        except InputError as error:
            return str(error)


LINES = st.text(
    st.one_of(
        st.sampled_from("abcAB_ •\"'#"),
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
    ),
    max_size=12,
)
LISTS = st.lists(st.lists(LINES, max_size=6), min_size=1, max_size=4)


@given(LISTS, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=150)
def test_the_order_of_sources_changes_only_the_order(lists, random):
    numbered = list(enumerate(lists))
    shuffled = numbered.copy()
    random.shuffle(shuffled)
    one, two = read_texts(numbered), read_texts(shuffled)
    if isinstance(one, str) or isinstance(two, str):
        assert isinstance(one, str) == isinstance(two, str)
        return
    assert contents(one) == contents(two)


def contents(vocabulary: Vocabulary) -> set[tuple[str, frozenset[str]]]:
    return {
        (unicodedata.normalize("NFC", text.casefold()), frozenset(source.split(";")))
        for text, source in vocabulary.table.itertuples(index=False)
    }


@given(LISTS)
@settings(deadline=None, max_examples=150)
def test_every_label_is_clean_and_there_once(lists):
    vocabulary = read_texts(list(enumerate(lists)))
    if isinstance(vocabulary, str):
        assert "\n" not in vocabulary
        return
    keys = [unicodedata.normalize("NFC", text.casefold()) for text in vocabulary.texts]
    assert len(keys) == len(set(keys)) >= 2
    assert all(text and clean_label(text) == text for text in vocabulary.texts)
