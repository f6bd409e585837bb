"""From a network's input back to the picture: which place of the picture each input pixel shows.

How a preprocessing resizes, crops and pads is not concluded from its settings, which many do not
tell, but measured: it is given ramps of brightness, and what comes out says where it came from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64
from PIL import Image

from csp_engine.errors import InputError
from csp_engine.networks.loading.preprocessing import Preprocess

_LEAST_SPREAD = 1e-6
_STRAIGHT = 0.02
"""How far a ramp may bend, as a share of the picture's side: resampling and 8 bits bend it less."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Where the whole input of a network lies in a picture of ``width`` by ``height`` pixels.

    Its edges are in pixels of the picture and lie outside of it where the input was padded.
    """

    left: float
    top: float
    right: float
    bottom: float
    width: int
    height: int

    @property
    def share_seen(self) -> float:
        """The share of the picture's area that the network sees."""
        x = min(self.right, self.width) - max(self.left, 0.0)
        y = min(self.bottom, self.height) - max(self.top, 0.0)
        return max(x, 0.0) * max(y, 0.0) / (self.width * self.height)


def frame_of(preprocess: Preprocess, width: int, height: int) -> Frame:
    """Measure where the input of a network lies in pictures of one size.

    Raises:
        InputError: if the preprocessing turns or bends pictures, so that no frame describes it.
    """
    x_hw = np.broadcast_to(_ramp(width), (height, width))
    y_hw = np.broadcast_to(_ramp(height)[:, None], (height, width))
    black, white, along, down = (
        preprocess(Image.fromarray(np.repeat(grey[..., None], 3, axis=2))).astype(np.float64)
        for grey in (
            np.zeros((height, width), np.uint8),
            np.full((height, width), 255, np.uint8),
            x_hw,
            y_hw,
        )
    )
    spread = np.abs(white - black).mean(axis=0)
    if not (spread > _LEAST_SPREAD).any():
        raise InputError(
            "The preprocessing makes nothing of black and white, so where its input lies in a "
            "picture cannot be measured; no map is drawn."
        )
    is_picture_hw = spread > 0.5 * spread.max()  # the rest was padded
    with np.errstate(invalid="ignore", divide="ignore"):
        shown_x = ((along - black) / (white - black)).mean(axis=0)
        shown_y = ((down - black) / (white - black)).mean(axis=0)
    left, right = _edges(shown_x, is_picture_hw, 1, width)
    top, bottom = _edges(shown_y, is_picture_hw, 0, height)
    return Frame(left, top, right, bottom, width, height)


def _ramp(n: int) -> np.ndarray:
    """Brightness that tells a pixel's centre, in eighths of its range away from both ends."""
    return np.round(32 + 191 * (np.arange(n) + 0.5) / n).astype(np.uint8)


def _edges(
    shown_hw: np.ndarray, is_picture_hw: np.ndarray, axis: int, n: int
) -> tuple[float, float]:
    """Both ends of the input along one axis, in pixels of the picture, by a straight line."""
    share_hw = (shown_hw * 255 - 32) / 191
    place = np.indices(share_hw.shape)[axis][is_picture_hw] + 0.5
    share = share_hw[is_picture_hw]
    size = share_hw.shape[axis]
    if len(np.unique(place)) < 2:
        return 0.0, float(n)
    slope, start = np.polyfit(place, share, 1)
    bend = np.abs(start + slope * place - share)
    if slope <= 0 or np.quantile(bend, 0.95) > _STRAIGHT:
        raise InputError(
            "The preprocessing turns, mirrors or bends pictures, so a map cannot be laid over "
            "them; no map is drawn."
        )
    return float(start * n), float((start + slope * size) * n)


def onto_picture(
    map_hw: Float32[np.ndarray, "h w"], frame: Frame
) -> tuple[Float32[np.ndarray, "y x"], Bool[np.ndarray, "y x"]]:
    """A map over a network's input, as a map over the picture, and where the picture was seen.

    Each cell of the map covers an equal part of the input; between the centres of cells values are
    interpolated linearly, beyond the outermost centres they stay. What was not seen is 0.
    """
    n_rows, n_columns = map_hw.shape
    x = (np.arange(frame.width) + 0.5 - frame.left) / (frame.right - frame.left)
    y = (np.arange(frame.height) + 0.5 - frame.top) / (frame.bottom - frame.top)
    is_seen = ((y >= 0) & (y <= 1))[:, None] & ((x >= 0) & (x <= 1))[None]
    across = _between(x * n_columns - 0.5, n_columns)
    down = _between(y * n_rows - 0.5, n_rows)
    found = (down @ map_hw.astype(np.float64) @ across.T).astype(np.float32)
    return np.where(is_seen, found, np.float32(0)), is_seen


def largest(map_hw: Float32[np.ndarray, "h w"], frame: Frame) -> Float64[np.ndarray, "m 2"]:
    """The centres of a map's largest cells (those that tie), as x and y in the picture.

    Of the cells themselves: once values are interpolated, a maximum at the border spreads out to
    the border, and random maps would point there too often.
    """
    rows, columns = np.nonzero(map_hw == map_hw.max())
    x = frame.left + (columns + 0.5) / map_hw.shape[1] * (frame.right - frame.left)
    y = frame.top + (rows + 0.5) / map_hw.shape[0] * (frame.bottom - frame.top)
    return np.stack([x, y], axis=1)


def _between(place: np.ndarray, n_cells: int) -> np.ndarray:
    """Weights of the cells for every place, counted from the centre of the first cell."""
    held = place.clip(0, n_cells - 1)
    low = np.minimum(held.astype(int), max(n_cells - 2, 0))
    share = held - low
    weight = np.zeros((len(place), n_cells))
    rows = np.arange(len(place))
    weight[rows, low] = 1 - share
    weight[rows, np.minimum(low + 1, n_cells - 1)] += share
    return weight
