"""What the configuration of an open_clip folder may ask of open_clip."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from csp_engine.errors import InputError
from csp_engine.networks.loading.settings import (
    Check,
    checked,
    count,
    counts,
    each_of,
    flag,
    name,
    number,
    one_of,
    refuse_code,
    repository,
)

_BLOCK: dict[str, Check] = {
    "width": count,
    "heads": count,
    "layers": counts,
    "mlp_ratio": number,
    "ls_init_value": number,
    "pool_type": name,
    "final_ln_after_pool": flag,
    "output_tokens": flag,
    "act_kwargs": each_of({"approximate": one_of("none", "tanh")}),
    "norm_kwargs": each_of({"eps": number, "elementwise_affine": flag, "bias": flag}),
    "block_type": name,
    "qk_norm": flag,
    "scaled_cosine_attn": flag,
    "scale_heads": flag,
    "scale_attn_inner": flag,
    "scale_attn": flag,
    "scale_fc": flag,
}
_VISION: dict[str, Check] = {
    **_BLOCK,
    "head_width": count,
    "patch_size": counts,
    "image_size": counts,
    "patch_dropout": number,
    "attentional_pool": lambda value: flag(value) or name(value),
    "attn_pooler_queries": count,
    "attn_pooler_heads": count,
    "no_ln_pre": flag,
    "pos_embed_type": name,
    "timm_model_name": name,
    "timm_model_pretrained": flag,
    "timm_pool": name,
    "timm_proj": name,
    "timm_proj_bias": flag,
    "timm_drop": number,
    "timm_drop_path": number,
}
_TEXT: dict[str, Check] = {
    **_BLOCK,
    "context_length": count,
    "vocab_size": count,
    "hf_tokenizer_name": lambda value: value == "" or repository(value),
    "tokenizer_mode": name,
    "tokenizer_kwargs": each_of(
        {
            "clean": one_of("canonicalize", "lower", "whitespace"),
            "strip_sep_token": flag,
            "language": name,
        }
    ),
    "embed_cls": flag,
    "pad_id": count,
    "eos_id": count,
    "no_causal_mask": flag,
    "proj_bias": flag,
    "proj_type": name,
    "hf_model_name": repository,
    "hf_model_pretrained": flag,
    "hf_proj_type": name,
    "hf_pooler_type": name,
}
_PREPROCESS: dict[str, Check] = {
    "size": counts,
    "mode": one_of("RGB"),
    "fill_color": counts,
}
_MODEL: dict[str, Check] = {
    "embed_dim": count,
    "quick_gelu": flag,
    "custom_text": flag,
    "vision_cfg": lambda value: isinstance(value, dict),
    "text_cfg": lambda value: isinstance(value, dict),
    "multimodal_cfg": lambda value: isinstance(value, dict),
    "init_logit_scale": number,
    "init_logit_bias": number,
    "nonscalar_logit_scale": flag,
}
_DECODER: dict[str, Check] = {
    **_TEXT,
    "dim_head": count,
    "n_queries": count,
    "attn_pooler_heads": count,
}


def open_clip_model(config: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The ``model_cfg`` of an open_clip folder, of which every setting is known.

    Raises:
        InputError: for settings that are not, that run code, or that no network of this size has.
    """
    model = checked(config, _MODEL, f"{where} (model_cfg)")
    for part, rules in (("vision_cfg", _VISION), ("text_cfg", _TEXT), ("multimodal_cfg", _DECODER)):
        if part in model:
            model[part] = checked(model[part] or {}, rules, f"{where} ({part})")
    lacking = [part for part in ("embed_dim", "vision_cfg", "text_cfg") if not model.get(part)]
    if lacking:
        raise InputError(f"{where} has no {lacking[0]} in model_cfg; restore the file.")
    timm_name = model["vision_cfg"].get("timm_model_name")
    if timm_name:
        import timm

        if not timm.is_model(str(timm_name).partition(".")[0]):
            raise InputError(
                f"{where} names the timm model {timm_name!r}, which timm does not have; correct "
                "timm_model_name."
            )
    return model


def preprocess_types(stated: Mapping[str, Any], where: str) -> None:
    """Refuse a ``preprocess_cfg`` in which something is no preprocessing.

    Raises:
        InputError: naming the setting.
    """
    given = {key: value for key, value in stated.items() if key in _PREPROCESS}
    checked(given, _PREPROCESS, where)
    refuse_code(stated, where)
