"""Texts for encoders of the open_clip library: tokenizers, and rows of the text network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from csp_engine.encoders.approved import approved_folder, tokenizer_files
from csp_engine.encoders.base import TEXT_BATCH, no_network, tokenizer_sha256
from csp_engine.errors import MissingModelError
from csp_engine.hashing import sha256_unescaped_json


def shipped_tokenizer(architecture: str) -> Any:
    """The tokenizer of an architecture that open_clip ships; its files come from the cache."""
    import open_clip

    text_cfg = (open_clip.get_model_config(architecture) or {}).get("text_cfg", {})
    named = bool(text_cfg.get("hf_tokenizer_name"))
    options: dict[str, Any] = {"trust_remote_code": False} if named else {}
    try:
        with no_network():
            return open_clip.get_tokenizer(architecture, **options)
    except Exception as error:
        raise _no_tokenizer(architecture, error) from error


def folder_tokenizer(folder: Path, model_cfg: Mapping[str, Any]) -> Any:
    """As ``open_clip.get_tokenizer`` on the folder, from approved settings and files alone."""
    from open_clip.tokenizer import DEFAULT_CONTEXT_LENGTH, HFTokenizer, SimpleTokenizer

    text_cfg = model_cfg["text_cfg"]
    length = text_cfg.get("context_length", DEFAULT_CONTEXT_LENGTH)
    options = dict(text_cfg.get("tokenizer_kwargs") or {})
    if not text_cfg.get("hf_tokenizer_name"):
        clean = {"clean": options["clean"]} if "clean" in options else {}
        return SimpleTokenizer(context_length=length, **clean)
    settings, links = tokenizer_files(folder)
    try:
        with no_network(), approved_folder(settings, links) as approved:
            return HFTokenizer(
                str(approved),
                context_length=length,
                tokenizer_mode=text_cfg.get("tokenizer_mode"),
                trust_remote_code=False,
                **options,
            )
    except Exception as error:
        raise _no_tokenizer(str(folder), error) from error


def _no_tokenizer(where: str, error: Exception) -> MissingModelError:
    return MissingModelError(
        f"The tokenizer of {where!r} is not on this machine ({type(error).__name__}); put its "
        "files (tokenizer.json, tokenizer_config.json) into the encoder's folder and use "
        "open_clip/FOLDER."
    )


def describe_tokenizer(tokenizer: Any) -> dict[str, Any]:
    """What decides how a tokenizer cuts texts, as a fingerprint needs it."""
    clean = getattr(getattr(tokenizer, "clean_fn", None), "__name__", "")
    identity: dict[str, Any] = {
        "class": type(tokenizer).__name__,
        "clean": clean,
        "context_length": tokenizer.context_length,
    }
    if hasattr(tokenizer, "bpe_ranks"):
        merges = [
            " ".join(pair) for pair in sorted(tokenizer.bpe_ranks, key=tokenizer.bpe_ranks.get)
        ]
        identity["vocabulary_sha256"] = sha256_unescaped_json(
            [sorted(tokenizer.encoder.items()), merges]
        )
    else:
        identity["mode"] = getattr(tokenizer, "tokenizer_mode", "")
        identity["strip_sep_token"] = bool(getattr(tokenizer, "strip_sep_token", False))
        identity["vocabulary_sha256"] = tokenizer_sha256(tokenizer.tokenizer)
    return identity


def text_rows_by_length(
    network: Any, token_tl: torch.Tensor
) -> Iterator[tuple[list[int], torch.Tensor]]:
    """Text rows in batches of similar length, computed no further than the end-of-text token.

    Where attention is causal and the row is read at the end-of-text token, later tokens cannot
    change it. Most labels have under ten tokens of 77, so this saves most of the work.
    """
    from open_clip.transformer import text_global_pool

    tower = network if hasattr(network, "token_embedding") else getattr(network, "text", network)
    pool = getattr(network, "text_pool_type", getattr(tower, "pool_type", None))
    eos: Any = getattr(network, "text_eos_id", getattr(tower, "eos_id", None))
    mask = getattr(tower, "attn_mask", None)
    is_cut = (
        mask is not None
        and pool in ("argmax", "eos")
        and getattr(tower, "cls_emb", None) is None
        and all(
            hasattr(tower, name)
            for name in ("token_embedding", "positional_embedding", "ln_final", "text_projection")
        )
    )
    if not is_cut:
        for start in range(0, len(token_tl), TEXT_BATCH):
            ids = list(range(start, min(start + TEXT_BATCH, len(token_tl))))
            yield ids, network.encode_text(token_tl[ids])
        return
    if pool == "argmax":
        end_t = token_tl.argmax(-1)
    else:
        end_t = torch.eq(token_tl, int(eos)).int().argmax(-1)
    order = torch.argsort(end_t, stable=True).tolist()
    for start in range(0, len(order), TEXT_BATCH):
        ids = order[start : start + TEXT_BATCH]
        length = int(end_t[ids].max()) + 1
        tokens = token_tl[ids, :length]
        cast = tower.transformer.get_cast_dtype()
        x = tower.token_embedding(tokens).to(cast) + tower.positional_embedding[:length].to(cast)
        x = tower.ln_final(tower.transformer(x, attn_mask=mask[:length, :length]))
        x = text_global_pool(x, tokens, pool, eos_token_id=eos)
        if isinstance(tower.text_projection, torch.nn.Linear):
            x = tower.text_projection(x)
        elif tower.text_projection is not None:
            x = x @ tower.text_projection
        yield ids, x
