"""What routes and pages import, loaded while the first visitor's browser loads its own scripts."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Generator

import anyio.to_thread
from starlette.types import ASGIApp, Receive, Scope, Send

from csp_engine.errors import CspError

log = logging.getLogger(__name__)
HAND_OVER_S = 0.0005
"""How long loading may keep Python from answering: scripts are sent meanwhile."""


class Late:
    """An application that is there before what it needs is loaded.

    Args:
        make: imports all that routes and pages need, and gives the routes.
    """

    def __init__(self, make: Callable[[], ASGIApp]) -> None:
        self._make = make
        self._made: ASGIApp | None = None
        self._lock = threading.Lock()

    def made(self) -> ASGIApp:
        """The routes. Whoever asks first loads everything, the others wait."""
        with self._lock:
            if self._made is None:
                self._made = self._make()
            return self._made

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the routes do."""
        app = await anyio.to_thread.run_sync(self.made)
        await app({**scope, "path_params": {}}, receive, send)


_begun: Late | None = None


def begin(late: Late) -> None:
    """Load in a thread of its own, then open the bundles and work out the first page."""
    global _begun
    _begun = late
    threading.Thread(target=_load, args=(late,), name="loading", daemon=True).start()


def wait() -> None:
    """Return once everything is loaded: two threads must not import the same piece by piece."""
    if _begun is not None:
        _begun.made()


def _load(late: Late) -> None:
    usual = sys.getswitchinterval()
    sys.setswitchinterval(HAND_OVER_S)
    try:
        late.made()
        open_bundles()
        rehearse_first()
        give_back()
    except Exception:  # without its routes it would answer, and be good for nothing
        log.critical("The server cannot load its pages.", exc_info=True)
        os._exit(1)
    finally:
        sys.setswitchinterval(usual)


def open_bundles() -> None:
    """Open all known bundles, and log why one does not open."""
    from pages.ui.shell import store

    for name in store.known_bundles():
        try:
            store.open_bundle(name)
        except CspError as error:
            log.warning("%s", error)


def rehearse_first() -> None:
    """Work out the start page of the first bundle."""
    from csp_engine.views.overview.rehearsal import rehearse
    from pages.ui.shell import store

    name = next(iter(store.known_bundles()), None)
    if name is not None:
        with contextlib.suppress(CspError):  # the page itself says what is wrong
            rehearse(store.open_bundle(name), store.MEMO)


def give_back() -> None:
    """Return to the system what loading needed and pages do not."""
    import pyarrow

    pyarrow.default_memory_pool().release_unused()  # of its own, or of all that was allocated


@contextlib.contextmanager
def one_thread() -> Generator[None]:
    """Have libraries of arithmetic use one thread, unless somebody has chosen how many.

    They look once, when they load. A page asks for products so small that a second thread would
    only wait for them, in a loop that keeps a core busy: half of what a click cost. What this
    process starts (encoders, builds) decides for itself.
    """
    if os.environ.get("OMP_NUM_THREADS"):
        yield
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        del os.environ["OMP_NUM_THREADS"]
