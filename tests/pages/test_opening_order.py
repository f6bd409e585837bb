"""The order in which a table opens: what one came for first, and the way through it."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from csp_engine.bundle import Bundle
from csp_engine.views import lists
from csp_engine.views.address import FIRST, Narrowing, read_narrowing, read_view
from csp_engine.views.confidence import LIKELY
from csp_engine.views.memo import Memo
from csp_engine.views.table import first
from csp_engine.views.table.narrowed import narrowed
from csp_engine.views.table.rows import neuron_table
from tests.pages.conftest import html, open_page

LAYER = "second@mean"


def told(**columns: list) -> pd.DataFrame:
    n = len(next(iter(columns.values())))
    usual = {"label": ["x"] * n, "reliable": [False] * n, "score": [0.0] * n}
    unknown = {"confidence": [np.nan] * n, "moves_rank": [np.nan] * n}
    return pd.DataFrame({**usual, **unknown, **columns})


def order(rows: pd.DataFrame) -> list[int]:
    return np.argsort(first.places_of(rows)).tolist()


def test_likely_labels_come_first_and_of_these_what_moves_most():
    rows = told(confidence=[0.2, 0.99, 0.86, 0.99, 0.99], moves_rank=[1, 7, 2, np.nan, 7],
                score=[9, 1, 1, 1, 2])  # fmt: skip
    # The second and the last are alike but for the score; of the fourth it is not known what it
    # moves; the first moves most, and its label is probably wrong.
    assert order(rows) == [2, 4, 1, 3, 0]


def test_where_nobody_knows_how_likely_a_label_is_the_reliable_come_first():
    rows = told(reliable=[False, True, True], score=[3.0, 1.0, 2.0])
    assert order(rows) == [2, 1, 0]
    said = first.in_words(rows)
    assert "reliable" in said
    assert "highest score" in said
    assert first.title(rows) == "Reliable labels first"


def test_what_is_alike_stays_in_the_order_of_the_bundle():
    assert order(told(score=[1.0] * 5)) == [0, 1, 2, 3, 4]


def test_without_labels_no_word_is_said_of_them():
    rows = told(label=["", ""], score=[np.nan] * 2)
    assert order(rows) == [0, 1]
    assert "label" not in first.in_words(rows) + first.title(rows)
    assert "move" in first.in_words(told(label=["", ""], moves_rank=[2, 1]))


@pytest.mark.parametrize("method", ["csp_plus", "semanticlens"])
def test_the_demo_opens_with_the_same_order_as_a_slow_sort(serve, shipped_bundle, method):
    rows = neuron_table(Bundle.open(shipped_bundle), Memo(), method)

    def key(at: int) -> tuple[bool, float, float, float, int]:
        row = rows.iloc[at]
        p = float(row["confidence"])
        likely = bool(row["reliable"]) if math.isnan(p) else p >= LIKELY
        known = [math.inf if math.isnan(x) else x for x in (row["moves_rank"], -p, -row["score"])]
        return (not likely, *known, at)

    expected = sorted(range(len(rows)), key=key)
    serve(shipped_bundle)
    at = open_page("layer", method=method)
    shown = at.dataframe[0].value
    assert shown["unit"].tolist() == rows["unit"].iloc[expected].tolist()
    assert shown["layer"].astype(str).tolist() == rows["layer"].astype(str).iloc[expected].tolist()
    assert first.in_words(rows) in html(at)
    assert "come first" in first.in_words(rows)


def test_an_address_that_states_an_order_keeps_it(serve, small_bundle):
    serve(small_bundle)
    by_layer = open_page("layer", sort="layer")
    assert by_layer.dataframe[0].value["unit"].tolist() == [*range(8), *range(12)]
    assert "come first" not in html(by_layer)
    asked = open_page("layer", q="red")
    assert "match" in asked.dataframe[0].value
    assert asked.dataframe[0].value["match"].is_monotonic_decreasing
    assert "come first" not in html(asked)


def test_layers_come_in_the_order_of_the_bundle_and_not_of_their_names():
    rows = pd.DataFrame({
        "label": ["x"] * 4, "state": [""] * 4, "reliable": [True] * 4, "place": [0, 0, 1, 2],
        "layer": pd.Categorical(["z", "z", "a", "b"]), "unit": [0, 1, 0, 0],
    })  # fmt: skip
    assert narrowed(rows, Narrowing(sort="layer"))["place"].tolist() == [0, 0, 1, 2]
    assert narrowed(rows, Narrowing(sort="-layer"))["place"].tolist() == [2, 1, 0, 0]


def test_next_goes_through_the_table_as_it_opened(serve, small_bundle):
    bundle, memo = Bundle.open(small_bundle), Memo()
    view = read_view({}, "small", bundle)
    keep = Narrowing(sort=FIRST)
    rows = lists.ordered(lists.searched(bundle, memo, view), view, keep)
    names = [
        {"model": str(row["model"]), "layer": str(row["layer"]), "unit": int(row["unit"])}
        for _, row in rows.iterrows()
    ]
    params = lists.neuron_params(view, keep, **names[3])
    here = read_view(params, "small", bundle)
    assert here.notes == ()
    queue = lists.queue_of(bundle, memo, here, params)
    assert (queue.at, queue.step(1), queue.step(-1)) == (3, names[4], names[2])
    assert "likely labels first" in lists.title_of(view, keep)
    serve(small_bundle)
    assert "4 of 20 in the table, likely labels first" in html(open_page("neuron", **params))


def test_the_order_is_chosen_and_stated(serve, small_bundle):
    serve(small_bundle)
    at = open_page("layer", layer=LAYER)
    assert at.selectbox(key="_sort").value == FIRST
    at.selectbox(key="_sort").select("layer").run()
    assert at.query_params["sort"] == "layer"
    assert at.dataframe[0].value["unit"].tolist() == list(range(12))
    again = open_page("layer", layer=LAYER, sort=FIRST)
    assert "csp-note" not in html(again)
    assert read_narrowing({"sort": "-first"}, ["score"], []).sort == "-score"
