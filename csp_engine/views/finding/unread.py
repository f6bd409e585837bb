"""Words of a query that the encoder cannot read, so that only the rest is searched for.

An encoder that was trained on few words gives all others one and the same vector: to it "a red fire
truck" says "red". What then stands out stands out for the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float32

from csp_engine.bundle import Bundle
from csp_engine.views.controls import shared_part
from csp_engine.views.memo import Memo
from csp_engine.words.unread import NONSENSE, unread

Embed = Callable[[Sequence[str]], np.ndarray]
"""Gives the query vectors of texts, one a row."""


def words_of(text: str) -> list[str]:
    """The words of a text that are looked at, each once."""
    return list(dict.fromkeys(re.findall(r"[^\W\d_]{3,}", text.casefold())))


def is_known(bundle: Bundle, memo: Memo) -> bool:
    """Whether ``reads_every_word`` needs no encoder now."""
    return _key(bundle) in memo


def reads_every_word(bundle: Bundle, memo: Memo, embed: Embed) -> bool:
    """Whether even nonsense words have vectors of their own, so that no word has to be looked at.

    What it takes is kept; ``embed`` may have to load the encoder.
    """
    nonsense_wd = _nonsense(bundle, memo, embed)
    return not unread(nonsense_wd, nonsense_wd).any()


def unread_words(
    bundle: Bundle,
    memo: Memo,
    words: Sequence[str],
    vector_wd: Float32[np.ndarray, "w d"],
    embed: Embed,
) -> tuple[str, ...]:
    """Those of some words, with their query vectors, that say no more than nonsense does."""
    if not words:
        return ()
    is_unread_w = unread(_own(bundle, memo, vector_wd), _nonsense(bundle, memo, embed))
    return tuple(word for word, is_unread in zip(words, is_unread_w, strict=True) if is_unread)


def _nonsense(bundle: Bundle, memo: Memo, embed: Embed) -> np.ndarray:
    return memo.once(_key(bundle), lambda: _own(bundle, memo, embed(NONSENSE)))


def _key(bundle: Bundle) -> tuple[str, str]:
    return "nonsense", bundle.digest


def _own(bundle: Bundle, memo: Memo, vector_td: np.ndarray) -> np.ndarray:
    """Unit vectors of texts, less what all texts share."""
    shared_d, _ = shared_part(bundle, memo, "text")
    own_td = vector_td - shared_d
    return own_td / np.maximum(np.linalg.norm(own_td, axis=1, keepdims=True), np.float32(1e-9))
