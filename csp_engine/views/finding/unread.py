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

NONSENSE = ("qxzvkj", "blorptik", "snarfle")
"""Words that nobody taught any encoder."""
ONE_POINT = 0.95
"""Below this likeness of nonsense words an encoder reads every word, whatever it makes of it."""
ROUNDING = 0.002

Embed = Callable[[str], np.ndarray]
"""Gives the query vector of a text."""


def unread_words(bundle: Bundle, memo: Memo, text: str, embed: Embed) -> tuple[str, ...]:
    """The words of a text that mean no more to the encoder than nonsense does."""
    shared_d, _ = shared_part(bundle, memo, "text")

    def own(word: str) -> np.ndarray:
        vector_d = embed(word) - shared_d
        return vector_d / max(float(np.linalg.norm(vector_d)), 1e-9)

    def make() -> tuple[np.ndarray, float]:
        own_wd = np.stack([own(word) for word in NONSENSE])
        return own_wd, float((own_wd @ own_wd.T).min())

    nonsense_wd, least = memo.once(("nonsense", bundle.digest), make)
    if least < ONE_POINT:
        return ()
    words = dict.fromkeys(re.findall(r"[^\W\d_]{3,}", text.casefold()))
    return tuple(word for word in words if (nonsense_wd @ own(word)).max() >= least - ROUNDING)
