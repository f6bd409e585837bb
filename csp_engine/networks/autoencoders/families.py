"""How each library's autoencoders encode, from what lies in their files.

Read from the libraries' published code: saev, SAELens, Prisma, dictionary_learning, sparsify,
Overcomplete, MSAE and OpenAI's. A setting that is not understood is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from csp_engine.errors import InputError
from csp_engine.networks.autoencoders.files import SaeFile
from csp_engine.networks.autoencoders.settings import require_known

LENS = {"standard", "topk", "jumprelu", "gated", "transcoder", "skip_transcoder"} | {
    "jumprelu_transcoder",
    "jumprelu_skip_transcoder",
}
"""Architectures of SAELens, as it saves them for use."""
OWN = {
    "name",
    "k",
    "encoder_layout",
    "apply_b_dec_to_input",
    "normalize_activations",
    "activation",
    "soft_cap",
    "latents",
}
"""Settings of this project's own, for files that no library wrote."""


@dataclass
class Encoding:
    """One autoencoder's rule.

    ``activation`` is empty where the tensors tell it (a threshold, a ``k``, else ReLU);
    ``subtract`` is None where the name of the bias tells; ``decoder_norm`` says whether
    pre-activations (``before``) or codes (``after``) are multiplied by the length of their decoder
    row.
    """

    tensors: dict[str, torch.Tensor]
    activation: str = ""
    k: Any = None
    subtract: bool | None = None
    normalise: str = "none"
    decoder_norm: str = ""
    soft_cap: float | None = None
    ignored: set[str] = field(default_factory=set)


def encoding_of(found: SaeFile) -> Encoding:
    """The rule of the library that wrote a file.

    Raises:
        InputError: a setting is missing or not understood.
    """
    settings, tensors = found.settings, found.tensors
    if found.header is not None:
        return _saev(found, found.header)
    if isinstance(settings.get("trainer"), Mapping) or "dict_class" in settings:
        return _dictionary_learning(found)
    if any(key.startswith("encoder.final_block.") for key in tensors):
        return _overcomplete(found)
    if "latent_bias" in tensors:
        return _openai(found)
    if "group_sizes" in tensors or ({"k", "threshold"} <= set(tensors)):
        return _dictionary_learning(found)
    is_sparsify = "k" in settings and {"encoder.weight", "W_dec"} <= set(tensors)
    if is_sparsify or "transcode" in settings or "num_latents" in settings:
        return _sparsify(found)
    lens = ("architecture", "activation_fn", "activation_fn_str", "d_sae", "hook_name")
    if any(key in settings for key in lens):
        return _lens(found)
    return _own(found)


def _ask(found: SaeFile, what: str, option: str) -> InputError:
    return InputError(
        f"{found.file} does not say {what}; state {option} in a cfg.json beside it (or in the "
        "metadata of a .safetensors file)."
    )


def _own(found: SaeFile) -> Encoding:
    """Plain tensors with this project's settings."""
    settings = found.settings
    require_known(settings, OWN, found.file)
    is_told = bool({"activation", "k"} & set(settings)) or any(
        "threshold" in t for t in found.tensors
    )
    if not is_told and "W_dec" in found.tensors:
        raise _ask(
            found,
            "its activation (libraries that name tensors so train top-k ones, too)",
            "'activation' as relu, or 'k'",
        )
    return Encoding(
        dict(found.tensors),
        activation=str(settings.get("activation") or ""),
        k=settings.get("k"),
        subtract=settings.get("apply_b_dec_to_input"),
        normalise=_normalisation(found, settings.get("normalize_activations")),
        soft_cap=settings.get("soft_cap"),
    )


def _normalisation(found: SaeFile, asked: Any) -> str:
    if asked in (None, False, "none", "None"):
        return "none"
    if asked in ("layer_norm", "constant_norm_rescale"):
        return asked
    raise InputError(
        f"{found.file} asks for activation normalisation {asked!r}, which is not supported; fold "
        "it into the weights and set it to 'none'."
    )


# --- saev ---------------------------------------------------------------------------------------


