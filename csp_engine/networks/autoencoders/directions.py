"""Directions of a layer as the file of an autoencoder: each of them becomes a neuron."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from csp_engine.errors import InputError
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


def read_directions(path: Path, n_units: int) -> Float32[np.ndarray, "u k"]:
    """An orthonormal basis of what the directions of a file span in a layer.

    Args:
        path: from ``write_directions``.
        n_units: units of the layer.

    Raises:
        InputError: if it is no such file, or of a layer with another number of units.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as held:
            settings = held.metadata() or {}
            weight_uk = held.get_tensor("W_enc") if "W_enc" in held.keys() else None  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read as directions ({error}).") from None
    if weight_uk is None or settings.get("encoder_layout") != "inputs_latents":
        raise InputError(f"{path} holds no directions; write some with 'csp directions --output'.")
    if weight_uk.ndim != 2 or len(weight_uk) != n_units or not np.isfinite(weight_uk).all():
        raise InputError(
            f"The directions of {path.name} are of {len(weight_uk)} units, and the layer has "
            f"{n_units}; give those of this layer."
        )
    basis_uk, size_k, _ = np.linalg.svd(weight_uk.astype(np.float64), full_matrices=False)
    kept = size_k > 1e-6 * size_k.max(initial=1e-30)
    if not kept.any() or size_k.max() == 0:
        raise InputError(f"The directions of {path.name} are all 0.")
    return basis_uk[:, kept].astype(np.float32)
