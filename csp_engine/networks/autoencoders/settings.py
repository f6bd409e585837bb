"""Settings of sparse autoencoders: read strictly, joined, and refused where not understood.

They lie in JSON or YAML beside the weights, in the metadata of safetensors files (a text for each
key) and in PyTorch files. What may change the latents must be said once, or twice alike.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from csp_engine.errors import InputError

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
_CHANGES_INPUTS = re.compile(
    r"(data|dataset|layer|layers|model|total|max_act\w*)"
    r"_?\w*(mean|std|norm|normali[sz]e\w*|scale|scaling|cent(er|re)\w*|bias|threshold)"
)
"""Among these, settings that sound as if they changed what goes into an autoencoder or out."""
_CHANGES_CODES = re.compile(
    r"(num|max|total|train|trainable|eval|log|clip|ema|sparsity|l0|l1|data|layer|model|init|epoch|"
    r"mse|jumprelu|checkpoint|batch_size)(_\w+)?_"
    r"(k|top_?k|active|activations?|acts?|relu|thresholds?|mean|std|norm|normali[sz]e|scale|inputs?|"
    r"transform|groups?|value)(_\w+)?"
)
"""Others that sound as if they changed the codes: only names of training begin so, but any may."""
_OF_TRAINING = re.compile(
    r"(max_grad|clip_grad|grad_clip)_norm|jumprelu_(init_threshold|bandwidth|tanh_scale)|"
    r"log_(activations|feature)\w*|max_activations_\w*|init_\w*(scale|norm)|num_inputs|"
    r"sparsity_(penalty_)?scale|train_on_activations|checkpoint_norm"
)
"""Those of them that libraries do write, and that change no code."""
_KIND_WORDS = re.compile(r"top_?k|jump|gated|matryoshka|transcoder|group|signed|abs", re.IGNORECASE)


def _is_harmless(key: str, value: Any) -> bool:
    """Whether a setting changes no code; ``type`` and the like must not name another kind."""
    if key in ("type", "architecture", "trainer_class") and isinstance(value, str):
        return _KIND_WORDS.search(value) is None
    if _CHANGES_INPUTS.fullmatch(key):
        return False
    if _CHANGES_CODES.fullmatch(key) and not _OF_TRAINING.fullmatch(key):
        return False
    return HARMLESS.fullmatch(key) is not None


def strict_json(text: str, where: str) -> Any:
    """JSON that says everything once, in finite numbers.

    Raises:
        InputError: it is no JSON, a key stands twice, or a number is none.
    """

    def once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise InputError(f"{where} states {key!r} twice; keep one of them.")
            found[key] = value
        return found

    def refuse(number: str) -> None:
        raise InputError(f"{where} holds {number}, which is no number; state one.")

    try:
        return json.loads(text, object_pairs_hook=once, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is not JSON ({error}); mend or remove it.") from None


def from_metadata(texts: Mapping[str, str], file: str) -> dict[str, Any]:
    """Settings from the metadata of a safetensors file, where each is a text.

    A text that begins as JSON does must be JSON; ``True``, ``False`` and ``None`` are what Python
    writes for the same in JSON; anything else is a word.

    Raises:
        InputError: naming the key.
    """
    settings: dict[str, Any] = {}
    for key, text in texts.items():
        where, plain = f"The metadata {key!r} of {file}", text.strip()
        if plain in ("True", "False", "None"):
            settings[key] = {"True": True, "False": False, "None": None}[plain]
        elif plain[:1] in ("{", "[", '"') or _is_number(plain):
            settings[key] = strict_json(plain, where)
        elif plain in ("true", "false", "null"):
            settings[key] = json.loads(plain)
        else:
            settings[key] = text
    return settings


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def beside(path: Path, names: Iterable[str]) -> dict[str, Any]:
    """What the settings files beside the weights say together.

    Raises:
        InputError: one cannot be read, or two contradict each other.
    """
    settings: dict[str, Any] = {}
    for name in names:
        lying = path.with_name(name)
        if not lying.is_file():
            continue
        try:
            text = lying.read_text("utf-8-sig")
        except (OSError, ValueError) as error:
            raise InputError(f"{lying} cannot be read ({error}); mend or remove it.") from None
        is_json = lying.suffix == ".json"
        found = strict_json(text, str(lying)) if is_json else _yaml(text, lying)
        if not isinstance(found, dict):
            what = "a JSON object" if is_json else "a list of settings with their values"
            raise InputError(f"{lying} is not {what}; mend or remove it.")
        if name.startswith("config.") and {"model_type", "architectures"} & set(found):
            continue  # of a transformers model that lies in the same folder
        settings = joined(settings, found, path.name)
    return settings


def _yaml(text: str, path: Path) -> Any:
    """YAML that says everything once."""
    try:
        import yaml
    except ImportError:
        raise InputError(
            f"{path} may hold settings, and PyYAML is not installed to read them; write them as "
            "cfg.json, or remove it."
        ) from None

    def once(loader: Any, node: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(loader.construct_object(key_node, deep=True))
            if key in found:
                raise InputError(f"{path} states {key!r} twice; keep one of them.")
            found[key] = loader.construct_object(value_node, deep=True)
        return found

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_constructor("tag:yaml.org,2002:map", once)
    try:
        return yaml.load(text, Loader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InputError(f"{path} is not YAML ({error}); mend or remove it.") from None


def joined(first: Mapping[str, Any], second: Mapping[str, Any], file: str) -> dict[str, Any]:
    """Settings of two places; the second is nearer to the weights.

    Raises:
        InputError: they contradict each other in what may change the latents.
    """
    for key in first.keys() & second.keys():
        one, other = first[key], second[key]
        is_same = one == other and isinstance(one, bool) == isinstance(other, bool)
        if not is_same and not HARMLESS.fullmatch(key):
            raise InputError(
                f"Two places state the settings of {file}, one {key}={repr(one)[:60]} and the "
                f"other {key}={repr(other)[:60]}; mend one of them."
            )
    return {**first, **second}


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_word(value: Any) -> bool:
    return isinstance(value, str)


def _is_amount(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value)


def _is_count(value: Any) -> bool:
    return _is_amount(value) and value == int(value)


def _is_record(value: Any) -> bool:
    return isinstance(value, Mapping)


def _are_counts(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(map(_is_count, value))


_TYPES: dict[tuple[str, ...], tuple[Callable[[Any], bool], str]] = {
    ("k", "top_k"): (_is_count, "a whole number"),
    ("soft_cap", "latent_soft_cap", "running_threshold"): (_is_amount, "a number"),
    (
        "apply_b_dec_to_input",
        "rescale_acts_by_decoder_norm",
        "is_transcoder",
        "normalize_decoder",
        "transcode",
        "signed",
        "normalize",
    ): (_is_flag, "true or false"),
    (
        "encoder_layout",
        "activation",
        "architecture",
        "activation_fn",
        "activation_fn_str",
        "reshape_activations",
        "dict_class",
        "sae_class",
    ): (_is_word, "a word"),
    ("activation_fn_kwargs", "activation_state_dict"): (_is_record, "an object"),
    ("nesting_list",): (_are_counts, "a list of whole numbers"),
}
_TYPE_OF = {key: rule for keys, rule in _TYPES.items() for key in keys}
"""What a setting must be, by its name; None always means that it is not stated."""


def require_known(settings: Mapping[str, Any], known: set[str], file: str) -> None:
    """Refuse settings that might change the codes and are not understood.

    Raises:
        InputError: naming the first.
    """
    for key, value in settings.items():
        if value is None or (key not in known and _is_harmless(key, value)):
            continue
        if key in known:
            fits, what = _TYPE_OF.get(key, (None, ""))
            if fits is not None and not fits(value):
                raise InputError(
                    f"The settings of {file} have {key}={repr(value)[:60]}, which is not {what}; "
                    "mend it."
                )
        elif value is not False:  # what is new in a library is off unless it is asked for
            raise InputError(
                f"The settings of {file} have {key}={str(value)[:60]!r}, which may change the "
                "latents and is not understood; fold it into the weights and take it out."
            )
