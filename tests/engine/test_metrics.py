"""Figures of a server, read by Prometheus's own parsers and counted beside it."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import quote

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families as parsed
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket

from csp_engine.errors import BusyError
from csp_engine.http.metrics import BUCKETS, OURS, Asked, Measured, Metrics, Sources, route_of
from csp_engine.serving.turns import Limits, Turns

NOBODY = Sources(bundles=dict, jobs=dict, processes=dict)


def figures(metrics: Metrics) -> dict[str, dict[tuple[str, ...], float]]:
    """Values by name, then by the values of the labels in the order of their names."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in parsed(metrics.written()[0].decode()):
        for sample in family.samples:
            key = tuple(value for _, value in sorted(sample.labels.items()))
            assert key not in found.setdefault(sample.name, {}), sample
            found[sample.name][key] = sample.value
    return found


async def answers(request: Request) -> Response:
    """By the address: what Starlette can make of a request."""
    name = request.path_params["path"].rpartition("/")[2]
    if name == "fails":
        raise RuntimeError("no")
    if name == "slow":

        async def parts():
            for _ in range(3):
                await asyncio.sleep(0.04)
                yield b"."

        return StreamingResponse(parts())
    return PlainTextResponse("here", int(name) if name.isdecimal() and len(name) == 3 else 200)


async def page(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.receive()


def measured(metrics: Metrics, base: str = "") -> Measured:
    routes = [
        WebSocketRoute("/_stcore/stream", page),
        Route("/{path:path}", answers, methods=["GET", "POST", "PROPFIND"]),
    ]
    return Measured(Starlette(routes=routes), metrics, lambda: base)


def test_requests_are_counted_by_kind_method_and_status():
    metrics = Metrics(NOBODY)
    client = TestClient(measured(metrics, "nb"), raise_server_exceptions=False)
    thumbs = ("csp/thumbs/b/d/1", "csp/thumbs/b/d/404", "csp/thumbs/b/d/404")
    for path in (*thumbs, "neuron", "csp/made-up/x", "metrics", "_stcore/health"):
        client.get(f"/nb/{path}")
    client.post("/nb/csp/warm/b/204")
    client.request("PROPFIND", "/nb/")
    client.get("/nb/fails")
    assert figures(metrics)["csp_http_requests_total"] == {
        ("GET", "thumbs", "200"): 1,
        ("GET", "thumbs", "404"): 2,
        ("GET", "page", "200"): 1,
        ("GET", "page", "500"): 1,
        ("GET", "other", "200"): 1,
        ("GET", "metrics", "200"): 1,
        ("GET", "health", "200"): 1,
        ("POST", "warm", "204"): 1,
        ("other", "page", "200"): 1,
    }
    assert figures(metrics)["csp_http_requests_running"] == {(): 0}


def test_the_time_of_an_answer_ends_with_its_last_part_and_lies_in_its_bucket():
    metrics = Metrics(NOBODY)
    client = TestClient(measured(metrics))
    for _ in range(3):
        client.get("/csp/strip/slow")
    found = figures(metrics)
    assert found["csp_http_request_seconds_count"] == {("strip",): 3}
    total = found["csp_http_request_seconds_sum"]["strip",]
    assert total >= 3 * 3 * 0.04
    buckets = found["csp_http_request_seconds_bucket"]
    bounds = [float(bound) for bound, _ in buckets]
    assert bounds == [*BUCKETS, float("inf")]
    counts = list(buckets.values())
    assert counts == sorted(counts)
    assert counts[-1] == 3
    assert counts[bounds.index(0.1)] == 0  # none took less than 0.12 s


def test_pages_are_counted_while_they_are_open():
    metrics = Metrics(NOBODY)
    client = TestClient(measured(metrics))
    with client.websocket_connect("/_stcore/stream"), client.websocket_connect("/_stcore/stream"):
        assert figures(metrics)["csp_pages_open"] == {(): 2}
    assert figures(metrics)["csp_pages_open"] == {(): 0}
    assert "csp_http_requests_total" not in figures(metrics)


def test_nothing_that_a_visitor_sends_becomes_a_label():
    metrics = Metrics(NOBODY)
    client = TestClient(measured(metrics))
    rng = random.Random(0)
    for _ in range(150):
        word = "".join(rng.choices("abcäß%20.-", k=12)) + "secret"
        lead = rng.choice(["", "csp/", "_stcore/", "csp/thumbs/", "media/", "api/", "csp/api/v1/"])
        sent = quote(word)
        headers = {"cookie": f"a={sent}", "x-forwarded-for": sent, "referer": sent}
        client.get(f"/{lead}{sent}?q={sent}", headers=headers)
    text = metrics.written()[0].decode()
    assert "secret" not in text
    assert "testclient" not in text
    routes = {key[1] for key in figures(metrics)["csp_http_requests_total"]}
    assert routes <= {*OURS, "other", "page", "streamlit"}
    assert {route_of(["csp", each, "x"]) for each in OURS} == set(OURS)


def test_many_at_once_lose_no_count_and_every_reading_can_be_parsed():
    metrics = Metrics(NOBODY)
    app = measured(metrics)
    n_threads, n_each = 6, 60
    seen: list[float] = []
    stop = threading.Event()

    async def ask() -> None:
        async def receive():
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message):
            await asyncio.sleep(0)

        scope = {"type": "http", "method": "GET", "path": "/csp/card/1", "query_string": b"",
                 "headers": [], "http_version": "1.1", "scheme": "http"}  # fmt: skip
        await asyncio.gather(*(app(dict(scope), receive, send) for _ in range(n_each)))

    def read() -> None:
        while not stop.is_set():
            found = figures(metrics)
            seen.append(sum(found.get("csp_http_requests_total", {}).values()))

    reader = threading.Thread(target=read)
    asking = [threading.Thread(target=lambda: asyncio.run(ask())) for _ in range(n_threads)]
    reader.start()
    for each in asking:
        each.start()
    for each in asking:
        each.join()
    stop.set()
    reader.join()
    found = figures(metrics)
    assert found["csp_http_requests_total"] == {("GET", "card", "200"): n_threads * n_each}
    assert found["csp_http_request_seconds_count"] == {("card",): n_threads * n_each}
    assert found["csp_http_requests_running"] == {(): 0}
    assert seen == sorted(seen)


