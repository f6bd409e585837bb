"""Captions: only what is there, never what is not, and held-out wordings kept out of training."""

from __future__ import annotations

import re
from itertools import combinations

import numpy as np
import open_clip
import pandas as pd
import pytest

from csp_engine.demo.simulator.captions import (
    FILLERS,
    FRAMES,
    HELD_OUT,
    UNRELATED,
    WORDINGS,
    Caption,
    caption,
    vocabulary,
)
from csp_engine.demo.simulator.cases import CONCEPTS, concept_table, draw_cases
from csp_engine.demo.training import encoder

NEGATIONS = {"no", "not", "none", "never", "without", "absent", "absence", "lacks", "lacking",
             "free", "missing", "nothing", "un", "non"}  # fmt: skip


def is_true(captions, concepts):
    """Which caption is true of which photograph, from the table of ``concept_table``."""
    column = {name: concepts[name].to_numpy(bool) for name in CONCEPTS}
    true_nt = np.ones((len(concepts), len(captions)), bool)
    for t, each in enumerate(captions):
        for name in each.concepts:
            true_nt[:, t] &= column[name]
    return true_nt


@pytest.fixture(scope="module")
def concepts() -> pd.DataFrame:
    return concept_table(draw_cases("words", 3000, 8))


@pytest.fixture(scope="module")
def lessons(concepts) -> list[Caption]:
    return encoder.teaching_captions(concepts, 8000, 8)


def words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())


def contains(text: str, phrase: str) -> bool:
    """Whether the words of a phrase occur in a text, one after the other."""
    return f" {' '.join(words(phrase))} " in f" {' '.join(words(text))} "


def test_every_concept_has_wordings_and_its_own_name_is_the_first():
    assert list(WORDINGS) == list(CONCEPTS)
    assert set(HELD_OUT) == set(CONCEPTS)
    for name, wordings in WORDINGS.items():
        assert wordings[0] == name
        assert len(wordings) == len(set(wordings)) >= 3
        assert len(HELD_OUT[name]) >= 2


def test_no_wording_means_two_concepts():
    for first, second in combinations(CONCEPTS, 2):
        mine = {*WORDINGS[first], *HELD_OUT[first]}
        others = {*WORDINGS[second], *HELD_OUT[second]}
        assert not mine & others, (first, second)


def test_captions_say_only_what_is_there(concepts):
    rng = np.random.default_rng(0)
    for row in rng.integers(len(concepts), size=400):
        shown = [name for name in concepts if concepts[name].iloc[row]]
        told = caption(shown, rng)
        assert set(told.concepts) <= set(shown)
        assert 1 <= len(told.concepts) == len(set(told.concepts)) <= 4
        for name in told.concepts:
            assert any(contains(told.text, w) for w in WORDINGS[name]), (told.text, name)


def test_a_caption_of_nothing_is_true_of_everything(concepts):
    told = caption([], np.random.default_rng(1))
    assert told.text in FILLERS
    assert is_true([told], concepts).all()


def test_truth_of_captions_is_that_of_all_their_concepts(concepts):
    rng = np.random.default_rng(2)
    few = concepts.head(40)
    told = [caption([n for n in few if few[n].iloc[i]], rng) for i in range(30)]
    true_nt = is_true(told, few)
    for n in range(len(few)):
        for t, each in enumerate(told):
            assert true_nt[n, t] == all(few[name].iloc[n] for name in each.concepts)
    assert all(true_nt[i, i] for i in range(30))


def test_teaching_captions_are_true_of_some_photograph(lessons, concepts):
    some = lessons[:500]
    assert is_true(some, concepts).any(0).all()


def test_no_caption_denies_anything(lessons):
    for text in [*(each.text for each in lessons), *vocabulary(), *FRAMES]:
        assert not NEGATIONS & set(words(text)), text


def test_every_wording_is_taught(lessons):
    taught = "|".join(each.text for each in lessons)
    for name, wordings in WORDINGS.items():
        for wording in wordings:
            assert wording in taught, (name, wording)


ALL_HELD_OUT = [(name, phrase) for name, phrases in HELD_OUT.items() for phrase in phrases]


@pytest.mark.parametrize(("name", "phrase"), ALL_HELD_OUT)
def test_held_out_wordings_are_never_taught(lessons, name, phrase):
    for wordings in WORDINGS.values():
        for wording in wordings:
            assert not contains(wording, phrase), f"{phrase!r} is part of {wording!r}"
    for each in lessons:
        assert not contains(each.text, phrase), f"{phrase!r} was taught: {each.text!r}"


def test_held_out_wordings_use_only_words_that_are_taught(lessons):
    taught = {word for each in lessons for word in words(each.text)}
    for phrases in HELD_OUT.values():
        for phrase in phrases:
            assert set(words(phrase)) <= taught, phrase


def test_the_vocabulary_has_every_wording_and_no_held_out_one():
    labels = vocabulary()
    assert len(labels) == len(set(labels))
    for wordings in WORDINGS.values():
        assert set(wordings) <= set(labels)
    assert set(UNRELATED) <= set(labels)
    assert not {phrase for phrases in HELD_OUT.values() for phrase in phrases} & set(labels)


def test_every_text_fits_what_the_encoder_reads(lessons):
    """A caption that is cut off would be judged by concepts that its tokens do not name."""
    tokenizer = open_clip.SimpleTokenizer(context_length=77)
    phrases = {*vocabulary(), *(p for each in HELD_OUT.values() for p in each)}
    framed = [frame.replace("{}", phrase) for frame in FRAMES for phrase in phrases]
    n_tokens = (tokenizer(framed) != 0).sum(1)
    assert int(n_tokens.max()) <= encoder.CONTEXT_LENGTH
    lengths = (tokenizer([each.text for each in lessons]) != 0).sum(1).numpy()
    assert (lengths > encoder.CONTEXT_LENGTH).mean() < 0.02


def test_rare_concepts_are_told_more_often_than_shown(lessons, concepts):
    told = pd.Series([name for each in lessons for name in each.concepts]).value_counts()
    shown = concepts.mean()
    rare, common = shown.idxmin(), shown.idxmax()
    assert told[rare] / told[common] > 1.4 * shown[rare] / shown[common]
