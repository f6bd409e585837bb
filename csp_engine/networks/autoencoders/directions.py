"""Directions of a layer as the file of an autoencoder: each of them becomes a neuron."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from csp_engine.files import replacing


def write_directions(
    path: Path,
    weight_uk: Float32[np.ndarray, "u k"],
    mean_u: Float32[np.ndarray, " u"] | None,
    names: Sequence[str],
) -> None:
    """Write readouts for ``--sae``: ``(x - mean) W``, or ``relu(x W)`` without a mean.

    Raises:
        OSError: if the file cannot be written.
    """
    from safetensors.numpy import save_file

    tensors = {"W_enc": np.ascontiguousarray(weight_uk, np.float32)}
    if mean_u is not None:
        tensors["pre_bias"] = np.ascontiguousarray(mean_u, np.float32)
    settings = {
        "activation": "relu" if mean_u is None else "linear",
        "encoder_layout": "inputs_latents",
        "name": path.stem,
        "latents": json.dumps(list(names)),
    }
    with replacing(path, path.with_name(f".tmp-{path.name}")) as part:
        save_file(tensors, part, metadata=settings)
