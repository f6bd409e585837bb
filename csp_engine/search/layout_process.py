"""The map in a process of its own, which loads UMAP while this one makes the labels.

Loading takes a second or two and needs nothing of the labels, and the map nothing of the methods
that it does not show, so a second core can do it meanwhile. Vectors go there as a line of JSON and
a NumPy array; the map comes back as arrays.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import Float32

from csp_engine.evidence.cores import n_cores
from csp_engine.search.projection import MapLayout, laid_out_later, lay_out, load_umap

_PACKAGE_PARENT = Path(__file__).resolve().parents[2]


class LayoutProcess:
    """Lays out one map in a process that is started at once; it ends with the block.

    Where there is one core, or the process comes to nothing, the map is laid out here. Both give
    the same map.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._talk: Thread | None = None
        if n_cores() > 1:
            path = os.pathsep.join(
                filter(None, (str(_PACKAGE_PARENT), os.environ.get("PYTHONPATH", "")))
            )
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": path},
            )

    def __enter__(self) -> LayoutProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self._process.kill()
            if self._talk is None:
                self._process.communicate()
            else:
                self._talk.join()

    def lay_out(
        self, vector_ud: Float32[np.ndarray, "u d"], **settings: Any
    ) -> Callable[[], MapLayout]:
        """Begin a map, as ``projection.laid_out_later``; the process makes one and ends."""
        process = self._process
        if process is None or self._talk is not None:
            return laid_out_later(vector_ud, **settings)
        question, answers = _question(vector_ud, settings), list[bytes]()
        talk = Thread(target=lambda: answers.append(process.communicate(question)[0]))
        self._talk = talk
        talk.start()

        def wait() -> MapLayout:
            talk.join()
            if answers and process.returncode == 0:
                return _read(answers[0])
            return lay_out(vector_ud, **settings)

        return wait


def _question(vector_ud: np.ndarray, settings: dict[str, Any]) -> bytes:
    content = io.BytesIO()
    content.write(json.dumps(settings).encode() + b"\n")
    np.save(content, np.ascontiguousarray(vector_ud, np.float32), allow_pickle=False)
    return content.getvalue()


def _read(answer: bytes) -> MapLayout:
    with np.load(io.BytesIO(answer), allow_pickle=False) as held:
        return MapLayout(
            held["xy"], str(held["kind"]), int(held["n_distinct"]), float(held["neighbour_recall"])
        )


def main() -> None:
    """Load UMAP, then lay out what comes in; nothing comes if the other process has ended."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print
    load_umap()
    line = sys.stdin.buffer.readline()
    if not line:
        return
    vector_ud = np.load(io.BytesIO(sys.stdin.buffer.read()), allow_pickle=False)
    laid = lay_out(vector_ud, **json.loads(line))
    content = io.BytesIO()
    np.savez(
        content,
        xy=laid.xy_u2,
        kind=np.array(laid.kind),
        n_distinct=np.array(laid.n_distinct),
        neighbour_recall=np.array(laid.neighbour_recall, np.float64),
    )
    with answers:
        answers.write(content.getvalue())


if __name__ == "__main__":
    main()
