"""Sparse autoencoders on top of a layer: their latents as neurons, read from a safetensors file."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from csp_engine.errors import InputError

WEIGHT_NAMES = {
    # name -> whether its rows are inputs, by the convention of the library that uses the name
    "W_enc": True,
    "w_enc": True,
    "encoder.W": True,
    "encoder.weight": False,
    "enc.weight": False,
    "encoder.0.weight": False,
    "encoder_weight": None,
    "encoder": None,
}
BIAS_NAMES = ("b_enc", "encoder.bias", "enc.bias", "encoder.0.bias", "encoder_bias", "latent_bias")
PRE_BIAS_NAMES = ("pre_bias", "b_pre", "bias_pre", "b_dec", "decoder.bias", "dec.bias")
DECODER_ONLY = ("b_dec", "decoder.bias", "dec.bias")
THRESHOLD_NAMES = ("threshold", "log_threshold", "jumprelu.threshold", "jumprelu.log_threshold")
IGNORED = re.compile(r"(W_dec|w_dec|dec(oder)?(\.W|\.weight)?|decoder_weight|.*n_forward.*|k)")


@dataclass(frozen=True, eq=False)
class SparseAutoencoder:
    """The encoder half of a sparse autoencoder: ``z = act((x - pre_bias) W + b)``.

    ``act`` is ReLU, then, if given, JumpReLU (``z`` where the pre-activation exceeds its threshold,
    Rajamanoharan et al. 2024) or top-k (the ``k`` largest pre-activations of each position, Gao et
    al. 2024). ``description`` is the JSON-ready record of what was read and how.
    """

    name: str
    n_inputs: int
    n_latents: int
    fingerprint: str
    description: dict[str, Any]
    weight_il: torch.Tensor
    bias_l: torch.Tensor | None
    pre_bias_i: torch.Tensor | None
    threshold_l: torch.Tensor | None
    k: int | None

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        """Latents ``(..., n_latents)`` of channels ``(..., n_inputs)``, float32."""
        x = tensor.float()
        place = x.device
        if self.pre_bias_i is not None:
            x = x - self.pre_bias_i.to(place)
        pre = x @ self.weight_il.to(place)
        if self.bias_l is not None:
            pre = pre + self.bias_l.to(place)
        latents = pre.relu()
        if self.threshold_l is not None:
            latents = latents * (pre > self.threshold_l.to(place))
        if self.k is not None and self.k < self.n_latents:
            kept = latents.topk(self.k, dim=-1)
            latents = torch.zeros_like(latents).scatter_(-1, kept.indices, kept.values)
        return latents


def _settings(path: Path, metadata: dict[str, str]) -> dict[str, Any]:
    """What ``cfg.json`` beside the file says, then what the file's metadata says."""
    settings: dict[str, Any] = {}
    beside = path.with_name("cfg.json")
    if beside.is_file():
        try:
            settings |= json.loads(beside.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(
                f"{beside} cannot be read as JSON ({error}); mend or remove it."
            ) from None
    for key, text in metadata.items():
        try:
            settings[key] = json.loads(text)
        except ValueError:
            settings[key] = text
    return settings


def _only(tensors: dict[str, torch.Tensor], names: Any, what: str, file: str) -> str | None:
    found = [name for name in names if name in tensors]
    if len(found) > 1:
        raise InputError(f"{file} has two {what} tensors, {found[0]} and {found[1]}; keep one.")
    return found[0] if found else None


def _layout(
    path: Path,
    stated: Any,
    sizes: tuple[int, int, int | None, int | None],
    names: tuple[str, str | None, str | None],
) -> str:
    """Which axis of the weight holds the latents, as stated or as the sizes tell.

    Args:
        path: for messages.
        stated: ``encoder_layout`` of the file's settings, or None.
        sizes: rows and columns of the weight, entries of the bias and of the input bias if any.
        names: of those three tensors.
    """
    rows, columns, n_bias, n_pre = sizes
    weight_name, bias_name, pre_name = names
    if stated not in (None, "inputs_latents", "latents_inputs"):
        raise InputError(
            f"{path.name} states encoder_layout {stated!r}; use 'inputs_latents' or "
            "'latents_inputs'."
        )
    fits = {
        "inputs_latents": n_bias in (None, columns) and n_pre in (None, rows),
        "latents_inputs": n_bias in (None, rows) and n_pre in (None, columns),
    }
    if not any(fits.values()) or (stated is not None and not fits[stated]):
        raise InputError(
            f"The tensors of {path.name} contradict each other: {weight_name} is {rows}x{columns}, "
            f"{bias_name} has {'no' if n_bias is None else n_bias} and {pre_name} has "
            f"{'no' if n_pre is None else n_pre} entries; save the autoencoder again."
        )
    if stated is not None:
        return stated
    possible = [key for key, fit in fits.items() if fit]
    convention = WEIGHT_NAMES[weight_name]
    if len(possible) == 1:
        return possible[0]
    if convention is not None:
        return "inputs_latents" if convention else "latents_inputs"
    raise InputError(
        f"{path.name} does not say which axis of the {rows}x{columns} {weight_name} holds "
        "the latents; state encoder_layout in its metadata, 'inputs_latents' or "
        "'latents_inputs'."
    )


def _latent_count(path: Path, k: Any, n_latents: int) -> int:
    try:
        is_count = float(k) == int(k) and 1 <= int(k) <= n_latents
    except (TypeError, ValueError):
        is_count = False
    if not is_count:
        raise InputError(f"{path.name} has k={k!r}; use a number from 1 to {n_latents}.")
    return int(k)


def load_sae(path: Path) -> SparseAutoencoder:
    """Read the encoder of a sparse autoencoder from safetensors.

    Tensors: encoder weight (``W_enc`` or ``encoder.weight``), bias (``b_enc``, ``encoder.bias``),
    optionally a bias taken off the input (``pre_bias``, ``b_dec``, ``decoder.bias``), a JumpReLU
    threshold (``threshold``, ``log_threshold``) or ``k``. The length of the biases tells which axis
    of the weight holds the latents; a square weight goes by the convention of its name (``W_enc``
    is inputs x latents, ``*.weight`` latents x inputs) or by metadata.

    The file's metadata, or a ``cfg.json`` beside it, may state ``name``, ``k``,
    ``encoder_layout`` (``inputs_latents`` or ``latents_inputs``) and ``apply_b_dec_to_input``
    (true unless stated: ``b_dec`` is subtracted; Gemma Scope files need false).

    Raises:
        InputError: the file is damaged, a tensor is missing or not understood, or the shapes
            contradict each other.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise InputError(f"The autoencoder {path} does not exist; give a .safetensors file.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path.name} cannot be read as safetensors ({error}); save the autoencoder again."
        ) from None
    settings = _settings(path, metadata)

    weight_name = _only(tensors, WEIGHT_NAMES, "encoder weight", path.name)
    bias_name = _only(tensors, BIAS_NAMES, "encoder bias", path.name)
    pre_name = _only(tensors, PRE_BIAS_NAMES, "input bias", path.name)
    threshold_name = _only(tensors, THRESHOLD_NAMES, "threshold", path.name)
    if weight_name is None or tensors[weight_name].ndim != 2:
        raise InputError(
            f"{path.name} has no encoder weight matrix (it has {', '.join(sorted(tensors)[:5])}); "
            "call it W_enc (inputs x latents) or encoder.weight (latents x inputs)."
        )
    used = {weight_name, bias_name, pre_name, threshold_name}
    strange = sorted(k for k in tensors if k not in used and not IGNORED.fullmatch(k))
    if strange:
        raise InputError(
            f"{path.name} has a tensor {strange[0]!r} that may change the latents and is not "
            "understood; keep encoder weight and bias, input bias, threshold and k."
        )
    normalisation = settings.get("normalize_activations", "none")
    if normalisation not in ("none", None, False):
        raise InputError(
            f"{path.name} asks for activation normalisation {normalisation!r}, which is not "
            "supported; fold it into the weights and set it to 'none'."
        )

    weight = tensors[weight_name].float()
    rows, columns = weight.shape
    bias = tensors[bias_name].float().reshape(-1) if bias_name else None
    pre = tensors[pre_name].float().reshape(-1) if pre_name else None
    threshold = tensors[threshold_name].float() if threshold_name else None
    if threshold_name and threshold is not None and "log_" in threshold_name:
        threshold = threshold.exp()

    sizes = (rows, columns, None if bias is None else len(bias), None if pre is None else len(pre))
    layout = _layout(
        path, settings.get("encoder_layout"), sizes, (weight_name, bias_name, pre_name)
    )
    if layout == "latents_inputs":
        weight = weight.T
    n_inputs, n_latents = weight.shape

    subtracts = pre is not None
    if pre_name in DECODER_ONLY and settings.get("apply_b_dec_to_input") is False:
        subtracts = False
    if threshold is not None and threshold.numel() not in (1, n_latents):
        raise InputError(
            f"{path.name} has {threshold.numel()} thresholds for {n_latents} latents; "
            "give one each."
        )
    k = tensors["k"].reshape(-1)[0].item() if "k" in tensors else settings.get("k")
    k = None if k is None else _latent_count(path, k, n_latents)

    name = re.sub(r"[^\w.-]+", "-", str(settings.get("name") or path.stem)) or "sae"
    description = {
        "name": name,
        "n_inputs": n_inputs,
        "n_latents": n_latents,
        "encoder_layout": layout,
        "subtracts_input_bias": subtracts,
        "activation": "jumprelu" if threshold is not None else "topk" if k else "relu",
        "k": k,
    }
    digest = hashlib.sha256(json.dumps({**description, "name": None}, sort_keys=True).encode())
    for key in sorted(n for n in used if n):
        tensor = tensors[key].contiguous()
        digest.update(f"|{key}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return SparseAutoencoder(
        name=name,
        n_inputs=n_inputs,
        n_latents=n_latents,
        fingerprint=digest.hexdigest(),
        description=description,
        weight_il=weight.contiguous(),
        bias_l=bias,
        pre_bias_i=pre if subtracts else None,
        threshold_l=threshold.reshape(-1) if threshold is not None else None,
        k=k,
    )
