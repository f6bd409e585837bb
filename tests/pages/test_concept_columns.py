"""Concept columns on the pages: searched by, sorted by, and told of one neuron."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.pipeline import build
from tests.pages.conftest import component, html, open_page
from tests.worlds import toys


@pytest.fixture(scope="module")
def compared(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("compared")
    build(toys.request(folder, folder / "compared.csp", probe=toys.with_columns(folder)))
    return folder / "compared.csp"


def figures(path: Path, at: int) -> np.ndarray:
    bundle = Bundle.open(path)
    held = [bundle.columns("small", layer) for layer in bundle.layers("small")]
    return np.concatenate([np.asarray(each.auroc_uc)[:, at] for each in held])


def test_a_search_by_column_ranks_by_its_area(serve, compared):
    serve(compared)
    at = open_page("search", column="reddish")
    assert not at.exception
    cards = component(at, "csp_cards")["cards"]
    best = np.sort(figures(compared, 0))[::-1][: len(cards)]
    assert [card["score"] for card in cards] == [numbers.score(each) for each in best]
    assert "compared with" in html(at)
    assert "Pearson" in cards[0]["note"]


def test_a_column_without_figures_is_said_and_shows_dashes(serve, compared):
    serve(compared)
    at = open_page("search", column="never")
    assert "There are no figures" in html(at)
    assert {card["score"] for card in component(at, "csp_cards")["cards"]} == {"–"}


def test_the_table_has_the_figures_and_the_choice(serve, compared):
    serve(compared)
    rows = open_page("layer").dataframe[0].value
    assert {"column", "column_auroc", "column_pearson", "column_auprc"} <= set(rows)
    at = open_page("layer", column="reddish")
    rows = at.dataframe[0].value
    assert "column" not in rows
    np.testing.assert_allclose(rows["column_auroc"], np.sort(figures(compared, 0))[::-1])
    kept = open_page("layer", column="reddish", where="column_auroc:0.5..")
    assert len(kept.dataframe[0].value) == (figures(compared, 0) >= 0.5).sum()


def test_the_page_of_a_neuron_lists_its_columns_and_walks_the_search(serve, compared):
    serve(compared)
    cards = component(open_page("search", column="reddish", k="24"), "csp_cards")["cards"]
    layer, unit = cards[0]["id"].split(" / ")
    at = open_page("neuron", layer=layer, unit=unit, column="reddish")
    assert "Concept columns" in html(at)
    assert f"<td>{cards[0]['score']}</td>" in html(at)
    assert f"1 of {len(cards)} in the search by the concept column reddish" in html(at)
    at.button(key="next").click().run()
    assert f"{at.query_params['layer']} / {at.query_params['unit']}" == cards[1]["id"]
    at.button(key="leave").click().run()
    assert "column" not in at.query_params


def test_bundles_without_columns_are_as_before(serve, small_bundle):
    serve(small_bundle)
    assert "Concept column" not in html(open_page("neuron"))
    assert all(box.label != "By concept column" for box in open_page("search").selectbox)
    assert not {"column", "column_auroc"} & set(open_page("layer").dataframe[0].value)
    assert "no concept columns" in html(open_page("search", column="reddish"))
