"""Labels that join two others, such as "ruler and dark hair"."""

from __future__ import annotations

from collections.abc import Sequence

from csp_engine.words.vocabularies import clean_label

_JOIN = " and "


def parts_of(texts: Sequence[str]) -> dict[int, tuple[int, ...]]:
    """Labels that say two things or more, and which labels say some of them.

    A text is joined where "and" stands beside a text that is a label itself; "salt and pepper" is
    one thing unless "salt" or "pepper" can be chosen. What no label says is left out, and the
    longest label counts: "black and white hair and ruler" holds "black and white hair" and "ruler".
    A label comes after those that it holds.
    """
    place = {clean_label(text).casefold(): t for t, text in reversed(list(enumerate(texts)))}
    found = {}
    words_t = [clean_label(text).casefold().split(_JOIN) for text in texts]
    for t in sorted(range(len(texts)), key=lambda t: len(words_t[t])):
        words = words_t[t]
        parts, start = [], 0
        while len(words) > 1 and start < len(words):
            for stop in range(len(words), start, -1):
                part = place.get(_JOIN.join(words[start:stop]))
                if part is not None and stop - start < len(words):
                    parts.append(part)
                    break
            start = stop
        if parts:
            found[t] = tuple(parts)
    return found
