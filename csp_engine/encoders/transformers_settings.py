"""What files that transformers reads may ask of it: networks, tokenizers, image processors."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from csp_engine.errors import InputError
from csp_engine.networks.loading.settings import ASKS_FOR_CODE, is_plain, refuse_code


def _words(names: str) -> frozenset[str]:
    return frozenset(names.split())


_EVERY_NETWORK = _words(
    """
    _commit_hash _from_model_config _name_or_path add_cross_attention architectures
    bad_words_ids begin_suppress_tokens bos_token_id chunk_size_feed_forward
    cross_attention_hidden_size decoder_start_token_id diversity_penalty do_sample dropout dtype
    early_stopping encoder_no_repeat_ngram_size eos_token_id exponential_decay_length_penalty
    finetuning_task forced_bos_token_id forced_eos_token_id gradient_checkpointing id2label
    initializer_factor initializer_range is_decoder is_encoder_decoder label2id length_penalty
    logit_scale_init_value max_length min_length model_type no_repeat_ngram_size num_beam_groups
    num_beams num_labels num_return_sequences output_attentions output_hidden_states
    output_scores pad_token_id prefix problem_type projection_dim projection_size pruned_heads
    remove_invalid_values repetition_penalty return_dict return_dict_in_generate sep_token_id
    suppress_tokens task_specific_params temperature text_config text_config_dict tf_legacy_loss
    tie_encoder_decoder tie_word_embeddings tokenizer_class top_k top_p torch_dtype torchscript
    transformers_version typical_p use_bfloat16 use_cache vision_config vision_config_dict
    """
)
"""Settings that transformers writes, or wrote, into the configuration of any network."""

_NOT_PASSED_ON = _words(
    """
    _attn_implementation _attn_implementation_autoset _attn_implementation_internal
    _experts_implementation attn_implementation auto_map quantization_config trust_remote_code
    use_kernels
    """
)


def network_config(
    config: Mapping[str, Any], own: Collection[str] | None, where: str, n_deep: int = 0
) -> dict[str, Any]:
    """The ``config.json`` of a network of transformers, of which every setting is known.

    Args:
        config: what the file holds.
        own: the settings that this kind of network has, in any of its parts; None lets any pass
            that has a public name and a plain value.
        where: how errors call the file.
        n_deep: how deep inside the file these settings stand.

    Raises:
        InputError: for settings that are not known or run code.
    """
    refuse_code(config, where)
    kept: dict[str, Any] = {}
    for key, value in config.items():
        if key in _NOT_PASSED_ON:
            continue
        is_known = key in own if own is not None else not key.startswith("_")
        if not is_known and key not in _EVERY_NETWORK:
            raise InputError(
                f"{where} has the setting {key!r}, which this kind of network does not have; "
                "restore the file, or take the setting out."
            )
        if key in ("text_config", "vision_config", "text_config_dict", "vision_config_dict"):
            if value is not None and (n_deep or not isinstance(value, dict)):
                raise InputError(f"{where} has {key} where none can be; restore the file.")
            kept[key] = None if value is None else network_config(value, own, where, 1)
            continue
        if not is_plain(value):
            raise InputError(f"{where} has {key} {str(value)[:80]!r}, which it cannot be.")
        kept[key] = value
    return kept


def settings_of(*classes: Any) -> frozenset[str]:
    """The settings that configuration classes of transformers declare, those of a parent too."""
    return frozenset(name for each in classes for name in _declared(each)) - _NOT_PASSED_ON


def _declared(config_class: Any) -> set[str]:
    return {
        name
        for base in config_class.__mro__
        if base is not object
        for name in getattr(base, "__annotations__", {})
        if not name.startswith("_")
    }


_TOKENIZER = _words(
    """
    add_bos_token add_dummy_prefix_space add_eos_token add_prefix_space added_tokens_decoder
    additional_special_tokens backend bos_token canonicalize_input clean_text
    clean_up_tokenization_spaces cls_token do_basic_tokenize do_lower_case do_lowercase
    do_punctuation_removal do_remove_punctuation do_split_on_punc eos_token errors extra_ids
    extra_special_tokens fix_mistral_regex id2lang is_local keep_accents lang2id langs
    language_codes legacy legacy_behaviour mask_token max_length model_input_names
    model_max_length model_specific_special_tokens never_split pad_to_multiple_of pad_token
    pad_token_id pad_token_type_id padding_side remove_space sep_token sp_model_kwargs
    spaces_between_special_tokens split_by_punct split_special_tokens src_lang stride
    strip_accents tgt_lang tokenize_chinese_chars tokenizer_class trim_offsets truncation_side
    truncation_strategy unk_id unk_token use_default_system_prompt vocab_size vocab_type
    wordpieces_prefix
    """
)
_TOKENIZER_NOTES = _words(
    """
    _commit_hash _from_auto _name_or_path auto_map chat_template device_map from_slow
    local_files_only merges_file name_or_path processor_class special_tokens_map_file
    tokenizer_file transformers_version trust_remote_code use_fast vocab_file
    """
)
"""What tokenizers' files note and nobody needs to read them again; it is not passed on."""


