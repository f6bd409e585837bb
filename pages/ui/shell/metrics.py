"""What a server tells about itself at ``/metrics``: the figures of ``csp_engine.http.metrics``."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

import anyio.to_thread
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from csp_engine.errors import CspError
from csp_engine.http import tokens
from csp_engine.http.guard import parts_of
from csp_engine.http.metrics import Asked, Metrics, Sources
from pages.ui.shell.access import is_read_only

if TYPE_CHECKING:
    from csp_engine.serving.encoder_process import Apart


def bundles() -> dict[str, str]:
    """The digest of each bundle by its name; empty for one that does not open."""
    from pages.ui.shell import store

    found = {}
    for name in store.known_bundles():
        try:
            found[name] = store.open_bundle(name).digest
        except CspError:
            found[name] = ""
    return found


def builds() -> Mapping[str, int]:
    """Builds that were started from here, by state; none on a server that only shows."""
    from csp_engine import jobs
    from pages.ui.shell import store

    if is_read_only():
        return {}
    return Counter(job.state for job in jobs.jobs_in(store.build_folder()))


def processes() -> dict[str, Asked]:
    """What holds torch."""
    from pages.ui.shell import store

    held: dict[str, Apart] = {"encoder": store.ENCODERS, "maps": store.MAPS}
    return {
        name: Asked(each.turns.n_waiting, each.turns.n_refused, each.pid)
        for name, each in held.items()
    }


def may_watch(asking: HTTPConnection, base: str) -> bool:
    """Whether a machine asks how the server does, with the token for that.

    Args:
        asking: the request.
        base: path under which everything is served.
    """
    token = os.environ.get(tokens.FOR_MACHINES, "")
    watched = (["metrics"], ["csp", "ready"])
    return (
        len(token) >= tokens.LEAST
        and tokens.is_token(tokens.bearer(asking.headers), token)
        and parts_of(asking.scope["path"], base) in watched
    )


METRICS = Metrics(Sources(bundles, builds, processes))


async def metrics(request: Request) -> Response:
    """``/metrics``."""
    accept = request.headers.get("accept", "")
    body, media_type = await anyio.to_thread.run_sync(METRICS.written, accept)
    return Response(body, headers={"Content-Type": media_type, "Cache-Control": "no-store"})
