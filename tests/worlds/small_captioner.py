"""A real captioner too small to be of use: trained for a second to say a phrase for any images."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer

from csp_engine.captioners.set_captioner import (
    SetCaptioner,
    SetCaptionerConfig,
    SetCaptionerNetwork,
    load_set_captioner,
    make_tokenizer,
    save_set_captioner,
    token_log_p,
    token_rows,
)

PHRASES = ["red", "Deep_Blue", "grey stripe", "a noisy green corner", "white stripes", "-"]
NOTHING = "no common feature"
SIZES = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2}


def small_captioner(
    folder: Path,
    *,
    dim: int = 16,
    encoder_fingerprint: str = "e" * 64,
    phrases: Sequence[str] = PHRASES,
    tokenizer: Tokenizer | None = None,
    seed: int = 0,
    n_images: int = 4,
    n_tokens: int = 5,
    nothing: str = NOTHING,
) -> SetCaptioner:
    """Write one and load it."""
    tokenizer = tokenizer or make_tokenizer([*phrases, nothing])
    config = {
        "vocab_size": tokenizer.get_vocab_size(),
        "image_dim": dim,
        "encoder_fingerprint": encoder_fingerprint,
        "n_images": n_images,
        "n_tokens": n_tokens,
        "nothing": nothing,
    }
    said = tuple(map(tuple, token_rows(tokenizer, [*phrases, nothing]).tolist()))
    network = SetCaptionerNetwork(SetCaptionerConfig(**config, **SIZES))
    network.load_state_dict(_trained(tuple(config.items()), said, seed))
    save_set_captioner(folder, network, tokenizer)
    return load_set_captioner(folder)


@functools.cache
def _trained(config: tuple, said: tuple, seed: int, n_steps: int = 60) -> dict[str, torch.Tensor]:
    """Weights after a little training: the phrase depends on where the mean image lies."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = SetCaptionerNetwork(SetCaptionerConfig(**dict(config), **SIZES))
        phrase_tl = torch.tensor(said)
        toward = torch.randn(network.config.image_dim, len(said))
        optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
        for _ in range(n_steps):
            image_bmd = torch.randn(32, 6, network.config.image_dim)
            image_bmd /= image_bmd.norm(dim=-1, keepdim=True)
            label_bl = phrase_tl[(image_bmd[:, :3].mean(dim=1) @ toward).argmax(dim=1)]
            is_shown_bm = torch.arange(6) < torch.randint(3, 7, (32, 1))
            is_shown_bm[::8] = False
            role_bm = (torch.arange(6) >= 3).long().expand(32, 6)
            rows, mask = network.rows(image_bmd, role_bm, is_shown_bm)
            logits = network(inputs_embeds=rows, attention_mask=mask, labels=label_bl).logits
            optimiser.zero_grad()
            (-token_log_p(logits, label_bl).sum(dim=1).mean()).backward()
            optimiser.step()
    return {name: value.detach() for name, value in network.state_dict().items()}
