"""Pictures to learn from: simulated cases, rendered once and kept."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from jaxtyping import Bool, UInt8
from PIL import Image

from csp_engine.demo.simulator import render as renderer
from csp_engine.demo.simulator.cases import draw_cases
from csp_engine.demo.workers import workers
from csp_engine.errors import InputError
from csp_engine.types import Progress

CHUNK = 200
"""Pictures in one file; an interruption loses at most one."""


@dataclass(frozen=True, eq=False)
class Pictures:
    """Rendered cases: pictures, in which cells of a grid each mask is seen, and the cases."""

    image_nhwc: UInt8[np.ndarray, "n height width 3"]
    grid_nmyx: Bool[np.ndarray, "n mask y x"]
    cases: pd.DataFrame


def picture(case: Mapping[str, Any], side: int) -> tuple[np.ndarray, np.ndarray]:
    """One case, rendered and shrunk to ``side`` pixels, and the grid of its masks."""
    photograph = renderer.render(case)
    image = photograph.image().resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(image), photograph.grid()


def pictures(
    folder: Path, scenario: str, n: int, seed: int, side: int, progress: Progress
) -> Pictures:
    """Cases of a scenario and their pictures, rendered once and kept in ``folder``."""
    cases = draw_cases(scenario, n, seed)
    settings = [scenario, n, seed, side, renderer.VERSION, cases.to_json()]
    key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:12]
    home = folder / f"{scenario}-{n}-{side}-{key}"
    home.mkdir(parents=True, exist_ok=True)
    rows = cases.to_dict("records")
    files = {start: home / f"{start:06d}.npz" for start in range(0, n, CHUNK)}
    missing = [start for start, file in files.items() if not file.exists()]
    n_done = n - sum(min(CHUNK, n - start) for start in missing)
    if missing:
        with workers(n - n_done) as run:
            for start in missing:
                part = rows[start : start + CHUNK]
                images, grids = zip(*run(partial(picture, side=side), part), strict=True)
                temporary = home / f".tmp-{start:06d}.npz"
                np.savez(temporary, image=np.stack(images), grid=np.stack(grids))
                temporary.rename(files[start])
                n_done += len(part)
                progress(f"pictures ({scenario})", n_done, n)
    images_, grids_ = zip(*map(_kept_pictures, files.values()), strict=True)
    return Pictures(np.concatenate(images_), np.concatenate(grids_), cases)


def _kept_pictures(file: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        with np.load(file) as kept:
            return kept["image"], kept["grid"]
    except (OSError, ValueError, EOFError, KeyError, BadZipFile, zlib.error):
        raise InputError(f"{file} is damaged; delete it and run again.") from None


def embed_pictures(loaded: Any, image_nhwc: np.ndarray, size: int = 100) -> np.ndarray:
    """Unit embeddings of pictures by an encoder."""
    parts = []
    for i in range(0, len(image_nhwc), size):
        block = [loaded.preprocess(Image.fromarray(image)) for image in image_nhwc[i : i + size]]
        parts.append(loaded.embed_images(np.stack(block)))
    return np.concatenate(parts)
