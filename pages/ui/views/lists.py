"""Lists of neurons: a layer, a table or a search, in an order that previous and next follow.

One list serves the search page, the table and the page of one neuron, and is a function of the URL,
so a neuron opened from a list knows its neighbours there, also in another browser.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from csp_engine.bundle import Bundle
from csp_engine.stats import query_null as chance
from csp_engine.views import controls, random_sets
from csp_engine.views.address import REVIEWS, Narrowing, View, read_narrowing
from pages.ui.shell import reviewer as reviews
from pages.ui.shell import store
from pages.ui.views import query as finding
from pages.ui.views import table

RANKED = 100
"""How many of the first neurons are said to stand out or not."""


def searched(bundle: Bundle, view: View) -> pd.DataFrame:
    """The neurons asked about, with how well they match where there is a query."""
    rows = table.neuron_table(bundle, view.method)
    said = reviews.column(bundle)
    if said is not None:
        rows = rows.assign(review=said)
    if view.has_query:
        rows = pd.concat([rows, table.matches(bundle, view)], axis=1)
        rows = rows[rows["match"].notna()]
    if not view.is_all_layers:
        place = table.places(bundle).index((view.model, view.layer))
        rows = rows[rows["place"] == place]
    return rows


def ordered(rows: pd.DataFrame, view: View, keep: Narrowing) -> pd.DataFrame:
    """The rows kept, in order; matches of a query come best first unless the URL says otherwise."""
    if view.has_query and not keep.sort:
        keep = replace(keep, sort="-match")
    return table.narrowed(rows, keep)


def narrowing_of(params: Mapping[str, str], rows: pd.DataFrame) -> Narrowing:
    """What a URL keeps of these rows."""
    sortable = [name for name in table.COLUMNS if name in rows]
    ranged = [name for name in table.RANGED if name in rows]
    return read_narrowing(params, sortable, ranged, table.classes_of(rows))


TITLES = {
    "has": "label contains “{}”",
    "only": "only {}",
    "class": "class {}",
    "review": "review {}",
    "where": "{}",
    "sort": "sorted by {}",
}


def title_of(view: View, keep: Narrowing) -> str:
    """A list in words, without its bundle."""
    where = "all layers" if view.is_all_layers else f"{view.model} / {view.layer}"
    asked = [f"best for {finding.title_of(view)} first"] if view.has_query and not keep.sort else []
    held = [TITLES[name].format(value) for name, value in keep.params().items() if value]
    return ", ".join([f"Neurons of {where}", *asked, *held])


def neuron_params(
    view: View, keep: Narrowing, *, model: str, layer: str, unit: int
) -> dict[str, str]:
    """The address of a neuron that remembers the list it was opened from."""
    held = {key: value for key, value in keep.params().items() if value}
    scope = "layer" if held and not view.is_all_layers else ""
    if view.has_query:
        scope = "" if view.is_all_layers else "layer"
    here = view.params(model=model, layer=layer, unit=unit, scope=scope, k="", page="", find="")
    return {**here, **held}


@dataclass(frozen=True, slots=True, eq=False)
class Queue:
    """The list that a neuron stands in, and its place there; None where it is not in it.

    ``n_before`` is then how many of the list come before it, where that is known: a neuron that
    was just reviewed has left the list of those that are not.
    """

    rows: pd.DataFrame
    at: int | None
    is_layer: bool
    n_before: int = 0

    def step(self, by: int) -> dict[str, str | int] | None:
        """The neuron some places on, round the end; None where there is none."""
        if self.rows.empty:
            return None
        start = self.at if self.at is not None else self.n_before - (1 if by > 0 else 0)
        return self.neuron((start + by) % len(self.rows))

    def neuron(self, at: int) -> dict[str, str | int]:
        """Model, layer and unit of a place."""
        row = self.rows.iloc[at]
        return {"model": str(row["model"]), "layer": str(row["layer"]), "unit": int(row["unit"])}


def queue_of(bundle: Bundle, view: View, params: Mapping[str, str]) -> Queue:
    """The list that the page of a neuron walks through: what its URL searches for, or its layer.

    Raises:
        CspError: as a search would.
    """
    is_listed = view.has_query or any(params.get(key) for key in Narrowing().params())
    if not is_listed:
        rows = searched(bundle, replace(view, is_all_layers=False))
        return Queue(rows, view.unit, is_layer=True)
    whole = searched(bundle, replace(view, is_all_layers=view.scope != "layer"))
    keep = narrowing_of(params, whole)
    place = table.places(bundle).index((view.model, view.layer))
    # The list as it is without verdicts, so that giving one does not lose the place in it.
    every = ordered(whole, view, replace(keep, review=REVIEWS[0]))
    is_kept = table.passes(every, keep.review)
    is_here = (every["place"].to_numpy() == place) & (every["unit"].to_numpy() == view.unit)
    found = np.flatnonzero(is_here)
    n_before = int(is_kept[: found[0]].sum()) if len(found) else 0
    at = n_before if len(found) and is_kept[found[0]] else None
    return Queue(every[is_kept], at, is_layer=False, n_before=n_before)


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """What chance gives for a query: a standing for the first neurons, by row label of the list.

    ``n_rare`` of these neurons hold more of the query than chance gives; ``n_good`` neurons fit it
    as well as a good label would.
    """

    standing: dict[int, str]
    n_rare: int
    n_good: int
    n_draws: int

    @property
    def best(self) -> str:
        """The best standing of any neuron."""
        return max(self.standing.values(), key=chance.STANDINGS.index, default="none")

    def count(self, standing: str) -> int:
        """How many of the first neurons stand like this."""
        return sum(each == standing for each in self.standing.values())


def judged(bundle: Bundle, view: View, rows: pd.DataFrame) -> Judged | None:
    """How the best matches among all searched neurons stand to chance; None without a null.

    A query by neuron is not judged: its matches are neighbours, near or far.
    """
    query = finding.query_of(bundle, view)
    if query.kind == "neuron" or rows.empty:
        return None
    places = table.places(bundle)
    shared_d, spread = controls.shared_part(bundle, store.MEMO, query.kind)
    # "This but not that" is a difference already: nothing is shared any more, and it has unit
    # length where other queries are as long as they differ from what is shared.
    query_d = spread * query.vector_d if view.but_not else query.vector_d - shared_d
    score_u = np.empty(len(rows))
    strength_u = np.empty(len(rows))
    bar_u, half_u = np.empty(len(rows)), np.empty(len(rows))
    nulls: list[tuple[chance.QueryNull, int]] = []
    units = rows["unit"].to_numpy()
    for place, at in rows.groupby("place", observed=True).indices.items():
        where = (*places[int(place)], view.method)
        null_rd = random_sets.live_null(bundle, store.MEMO, *where)
        if null_rd is None:
            return None
        length_u, length_r = random_sets.lengths(bundle, store.MEMO, *where)
        best_r = random_sets.best_controls(bundle, store.MEMO, *where, query.kind)
        null = chance.QueryNull(np.sort(length_r * (null_rd @ query_d)), best_r)
        nulls.append((null, len(at)))
        vector_ud = bundle.scores(*places[int(place)], view.method).vector_ud
        score_u[at] = (np.asarray(vector_ud) @ query_d)[units[at]]
        strength_u[at] = length_u[units[at]] * score_u[at]
        bar_u[at], half_u[at] = null.level(chance.BEST_AT), null.level(chance.HALF_AT)
    rate_u = chance.chance_rates(strength_u, nulls)
    first = np.argsort(-rows["match"].to_numpy(np.float64), kind="stable")[:RANKED]
    found = chance.standings(score_u[first], rate_u[first], bar_u[first], half_u[first])
    return Judged(
        dict(zip(rows.index[first].tolist(), found, strict=True)),
        int(np.count_nonzero(rate_u[first] <= chance.RATE_AT)),
        int(np.count_nonzero(score_u > bar_u)),
        max(len(null.best_r) for null, _ in nulls),
    )


def rehearse(bundle: Bundle, bundle_name: str, method: str) -> None:
    """Search for a word of the vocabulary, so that the first search finds everything at hand."""
    first = next(iter(bundle.label_ids), None)
    if first is None:
        return
    model, layer = table.places(bundle)[0]
    view = View(bundle_name, model, layer, 0, method, q=first)
    judged(bundle, view, searched(bundle, view))
