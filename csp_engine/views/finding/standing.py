"""Which of the neurons found stand out for a query, against what chance gives; and in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.methods import method_title
from csp_engine.stats import query_null
from csp_engine.types import NeuronRef
from csp_engine.views.controls import shared_part
from csp_engine.views.finding.index import listing_note
from csp_engine.views.finding.query import Query
from csp_engine.views.memo import Memo
from csp_engine.views.neuron.card import is_planted
from csp_engine.views.places import places
from csp_engine.views.random_sets import best_controls, lengths, live_null, size_counts, sizes
from csp_engine.views.sentence import listed

RANKED = 100
"""How many of the first neurons are said to stand out or not."""

STANDING_WORDS = {"clear": "stands out", "unsure": "cannot tell", "none": ""}


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """What chance gives for a query: a standing for the first neurons, by row label of the list.

    ``n_rare`` of these neurons hold more of the query than chance gives; ``n_good`` neurons fit it
    as well as a good label would, at least as many where ``is_part`` of the neurons is listed.
    ``method`` is the one whose random image sets say so.
    """

    standing: dict[int, str]
    n_rare: int
    n_good: int
    n_draws: int
    method: str
    is_part: bool = False

    @property
    def best(self) -> str:
        """The best standing of any neuron."""
        return max(self.standing.values(), key=query_null.STANDINGS.index, default="none")

    def count(self, standing: str) -> int:
        """How many of the first neurons stand like this."""
        return sum(each == standing for each in self.standing.values())


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a search found, in a few words and then why. Plain text."""

    lead: str
    why: str

    def __str__(self) -> str:
        return f"{self.lead} {self.why}".strip()


def judged(
    bundle: Bundle,
    memo: Memo,
    query: Query,
    method: str,
    rows: pd.DataFrame,
    within: Sequence[int] | None = None,
) -> Judged | None:
    """How the best matches among all searched neurons stand to chance; None without a null.

    A query by neuron is not judged: its matches are neighbours, near or far. Where a method keeps
    no random image sets, the first that does judges the neurons that it found.

    Where only the nearest are listed, all that were searched still count as what chance may have
    given, and only those listed as found: so a share of chance comes out too high, if anything.

    Args:
        bundle: what was searched.
        memo: keeps what is compared with.
        query: what was searched for.
        method: whose concept vectors were searched.
        rows: what was found, from ``lists.found_neurons``.
        within: numbers of the layers that were searched; by default all, or those of ``rows``.
    """
    if query.kind == "neuron" or rows.empty:
        return None
    every = places(bundle)
    is_part = bool(listing_note(bundle, method))
    searched = np.unique(rows["place"]).tolist()
    if is_part:
        having = [at for at, place in enumerate(every) if method in bundle.methods(*place)]
        searched = having if within is None else [at for at in having if at in within]
    asked = [every[place] for place in searched]
    judge = _judge(bundle, memo, method, asked)
    if judge is None:
        return None
    shared_d, spread = shared_part(bundle, memo, query.kind)
    # "This but not that" is a difference already: nothing is shared any more, and it has unit
    # length where other queries are as long as they differ from what is shared.
    query_d = spread * query.vector_d if query.is_difference else query.vector_d - shared_d
    score_u = np.empty(len(rows))
    strength_u = np.empty(len(rows))
    bar_u, half_u = np.empty(len(rows)), np.empty(len(rows))
    nulls: list[tuple[query_null.QueryNull, int]] = []
    units = rows["unit"].to_numpy()
    place_u = rows["place"].to_numpy()
    compared = []
    for place in searched:
        here = np.flatnonzero(place_u == place)
        where = (*every[place], judge)
        size_h = sizes(bundle, memo, *where)[units[here]]
        counts = Counter(size_h.tolist())
        if is_part:
            counts = size_counts(bundle, memo, *where)
        compared += [(where, size, n, here[size_h == size]) for size, n in sorted(counts.items())]
    for where, size, n, at in compared:
        null_rd = live_null(bundle, memo, *where, size)
        if null_rd is None:
            return None
        length_u, length_r = lengths(bundle, memo, *where, size)
        best_r = best_controls(bundle, memo, *where, query.kind, size)
        null = query_null.QueryNull(np.sort(length_r * (null_rd @ query_d)), best_r)
        nulls.append((null, n))
        vector_ud = bundle.scores(*where).vector_ud
        if is_part:
            score_u[at] = np.asarray(vector_ud[units[at]]) @ query_d
        else:
            score_u[at] = (np.asarray(vector_ud) @ query_d)[units[at]]
        strength_u[at] = length_u[units[at]] * score_u[at]
        bar_u[at], half_u[at] = null.level(query_null.BEST_AT), null.level(query_null.HALF_AT)
    rate_u = query_null.chance_rates(strength_u, nulls)
    first = np.argsort(-rows["match"].to_numpy(np.float64), kind="stable")[:RANKED]
    found = query_null.standings(score_u[first], rate_u[first], bar_u[first], half_u[first])
    if query.unread:  # what stands out does so for the words that are left
        found = ["unsure" if each == "clear" else each for each in found]
    return Judged(
        dict(zip(rows.index[first].tolist(), found, strict=True)),
        int(np.count_nonzero(rate_u[first] <= query_null.RATE_AT)),
        int(np.count_nonzero(score_u > bar_u)),
        max(len(null.best_r) for null, _ in nulls),
        judge,
        is_part,
    )


