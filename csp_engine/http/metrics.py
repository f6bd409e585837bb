"""How a server does, in the text form that Prometheus reads: counts and times, nobody's name.

Labels take few values: the kind of an address, never the address; no visitor, no query, no path.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from csp_engine.http.guard import parts_of

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds. What a page fetches takes milliseconds, a first search by other words ten seconds."""
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")
OURS = (
    "api",
    "card",
    "docs",
    "jump",
    "maps",
    "original",
    "points",
    "ready",
    "strip",
    "thumbs",
    "warm",
)
"""First parts of addresses below ``csp/``."""
UNANSWERED = "none"
"""The status of what was not answered, because the visitor left or the server failed."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A process that answers questions one by one.

    Attributes:
        n_waiting: questions that wait or are answered.
        n_refused: questions refused since the start, because there were too many.
        pid: of the process; None where it does not run.
    """

    n_waiting: int
    n_refused: int
    pid: int | None


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the figures come from that nobody counts; each is asked when they are read.

    Attributes:
        bundles: digest by name; empty for one that does not open.
        jobs: builds by state.
        processes: what answers questions, by name.
    """

    bundles: Callable[[], Mapping[str, str]]
    jobs: Callable[[], Mapping[str, int]]
    processes: Callable[[], Mapping[str, Asked]]


class Metrics:
    """The figures of one server; safe between threads."""

    def __init__(self, sources: Sources) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self.requests = Counter(
            "csp_http_requests",
            "Requests that ended, by kind of address, method and status.",
            ("route", "method", "status"),
            registry=self._registry,
        )
        self.seconds = Histogram(
            "csp_http_request_seconds",
            "Seconds from a request to the end of its answer.",
            ("route",),
            buckets=BUCKETS,
            registry=self._registry,
        )
        self.running = Gauge(
            "csp_http_requests_running", "Requests being answered.", registry=self._registry
        )
        self.pages = Gauge("csp_pages_open", "Pages that are open.", registry=self._registry)
        self._registry.register(_Read(sources))

    def written(self, accept: str = "") -> tuple[bytes, str]:
        """All figures, and the media type of their form.

        Args:
            accept: the forms that the reader takes, as HTTP states them.
        """
        encode, media_type = choose_encoder(accept)
        return encode(self._registry), media_type


class _Read:
    """What is read from elsewhere, each time anew."""

    def __init__(self, sources: Sources) -> None:
        self.sources = sources

    def describe(self) -> list[Metric]:
        """Nothing is asked when it is registered."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Bundles, builds and processes as they stand."""
        ready = GaugeMetricFamily(
            "csp_bundle_ready", "1 for a bundle that opens, else 0.", labels=("bundle", "digest")
        )
        for name, digest in self.sources.bundles().items():
            ready.add_metric((name, digest), float(bool(digest)))
        yield ready
        jobs = GaugeMetricFamily("csp_builds", "Builds by state.", labels=("state",))
        for state, n in self.sources.jobs().items():
            jobs.add_metric((state,), n)
        yield jobs
        yield from self._processes()

    def _processes(self) -> Iterator[Metric]:
        waiting = GaugeMetricFamily(
            "csp_questions_waiting",
            "Questions that wait for a process with torch, or are answered.",
            labels=("process",),
        )
        refused = Metric(
            "csp_questions_refused", "Questions refused because there were too many.", "counter"
        )
        running = GaugeMetricFamily(
            "csp_process_running", "1 for a process with torch that runs.", labels=("process",)
        )
        memory = GaugeMetricFamily(
            "csp_process_memory_bytes",
            "Memory that a process with torch holds (resident).",
            labels=("process",),
        )
        for name, asked in self.sources.processes().items():
            waiting.add_metric((name,), asked.n_waiting)
            refused.add_sample("csp_questions_refused_total", {"process": name}, asked.n_refused)
            running.add_metric((name,), float(asked.pid is not None))
            held = None if asked.pid is None else _resident(asked.pid)
            if held is not None:
                memory.add_metric((name,), held)
        yield from (waiting, refused, running, memory)


def _resident(pid: int) -> float | None:
    """Bytes that a process holds; None where that cannot be read, or it has just ended."""
    found = ProcessCollector(pid=lambda: pid, registry=None).collect()
    values = [
        each.samples[0].value for each in found if each.name.endswith("resident_memory_bytes")
    ]
    return values[0] if values else None


class Measured:
    """Counts what is asked of an application, and how long it takes; around everything else."""

    def __init__(self, app: ASGIApp, metrics: Metrics, base: Callable[[], str]) -> None:
        self.app = app
        self.metrics = metrics
        self.base = base

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the app does."""
        if scope["type"] == "websocket":
            with self.metrics.pages.track_inprogress():
                await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await self._request(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        status, started = UNANSWERED, time.perf_counter()
        route = route_of(parts_of(scope["path"], self.base()))
        method = scope["method"] if scope["method"] in METHODS else "other"

        async def watched(message: Message) -> None:
            nonlocal status
            await send(message)
            if message["type"] == "http.response.start":
                status = str(message["status"])

        with self.metrics.running.track_inprogress():
            try:
                await self.app(scope, receive, watched)
            finally:
                took = time.perf_counter() - started
                self.metrics.requests.labels(route, method, status).inc()
                self.metrics.seconds.labels(route).observe(took)


def route_of(parts: list[str]) -> str:
    """The kind of an address, one of few: what a page fetches of ours, Streamlit's own, a page."""
    match parts:
        case ["csp", kind, *_]:
            return kind if kind in OURS else "other"
        case ["_stcore", "health"]:
            return "health"
        case ["_stcore" | "media" | "static" | "component" | "oauth2callback" | "auth", *_]:
            return "streamlit"
        case ["metrics"]:
            return "metrics"
        case _:
            return "page"
