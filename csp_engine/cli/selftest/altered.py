"""What whoever can redo hashes may do to a bundle, and what becomes of files that change later."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from csp_engine.bundle import Bundle, verify
from csp_engine.cli.selftest import kind, refused, require
from csp_engine.cli.selftest.world import World
from csp_engine.hashing import sha256_json

AREA = "damaged bundles"


def _edited(bundle: Path, change: Callable[[dict[str, Any]], object]) -> Bundle:
    """A manifest that was changed, with its own hash redone."""
    path = bundle / "manifest.json"
    body = json.loads(path.read_text("utf-8"))
    change(body)
    body.pop("self_sha256")
    body["self_sha256"] = sha256_json(body)
    path.write_text(json.dumps(body), "utf-8")
    return Bundle.open(bundle)


def _forged(world: World, name: str, change: Callable[[np.ndarray], np.ndarray]) -> list[str]:
    """What ``verify`` says of another array whose hash the manifest lists."""
    bundle = world.bundle().path
    victim = next(bundle.rglob(f"{name}.npy"))
    np.save(victim, change(np.load(victim)))

    def redo(body: dict[str, Any]) -> None:
        for record in body["stages"].values():
            if record["directory"] == victim.parent.name:
                content = victim.read_bytes()
                digest = hashlib.sha256(content).hexdigest()
                record["files"][victim.name] |= {"bytes": len(content), "sha256": digest}

    return verify(_edited(bundle, redo))


@kind(AREA, "other labels with right hashes are told of by csp verify")
def labels(world: World) -> str:
    """The labels of all neurons in another order."""
    found = _forged(world, "label_uk", lambda values: np.roll(values, 1, axis=0))
    return require(found, found[0] if found else "nothing was told")


@kind(AREA, "other exemplars with right hashes are told of by csp verify")
def exemplars(world: World) -> str:
    """The weakest exemplar first."""
    found = _forged(world, "exemplar_image", lambda values: values[:, ::-1].copy())
    return require(found, found[0] if found else "nothing was told")


@kind(AREA, "labels and images that there are not are refused")
def strangers(world: World) -> str:
    """An id below nothing, with right hashes."""
    found = _forged(world, "label_uk", lambda values: np.where(values == values[0, 0], -1, values))
    return require(any("-1" in each for each in found), found[0] if found else "nothing was told")


@kind(AREA, "a file that shrinks while it is open ends in a sentence")
def shrinking(world: World) -> str:
    """Thumbnails cut off under a server."""
    bundle = world.bundle()
    bundle.thumbnail(0)
    thumbs = next(bundle.path.rglob("thumbs.bin"))
    with thumbs.open("r+b") as file:
        file.truncate(10)
    return refused(lambda: bundle.thumbnail(bundle.n_images - 1), "thumbs.bin")


@kind(AREA, "a stage cannot lie outside of its bundle")
def outside(world: World) -> str:
    """A folder above it."""

    def move(body: dict[str, Any]) -> None:
        body["stages"]["images"]["directory"] = "../elsewhere"

    path = world.bundle().path
    return refused(lambda: _edited(path, move), "elsewhere")
