"""Lists of neurons: a layer, a table or a search, in an order that previous and next follow.

One list serves the search page, the table and the page of one neuron, and is a function of the URL,
so a neuron opened from a list knows its neighbours there, also in another browser.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from csp_engine.bundle import Bundle
from csp_engine.views.address import FIRST, REVIEWS, Narrowing, View, read_narrowing
from csp_engine.views.audit.queue import QUEUES, positions, queue
from csp_engine.views.finding.index import listed
from csp_engine.views.finding.matches import matches
from csp_engine.views.finding.query import Query, TextEncoder, query_of
from csp_engine.views.finding.query import title_of as title_of_query
from csp_engine.views.finding.standing import judged
from csp_engine.views.memo import Memo
from csp_engine.views.places import places
from csp_engine.views.table.columns import COLUMNS, RANGED
from csp_engine.views.table.concept_columns import with_column
from csp_engine.views.table.families import families_of
from csp_engine.views.table.narrowed import narrowed, passes
from csp_engine.views.table.rows import classes_of, models_of, neuron_table
from csp_engine.words.concepts import ConceptSet
from csp_engine.words.own_concepts import from_link


def found_neurons(
    bundle: Bundle,
    memo: Memo,
    method: str,
    query: Query | None = None,
    review: pd.Categorical | None = None,
    column: str = "",
    within: Sequence[int] | None = None,
) -> pd.DataFrame:
    """All neurons of a bundle; where there is a query, those that match it at all, and how well.

    Among very many neurons, only the nearest to the query (``finding.index.listing_note``).

    Args:
        bundle: where they are.
        memo: keeps their table.
        method: whose labels and concept vectors count.
        query: what is searched for.
        review: what reviewers say of each, in the order of the table.
        column: the concept column whose figures stand there; by default each neuron's best.
        within: numbers of the layers to look in, as in ``places``; all by default.
    """
    rows = neuron_table(bundle, memo, method)
    if column:
        rows = with_column(bundle, rows, column)
    if review is not None:
        rows = rows.assign(review=review)
    if query is not None:
        near = listed(bundle, memo, method, query, within)
        rows = rows if near is None else rows.iloc[near]
        found = matches(bundle, memo, query, method, None if near is None else rows)
        rows = pd.concat([rows, found], axis=1)
        rows = rows[rows["match"].notna()]
    if within is not None:
        rows = rows[rows["place"].isin(list(within))]
    return rows


def searched(
    bundle: Bundle,
    memo: Memo,
    view: View,
    query: Query | None = None,
    review: pd.Categorical | None = None,
) -> pd.DataFrame:
    """``found_neurons`` of the layers that the view is about."""
    within = None if view.is_all_layers else [places(bundle).index((view.model, view.layer))]
    return found_neurons(bundle, memo, view.method, query, review, view.column, within)


def ordered(rows: pd.DataFrame, view: View, keep: Narrowing) -> pd.DataFrame:
    """The rows kept, in order; the best for what was asked first unless the URL says else."""
    if view.is_asking and not keep.sort:
        keep = replace(keep, sort="-match" if view.has_query else "-column_auroc")
    return narrowed(rows, keep)


def narrowing_of(params: Mapping[str, str], rows: pd.DataFrame) -> Narrowing:
    """What a URL keeps of these rows."""
    sortable = [name for name in COLUMNS if name in rows]
    ranged = [name for name in RANGED if name in rows]
    return read_narrowing(
        params, sortable, ranged, classes_of(rows), models_of(rows), families_of(rows)
    )


TITLES = {
    "has": "label contains “{}”",
    "network": "of {}",
    "family": "of the family “{}”",
    "only": "only {}",
    "class": "class {}",
    "review": "review {}",
    "where": "{}",
    "sort": "sorted by {}",
}


def title_of(view: View, keep: Narrowing) -> str:
    """A list in words, without its bundle."""
    where = "all layers" if view.is_all_layers else f"{view.model} / {view.layer}"
    what = title_of_query(view) if view.has_query else f"the column “{view.column}”"
    asked = [f"best for {what} first"] if view.is_asking and not keep.sort else []
    params = keep.params()
    if keep.sort == FIRST:
        params["sort"], asked = "", ["those with likely labels first"]
    held = [TITLES[name].format(value) for name, value in params.items() if value]
    return ", ".join([f"Neurons of {where}", *asked, *held])


def neuron_params(
    view: View, keep: Narrowing, *, model: str, layer: str, unit: int
) -> dict[str, str]:
    """The address of a neuron that remembers the list it was opened from."""
    held = {key: value for key, value in keep.params().items() if value}
    scope = "layer" if held and not view.is_all_layers else ""
    if view.is_asking:
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


def layer_queue(bundle: Bundle, view: View) -> Queue:
    """The neurons of the layer in their own order, whatever else of the bundle is damaged."""
    n_units = bundle.n_units(view.model, view.layer)
    rows = pd.DataFrame({"model": view.model, "layer": view.layer, "unit": range(n_units)})
    return Queue(rows, view.unit, is_layer=True)


def queue_of(
    bundle: Bundle,
    memo: Memo,
    view: View,
    params: Mapping[str, str],
    query: Query | None = None,
    review: pd.Categorical | None = None,
) -> Queue:
    """The list that the page of a neuron walks through: what its URL searches for, or its layer.

    Args:
        bundle: where the neuron lies.
        memo: keeps the table.
        view: of the neuron.
        params: the rest of its URL, which may narrow the list.
        query: that of the view, where it has one.
        review: what reviewers say of each neuron.

    Raises:
        InputError: if the concept set that a queue of suspects goes by cannot be read.
    """
    if params.get("queue") in QUEUES:
        concepts = from_link(params.get("concepts", ""))
        return _judging(bundle, memo, view, params["queue"], review, concepts)
    is_listed = view.is_asking or any(params.get(key) for key in Narrowing().params())
    if not is_listed:
        return layer_queue(bundle, view)
    whole = searched(
        bundle, memo, replace(view, is_all_layers=view.scope != "layer"), query, review
    )
    keep = narrowing_of(params, whole)
    place = places(bundle).index((view.model, view.layer))
    # The list as it is without verdicts, so that giving one does not lose the place in it.
    every = ordered(whole, view, replace(keep, review=REVIEWS[0]))
    is_kept = passes(every, keep.review)
    is_here = (every["place"].to_numpy() == place) & (every["unit"].to_numpy() == view.unit)
    found = np.flatnonzero(is_here)
    n_before = int(is_kept[: found[0]].sum()) if len(found) else 0
    at = n_before if len(found) and is_kept[found[0]] else None
    return Queue(every[is_kept], at, is_layer=False, n_before=n_before)


def _judging(
    bundle: Bundle,
    memo: Memo,
    view: View,
    which: str,
    review: pd.Categorical | None,
    concepts: ConceptSet,
) -> Queue:
    """Suspects that nobody has judged yet, or neurons on which reviewers differ."""
    whole = found_neurons(bundle, memo, view.method, None, review)
    if which == "disputed":
        every = whole[(whole["model"] == view.model).to_numpy(bool)]
    else:
        suspects = queue(bundle, memo, view.model, concepts)
        every = whole.iloc[positions(bundle, places(bundle), suspects)]
    is_kept = passes(every, "disagree" if which == "disputed" else "unreviewed")
    is_here = (every["layer"] == view.layer).to_numpy(bool) & (
        every["unit"] == view.unit
    ).to_numpy()
    found = np.flatnonzero(is_here)
    n_before = int(is_kept[: found[0]].sum()) if len(found) else 0
    at = n_before if len(found) and is_kept[found[0]] else None
    return Queue(every[is_kept], at, is_layer=False, n_before=n_before)


def rehearse(
    bundle: Bundle, memo: Memo, bundle_name: str, method: str, encode: TextEncoder
) -> None:
    """Search for a word of the vocabulary, so that the first search finds everything at hand."""
    first = next(iter(bundle.label_ids), None)
    if first is None:
        return
    model, layer = places(bundle)[0]
    query = query_of(bundle, memo, View(bundle_name, model, layer, 0, method, q=first), encode)
    judged(bundle, memo, query, method, found_neurons(bundle, memo, method, query))