def _saev(found: SaeFile, header: Mapping[str, Any]) -> Encoding:
    """OSU's saev, headers of version 0 (none) to 5: no bias is taken off the input."""
    schema = header.get("schema", 0)
    if schema not in range(6):
        raise InputError(f"{found.file} has a saev header of version {schema!r}; 0 to 5 are known.")
    settings = dict(header.get("cfg", {})) if "schema" in header else dict(header)
    activation = settings.pop("activation", None)
    kind, params = "Relu", {}
    if isinstance(activation, Mapping):
        kind, params = str(activation.get("cls")), dict(activation.get("params") or {})
    elif schema == 1 and header.get("cls") in ("Relu", "TopK", "BatchTopK"):
        kind, params = header["cls"], {"top_k": settings.get("top_k", 32)}
    elif schema >= 2:
        raise _ask(found, "which activation it has", "'activation'")
    settings.pop("top_k", None)
    require_known(settings, set(), found.file)
    require_known(params, {"top_k", "key", "kind", "sparsity", "aux", "momentum"}, found.file)
    tensors = dict(found.tensors)
    threshold = tensors.pop("activation.threshold", None)
    encoding = Encoding(tensors, subtract=False)
    if kind == "Relu":
        encoding.activation = "relu"
    elif kind == "BatchTopK" and threshold is not None:
        # What training kept: the smallest code that survived, on average; none if not positive.
        encoding.activation = "relu"
        if float(threshold) > 0:
            encoding.activation = "jumprelu"
            tensors["threshold"] = threshold
    elif kind == "TopK" or (kind == "BatchTopK" and schema <= 2):
        # Version 2 and before took the largest of each input for BatchTopK, too.
        encoding.activation, encoding.k = "topk_raw", params.get("top_k", 32)
    elif kind == "BatchTopK":
        raise _ask(found, "which threshold its BatchTopK learned", "'threshold' as a tensor")
    else:
        raise InputError(f"{found.file} has activation {kind!r}; Relu, TopK, BatchTopK are known.")
    return encoding


# --- SAELens and Prisma -------------------------------------------------------------------------


def _lens(found: SaeFile) -> Encoding:
    """SAELens and Prisma: ``act((norm(x) - b_dec) W_enc + b_enc)`` and their variants."""
    settings = dict(found.settings)
    known = OWN | {
        "architecture",
        "activation_fn",
        "activation_fn_str",
        "activation_fn_kwargs",
        "reshape_activations",
        "rescale_acts_by_decoder_norm",
        "is_transcoder",
        "normalize_decoder",
    }
    require_known(settings, known, found.file)
    architecture = settings.get("architecture", "standard")
    if architecture not in LENS:
        raise InputError(
            f"{found.file} is of architecture {architecture!r}; {', '.join(sorted(LENS))} are "
            "known (BatchTopK is saved as jumprelu for use)."
        )
    if settings.get("is_transcoder"):
        raise InputError(f"{found.file} is a transcoder of Prisma, which is not supported.")
    if settings.get("reshape_activations") not in (None, "none", "hook_z"):
        raise InputError(
            f"{found.file} reshapes its inputs by {settings['reshape_activations']!r}, which is "
            "not understood."
        )
    is_transcoder = "transcoder" in architecture
    tensors = dict(found.tensors)
    encoding = Encoding(
        tensors,
        subtract=not is_transcoder and settings.get("apply_b_dec_to_input", True) is not False,
        normalise=_normalisation(found, settings.get("normalize_activations")),
        # Only decoding reads these.
        ignored={"scaling_factor", "finetuning_scaling_factor", "W_skip"},
    )
    if is_transcoder:
        encoding.ignored.add("b_dec")
    told = settings.get("activation_fn") or settings.get("activation_fn_str") or "relu"
    kwargs = settings.get("activation_fn_kwargs") or {}
    if "jumprelu" in architecture:
        encoding.activation = "jumprelu"
    elif architecture == "gated":
        encoding.activation = "gated"
        encoding.ignored.add("b_enc")
        if settings.get("normalize_decoder"):
            encoding.decoder_norm = "after"
    elif architecture == "topk" or told == "topk":
        encoding.activation = "topk"
        require_known(kwargs, {"k"}, found.file)
        encoding.k = settings.get("k", kwargs.get("k"))
        if encoding.k is None:
            raise _ask(found, "how many latents are kept", "'k'")
    elif told in ("relu", "tanh-relu"):
        encoding.activation = told.replace("-", "_")
    else:
        raise InputError(f"{found.file} has activation {told!r}, which is not understood.")
    if told != "relu" and encoding.activation in ("jumprelu", "gated"):
        raise InputError(
            f"{found.file} has activation {told!r} in a {architecture} autoencoder, which is not "
            "understood."
        )
    if settings.get("rescale_acts_by_decoder_norm"):
        encoding.decoder_norm = "before"
    return encoding


