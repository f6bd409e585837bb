"""A server that ``csp serve`` started ends with it, however that ends."""

from __future__ import annotations

import os
import signal
import threading
import time

PARENT = "CSP_PARENT"
LOOK_EVERY_S, PATIENCE_S = 0.5, 5.0


def follow_parent() -> bool:
    """Watch the process that ``CSP_PARENT`` names, and end when it is gone; False if it names none.

    A process that is killed for certain can tell nobody. Who started us is asked of the system:
    once that process has ended, another takes its place.
    """
    named = os.environ.pop(PARENT, "")  # builds go on, so they do not inherit it
    if not named.isdecimal():
        return False
    threading.Thread(target=_watch, args=(int(named),), name="parent", daemon=True).start()
    return True


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_EVERY_S)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PATIENCE_S)  # open pages may keep it from ending
    os._exit(1)
