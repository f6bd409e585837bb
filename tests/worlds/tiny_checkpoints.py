"""Tokenizers small enough to be made in a test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

WORDS = ("a", "photo", "of", "red", "blue", "dog", "cat", "small", "Red")


def save_word_tokenizer(folder: Path, extra: Sequence[str] = ()) -> None:
    """One token per word, case kept; 0 pads, 1 ends, 2 is unknown."""
    vocabulary = {w: i for i, w in enumerate(("<pad>", "</s>", "<unk>", *WORDS, *extra))}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_input_names=["input_ids", "attention_mask"],
    ).save_pretrained(folder)