def test_what_is_not_counted_is_asked_when_it_is_read():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        state = {"whole": "ab12"}
        metrics = Metrics(
            Sources(
                bundles=lambda: {**state, 'bro"ken\n': ""},
                jobs=lambda: {"running": 2, "failed": 1},
                processes=lambda: {
                    "encoder": Asked(3, 7, process.pid),
                    "maps": Asked(0, 0, None),
                },
            )
        )
        found = figures(metrics)
        assert found["csp_bundle_ready"] == {("whole", "ab12"): 1, ('bro"ken\n', ""): 0}
        assert found["csp_builds"] == {("running",): 2, ("failed",): 1}
        assert found["csp_questions_waiting"] == {("encoder",): 3, ("maps",): 0}
        assert found["csp_questions_refused_total"] == {("encoder",): 7, ("maps",): 0}
        assert found["csp_process_running"] == {("encoder",): 1, ("maps",): 0}
        if sys.platform == "linux":
            assert set(found["csp_process_memory_bytes"]) == {("encoder",)}
            pages_held = int(Path("/proc/self/statm").read_text().split()[1])
            own = pages_held * os.sysconf("SC_PAGE_SIZE")
            assert found["process_resident_memory_bytes"][()] == pytest.approx(own, rel=0.2)
        state["whole"] = "cd34"
        assert figures(metrics)["csp_bundle_ready"]["whole", "cd34"] == 1
        process.kill()
        process.wait()
    assert "csp_process_memory_bytes" not in figures(metrics)  # the process is not there any more


def test_whoever_asks_for_openmetrics_gets_it():
    metrics = Metrics(NOBODY)
    TestClient(measured(metrics)).get("/csp/card/1")
    body, media_type = metrics.written("application/openmetrics-text; version=1.0.0")
    assert media_type.startswith("application/openmetrics-text")
    names = {family.name for family in openmetrics.text_string_to_metric_families(body.decode())}
    assert {"csp_http_requests", "csp_http_request_seconds", "csp_questions_refused"} <= names
    assert metrics.written("text/html")[1].startswith("text/plain; version=0.0.4")


def test_turns_count_who_waits_and_who_is_refused():
    turns = Turns(Limits(n_waiting=2, n_of_one=1))
    assert (turns.n_waiting, turns.n_refused) == (0, 0)
    with turns.turn("ada"):
        assert turns.n_waiting == 1
        with pytest.raises(BusyError), turns.turn("ada"):
            pass
        assert (turns.n_waiting, turns.n_refused) == (1, 1)
    assert (turns.n_waiting, turns.n_refused) == (0, 1)
    short = Turns(Limits(patience=0.01))
    with short.turn("ada"), pytest.raises(BusyError), short.turn("bob"):
        pass
    assert (short.n_waiting, short.n_refused) == (0, 1)
