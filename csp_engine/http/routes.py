"""The addresses of the answers, below a path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from csp_engine.http.answers import Answers


def routes(start: str, answers: Answers) -> list[Route]:
    """A route for each answer; each works in a thread of its own, so that the loop goes on."""
    addresses = {
        "thumbs/{bundle}/{digest}/{images}": answers.thumbnails,
        "strip/{bundle}/{digest}/{neuron}": answers.strip,
        "points/{bundle}/{digest}": answers.points,
        "jump/{bundle}/{method}/{typed:path}": answers.jump,
        "card/{bundle}/{digest}/{method}/{neuron}": answers.card,
    }
    return [Route(f"{start}/{path}", _in_thread(answer)) for path, answer in addresses.items()]


def _in_thread(answer: Callable[..., Response]) -> Callable[[Request], Any]:
    """The parts of the address are the arguments of the answer, in their order."""

    async def endpoint(request: Request) -> Response:
        return await anyio.to_thread.run_sync(answer, *request.path_params.values())

    return endpoint
