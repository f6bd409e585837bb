"""The demo's captioner: trained in minutes on simulated neurons, and scored on simulated neurons.

It learns to say the concept of a simulated neuron in one of its wordings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32
from scipy.stats import binomtest

from csp_engine.captioners import MODES, Captioner
from csp_engine.captioners.set_captioner import (
    SetCaptionerConfig,
    SetCaptionerNetwork,
    make_tokenizer,
    save_set_captioner,
    token_log_p,
    token_rows,
)
from csp_engine.demo.training.simulated_neurons import (
    KINDS,
    N_IMAGES,
    NeuronSimulator,
    SimulatedNeuron,
)
from csp_engine.encoders.threads import threads
from csp_engine.errors import InputError
from csp_engine.types import Progress, silent
from csp_engine.words.vocabularies import clean_label

NOTHING = "no common feature"
"""What the captioner says of images drawn at random; never a label."""

N_STEPS = 2000
BATCH = 64
SHARE_WITHOUT_IMAGES = 0.1


def train_captioner(
    folder: Path,
    image_nd: Float32[np.ndarray, "n d"],
    truth_nc: Bool[np.ndarray, "n c"],
    phrases: Mapping[str, Sequence[str]],
    *,
    encoder_fingerprint: str,
    seed: int = 0,
    n_steps: int = N_STEPS,
    progress: Progress = silent,
) -> Path:
    """Train a captioner on simulated neurons and write it; the folder appears whole or not at all.

    The same arguments give the same weights: training runs on one thread.

    Args:
        folder: where ``load_captioner`` will find it; replaced if it is there.
        image_nd: unit embeddings of the training images.
        truth_nc: which concepts each image shows, columns in the order of ``phrases``.
        phrases: wordings of each concept, the usual one first.
        encoder_fingerprint: of the encoder behind ``image_nd``.
        seed: of weights and neurons.
        n_steps: optimiser steps of 64 simulated neurons each.
        progress: called with stage, done and total.

    Raises:
        InputError: if arrays and phrases do not belong together.
    """
    wordings = _wordings(image_nd, truth_nc, phrases)
    simulator = NeuronSimulator(image_nd, truth_nc)
    tokenizer = make_tokenizer([NOTHING, "and", *(text for own in wordings for text in own)])
    longest = sorted(len(own[0].split()) for own in wordings)[-2:]
    n_tokens = max(*(len(t.split()) for own in wordings for t in own), sum(longest) + 1)
    with threads(1), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = SetCaptionerNetwork(
            SetCaptionerConfig(
                vocab_size=tokenizer.get_vocab_size(),
                d_model=128,
                d_kv=32,
                d_ff=256,
                num_layers=2,
                num_decoder_layers=2,
                num_heads=4,
                dropout_rate=0.05,
                image_dim=image_nd.shape[1],
                encoder_fingerprint=encoder_fingerprint,
                n_images=N_IMAGES,
                n_tokens=n_tokens,
                nothing=NOTHING,
            )
        )
        network.mean.copy_(torch.from_numpy(image_nd.mean(axis=0)))
        network.scale.fill_(1 / max(float(image_nd.std(axis=0).mean()), 1e-6))
        _fit(network, tokenizer, simulator, wordings, seed, n_steps, progress)
    save_set_captioner(folder, network.eval(), tokenizer)
    return folder


def _wordings(
    image_nd: np.ndarray, truth_nc: np.ndarray, phrases: Mapping[str, Sequence[str]]
) -> list[list[str]]:
    """The cleaned wordings of each concept."""
    if truth_nc.shape != (len(image_nd), len(phrases)):
        raise InputError(
            f"The truth table has shape {truth_nc.shape}; {len(image_nd)} images and "
            f"{len(phrases)} concepts need {(len(image_nd), len(phrases))}."
        )
    wordings = [list(dict.fromkeys(map(clean_label, own))) for own in phrases.values()]
    for name, own in zip(phrases, wordings, strict=True):
        if not own or not all(own) or NOTHING in own:
            raise InputError(
                f"Concept {name!r} has the wordings {own}; each needs one or more, none of them "
                f"empty or {NOTHING!r}."
            )
    return wordings


def _fit(
    network: SetCaptionerNetwork,
    tokenizer: Any,
    simulator: NeuronSimulator,
    wordings: Sequence[Sequence[str]],
    seed: int,
    n_steps: int,
    progress: Progress,
) -> None:
    rng = np.random.default_rng(seed)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1.5e-3, weight_decay=0.01)
    n_warm = max(1, n_steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda step: (
            min(1.0, (step + 1) / n_warm)
            * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / n_steps))))
        ),
    )
    kinds = list(KINDS)
    network.train()
    for step in range(n_steps):
        mode = MODES[step % 2]
        drawn = [
            simulator.draw(rng, kinds[i])
            for i in rng.choice(len(kinds), BATCH, p=list(KINDS.values()))
        ]
        is_empty = rng.random(BATCH) < SHARE_WITHOUT_IMAGES
        image_bmd, role_bm, shown_bm = _padded(simulator, drawn, mode, is_empty)
        row_bme, mask_bm = network.rows(image_bmd, role_bm, shown_bm)
        label_bl = token_rows(tokenizer, [_said(rng, neuron, wordings) for neuron in drawn])
        logits = network(inputs_embeds=row_bme, attention_mask=mask_bm, labels=label_bl).logits
        loss = -token_log_p(logits, label_bl).sum(dim=1).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        progress("captioner", step + 1, n_steps)


def _padded(
    simulator: NeuronSimulator,
    drawn: Sequence[SimulatedNeuron],
    mode: str,
    is_empty: Bool[np.ndarray, " b"],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Embeddings, roles and which rows are images, of a batch."""
    parts = [
        (one.activating_m, one.contrast_c if mode == "contrast" else one.contrast_c[:0])
        for one in drawn
    ]
    longest = max(len(a) + len(c) for a, c in parts)
    image_bm = np.zeros((len(drawn), longest), np.int64)
    role_bm = np.zeros((len(drawn), longest), np.int64)
    shown_bm = np.zeros((len(drawn), longest), bool)
    for b, (activating, contrast) in enumerate(parts):
        n_shown = len(activating) + len(contrast)
        image_bm[b, :n_shown] = np.concatenate([activating, contrast])
        role_bm[b, len(activating) :] = 1
        shown_bm[b, :n_shown] = not is_empty[b]
    return (
        torch.from_numpy(simulator.image_nd[image_bm]),
        torch.from_numpy(role_bm),
        torch.from_numpy(shown_bm),
    )


