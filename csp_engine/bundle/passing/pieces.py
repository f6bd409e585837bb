"""Arrays that one process makes and another takes: whole files, or none.

A file is named by the hash of all that its numbers hang on, takes its name when it is written, and
begins with the hash of the rest. What is missing or damaged is made again by whoever needs it.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from csp_engine.bundle.checks.inside import open_plain
from csp_engine.files import replacing

_ABOUT = "about"


def keep_arrays(path: Path, arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> None:
    """Write arrays, and what else is to be known of them.

    Args:
        path: of the file, in a folder that exists.
        arrays: by name, none of which is ``about``.
        about: what JSON can hold.

    Raises:
        OSError: the disk does not take them; nothing of that name is there then.
    """
    content = io.BytesIO()
    named: dict[str, Any] = {_ABOUT: np.array(json.dumps(dict(about))), **arrays}
    np.savez(content, **named)
    body = content.getbuffer()
    with (
        replacing(path, path.with_name(f".tmp-{path.name}")) as temporary,
        temporary.open("wb") as file,
    ):
        file.write(hashlib.sha256(body).digest())
        file.write(body)


def kept_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    """What a file holds: arrays, and what else is known of them; None if it is not as written."""
    try:
        with open_plain(path) as handle:
            content = handle.read()
    except OSError:
        return None
    body = memoryview(content)[32:]
    if hashlib.sha256(body).digest() != content[:32]:
        return None
    with np.load(io.BytesIO(body), allow_pickle=False) as held:
        arrays = {name: held[name] for name in held.files}
    return arrays, json.loads(str(arrays.pop(_ABOUT)))
