"""How long texts from a table or a list may be before they are no names any more.

Whatever comes into a bundle is shown on pages, in exports and in addresses. A text of a whole file,
which a lost quotation mark or a wrong column makes, is refused where it is read.
"""

from __future__ import annotations

from csp_engine.errors import InputError

MOST_OF_NAME = 500
"""Letters of a class, a split, a group or a column."""
MOST_OF_LABEL = 2_000
"""Letters of a label of another tool: some sentences, or a long formula."""
MOST_OF_CELL = 10_000
"""Letters of a cell that is only kept and shown; longer ones are cut."""


def require_short(text: str, most: int, what: str) -> str:
    """The same text.

    Args:
        text: from a table or a list.
        most: letters that it may have.
        what: where it stands and what it is, as the beginning of a sentence.

    Raises:
        InputError: if it is longer.
    """
    if len(text) > most:
        raise InputError(
            f"{what} has {len(text):,} letters ({text[:30]!r}…) and may have {most:,}; shorten it, "
            "and look for a missing quotation mark or a wrong column."
        )
    return text
