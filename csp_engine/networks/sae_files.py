"""Files of sparse autoencoders: where the tensors lie and what is said about them.

Libraries save a safetensors or PyTorch file with a ``cfg.json`` or ``config.json`` beside it, or
(saev) one line of JSON before the PyTorch bytes. Read is what lies there and nothing is run.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from csp_engine.errors import InputError
from csp_engine.networks.loading.checkpoints import load_tensors

WEIGHT_FILES = (
    "sae_weights.safetensors",
    "sae.safetensors",
    "model.safetensors",
    "sae.pt",
    "ae.pt",
    "weights.pt",
)
"""What the libraries call the file of weights in a folder, the usual first."""
SETTINGS_FILES = ("cfg.json", "config.json")
TORCH_SUFFIXES = (".pt", ".pth", ".th", ".bin", ".ckpt")


@dataclass(frozen=True)
class SaeFile:
    """The tensors of an autoencoder, the settings that lie with them and its name.

    ``header`` is the line before the bytes of a saev file.
    """

    file: str
    name: str
    tensors: dict[str, torch.Tensor]
    settings: dict[str, Any]
    header: dict[str, Any] | None = None


FLAGS = frozenset(
    {"apply_b_dec_to_input", "rescale_acts_by_decoder_norm", "is_transcoder", "transcode", "signed",
     "normalize_decoder"}
)  # fmt: skip
"""Settings that are true or false and change codes."""


def read_sae_file(path: Path) -> SaeFile:
    """Read the file, or the folder, of an autoencoder.

    Raises:
        InputError: nothing is there, or it is damaged or holds pickled objects.
    """
    path = Path(path)
    name = path.stem
    if path.is_dir():
        name = path.name
        held = next((path / file for file in WEIGHT_FILES if (path / file).is_file()), None)
        if held is None:
            raise InputError(
                f"The folder {path} holds no autoencoder; give its file, or a folder with "
                f"{' or '.join(WEIGHT_FILES[:2])}."
            )
        path = held
    if not path.is_file():
        raise InputError(f"The autoencoder {path} does not exist; give a .safetensors file.")
    header = None
    metadata: dict[str, str] = {}
    if path.suffix == ".safetensors":
        tensors, metadata = _safetensors(path)
        content: Mapping[Any, Any] = {}
    elif path.suffix in TORCH_SUFFIXES:
        header, content = _torch(path)
        tensors = {}
    else:
        raise InputError(
            f"{path.name} is not a file of an autoencoder; use .safetensors or "
            f"{', '.join(TORCH_SUFFIXES)}."
        )
    settings = _beside(path)
    if content:
        inner = next(
            (content[k] for k in ("state_dict", "model") if isinstance(content.get(k), Mapping)),
            content,
        )
        tensors = {str(k): v for k, v in inner.items() if isinstance(v, torch.Tensor)}
        told = {**content, **(inner if inner is not content else {})}
        for key, value in told.items():
            if value is not inner and not isinstance(value, torch.Tensor):
                settings[str(key)] = value
    for key, text in metadata.items():
        try:
            settings[key] = json.loads(text)
        except (ValueError, RecursionError):
            settings[key] = text
    if not tensors:
        raise InputError(f"{path.name} holds no tensors; save the autoencoder's state_dict in it.")
    prefixes = {key.partition(".")[0] for key in tensors}
    if len(prefixes) == 1 and prefixes <= {"module", "_orig_mod", "sae", "autoencoder"}:
        tensors = {key.partition(".")[2]: value for key, value in tensors.items()}
    settings = {key: _flag(key, value, path.name) for key, value in settings.items()}
    return SaeFile(path.name, name, tensors, settings, header)


def _flag(key: str, value: Any, file: str) -> Any:
    """A setting, flags as True or False: metadata hold text, and Python writes it with capitals."""
    if key not in FLAGS or value is None:
        return value
    words = {"true": True, "1": True, "false": False, "0": False, "none": None, "null": None}
    text = str(value).strip().casefold()
    if text not in words:
        raise InputError(f"{file} has {key}={str(value)[:40]!r}; use true or false.")
    return words[text]


def _safetensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            return {key: file.get_tensor(key) for key in file.keys()}, metadata  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path.name} cannot be read as safetensors ({error}); save the autoencoder again."
        ) from None


def _torch(path: Path) -> tuple[dict[str, Any] | None, Mapping[Any, Any]]:
    """The line before the bytes, if there is one, and what the bytes hold."""
    header = None
    content = path.read_bytes()
    if content[:1] == b"{":
        line, _, content = content.partition(b"\n")
        try:
            header = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"The first line of {path.name} is not JSON ({error}).") from None
    loaded = load_tensors(io.BytesIO(content), path.name)
    if not isinstance(loaded, Mapping):
        raise InputError(f"{path.name} holds a {type(loaded).__name__}, not a state_dict.")
    return header, loaded


def _beside(path: Path) -> dict[str, Any]:
    """What the settings file beside the weights says."""
    for name in SETTINGS_FILES:
        beside = path.with_name(name)
        if not beside.is_file():
            continue
        try:
            settings = json.loads(beside.read_text("utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(
                f"{beside} cannot be read as JSON ({error}); mend or remove it."
            ) from None
        if not isinstance(settings, dict):
            raise InputError(f"{beside} is not a JSON object; mend or remove it.")
        if name == "config.json" and ("model_type" in settings or "architectures" in settings):
            continue  # of a transformers model that lies in the same folder
        return settings
    return {}


HARMLESS = re.compile(
    r"name|format|d_in|d_sae|d_model|d_vit|d_out|dtype|device|seed|metadata|commit|lib|schema|"
    r"version|model_\w+|hook_\w+|hookpoint|layer|layers|layer_\w+|prepend_bos|context_size|"
    r"seqpos_slice|neuronpedia\w*|sae_lens\w*|dataset\w*|from_pretrained_path|is_dataset_tokenized|"
    r"streaming|use_cached_activations|cached_activations_path|exp_factor|expansion_factor|"
    r"num_latents|n_latents|n_inputs|dict_size|activation_dim|l0\w*|l1\w*|lp_norm|lr\w*|adam_\w+|"
    r"mse_loss\w*|aux\w*|use_ghost_grads|ghost_grads|dead_\w+|feature_sampling\w*|resample\w*|"
    r"train\w*|n_batches\w*|n_eval\w*|eval\w*|store_batch\w*|batch_size\w*|wandb\w*|log\w*|"
    r"checkpoint\w*|n_checkpoints|save_path|b_dec_init_method|initiali[sz]ation\w*|init_\w+|"
    r"decoder_orthogonal_init|decoder_heuristic_init\w*|decoder_init_norm|"
    r"normalize_sae_decoder|scale_sparsity_penalty_by_decoder_norm|noise_scale|mse\w*|"
    r"finetuning\w*|tokens_per_buffer|act_store_device|autocast\w*|compile\w*|sparsity\w*|"
    r"remove_parallel_grads|normalize_w_dec|n_reinit_samples|reinit\w*|normalize_decoder|"
    r"multi_topk|skip_connection|tied|bias_init|relative_importance|matryoshka_widths|"
    r"use_sparse_activations|topk_threshold_lr|jumprelu_\w+|pre_act_loss\w*|bandwidth|"
    r"cls_token_only|use_patches_only|return_out_only|is_training|_?device|verbose|"
    r"num_\w+|max_\w+|image_size|patch_size|architecture|type|sae_lens_version|total_\w+|"
    r"warmup\w*|decay\w*|steps|buffer|submodule_name|lm_name|trainer_class|k_anneal\w*|"
    r"threshold_(beta|start_step)|group_(fractions|weights)|top_k_aux|ema\w*|epoch\w*|step|"
    r"optimizer\w*|scheduler\w*|cfg|ctx_len|io|refresh\w*|n_ctxs|data\w*|run_name|sharded\w*|"
    r"distribute\w*|hub\w*|push\w*|hf_\w+|loss_fn|grad_\w+|micro_\w+|weight_decay|clip_\w*"
)
"""Settings of training and bookkeeping that change no code of a trained autoencoder."""


def require_known(settings: Mapping[str, Any], known: set[str], file: str) -> None:
    """Refuse settings that might change the codes and are not understood.

    Raises:
        InputError: naming the first.
    """
    for key, value in settings.items():
        if key in known or HARMLESS.fullmatch(key) or value in (None, False):
            continue
        raise InputError(
            f"The settings of {file} have {key}={str(value)[:60]!r}, which may change the latents "
            "and is not understood; fold it into the weights and take it out."
        )
