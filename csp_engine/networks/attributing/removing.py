"""Insertion and deletion: what a value does as the places of a map are shown or taken away."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float32

from csp_engine.networks.attributing.methods import BATCH, Value, plain

N_STEPS = 8
"""Steps in which an image is taken away or put together."""
SIDE = 16
"""Places along a side; those of a map are compared by their means."""


def removal_gap(
    value: Value,
    pixels: Float32[np.ndarray, "n channel height width"],
    map_nhw: Float32[np.ndarray, "n h w"],
    device: torch.device,
) -> Float32[np.ndarray, " n"]:
    """Mean value while places are put in, less that while they are taken away, largest first.

    Both start from, or end at, the image of its mean colour; the mean is over equal steps
    (insertion and deletion, Petsiuk et al. 2018). A map in random order has 0 on average, a better
    one more; the unit is that of the value. Places that tie come in both orders, from the top and
    from the bottom, of which the mean counts: a map that is the same everywhere has 0, wherever
    the thing lies.
    """
    x = torch.from_numpy(np.ascontiguousarray(pixels, np.float32)).to(device)
    height, width = x.shape[-2:]
    map_n1hw = torch.from_numpy(np.ascontiguousarray(map_nhw, np.float32))[:, None].to(device)
    n_cells = (min(SIDE, height), min(SIDE, width))
    # Up to the input first: a map of few cells has no places of its own at this grid.
    full = torch.nn.functional.interpolate(
        map_n1hw, (height, width), mode="bilinear", align_corners=False
    )
    cell_nk = torch.nn.functional.adaptive_avg_pool2d(full, n_cells).flatten(1)
    base, found = plain(x), []
    with torch.inference_mode():
        for rank_nk in _orders(cell_nk):
            share_nk = rank_nk.float() / rank_nk.shape[1]
            for step in range(1, N_STEPS):
                is_first = (share_nk < step / N_STEPS).float().view(len(x), 1, *n_cells)
                shown = torch.nn.functional.interpolate(is_first, (height, width), mode="nearest")
                put_in = base + shown * (x - base)
                taken_away = x - shown * (x - base)
                found.append(_values(value, put_in) - _values(value, taken_away))
    return torch.stack(found).mean(0).float().cpu().numpy()


def _orders(cell_nk: torch.Tensor) -> list[torch.Tensor]:
    """The place of every cell from the largest down; where some tie, also with those turned."""
    orders = [cell_nk]
    if (cell_nk.sort(dim=1).values.diff(dim=1) == 0).any():
        orders.append(cell_nk.flip(1))
    ranks = [x.argsort(dim=1, descending=True, stable=True).argsort(dim=1) for x in orders]
    return [ranks[0], *(rank_nk.flip(1) for rank_nk in ranks[1:])]


def _values(value: Value, x: torch.Tensor) -> torch.Tensor:
    return torch.cat([value(part) for part in x.split(BATCH)])
