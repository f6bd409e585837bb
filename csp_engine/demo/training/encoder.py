"""The demo encoder: a small CLIP of open_clip's own parts, taught words by simulated photographs.

The usual contrastive loss counts every other caption of a batch as wrong, but "hair" is true of a
third of all photographs. Here the simulator knows of every caption whether it is true of every
photograph, so each pair is judged on its own (the sigmoid loss of Zhai et al. 2023, "Sigmoid Loss
for Language Image Pre-Training", with true and false pairs of a caption weighing the same).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import nn

from csp_engine.demo.simulator.captions import WORDINGS, Caption, caption
from csp_engine.demo.simulator.cases import CONCEPTS, concept_table
from csp_engine.demo.training.pictures import Pictures
from csp_engine.demo.training.steps import (
    MEAN,
    STD,
    batch_rows,
    half_precision,
    save_half,
    train,
    turned,
    varied,
)
from csp_engine.types import Encoder, Progress

SIDE = 160
CONTEXT_LENGTH = 24
BATCH_IMAGES = 32
BATCH_CAPTIONS = 160
N_CAPTIONS = 60_000
UNKNOWN_SHARE = 0.15
"""Share of captions that a word nobody taught is slipped into, so that such words do no harm."""

CONFIG: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 96,
        "vision_cfg": {"image_size": SIDE, "layers": [1, 1, 1, 1], "width": 32, "head_width": 64},
        "text_cfg": {
            "context_length": CONTEXT_LENGTH,
            "vocab_size": 49408,
            "width": 64,
            "heads": 4,
            "layers": 3,
        },
    },
    "preprocess_cfg": {
        "size": [SIDE, SIDE],
        "mode": "RGB",
        "mean": list(MEAN),
        "std": list(STD),
        "interpolation": "bilinear",
        "resize_mode": "squash",
        "fill_color": 0,
    },
}
"""What open_clip needs to build the model and its preprocessing."""


def teaching_captions(
    concepts: pd.DataFrame, n: int, seed: int, wordings: dict[str, tuple[str, ...]] = WORDINGS
) -> list[Caption]:
    """Captions of random photographs, rare concepts as often as common ones."""
    rng = np.random.default_rng([seed, 3])
    names = list(concepts)
    rarity_c = 1 / np.sqrt(concepts.mean().to_numpy() + 0.01)
    shown_nc = concepts.to_numpy(bool)
    captions = []
    for row in rng.integers(len(concepts), size=n):
        found = np.flatnonzero(shown_nc[row])
        keys = rng.random(len(found)) ** (1 / rarity_c[found])  # weighted order, as Efraimidis 2006
        kept = found[np.argsort(-keys)][: int(rng.integers(1, 5))]
        captions.append(caption([names[c] for c in kept], rng, wordings))
    return captions


def _multi_hot(captions: Sequence[Caption]) -> torch.Tensor:
    column = {name: c for c, name in enumerate(CONCEPTS)}
    said_tc = torch.zeros(len(captions), len(CONCEPTS))
    for t, each in enumerate(captions):
        for name in each.concepts:
            said_tc[t, column[name]] = 1
    return said_tc


def _implied(said_tc: torch.Tensor, shown_nc: torch.Tensor) -> torch.Tensor:
    """What captions say or imply: "thick hair" says "hair", which holds wherever it does."""
    follows_cc = (shown_nc.T @ shown_nc) == shown_nc.sum(0)[:, None]
    return (said_tc @ follows_cc.float()) > 0


def train_encoder(
    folder: Path,
    lessons: Pictures,
    *,
    seed: int,
    n_steps: int,
    checkpoint: Path,
    progress: Progress,
) -> None:
    """Train the encoder and write it to ``folder`` as open_clip reads it.

    Two aids speed up the lessons and are thrown away afterwards: a head learns from the masks in
    which cells of the picture each structure lies, and pictures and captions are both compared
    with one anchor vector per concept. Without them, fine structures take many times the steps.

    Args:
        folder: gets ``open_clip_config.json`` and ``open_clip_model.safetensors``.
        lessons: pictures of ``SIDE`` pixels, their masks and cases.
        seed: decides everything.
        n_steps: training steps.
        checkpoint: state of an unfinished run.
        progress: called with stage ``"encoder"``.
    """
    import open_clip

    concepts = concept_table(lessons.cases)
    image_nhwc = lessons.image_nhwc
    grid_nmyx = torch.from_numpy(lessons.grid_nmyx)
    shown_nc = torch.from_numpy(concepts.to_numpy(np.float32))
    n_captions = min(N_CAPTIONS, n_steps * BATCH_CAPTIONS)  # no more than are ever drawn
    captions = teaching_captions(concepts, n_captions, seed)
    tokenizer = open_clip.SimpleTokenizer(context_length=CONTEXT_LENGTH)
    token_tl = tokenizer([each.text for each in captions])
    said_tc = _multi_hot(captions)
    meant_tc = _implied(said_tc, shown_nc)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        clip: Any = open_clip.CLIP(**CONFIG["model_cfg"])
        # Only the few tokens that occur are trained. Row 0 is that of all others and stays zero;
        # end-of-text keeps the highest number, by which the network finds it.
        used = torch.unique(token_tl)
        used = used[used != 0]
        compact_tl = torch.searchsorted(used, token_tl) + 1
        compact_tl[token_tl == 0] = 0
        full = clip.token_embedding
        clip.token_embedding = nn.Embedding(len(used) + 1, full.embedding_dim, padding_idx=0)
        nn.init.normal_(clip.token_embedding.weight, std=0.02)
        clip.token_embedding.weight.data[0] = 0
        clip.bias = nn.Parameter(torch.tensor(-2.0))
        clip.logit_scale.data.fill_(math.log(12.0))
        n_channels = CONFIG["model_cfg"]["vision_cfg"]["width"] * 16
        clip.anchors = nn.Parameter(torch.randn(len(CONCEPTS), CONFIG["model_cfg"]["embed_dim"]))
        clip.anchor_bias = nn.Parameter(torch.full((2,), -1.0))
        clip.places = nn.Conv2d(n_channels, grid_nmyx.shape[1], 1)
    seen: list[torch.Tensor] = []
    clip.visual.layer3.register_forward_hook(lambda _module, _input, output: seen.append(output))
    clip = clip.to(memory_format=torch.channels_last)

    def loss_at(step: int) -> torch.Tensor:
        rows = batch_rows(seed, step, len(image_nhwc), min(BATCH_IMAGES, len(image_nhwc)))
        rng = np.random.default_rng([seed, 5, step])
        chosen = rng.integers(len(captions), size=BATCH_CAPTIONS)
        token = _with_unknown_words(compact_tl[chosen], rng)
        pixels, way = varied(image_nhwc[rows], seed * 1_000_003 + step)
        seen.clear()
        with half_precision():
            image_nd = clip.encode_image(pixels)
            place_nmyx = clip.places(seen.pop())
            text_td = clip.encode_text(token)
        image_nd, text_td = (
            nn.functional.normalize(x.float(), dim=-1) for x in (image_nd, text_td)
        )
        logit_nt = clip.logit_scale.exp().clamp(max=60) * image_nd @ text_td.T + clip.bias
        said = said_tc[chosen]
        truth_nt = (shown_nc[rows] @ said.T) >= said.sum(1)
        there_nmyx = turned(grid_nmyx[rows], way)
        places = balanced_loss(
            place_nmyx.float().movedim(1, -1).flatten(0, 2), there_nmyx.movedim(1, -1).flatten(0, 2)
        )
        scale = clip.logit_scale.exp().clamp(max=60)
        anchor_cd = nn.functional.normalize(clip.anchors, dim=-1)
        pictured = balanced_loss(
            scale * image_nd @ anchor_cd.T + clip.anchor_bias[0], shown_nc[rows] > 0
        )
        meant = balanced_loss(scale * text_td @ anchor_cd.T + clip.anchor_bias[1], meant_tc[chosen])
        return balanced_loss(logit_nt, truth_nt) + pictured + 0.5 * meant + 1.5 * places

    train(
        clip, loss_at, n_steps,
        rate=1.5e-3, checkpoint=checkpoint, stage="encoder", progress=progress,
        cycle=n_steps * 3 // 2, cooldown=n_steps // 3,
    )  # fmt: skip
    _write(clip, full, used, folder)


def _write(clip: Any, full: nn.Embedding, used: torch.Tensor, folder: Path) -> None:
    """The trained network without its aids, its few trained tokens among all that there are."""
    trained = clip.token_embedding.weight.detach()
    aids = ("bias", "anchors", "anchor_bias", "places.weight", "places.bias")
    state = {name: tensor for name, tensor in clip.state_dict().items() if name not in aids}
    table = torch.zeros(full.num_embeddings, full.embedding_dim)
    table[used] = trained[1:]
    state["token_embedding.weight"] = table
    folder.mkdir(parents=True)
    save_half(state, folder / "open_clip_model.safetensors")
    config = json.dumps(CONFIG, indent=2) + "\n"
    (folder / "open_clip_config.json").write_text(config, encoding="utf-8")


def _with_unknown_words(token_tl: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Slip one unknown word (row 0) into some captions, before their end."""
    token_tl = token_tl.clone()
    for t in np.flatnonzero(rng.random(len(token_tl)) < UNKNOWN_SHARE):
        end = int(token_tl[t].argmax())
        if end < token_tl.shape[1] - 1:
            place = int(rng.integers(1, end + 1))
            moved = token_tl[t, place:-1].clone()
            token_tl[t, place + 1 :] = moved
            token_tl[t, place] = 0
    return token_tl


