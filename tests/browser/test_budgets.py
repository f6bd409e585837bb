"""What a person waits for on the shipped demo stays within twice the targets of docs/benchmarks.md.

Three of at most nine tries must, so that a busy machine does not fail what a slow page would. The
tries are those of ``benchmarks/browser.py``, which measures the targets themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from benchmarks import browser as measures
from benchmarks.served import Server, new_page, serving
from csp_engine.bundle import Bundle

pytestmark = [pytest.mark.browser, pytest.mark.alone]
LAYER = "layer4@mean"
TRIES, ENOUGH = 9, 3


def stays_within(rows: Iterable[measures.Row], enough: int = ENOUGH) -> None:
    """Every line of these figures comes within twice its target often enough."""
    found: dict[str, list[int]] = {}
    for line, value in rows:
        found.setdefault(line, []).append(round(value))
        within = [
            sum(each <= 2 * measures.TARGETS[line] for each in values)
            for line, values in found.items()
        ]
        if min(within) >= enough:
            return
    raise AssertionError(f"at most twice {measures.TARGETS} is wanted, found {found}")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving([measures.DEMO]) as started:
        yield started


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    made = new_page(browser)
    yield made
    made.context.close()


def test_a_fresh_server_shows_its_overview_and_finds_words_without_torch(browser):
    for _ in range(2):  # the first try may meet a cold disk
        found = dict(measures.starting(browser, measures.DEMO))
        assert found.pop("start_resident_mb") <= measures.TARGETS["start_resident_mb"]
        if all(value <= 2 * measures.TARGETS[line] for line, value in found.items()):
            return
    raise AssertionError(f"at most twice {measures.TARGETS} is wanted, found {found}")


def test_words_are_found_at_once(page, server):
    stays_within(measures.queries(page, server, measures.DEMO_NAME, TRIES))


@pytest.mark.parametrize("measure", [measures.neurons, measures.steps, measures.gammas])
def test_neurons_follow_the_hand(page, server, measure):
    stays_within(measure(page, server, measures.DEMO_NAME, LAYER, TRIES))


def test_the_table_and_the_map_of_all_neurons_open(page, server):
    bundle = Bundle.open(measures.DEMO)
    projection = bundle.projection()
    assert projection is not None
    n = len(projection.rows)
    stays_within(measures.table(page, server, measures.DEMO_NAME, n, "oieasrtnl"), 2)
    stays_within(measures.maps(page, server, measures.DEMO_NAME, "map_50k", n, TRIES), 2)
