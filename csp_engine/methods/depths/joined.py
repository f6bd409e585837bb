"""Labels that join two others, such as "ruler and dark hair"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64

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


@dataclass(frozen=True, slots=True, eq=False)
class Joined:
    """Labels that join others, in levels: each after those that it holds.

    A level has its joined labels and the parts of each, the last of them repeated where others have
    more.
    """

    levels: tuple[tuple[Int64[np.ndarray, " j"], Int64[np.ndarray, "j p"]], ...]

    @classmethod
    def of(cls, parts: Mapping[int, tuple[int, ...]]) -> Joined:
        """From what ``parts_of`` found."""
        level: dict[int, int] = {}
        for label, held in parts.items():
            level[label] = 1 + max(level.get(part, 0) for part in held)
        levels = []
        for number in sorted(set(level.values())):
            here = [label for label in parts if level[label] == number]
            most = max(len(parts[label]) for label in here)
            padded = [[*parts[t], *[parts[t][-1]] * (most - len(parts[t]))] for t in here]
            levels.append((np.array(here, np.int64), np.array(padded, np.int64)))
        return cls(tuple(levels))

    def hold_down(self, score_xt: Float32[np.ndarray, "x t"]) -> None:
        """Keep every joined label below the weakest of its parts, in place; never tied with it."""
        for joined_j, part_jp in self.levels:
            weakest_xj = score_xt[:, part_jp[:, 0]]
            for part_j in part_jp.T[1:]:
                np.minimum(weakest_xj, score_xt[:, part_j], out=weakest_xj)
            below_xj = np.nextafter(weakest_xj, np.float32(-np.inf))
            score_xt[:, joined_j] = np.minimum(score_xt[:, joined_j], below_xj)