def _said(
    rng: np.random.Generator, neuron: SimulatedNeuron, wordings: Sequence[Sequence[str]]
) -> str:
    """What is right to say of a simulated neuron.

    The usual wording is said more often than the others together are fewer, and pairs in usual
    wordings only; otherwise a concept with many wordings, and every pair, would seem improbable.
    """
    if neuron.kind == "nothing":
        return NOTHING
    if neuron.kind == "both":
        return _pair(wordings, neuron.concepts)
    own = wordings[int(rng.choice(neuron.concepts))]
    return own[0] if len(own) == 1 or rng.random() < 0.4 else own[int(rng.integers(1, len(own)))]


def _pair(wordings: Sequence[Sequence[str]], concepts: Sequence[int]) -> str:
    first, second = sorted(concepts)
    return f"{wordings[first][0]} and {wordings[second][0]}"


def measure_captioner(
    captioner: Captioner,
    image_nd: Float32[np.ndarray, "n d"],
    truth_nc: Bool[np.ndarray, "n c"],
    phrases: Mapping[str, Sequence[str]],
    *,
    n_sets: int = 400,
    company: float = 0.9,
    seed: int = 1,
) -> list[dict[str, Any]]:
    """How often the captioner names simulated neurons right, on images it was not trained on.

    Args:
        captioner: made for the encoder behind ``image_nd``.
        image_nd: unit embeddings of held-out images.
        truth_nc: which concepts each shows, columns in the order of ``phrases``.
        phrases: wordings of each concept.
        n_sets: simulated neurons of each kind.
        company: share of an ``accompanied`` neuron's images that show the companion.
        seed: of the draws.

    Returns:
        For each kind and mode: ``n``, the shares ``top1`` and ``top5`` of neurons whose concept is
        the first or among the first five phrases (of ``both``, the pair; of ``either``, one of
        them), ``top1_low`` and ``top1_high`` (95 %, Wilson), ``companion`` (share whose first
        phrase names the companion, alone or in a pair), and ``nothing`` (share of which it holds
        more likely than not that nothing is in common).
    """
    wordings = _wordings(image_nd, truth_nc, phrases)
    meaning: dict[str, set[tuple[int, ...]]] = {}
    for c, own in enumerate(wordings):
        for text in own:
            meaning.setdefault(text, set()).add((c,))
    for a in range(len(wordings)):
        for b in range(a + 1, len(wordings)):
            meaning.setdefault(_pair(wordings, (a, b)), set()).add((a, b))
    simulator = NeuronSimulator(image_nd, truth_nc)
    rows = []
    for kind in KINDS:
        rng = np.random.default_rng([seed, list(KINDS).index(kind)])
        drawn = [simulator.draw(rng, kind, company=company) for _ in range(n_sets)]
        for mode in MODES:
            found = captioner.describe([simulator.images(neuron, mode) for neuron in drawn])
            first, among, company_named, nothing = 0, 0, 0, 0
            for neuron, captions in zip(drawn, found, strict=True):
                said = [meaning.get(caption.text, set()) for caption in captions.phrases]
                right = (
                    {(c,) for c in neuron.concepts}
                    if neuron.kind == "either"
                    else {tuple(neuron.concepts)}
                )
                first += bool(said and said[0] & right)
                among += any(one & right for one in said[:5])
                company_named += bool(
                    said and any(neuron.companion in concepts for concepts in said[0])
                )
                nothing += captions.p_nothing > 0.5
            interval = binomtest(first, n_sets).proportion_ci(method="wilson")
            rows.append(
                {
                    "kind": kind,
                    "mode": mode,
                    "n": n_sets,
                    "top1": first / n_sets,
                    "top1_low": float(interval.low),
                    "top1_high": float(interval.high),
                    "top5": among / n_sets,
                    "companion": company_named / n_sets,
                    "nothing": nothing / n_sets,
                }
            )
    return rows
