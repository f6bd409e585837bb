"""Influence of single batches that shards measured, kept until a merge sums it up.

A file among the parts is named by the hash of all that its numbers hang on. What is missing or
damaged is measured by the merge itself, so the sums are the same, whoever measured what.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from csp_engine.bundle.passing.parts import aside
from csp_engine.bundle.passing.pieces import keep_arrays, kept_arrays
from csp_engine.hashing import sha256_json
from csp_engine.networks.conditions import code_conditions, place_conditions
from csp_engine.networks.driving.influence import BatchInfluence
from csp_engine.networks.layers import LayerTap
from csp_engine.networks.models import TargetModel

_LISTS = ("agrees", "is_seen")


def place_of(
    folder: Path,
    model: TargetModel,
    taps: Sequence[LayerTap],
    outputs: Sequence[int | str],
    sha256s: Sequence[str],
    known: np.ndarray | None,
) -> Path:
    """Where the influence of one batch lies.

    Args:
        folder: of the parts.
        model: the network, on the device that it runs on.
        taps: the layers.
        outputs: that are looked at; () for all.
        sha256s: of the images of the batch.
        known: the output that each belongs to, or None.
    """
    about = {
        "model": [model.fingerprint, model.code, model.precision, list(model.class_names or ())],
        "layers": [[str(tap.id), tap.kind, tap.channels_last, tap.tokens_first] for tap in taps],
        "outputs": list(outputs),
        "images": list(sha256s),
        "known": None if known is None else known.tolist(),
        "conditions": code_conditions() | place_conditions(str(model.device)),
    }
    return aside(folder, "gradients", sha256_json(about))


def keep(path: Path, found: BatchInfluence) -> None:
    """Write what one batch gave; a disk that cannot take it is no fault, as it can be had again."""
    names = list(found.product_nu)
    about = {
        "n_images": found.n_images,
        "n_outputs": found.n_outputs,
        "is_predicted": found.is_predicted,
        "modules": names,
        **{name: getattr(found, name) for name in _LISTS},
    }
    arrays = {f"product_{i}": found.product_nu[name] for i, name in enumerate(names)}
    with suppress(OSError):
        keep_arrays(path, {"row_n": found.row_n, **arrays}, about)


def kept(path: Path) -> BatchInfluence | None:
    """What one batch gave, or None if that is not there as it was written."""
    held = kept_arrays(path)
    if held is None:
        return None
    arrays, about = held
    products = {name: arrays[f"product_{i}"] for i, name in enumerate(about.pop("modules"))}
    return BatchInfluence(row_n=arrays["row_n"], product_nu=products, **about)
