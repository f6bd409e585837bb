"""Sparse autoencoders on top of a layer: their latents as neurons, from the libraries' files."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from csp_engine.errors import InputError
from csp_engine.networks.autoencoders.families import Encoding, encoding_of
from csp_engine.networks.autoencoders.files import read_sae_file

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
DECODER_NAMES = ("W_dec", "w_dec", "decoder.weight", "dec.weight", "decoder", "decoder_weight")
THRESHOLD_NAMES = ("threshold", "log_threshold", "jumprelu.threshold", "jumprelu.log_threshold")
GATE_NAMES = ("b_gate", "b_mag", "r_mag")
NORM_NAMES = ("latent_norm.weight", "latent_norm.bias")
IGNORED = re.compile(r"(W_dec|w_dec|dec(oder)?(\.W|\.weight)?|decoder_weight|.*n_forward.*|k)")
MOST_NAME = 200
ACTIVATIONS = (
    *("relu", "tanh_relu", "jumprelu", "jumprelu_from", "gated", "groupmax"),
    *("topk", "topk_raw", "topk_abs", "topk_signed", "linear"),
)
"""Rules from pre-activations to codes; see ``SparseAutoencoder``."""


@dataclass(frozen=True, eq=False)
class SparseAutoencoder:
    """The encoder half of a sparse autoencoder: ``z = act(scale * ((norm(x) - pre_bias) W + b))``.

    ``rule`` names ``act``: ``relu``; ``tanh_relu``; ``jumprelu`` (the ReLU where the
    pre-activation exceeds its threshold, Rajamanoharan et al. 2024; ``jumprelu_from``: reaches it);
    ``gated`` (a second bias decides what is on); ``topk`` (the ``k`` largest of each position, Gao
    et al. 2024, then ReLU; ``topk_raw``: without it; ``topk_abs``: of absolute values;
    ``topk_signed``: by absolute value, signs kept); ``groupmax`` (the largest of each of ``k``
    groups); ``linear``: none (directions). ``description`` is the JSON-ready record of what was
    read and how.
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
    rule: str = "relu"
    normalise: str = "none"
    scale_l: torch.Tensor | None = None
    code_scale_l: torch.Tensor | None = None
    gate: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None
    latent_norm: tuple[torch.Tensor, torch.Tensor] | None = None
    soft_cap: float | None = None

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        """Latents ``(..., n_latents)`` of channels ``(..., n_inputs)``, float32."""
        x = _normalised(tensor.float(), self.normalise)
        place = x.device
        if self.pre_bias_i is not None:
            x = x - self.pre_bias_i.to(place)
        pre = x @ self.weight_il.to(place)
        if self.gate is not None:
            gate_bias, magnitude_bias, magnitude = (part.to(place) for part in self.gate)
            codes = (pre * magnitude.exp() + magnitude_bias).relu() * (pre + gate_bias > 0)
        else:
            if self.bias_l is not None:
                pre = pre + self.bias_l.to(place)
            if self.latent_norm is not None:
                weight, bias = (part.to(place) for part in self.latent_norm)
                pre = torch.nn.functional.layer_norm(pre, (self.n_latents,), weight, bias)
            if self.scale_l is not None:
                pre = pre * self.scale_l.to(place)
            codes = self._activated(pre)
        if self.code_scale_l is not None:
            codes = codes * self.code_scale_l.to(place)
        if self.soft_cap is not None:
            codes = self.soft_cap * torch.tanh(codes / self.soft_cap)
        return codes

    def _activated(self, pre: torch.Tensor) -> torch.Tensor:
        if self.rule == "linear":
            return pre
        if self.rule == "tanh_relu":
            return pre.relu().tanh()
        if self.rule == "groupmax":
            assert self.k is not None
            groups = pre.relu().unflatten(-1, (self.k, -1))
            best = groups.max(dim=-1, keepdim=True)
            return torch.zeros_like(groups).scatter_(-1, best.indices, best.values).flatten(-2)
        values = pre.abs() if self.rule == "topk_abs" else pre
        codes = values if self.rule in ("topk_raw", "topk_abs", "topk_signed") else pre.relu()
        if self.threshold_l is not None:
            threshold = self.threshold_l.to(pre.device)
            is_on = codes >= threshold if self.rule == "jumprelu_from" else pre > threshold
            codes = codes * is_on
        if self.k is not None and self.k < self.n_latents:
            rank = pre.abs() if self.rule in ("topk_abs", "topk_signed") else codes
            kept = rank.topk(self.k, dim=-1).indices
            codes = torch.zeros_like(codes).scatter_(-1, kept, codes.gather(-1, kept))
        return codes


