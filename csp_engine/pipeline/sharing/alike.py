"""What decides the last digits of NumPy's products and sums, so that processes can agree on it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController, threadpool_limits


@cache
def instructions() -> str:
    """The instructions that products and sums run with here, and the library of the products."""
    found = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    said = (f"{one.internal_api} {one.version} {_kernels(one)}" for one in _libraries())
    return ", ".join([*sorted(found), *sorted(said)])


def n_threads() -> int:
    """On how many threads products run in this process."""
    return max((int(one.num_threads or 1) for one in _libraries()), default=1)


@contextmanager
def on_threads(n: int) -> Generator[None]:
    """Within the block, products run on ``n`` threads."""
    with threadpool_limits(limits=n, user_api="blas"):
        yield


def _libraries() -> list[Any]:
    """NumPy's own library of products, where it brings one; else all that are loaded."""
    held = ThreadpoolController().select(user_api="blas").lib_controllers
    return [one for one in held if "numpy" in one.filepath] or held


def _kernels(library: Any) -> str:
    return str(getattr(library, "architecture", ""))