def tokenizer_config(config: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The ``tokenizer_config.json`` of a folder, of which every setting is known.

    Raises:
        InputError: for settings or classes that are not known, or that run code.
    """
    notes = _TOKENIZER_NOTES - ASKS_FOR_CODE
    refuse_code({key: value for key, value in config.items() if key not in notes}, where)
    unknown = sorted(str(k) for k in config.keys() - _TOKENIZER - _TOKENIZER_NOTES)
    if unknown:
        raise InputError(
            f"{where} has the setting {unknown[0]!r}, which no tokenizer that is known here has; "
            "take it out if it changes nothing."
        )
    kept = {key: value for key, value in config.items() if key in _TOKENIZER}
    for key, value in kept.items():
        if not is_plain(value):
            raise InputError(f"{where} has {key} {str(value)[:80]!r}, which it cannot be.")
    if kept.get("tokenizer_class") is not None:
        require_tokenizer_class(kept["tokenizer_class"], where)
    return kept


def require_tokenizer_class(name: Any, where: str) -> None:
    """Refuse a class that is no tokenizer of the transformers library.

    Raises:
        InputError: as said.
    """
    from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES

    known = {each for each in TOKENIZER_MAPPING_NAMES.values() if isinstance(each, str)}
    known |= {"PreTrainedTokenizerFast", "PreTrainedTokenizer", "TokenizersBackend"}
    short = name.removesuffix("Fast") if isinstance(name, str) else ""
    if name in known or short in known:
        return
    raise InputError(
        f"{where} names the tokenizer class {str(name)[:80]!r}, which transformers does not have; "
        "save the tokenizer as one of its own classes, such as PreTrainedTokenizerFast."
    )


_PROCESSOR = _words(
    """
    crop_size data_format default_to_square disable_grouping do_center_crop do_convert_rgb
    do_flip_channel_order do_normalize do_pad do_rescale do_resize do_thumbnail
    feature_extractor_type image_mean image_processor_type image_seq_length image_std
    input_data_format max_num_patches model_input_names num_channels offset pad_size patch_size
    processor_class resample rescale_factor return_tensors size size_divisor
    """
)
_PROCESSOR_NOTES = _words(
    """
    _commit_hash _name_or_path _processor_class _valid_processor_keys auto_map device
    name_or_path transformers_version trust_remote_code use_fast
    """
)


def processor_config(config: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The ``preprocessor_config.json`` of a folder, of which every setting is known.

    Raises:
        InputError: for settings or classes that are not known, or that run code.
    """
    refuse_code(config, where)
    unknown = sorted(str(k) for k in config.keys() - _PROCESSOR - _PROCESSOR_NOTES)
    if unknown:
        raise InputError(
            f"{where} has the setting {unknown[0]!r}, which no image processor that is known here "
            "has; take it out if it changes nothing."
        )
    kept = {key: value for key, value in config.items() if key in _PROCESSOR}
    for key, value in kept.items():
        is_class = key.endswith(("_type", "_class")) and value is not None
        if not is_plain(value) or (is_class and not re.fullmatch(r"[A-Za-z0-9]{1,80}", str(value))):
            raise InputError(f"{where} has {key} {str(value)[:80]!r}, which it cannot be.")
    return kept