def _normalised(x: torch.Tensor, kind: str) -> torch.Tensor:
    """Inputs as SAELens normalises them before it encodes."""
    if kind == "layer_norm":
        x = x - x.mean(-1, keepdim=True)
        return x / (x.std(-1, keepdim=True) + 1e-5)
    if kind == "constant_norm_rescale":
        return x * (x.shape[-1] ** 0.5 / x.norm(dim=-1, keepdim=True))
    return x


def _only(
    tensors: dict[str, torch.Tensor], names: Iterable[str], what: str, file: str
) -> str | None:
    found = [name for name in names if name in tensors]
    if len(found) > 1:
        raise InputError(f"{file} has two {what} tensors, {found[0]} and {found[1]}; keep one.")
    return found[0] if found else None


def load_sae(path: Path) -> SparseAutoencoder:
    """Read the encoder of a sparse autoencoder from the file or folder that a library wrote.

    Understood are saev, SAELens, Prisma, dictionary_learning, sparsify, Overcomplete, MSAE and
    OpenAI's files (PyTorch files without pickled objects), and plain tensors: encoder weight
    (``W_enc`` or ``encoder.weight``), bias (``b_enc``, ``encoder.bias``), optionally a bias taken
    off the input (``pre_bias``, ``b_dec``, ``decoder.bias``), a JumpReLU threshold (``threshold``,
    ``log_threshold``) or ``k``. The length of the biases tells which axis of the weight holds the
    latents; a square weight goes by the convention of its name (``W_enc`` is inputs x latents,
    ``*.weight`` latents x inputs) or by ``encoder_layout``.

    The file's metadata, or a ``cfg.json`` or ``config.json`` beside it, holds the library's
    settings. For plain tensors it may state ``name``, ``k``, ``activation``, ``encoder_layout``
    (``inputs_latents`` or ``latents_inputs``), ``normalize_activations`` and
    ``apply_b_dec_to_input`` (true unless stated: ``b_dec`` is subtracted; Gemma Scope files need
    false).

    Raises:
        InputError: the file is damaged, a tensor or a setting is missing or not understood, or the
            shapes contradict each other.
    """
    found = read_sae_file(Path(path))
    encoding = encoding_of(found)
    return _assembled(encoding, found.file, found.name, found.settings)


@dataclass
class _Parts:
    """The tensors of an encoding under what they are."""

    weight_name: str
    weight: torch.Tensor
    bias_name: str | None
    bias: torch.Tensor | None
    pre_name: str | None
    pre: torch.Tensor | None
    threshold: torch.Tensor | None
    gate: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None
    decoder_name: str | None
    used: list[str]


def _parts(encoding: Encoding, file: str) -> _Parts:
    """Tell the tensors apart by their names, and refuse those that nobody understands."""
    tensors = encoding.tensors
    weight_name = _only(tensors, WEIGHT_NAMES, "encoder weight", file)
    is_gated = encoding.activation == "gated"
    bias_name = None if is_gated else _only(tensors, BIAS_NAMES, "encoder bias", file)
    readable = [n for n in PRE_BIAS_NAMES if n not in encoding.ignored]
    pre_name = _only(tensors, readable, "input bias", file)
    threshold_name = _only(tensors, THRESHOLD_NAMES, "threshold", file)
    decoder_name = None
    if encoding.decoder_norm:
        decoder_name = _only(tensors, DECODER_NAMES, "decoder weight", file)
    if weight_name is None or tensors[weight_name].ndim != 2:
        raise InputError(
            f"{file} has no encoder weight matrix (it has {', '.join(sorted(tensors)[:5])}); "
            "call it W_enc (inputs x latents) or encoder.weight (latents x inputs)."
        )
    more = (*(GATE_NAMES if is_gated else ()), *NORM_NAMES)
    names = (weight_name, bias_name, pre_name, threshold_name, decoder_name)
    used = {*(n for n in names if n), *(n for n in more if n in tensors)}
    strange = sorted(
        k for k in tensors if k not in used | encoding.ignored and not IGNORED.fullmatch(k)
    )
    if strange:
        raise InputError(
            f"{file} has a tensor {strange[0]!r} that may change the latents and is not "
            "understood; keep encoder weight and bias, input bias, threshold and k."
        )
    gate = None
    if is_gated:
        if any(n not in tensors for n in GATE_NAMES):
            raise InputError(f"{file} is gated and lacks one of {', '.join(GATE_NAMES)}.")
        first, second, third = (tensors[n].float().reshape(-1) for n in GATE_NAMES)
        gate = (first, second, third)
    threshold = tensors[threshold_name].float().reshape(-1) if threshold_name else None
    if threshold_name and threshold is not None and "log_" in threshold_name:
        threshold = threshold.exp()
    return _Parts(
        weight_name=weight_name,
        weight=tensors[weight_name].float(),
        bias_name=GATE_NAMES[0] if gate else bias_name,
        bias=tensors[bias_name].float().reshape(-1) if bias_name else None,
        pre_name=pre_name,
        pre=tensors[pre_name].float().reshape(-1) if pre_name else None,
        threshold=threshold,
        gate=gate,
        decoder_name=decoder_name,
        used=sorted(used),
    )


