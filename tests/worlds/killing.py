"""Processes that are killed at a write, as by kill -9.

Children are forked before any network runs, so each costs a second, not an import of torch.
"""

from __future__ import annotations

import io
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.worlds import toys

WRITES = ("fsync", "rename", "replace", "mkdir", "pwrite", "rmdir", "unlink")


def in_child(work: Callable[[], Any]) -> int:
    """Run in a forked process; its exit code, or minus the signal that ended it."""
    pid = os.fork()
    if pid == 0:
        try:
            import faiss
            import torch

            torch.set_num_threads(1)
            faiss.omp_set_num_threads(1)
            work()
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(3)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def die_at_write(number: int) -> Callable[[], int]:
    """End this process, as by kill -9, when it is about to write for the ``number``-th time.

    Returns what tells how many writes there were so far.
    """
    count = 0

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return wrapper

    for name in WRITES:
        setattr(os, name, counted(getattr(os, name)))
    plain_open = io.open

    def opening(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        handle = plain_open(file, mode, *args, **kwargs)
        if any(letter in mode for letter in "wa+"):
            nonlocal count
            count += 1
            if count == number:  # after opening: the file is there, empty or half-written
                os.kill(os.getpid(), signal.SIGKILL)
        return handle

    io.open = opening
    return lambda: count


class SlowEncoder(toys.ColourEncoder):
    """The same, so slow that a process can be killed at it: ``CSP_TEST_PAUSE`` s for a batch."""

    spec = "python:tests.worlds.killing:SlowEncoder"

    def embed_images(self, pixels: np.ndarray) -> np.ndarray:
        time.sleep(float(os.environ.get("CSP_TEST_PAUSE", "0")))
        return super().embed_images(pixels)
