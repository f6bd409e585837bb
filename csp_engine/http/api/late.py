"""The API as a server mounts it: made when it is first asked, for its libraries take a while."""

from __future__ import annotations

from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from csp_engine.http.api.desk import Desk


class LateApi:
    """The application of ``make_api``; pages start without it."""

    def __init__(self, desk: Callable[[], Desk]) -> None:
        self._desk = desk
        self._app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the application does."""
        if self._app is None:
            from csp_engine.http.api.app import make_api

            self._app = make_api(self._desk())
        await self._app(scope, receive, send)