def _subtracts(parts: _Parts, stated: bool | None, file: str) -> bool:
    """Whether a bias is taken off the input: what is called the decoder's only where so stated."""
    if parts.pre is None or parts.pre_name not in DECODER_ONLY:
        return parts.pre is not None
    if stated is None and parts.threshold is not None and bool((parts.pre != 0).any()):
        raise InputError(
            f"{file} does not say whether {parts.pre_name} is taken off the input, which libraries "
            "of thresholded autoencoders do differently; state apply_b_dec_to_input in its "
            "metadata or a cfg.json."
        )
    return stated is not False


def _rule(encoding: Encoding, parts: _Parts, n_latents: int, file: str) -> tuple[str, int | None]:
    """The activation and how many latents it keeps, if the tensors allow it."""
    threshold = parts.threshold
    if threshold is not None and threshold.numel() not in (1, n_latents):
        raise InputError(
            f"{file} has {threshold.numel()} thresholds for {n_latents} latents; give one each."
        )
    tensors = encoding.tensors
    k = tensors["k"].reshape(-1)[0].item() if "k" in tensors else encoding.k
    told = "jumprelu" if threshold is not None else "topk" if k else "relu"
    rule = encoding.activation or told
    if rule not in ACTIVATIONS:
        raise InputError(f"{file} states activation {rule!r}; use one of {', '.join(ACTIVATIONS)}.")
    if rule.startswith("jumprelu") and threshold is None:
        raise InputError(f"{file} is a JumpReLU autoencoder and lacks its threshold.")
    if threshold is not None and not rule.startswith("jumprelu"):
        raise InputError(
            f"{file} states activation {rule!r} and has a threshold; keep one of them."
        )
    return rule, _count(k, n_latents, rule, file)


def _decoder_norm(encoding: Encoding, parts: _Parts, n_latents: int, file: str) -> Any:
    """The length of each latent's decoder row, where codes are scaled by it."""
    if not encoding.decoder_norm:
        return None
    name = parts.decoder_name
    if name is None:
        raise InputError(f"{file} scales by its decoder's norms and lacks W_dec.")
    is_by_latent = name.lower() in ("w_dec", "decoder")  # latents x outputs
    norm_l = encoding.tensors[name].float().norm(dim=1 if is_by_latent else 0)
    if norm_l.numel() != n_latents:
        raise InputError(
            f"{file} has {norm_l.numel()} decoder rows for {n_latents} latents; save it again."
        )
    return norm_l


