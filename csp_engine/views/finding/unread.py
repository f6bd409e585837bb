"""Words of a query that the encoder cannot read, so that only the rest is searched for.

An encoder that was trained on few words gives all others one and the same vector: to it "a red fire
truck" says "red". What then stands out stands out for the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from csp_engine.bundle import Bundle
from csp_engine.views.controls import shared_part
from csp_engine.views.memo import Memo
from csp_engine.words.unread import NONSENSE, unread

Embed = Callable[[str], np.ndarray]
"""Gives the query vector of a text."""


def words_of(text: str) -> list[str]:
    """The words of a text that are looked at, each once."""
    return list(dict.fromkeys(re.findall(r"[^\W\d_]{3,}", text.casefold())))


def unread_words(bundle: Bundle, memo: Memo, text: str, embed: Embed) -> tuple[str, ...]:
    """The words of a text that mean no more to the encoder than nonsense does."""
    shared_d, _ = shared_part(bundle, memo, "text")

    def own(word: str) -> np.ndarray:
        vector_d = embed(word) - shared_d
        return vector_d / max(float(np.linalg.norm(vector_d)), 1e-9)

    nonsense_wd = memo.once(
        ("nonsense", bundle.digest), lambda: np.stack([own(word) for word in NONSENSE])
    )
    if not unread(nonsense_wd, nonsense_wd).any():
        return ()  # it reads every word, so none has to be embedded
    words = words_of(text)
    if not words:
        return ()
    is_unread_w = unread(np.stack([own(word) for word in words]), nonsense_wd)
    return tuple(word for word, is_unread in zip(words, is_unread_w, strict=True) if is_unread)