def balanced_loss(
    logit_nt: Float[torch.Tensor, "n t"], truth_nt: Bool[torch.Tensor, "n t"]
) -> torch.Tensor:
    """Logistic loss in which a caption's true and its false pairs weigh one half each."""
    each_nt = nn.functional.binary_cross_entropy_with_logits(
        logit_nt, truth_nt.float(), reduction="none"
    )
    true_t, false_t = truth_nt.sum(0), (~truth_nt).sum(0)
    loss_t = (each_nt * truth_nt).sum(0) / true_t.clamp(min=1)
    loss_t = loss_t + (each_nt * ~truth_nt).sum(0) / false_t.clamp(min=1)
    return loss_t.mean() / 2


def zero_shot_auroc(
    encoder: Encoder,
    image_nd: np.ndarray,
    truth: pd.DataFrame,
    wordings: Mapping[str, Sequence[str]],
    templates: Sequence[str] = ("{}",),
) -> dict[str, float]:
    """How well texts rank the images that show a concept above those that do not.

    A concept's figure is the mean over its wordings of the area under the ROC curve of the cosine
    between image and text (templates averaged); 0.5 by chance. Concepts that all or no images show,
    or whose truth is not known, are left out.

    Args:
        encoder: embeds the texts.
        image_nd: unit embeddings of the images.
        truth: a bool or 0/1 column for each concept; NaN where not known.
        wordings: concept → texts.
        templates: prompts around each text.
    """
    from sklearn.metrics import roc_auc_score

    from csp_engine.types import TextRecipe
    from csp_engine.words.templates import embed_labels

    found: dict[str, float] = {}
    for name, texts in wordings.items():
        if name not in truth:
            continue
        known_n = truth[name].notna().to_numpy()
        shown_n = truth[name][known_n].to_numpy(float)
        if not 0 < shown_n.sum() < len(shown_n):
            continue
        text_td = embed_labels(encoder.embed_texts, list(texts), TextRecipe(tuple(templates)))
        score_nt = image_nd[known_n] @ text_td.T
        found[name] = float(np.mean([roc_auc_score(shown_n, s) for s in score_nt.T]))
    return found