# --- dictionary_learning ------------------------------------------------------------------------


def _dictionary_learning(found: SaeFile) -> Encoding:
    """Saprmarks' dictionary_learning, by its class."""
    settings = dict(found.settings)
    trainer = settings.pop("trainer", None)
    if isinstance(trainer, Mapping):
        settings |= trainer
    kind = settings.get("dict_class")
    tensors = dict(found.tensors)
    if kind is None and "group_sizes" in tensors:
        kind = "MatryoshkaBatchTopKSAE"
    if kind is None:
        raise _ask(
            found,
            "whether it keeps the largest of each input or all above its threshold",
            "'dict_class' as AutoEncoderTopK or BatchTopKSAE",
        )
    require_known(settings, {"dict_class", "k", "name", "group_sizes", "p"}, found.file)
    encoding = Encoding(tensors, ignored={"group_sizes"})
    names = {
        "bias": "pre_bias",
        "decoder_bias": "pre_bias",
        "gate_bias": "b_gate",
        "mag_bias": "b_mag",
    }
    for old, new in names.items():
        if old in tensors:
            tensors[new] = tensors.pop(old)
    k, threshold = tensors.pop("k", None), tensors.get("threshold")
    if kind == "AutoEncoder":
        encoding.activation = "relu"
    elif kind == "AutoEncoderNew":
        encoding.activation, encoding.subtract = "relu", False
    elif kind == "GatedAutoEncoder":
        encoding.activation, encoding.decoder_norm = "gated", "after"
    elif kind == "JumpReluAutoEncoder":
        encoding.activation, encoding.subtract = "jumprelu", False
    elif kind == "AutoEncoderTopK":
        tensors.pop("threshold", None)  # kept in training, read on request only
        encoding.activation = "topk"
        encoding.k = settings.get("k") if k is None else int(k)
    elif kind in ("BatchTopKSAE", "MatryoshkaBatchTopKSAE"):
        if threshold is None:
            raise _ask(found, "which threshold its BatchTopK learned", "'threshold' as a tensor")
        encoding.activation, encoding.subtract = "jumprelu", True
    else:
        raise InputError(f"{found.file} is a {kind!r} of dictionary_learning, which is not known.")
    return encoding


# --- sparsify -----------------------------------------------------------------------------------


def _sparsify(found: SaeFile) -> Encoding:
    """EleutherAI's sparsify: ReLU, then the largest, or the largest of each group."""
    settings = found.settings
    known = {"k", "activation", "transcode", "signed", "name"}
    require_known(settings, known, found.file)
    encoding = Encoding(
        dict(found.tensors),
        k=settings.get("k"),
        subtract=not settings.get("transcode"),
        ignored={"W_skip"},
    )
    if settings.get("transcode"):
        encoding.ignored.add("b_dec")
    activation = settings.get("activation", "topk")
    if activation not in ("topk", "groupmax") or (settings.get("signed") and activation != "topk"):
        raise InputError(
            f"{found.file} has activation {activation!r} of sparsify; topk and groupmax are known."
        )
    if encoding.k is None:
        raise _ask(found, "how many latents are kept", "'k'")
    encoding.activation = "topk_signed" if settings.get("signed") else activation
    return encoding


# --- Overcomplete -------------------------------------------------------------------------------


