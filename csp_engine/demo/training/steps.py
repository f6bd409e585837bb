"""Training on simulated photographs: augmentation, and steps that resume.

Every step draws from a random stream of its own, made from the seed and the step's number, so a
run that was interrupted ends with the weights of one that was not.
"""

from __future__ import annotations

import ctypes
import functools
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from csp_engine.errors import InputError
from csp_engine.types import Progress

SECONDS_BETWEEN_CHECKPOINTS = 45.0
MEAN = (0.75, 0.60, 0.53)
STD = (0.25, 0.25, 0.25)


def keep_freed_memory() -> None:
    """Have this process reuse freed memory at once, where its C library is glibc.

    glibc gives large blocks back to the system, which clears every page again at the next use: in
    a virtual machine that took two thirds of the time of training on the processor.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    m_trim_threshold, m_top_pad, m_mmap_max = -1, -2, -4
    mallopt(m_mmap_max, 0)
    mallopt(m_trim_threshold, 2**31 - 1)
    mallopt(m_top_pad, 1 << 28)


def as_pixels(image_nhwc: np.ndarray) -> torch.Tensor:
    """uint8 pictures to what the networks take."""
    pixels = torch.from_numpy(np.ascontiguousarray(image_nhwc)).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
    return ((pixels - mean) / std).contiguous(memory_format=torch.channels_last)


def turned(image_ncyx: torch.Tensor, way: int) -> torch.Tensor:
    """One of the eight ways to mirror and turn a square."""
    if way & 1:
        image_ncyx = image_ncyx.flip(3)
    if way & 2:
        image_ncyx = image_ncyx.flip(2)
    return image_ncyx.transpose(2, 3) if way & 4 else image_ncyx


def varied(image_nhwc: np.ndarray, seed: int) -> tuple[torch.Tensor, int]:
    """The pictures turned, in other light and grainier, as ``as_pixels`` gives them; which way.

    Brightness, colour cast, contrast and saturation are one affine map of colours for each picture.
    """
    rng = np.random.default_rng(seed)
    n, side = len(image_nhwc), image_nhwc.shape[1]
    way = int(rng.integers(8))
    image_nhwc = np.ascontiguousarray(
        turned(torch.from_numpy(image_nhwc).permute(0, 3, 1, 2), way).permute(0, 2, 3, 1)
    )
    colour_np3 = torch.from_numpy(image_nhwc).view(n, side * side, 3).float()
    gain_n3 = np.exp(0.06 * rng.normal(size=(n, 3)) + 0.10 * rng.normal(size=(n, 1))) / 255
    contrast_n = np.exp(0.15 * rng.normal(size=n))
    saturation_n = np.exp(0.20 * rng.normal(size=n))
    middle_n3 = gain_n3 * colour_np3.mean(1).numpy()
    # x -> grey + saturation (x - grey), after x -> contrast (gain x - middle) + middle
    mix_n33 = saturation_n[:, None, None] * np.eye(3) + (1 - saturation_n)[:, None, None] / 3
    scale_n33 = mix_n33 * (contrast_n[:, None] * gain_n3)[:, None, :]
    shift_n3 = np.einsum("nij,nj->ni", mix_n33, (1 - contrast_n)[:, None] * middle_n3)
    scale_n33 = scale_n33 / np.array(STD)[:, None]
    shift_n3 = (shift_n3 - np.array(MEAN)) / np.array(STD)
    as_matrix, as_shift = (torch.from_numpy(x.astype(np.float32)) for x in (scale_n33, shift_n3))
    pixel_np3 = torch.baddbmm(as_shift[:, None, :], colour_np3, as_matrix.transpose(1, 2))
    first = int(rng.integers(_GRAIN_SIZE))
    grain_np3 = _grain()[first : first + pixel_np3.numel()].view_as(pixel_np3)
    strength_n = torch.from_numpy((0.08 * rng.random(n)).astype(np.float32))
    pixel_np3.addcmul_(grain_np3, strength_n[:, None, None])
    return pixel_np3.view(n, side, side, 3).permute(0, 3, 1, 2), way


_GRAIN_SIZE = 1 << 20


@functools.cache
def _grain() -> torch.Tensor:
    """Normal noise, enough for a batch from any place of its first part."""
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.standard_normal(_GRAIN_SIZE + (1 << 23), np.float32))


def half_precision() -> Any:
    """bfloat16 for matrix products where the processor has it; float32 otherwise."""
    has_it = torch.cpu._is_avx512_bf16_supported()
    return torch.autocast("cpu", torch.bfloat16, enabled=has_it)


def batch_rows(seed: int, step: int, n: int, size: int) -> np.ndarray:
    """Rows of one step's batch; ``n // size`` steps see every row once, then in another order."""
    per_epoch = max(1, n // size)
    epoch, place = divmod(step, per_epoch)
    order = np.random.default_rng([seed, 7, epoch]).permutation(n)
    return np.sort(order[place * size : (place + 1) * size])


def train(
    network: nn.Module,
    loss_at: Callable[[int], torch.Tensor],
    n_steps: int,
    *,
    rate: float,
    checkpoint: Path,
    stage: str,
    progress: Progress,
    weight_decay: float = 0.02,
    cycle: int | None = None,
    cooldown: int = 0,
) -> nn.Module:
    """Minimise ``loss_at(step)`` by AdamW on a one-cycle schedule; continue where a run stopped.

    Args:
        network: changed in place, left in evaluation mode.
        loss_at: the loss of one step; must depend on the step's number and the network alone.
        n_steps: how many.
        rate: highest learning rate.
        checkpoint: file for the state of an unfinished run; removed at the end.
        stage: name for ``progress``.
        progress: called after every step.
        weight_decay: on matrices; biases and scales have none.
        cycle: length of the cycle if longer than the run, which then stays at high rates longer.
        cooldown: steps at the end over which the rate also falls to nothing in a straight line.
    """
    matrices = [p for p in network.parameters() if p.requires_grad and p.ndim > 1]
    vectors = [p for p in network.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, rate, total_steps=(cycle or n_steps) + 1, pct_start=0.12
    )
    first = 0
    if checkpoint.exists():
        try:
            held = torch.load(checkpoint, weights_only=True)
            network.load_state_dict(held["network"])
            optimiser.load_state_dict(held["optimiser"])
            schedule.load_state_dict(held["schedule"])
            first = int(held["step"])
        except (RuntimeError, UnpicklingError, EOFError, KeyError, TypeError, ValueError):
            raise InputError(f"{checkpoint} is damaged; delete it and run again.") from None
    network.train()
    saved = time.monotonic()
    for step in range(first, n_steps):
        left = min(1.0, (n_steps - step) / cooldown) if cooldown else 1.0
        for group, planned in zip(optimiser.param_groups, schedule.get_last_lr(), strict=True):
            group["lr"] = planned * left
        loss = loss_at(step)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        schedule.step()
        progress(stage, step + 1, n_steps)
        if time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS:
            state = {
                "network": network.state_dict(),
                "optimiser": optimiser.state_dict(),
                "schedule": schedule.state_dict(),
                "step": step + 1,
            }
            temporary = checkpoint.with_name(f".tmp-{checkpoint.name}")
            torch.save(state, temporary)
            temporary.replace(checkpoint)
            saved = time.monotonic()
    checkpoint.unlink(missing_ok=True)
    return network.eval()


def save_half(state: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write weights in half precision: the file halves, and loading brings them to float32."""
    halved = {name: t.half() if t.is_floating_point() else t for name, t in state.items()}
    save_file({name: t.contiguous() for name, t in halved.items()}, path)


@torch.inference_mode()
def in_batches(
    network: Callable[[torch.Tensor], torch.Tensor], image_nhwc: np.ndarray, size: int = 100
) -> np.ndarray:
    """What a network gives for pictures, float32."""
    parts = [
        network(as_pixels(image_nhwc[i : i + size])).float()
        for i in range(0, len(image_nhwc), size)
    ]
    return torch.cat(parts).numpy()
