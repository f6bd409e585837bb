"""What a person waits for stays within twice the targets of docs/benchmarks.md.

Three of at most nine tries must, so that a busy machine does not fail what a slow page would. The
tries are those of ``benchmarks/browser.py``, which measures the targets themselves. A machine on
which a page of Streamlit's own elements takes so many times as long has so many times the time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from benchmarks import browser as measures
from benchmarks import crowd, synthetic
from benchmarks.served import PLAIN, Server, new_page, serving
from csp_engine.bundle import Bundle

pytestmark = [pytest.mark.browser, pytest.mark.alone]
LAYER = "layer4@mean"
TRIES, ENOUGH = 9, 3


@pytest.fixture(scope="module")
def plain_server() -> Iterator[Server]:
    with serving([], PLAIN) as started:
        yield started


@pytest.fixture
def slower(browser: Any, plain_server: Server) -> Callable[[], float]:
    """Tells how much slower than that of the figures this machine is just now."""
    return partial(measures.slower, browser, plain_server)


def stays_within(
    rows: Iterable[measures.Row], slower: Callable[[], float], enough: int = ENOUGH
) -> None:
    """Every line of these figures comes within twice its target often enough."""
    found: dict[str, list[int]] = {}

    def is_enough(factor: float) -> bool:
        return all(
            sum(each <= 2 * factor * measures.TARGETS[line] for each in values) >= enough
            for line, values in found.items()
        )

    before = slower()
    for line, value in rows:
        found.setdefault(line, []).append(round(value))
        if is_enough(before):
            return
    after = slower()  # others may have come to the machine meanwhile
    assert is_enough(after), (
        f"{found} beside {measures.TARGETS}, {before:.1f}, {after:.1f} x slower"
    )


def completed(work: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine, from a thread of its own: Playwright's loop has this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving([measures.DEMO]) as started:
        yield started


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    made = new_page(browser)
    yield made
    made.context.close()


def test_a_fresh_server_shows_its_overview_and_finds_words_without_torch(browser, slower):
    tried = []
    for _ in range(2):  # the first try may meet a cold disk
        found = dict(measures.starting(browser, measures.DEMO))
        assert found.pop("start_resident_mb") <= measures.TARGETS["start_resident_mb"]
        factor = slower()
        if all(value <= 2 * factor * measures.TARGETS[line] for line, value in found.items()):
            return
        tried.append((found, round(factor, 1)))
    raise AssertionError(f"{tried} (x slower) beside {measures.TARGETS}")


def test_words_are_found_at_once(page, server, slower):
    stays_within(measures.queries(page, server, measures.DEMO_NAME, TRIES), slower)


@pytest.mark.parametrize("measure", [measures.neurons, measures.steps, measures.gammas])
def test_neurons_follow_the_hand(page, server, slower, measure):
    stays_within(measure(page, server, measures.DEMO_NAME, LAYER, TRIES), slower)


def test_the_table_and_the_map_of_fifty_thousand_neurons_open(page, slower, tmp_path):
    name = "neurons50k"
    n = synthetic.SIZES[name].n_units
    with serving([synthetic.bundle(name, tmp_path)]) as many:
        stays_within(measures.table(page, many, name, n, "345678"), slower, 2)
        stays_within(measures.maps(page, many, name, "map_50k", n, TRIES), slower, 2)


def test_twenty_people_at_once_wait_for_nothing_and_take_little_memory():
    words = list(Bundle.open(measures.DEMO).label_ids)[:40]  # other words load the encoder first
    found = []
    for _ in range(3):
        # A server asked for more than it can do answers later and later on any machine. So this
        # one is kept about half busy, by what Streamlit alone costs here, and a click must cost
        # the processor no more than so many of Streamlit's own.
        plain_ms = completed(crowd.plain_ms())
        slower = max(1.0, plain_ms / crowd.PLAIN_MS)
        period_s = max(1.0, 2 * crowd.N_PEOPLE * 0.75 * crowd.CLICK_COST * plain_ms / 1000)
        with serving([measures.DEMO]) as server:
            clicks, errors = completed(
                crowd.crowd(server, measures.DEMO_NAME, LAYER, words, 6 * period_s, period_s)
            )
            assert errors == []
            cost = clicks["server_cpu_ms_a_click"] / plain_ms
            waits_ms = clicks["all"]["p95"] / slower
            found.append({"waits_ms": round(waits_ms), "cost": round(cost, 1)})
            if waits_ms > 2 * crowd.TARGETS["click_ms"] or cost > crowd.CLICK_COST:
                continue
            held = completed(crowd.sessions(server, measures.DEMO_NAME, LAYER))
            assert held["session_mb"] <= 2 * crowd.TARGETS["session_mb"]
            return
    raise AssertionError(
        f"at most twice {crowd.TARGETS} and {crowd.CLICK_COST} plain clicks a click are wanted, "
        f"found {found}"
    )