def _overcomplete(found: SaeFile) -> Encoding:
    """Kempner's Overcomplete: linear, normalised over latents, ReLU; then top-k or thresholds."""
    settings = found.settings
    known = {"k", "top_k", "activation", "running_threshold", "sae_class", "name"}
    require_known(settings, known, found.file)
    if any(key.startswith("encoder.mlp_blocks.") for key in found.tensors):
        raise InputError(
            f"{found.file} has an encoder of several layers, which is not supported; use one with "
            "a single block."
        )
    tensors: dict[str, torch.Tensor] = {}
    final = "encoder.final_block."
    for key, value in found.tensors.items():
        if not key.startswith((final, "dictionary")):
            tensors[key] = value
    weight, bias = (
        found.tensors[f"{final}0.weight"].float(),
        found.tensors[f"{final}0.bias"].float(),
    )
    norm = {k.removeprefix(f"{final}1."): v for k, v in found.tensors.items() if f"{final}1." in k}
    if {"running_mean", "running_var"} <= set(norm):
        scale = norm["weight"].double() / (norm["running_var"].double() + 1e-5).sqrt()
        weight = (weight.double() * scale[:, None]).float()
        moved = (bias.double() - norm["running_mean"].double()) * scale + norm["bias"].double()
        bias = moved.float()
    elif norm:
        tensors |= {"latent_norm.weight": norm["weight"], "latent_norm.bias": norm["bias"]}
    tensors |= {"encoder.weight": weight, "encoder.bias": bias}
    encoding = Encoding(tensors)
    k = settings.get("k", settings.get("top_k"))
    if "thresholds" in tensors:
        tensors["threshold"] = tensors.pop("thresholds").float().exp()
        encoding.activation = "jumprelu_from"
    elif settings.get("running_threshold") is not None:
        tensors["threshold"] = torch.tensor([float(settings["running_threshold"])])
        encoding.activation = "jumprelu_from"
    elif k is not None:
        encoding.activation, encoding.k = "topk", k
    elif settings.get("activation") == "relu":
        encoding.activation = "relu"
    else:
        raise _ask(
            found,
            "how its codes are made sparse",
            "'top_k', 'running_threshold' or 'activation' as relu",
        )
    return encoding


# --- OpenAI and MSAE ----------------------------------------------------------------------------


def _openai(found: SaeFile) -> Encoding:
    """OpenAI's sparse_autoencoder and MSAE: ``act((x - pre_bias) W + latent_bias)``."""
    settings = dict(found.settings)
    known = OWN | {
        "activation_state_dict",
        "normalize",
        "latent_soft_cap",
        "nesting_list",
        "mean",
        "std",
    }
    require_known(settings, known, found.file)
    told = str(settings.get("activation") or "")
    tensors = dict(found.tensors)
    k = settings.get("k")
    inner = settings.get("activation_state_dict")
    if isinstance(inner, Mapping) and "k" in inner:
        k = int(inner["k"])
    if settings.get("nesting_list"):
        k = max(settings["nesting_list"])
    kind, _, number = told.partition("_")
    if number.isdigit():
        k = int(number)
    for name in ("activation.log_threshold", "dead_activations.log_threshold"):
        if name in tensors:
            tensors["log_threshold"] = tensors.pop(name)
    if "log_threshold" in tensors and kind in ("", "JumpReLU"):
        kind = "JumpReLU"
    if not kind and k is None:
        raise _ask(
            found,
            "its activation (autoencoders with such names are mostly top-k)",
            "'activation' (TopKReLU_64, ReLU, …) or 'k'",
        )
    rules = {
        "": "topk",
        "topk": "topk",
        "relu": "relu",
        "ReLU": "relu",
        "JumpReLU": "jumprelu",
        "TopKReLU": "topk",
        "TopKabs": "topk_abs",
        "TopKabsReLU": "topk_abs",
        # OpenAI's TopK has a ReLU behind it; MSAE's of that name keeps the values as they are.
        "TopK": "topk_raw" if "encoder" in tensors else "topk",
    }
    if kind not in rules:
        raise InputError(
            f"{found.file} has activation {told!r}, which is not understood; BatchTopK codes "
            "depend on the batch unless a threshold was learned."
        )
    normalise = _normalisation(found, settings.get("normalize_activations"))
    if settings.get("normalize"):
        if "encoder" in tensors:
            raise InputError(
                f"{found.file} asks for 'normalize', which is not supported for MSAE; use an "
                "autoencoder of plain activations."
            )
        normalise = "layer_norm"
    for name in ("mean", "std"):
        if settings.get(name) is not None:
            raise InputError(
                f"{found.file} has {name!r} of its inputs, which is not supported; fold it into "
                "the weights and take it out."
            )
    cap = settings.get("latent_soft_cap", settings.get("soft_cap"))
    if cap is None and {"encoder", "latents_activation_frequency"} <= set(tensors):
        raise _ask(found, "where its codes are capped", "'latent_soft_cap' (0 for not at all)")
    return Encoding(
        tensors,
        activation=rules[kind],
        k=k if rules[kind].startswith("topk") else None,
        normalise=normalise,
        soft_cap=float(cap) if cap and float(cap) > 0 else None,
        ignored={"stats_last_nonzero", "latents_activation_frequency"},
    )
