"""Bundles altered on purpose: by whoever can write a file, and by whoever redoes the hashes too."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np

MANIFEST = "manifest.json"


def body_of(bundle: Path) -> dict[str, Any]:
    """The manifest as it stands in its file."""
    return json.loads((bundle / MANIFEST).read_text("utf-8"))


def write_body(bundle: Path, body: dict[str, Any]) -> None:
    """Write a manifest whose own hash is right, whatever else it says."""
    body.pop("self_sha256", None)
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    body["self_sha256"] = hashlib.sha256(text.encode()).hexdigest()
    (bundle / MANIFEST).write_text(json.dumps(body, indent=1, sort_keys=True) + "\n", "utf-8")


def edit(bundle: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change a manifest and redo its own hash."""
    body = body_of(bundle)
    change(body)
    write_body(bundle, body)


def place(bundle: Path, stage: str, file: str) -> Path:
    """Where a file of a stage lies."""
    return bundle / body_of(bundle)["stages"][stage]["directory"] / file


def redo(bundle: Path) -> None:
    """Have the manifest list every file as it is now: size, sha256, type and shape."""

    def change(body: dict[str, Any]) -> None:
        for record in body["stages"].values():
            for name, entry in record["files"].items():
                path = bundle / record["directory"] / name
                if not path.is_file() or path.is_symlink():
                    continue
                content = path.read_bytes()
                entry |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
                if name.endswith(".npy"):
                    try:
                        values = np.load(path, mmap_mode="r", allow_pickle=False)
                        entry |= {"dtype": str(values.dtype), "shape": list(values.shape)}
                    except Exception:  # it is no array any more
                        continue

    edit(bundle, change)


def renumber(bundle: Path) -> None:
    """Give every vector of the search index the number of the one before it."""
    file = place(bundle, "index:csp", "index.faiss")
    index: Any = faiss.read_index(str(file))
    order = np.roll(faiss.vector_to_array(index.id_map), 1)
    faiss.copy_array_to_vector(order, index.id_map)
    faiss.write_index(index, str(file))
    redo(bundle)


def change_array(
    bundle: Path, stage: str, name: str, change: Callable[[np.ndarray], Any], *, redone: bool = True
) -> None:
    """Change an array in its file; a change that returns an array puts that in its place."""
    path = place(bundle, stage, f"{name}.npy")
    values = np.load(path)
    changed = change(values)
    np.save(path, values if changed is None else changed)
    if redone:
        redo(bundle)
