"""Words that an encoder cannot read, because it gives them the vector that all such words get."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

NONSENSE = ("qxzvkj", "blorptik", "snarfle")
"""Words that nobody taught any encoder."""
ONE_POINT = 0.95
"""Below this likeness of nonsense words an encoder reads every word, whatever it makes of it."""
ROUNDING = 0.002


def unread(
    own_td: Float[np.ndarray, "t d"], nonsense_wd: Float[np.ndarray, "w d"]
) -> Bool[np.ndarray, " t"]:
    """Which texts mean no more to an encoder than nonsense does.

    An encoder that was trained on few words gives all others one and the same vector. A text is
    unread if its cosine with a nonsense word is as high as that of nonsense words with each other,
    where that is at least ``ONE_POINT``.

    Args:
        own_td: unit vectors of texts, without what the vectors of all texts share.
        nonsense_wd: those of ``NONSENSE``.
    """
    least = float((nonsense_wd @ nonsense_wd.T).min())
    if least < ONE_POINT:
        return np.zeros(len(own_td), bool)
    return (own_td @ nonsense_wd.T).max(axis=1) >= least - ROUNDING