def _judge(bundle: Bundle, memo: Memo, method: str, asked: list[tuple[str, str]]) -> str | None:
    """The method itself, or else the first that keeps random image sets of all these layers."""
    shared = [name for name in bundle.methods(*asked[0]) if name != method]
    for name in (method, *shared):
        if all(
            name in bundle.methods(*place) and live_null(bundle, memo, *place, name) is not None
            for place in asked
        ):
            return name
    return None


def judgement(query: Query, method: str, found: Judged | None) -> Judgement:
    """Whether any of what was found means anything, in words."""
    told = _told(query, method, found)
    if found is None or found.method == method:
        return told
    judge = method_title(found.method)
    aside = (
        f"{method_title(method)} keeps no random image sets of its own, so those of {judge} judge "
        "what it found."
    )
    return Judgement(told.lead, f"{told.why} {aside}")


def _told(query: Query, method: str, found: Judged | None) -> Judgement:
    if found is None:
        if query.kind == "neuron":
            return Judgement("", "Scores are cosines between concept vectors.")
        return Judgement("", f"{method_title(method)} keeps no random image sets to compare with.")
    best = "label" if query.kind == "text" else "image"
    sets = f"of {numbers.count(found.n_draws)} random image sets"
    if found.best == "clear":
        n_clear = found.count("clear")
        many = f"{n_clear} or more" if n_clear == RANKED else f"{n_clear}"
        verb, whose = ("neuron stands", "its") if n_clear == 1 else ("neurons stand", "their")
        return Judgement(
            f"{many} {verb} out",
            f"for {query.title}: {whose} exemplars show more of it than chance gives, and it "
            f"scores higher than the best {best}s of 95 % {sets}.",
        )
    if query.unread:
        words = listed([f"“{word}”" for word in query.unread])
        rest = (
            ": every word that it does not know finds these neurons. Try other words, or an image."
            if query.is_unread
            else ", so only the rest was searched for."
        )
        return Judgement(
            f"Cannot tell whether any neuron responds to {query.title}.",
            f"The encoder does not know {words}{rest}",
        )
    if found.best == "unsure":
        lead = f"Cannot tell whether any neuron responds to {query.title}."
        return Judgement(lead, f"{_why_unsure(found, best, sets)} Judge by the images.")
    return Judgement(
        f"No neuron stands out for {query.title}.",
        "These are the nearest, and chance alone could explain them: either their "
        f"exemplars show no more of it than chance gives, or the best {best}s of half "
        f"{sets} score higher. Perhaps no neuron here responds to it; perhaps the probe "
        "images do not show it, or the encoder does not know it.",
    )


def where_clear(bundle: Bundle, found: Judged, rows: pd.DataFrame) -> str:
    """Where the neurons lie that stand out among some rows: "7 in biased / layer2@max, 3 in …".

    Empty where none does. Planted units are said to be planted.
    """
    clear = rows[[found.standing.get(at) == "clear" for at in rows.index]]
    counts = clear.groupby("place", observed=True).size().sort_values(ascending=False)
    every, is_only = places(bundle), len(bundle.model_names) == 1
    told = []
    for place, n in counts.items():
        model, layer = every[int(str(place))]
        units = clear.loc[clear["place"] == place, "unit"]
        planted = sum(is_planted(bundle, NeuronRef(model, layer, int(unit))) for unit in units)
        where = layer if is_only else f"{model} / {layer}"
        told.append(f"{n} in {where}{' (planted units)' if planted == n else ''}")
    start = f"of the first {RANKED}, " if found.count("clear") == RANKED else ""
    return start + listed(told) if told else ""


def _why_unsure(found: Judged, best: str, sets: str) -> str:
    if found.n_good:
        many = "1 neuron" if found.n_good == 1 else f"{numbers.count(found.n_good)} neurons"
        many = f"{numbers.count(found.n_good)} or more neurons" if found.is_part else many
        return (
            f"For {many}, it scores higher than the best {best}s of 95 % {sets}, but the "
            "exemplars show no more of it than chance gives."
        )
    return (
        f"Exemplars of {found.n_rare} of the nearest neurons show more of it than chance "
        f"gives, but for none of them does it score higher than the best {best}s of 95 % "
        f"{sets}."
    )