def _assembled(
    encoding: Encoding, file: str, stem: str, settings: dict[str, Any]
) -> SparseAutoencoder:
    parts = _parts(encoding, file)
    tensors = encoding.tensors
    rows, columns = parts.weight.shape
    layout = _layout(
        settings.get("encoder_layout"),
        file,
        parts.weight_name,
        (rows, columns),
        (parts.bias_name, parts.bias if parts.gate is None else parts.gate[0]),
        (parts.pre_name, parts.pre),
    )
    weight_il = parts.weight.T if layout == "latents_inputs" else parts.weight
    n_inputs, n_latents = weight_il.shape
    subtracts = _subtracts(parts, encoding.subtract, file)
    rule, k = _rule(encoding, parts, n_latents, file)
    scale_l = _decoder_norm(encoding, parts, n_latents, file)
    norm = None
    if NORM_NAMES[0] in tensors:
        norm = (tensors[NORM_NAMES[0]].float(), tensors[NORM_NAMES[1]].float())

    name = re.sub(r"[^\w.-]+", "-", str(settings.get("name") or stem)) or "sae"
    description: dict[str, Any] = {
        "name": name,
        "n_inputs": n_inputs,
        "n_latents": n_latents,
        "encoder_layout": layout,
        "subtracts_input_bias": subtracts,
        "activation": rule,
        "k": k,
    }
    # Later additions, left out where they say nothing, so that older fingerprints stay the same.
    if encoding.normalise != "none":
        description["normalise"] = encoding.normalise
    if encoding.decoder_norm:
        description["decoder_norm"] = encoding.decoder_norm
    if encoding.soft_cap is not None:
        description["soft_cap"] = encoding.soft_cap
    if settings.get("latents") is not None:
        description["latents"] = _latent_names(settings["latents"], n_latents, file)
    digest = hashlib.sha256(json.dumps({**description, "name": None}, sort_keys=True).encode())
    for key in parts.used:
        tensor = tensors[key].contiguous()
        digest.update(f"|{key}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return SparseAutoencoder(
        name=name,
        n_inputs=n_inputs,
        n_latents=n_latents,
        fingerprint=digest.hexdigest(),
        description=description,
        weight_il=weight_il.contiguous(),
        bias_l=parts.bias,
        pre_bias_i=parts.pre if subtracts else None,
        threshold_l=parts.threshold,
        k=k,
        rule=rule,
        normalise=encoding.normalise,
        scale_l=scale_l if encoding.decoder_norm == "before" else None,
        code_scale_l=scale_l if encoding.decoder_norm == "after" else None,
        gate=parts.gate,
        latent_norm=norm,
        soft_cap=encoding.soft_cap,
    )


def _latent_names(stated: Any, n_latents: int, file: str) -> list[str]:
    if not isinstance(stated, list) or len(stated) != n_latents:
        raise InputError(f"{file} names latents, but not {n_latents}; name each, or none.")
    return [str(name)[:MOST_NAME] for name in stated]


def _count(k: Any, n_latents: int, rule: str, file: str) -> int | None:
    """How many latents are kept, if the rule or the file asks for that."""
    if k is None:
        if rule.startswith("topk") or rule == "groupmax":
            raise InputError(f"{file} is a top-k autoencoder and lacks k; state it in a cfg.json.")
        return None
    is_number = isinstance(k, int | float) and not isinstance(k, bool)
    if not is_number or not 1 <= k <= n_latents or k != int(k):
        raise InputError(f"{file} has k={k!r}; use a number from 1 to {n_latents}.")
    if rule == "groupmax" and n_latents % int(k):
        raise InputError(f"{file} has {n_latents} latents, which are not {k} equal groups.")
    return int(k)


def _layout(
    stated: Any,
    file: str,
    weight_name: str,
    shape: tuple[int, int],
    bias: tuple[str | None, torch.Tensor | None],
    pre: tuple[str | None, torch.Tensor | None],
) -> str:
    """Which axis of the weight holds the latents."""
    rows, columns = shape
    n_bias = None if bias[1] is None else len(bias[1])
    n_pre = None if pre[1] is None else len(pre[1])
    if stated not in (None, "inputs_latents", "latents_inputs"):
        raise InputError(
            f"{file} states encoder_layout {stated!r}; use 'inputs_latents' or 'latents_inputs'."
        )
    fits = {
        "inputs_latents": n_bias in (None, columns) and n_pre in (None, rows),
        "latents_inputs": n_bias in (None, rows) and n_pre in (None, columns),
    }
    if not any(fits.values()) or (stated is not None and not fits[stated]):
        raise InputError(
            f"The tensors of {file} contradict each other: {weight_name} is {rows}x{columns}, "
            f"{bias[0]} has {'no' if n_bias is None else n_bias} and {pre[0]} has "
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
        f"{file} does not say which axis of the {rows}x{columns} {weight_name} holds the latents; "
        "state encoder_layout in its metadata, 'inputs_latents' or 'latents_inputs'."
    )
