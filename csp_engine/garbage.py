"""Python's collector of garbage, kept away while libraries are loaded."""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def left_lying() -> Generator[None]:
    """Collect nothing within the block, and nothing of it later: for what loads large libraries.

    While torch and the like load, the collector walks all that is there again and again, which
    takes a fifth of the time and finds nothing.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
