"""How the networks of a pass are run: one shard finds it out, and the others read it.

A file among the parts holds it, named by the hash of what it hangs on; it goes with the parts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from csp_engine.bundle import aside
from csp_engine.bundle.checks.inside import open_plain
from csp_engine.errors import UnreadableImageError
from csp_engine.files import write_whole
from csp_engine.hashing import canonical_json, sha256_json
from csp_engine.networks.quickening import Trial
from csp_engine.pipeline.passing.image_pass import Pass, try_quick

PATIENCE_S = 60.0
"""How long a shard waits for another that is finding it out, before it does so itself."""
LARGEST = 1 << 20


def trials_of(
    work: Pass, folder: Path, about: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Trial]]:
    """What came of running each network both ways, found out by whichever shard was first.

    Every shard would find the same, on the same images: nothing is lost with the file, and nothing
    is wrong where two write it. It counts as long as these images are what they were.

    Args:
        work: the pass of a shard.
        folder: of the parts.
        about: what it hangs on beside the images: the pass, the code and the device.

    Returns:
        the trials as parts keep them, and those that this process made itself.
    """
    about = {**about, "code": {t.model.name: t.model.code for t in work.targets}}
    path = aside(folder, "decided", sha256_json(about))
    try:
        lock: Any = FileLock(f"{path}.lock").acquire(timeout=PATIENCE_S)
    except Timeout:
        lock = nullcontext()
    with lock:
        held = _read(path)
        if held is not None and _are_as_tried(work, held["images"]):
            return held["passes"], {}
        made, images = try_quick(work)
        passes = {name: trial.to_json() for name, trial in made.items()}
        found = {"passes": passes, "images": {str(row): sha for row, sha in images.items()}}
        with suppress(OSError):  # a disk that is full is told by what has to be written
            write_whole(path, canonical_json({**found, "sha256": sha256_json(found)}))
    return passes, made


def _read(path: Path) -> dict[str, Any] | None:
    """What a file holds, if it is whole."""
    try:
        with open_plain(path) as handle:
            held = json.loads(handle.read(LARGEST))
        sha256 = held.pop("sha256")
        is_whole = sha256_json(held) == sha256 and held.keys() == {"passes", "images"}
        return held if is_whole else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _are_as_tried(work: Pass, images: Mapping[str, str]) -> bool:
    try:
        return all(
            hashlib.sha256(work.probe.read(int(row))).hexdigest() == sha256
            for row, sha256 in images.items()
        )
    except (UnreadableImageError, OSError, IndexError, KeyError):
        return False
