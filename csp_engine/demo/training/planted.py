"""Planted units: a layer whose units mean exactly what a formula says, to score labels against.

The network is a memory. Its first part recognises a photograph by a coarse fingerprint of its
pixels; its second part, the layer ``planted``, gives the values stored for it, which were made from
the simulator's record of what the photograph shows. These units therefore see nothing: they read
the record of known images, and are silent (all 0) on any other. They are a measuring stick for
label methods, not a model of anything.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Float32
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from csp_engine.errors import InputError, MissingModelError
from csp_engine.files import ROOT, write_whole
from csp_engine.networks.models import TargetModel
from csp_engine.networks.models import target_model as make_target_model

KINDS = ("single", "co-occurring", "conjunction", "either", "noise")
"""What a unit may be: one concept; one that comes with another; two at once; one or the other
(polysemantic); nothing."""

GRID = 8
"""A fingerprint is the mean of every channel in GRID x GRID cells."""

NOISE = 0.02
"""Deviation of the noise on every value, so that quiet images do not tie; levels are 0.5 to 1."""

MIN_SEPARATION = 0.01
"""Two stored fingerprints must lie this far apart; rounding and float noise stay well below."""

LAYER = "planted"
WEIGHTS_NAME, RECORD_NAME = "planted.safetensors", "planted.json"
FORMAT = 1
LOGIT_SCALE = 10.0
DEFAULT_FOLDER = ROOT / "assets" / "demo" / "planted"
_MIN_SHOWN = 20


@dataclass(frozen=True, slots=True, eq=False)
class Planted:
    """The memory: units, their values on every stored image, and how images are recognised.

    ``units`` has one row per unit: ``unit``, ``kind`` (of ``KINDS``), ``formula`` in words,
    ``concepts`` (list of names), and for co-occurring ones ``beside`` and ``beside_share``, the
    share of the concept's images that show ``beside`` too. An image is taken for the stored one
    whose fingerprint is nearest, if it is nearer than ``tolerance``.
    """

    units: pd.DataFrame
    value_nu: Float32[np.ndarray, "n u"]
    fingerprint_nf: Float[np.ndarray, "n f"]
    tolerance: float


def fingerprint(
    pixels: Float32[np.ndarray, "n channel height width"], grid: int = GRID
) -> Float32[np.ndarray, "n f"]:
    """The means of preprocessed pixels in a coarse grid: equal for equal images, up to rounding."""
    return _cell_means(torch.from_numpy(pixels), grid).numpy()


def plant(
    strengths: pd.DataFrame,
    concepts: pd.DataFrame,
    fingerprint_nf: Float[np.ndarray, "n f"],
    seed: int = 0,
    *,
    beside: Mapping[str, str] | None = None,
    conjunctions: Sequence[tuple[str, str]] | None = None,
    either: Sequence[tuple[str, str]] | None = None,
    n_pairs: int = 6,
    n_noise: int = 8,
) -> Planted:
    """Define units on the simulator's record and give each its value on every image.

    With ``level(c)`` = 0 where an image lacks concept c, else 1/2 + strength / (2 · largest
    strength), a unit is ``level(a)``, ``min(level(a), level(b))`` for "a and b",
    ``max(level(a), level(b))`` for "a or b", or nothing; plus normal noise of deviation ``NOISE``
    (noise units: 1/4). Every concept gets a unit of its own.

    Args:
        strengths: how much of each concept an image shows (a share of pixels, a grade), at least 0,
            one column per concept; a concept without a column has strength 1 wherever it is.
        concepts: which concepts each image shows, boolean, one column per concept, same rows.
        fingerprint_nf: of the images as the network will see them, same rows.
        seed: decides noise, and pairs that are not given.
        beside: concept → another that comes with it in most images; its unit is then called
            co-occurring, and the share is recorded.
        conjunctions: pairs for "a and b"; drawn among pairs that occur together often enough, and
            apart often enough, if not given.
        either: pairs for "a or b"; drawn among pairs that seldom occur together, if not given.
        n_pairs: how many of each to draw; fewer where the images do not offer them.
        n_noise: how many units mean nothing.

    Raises:
        InputError: if tables do not fit, a name is unknown, a strength is negative or not finite,
            or two images cannot be told apart.
    """
    shows_nc, names = concepts.to_numpy(), [str(name) for name in concepts.columns]
    _check_record(strengths, concepts, fingerprint_nf)
    beside = beside or {}
    rng = np.random.default_rng([seed, 0])
    if conjunctions is None:
        conjunctions = _drawn_pairs(rng, shows_nc, names, n_pairs, is_together=True)
    if either is None:
        either = _drawn_pairs(rng, shows_nc, names, n_pairs, is_together=False)
    pairs = [*beside.items(), *conjunctions, *either]
    unknown = sorted({name for pair in pairs for name in pair} - set(names))
    if unknown:
        raise InputError(f"There is no concept {unknown[0]!r}; there are {', '.join(names)}.")
    rows: list[dict[str, Any]] = []
    for c, name in enumerate(names):
        other = beside.get(name)
        share = None
        if other is not None and shows_nc[:, c].any():
            share = float(shows_nc[shows_nc[:, c], names.index(other)].mean())
        kind = "single" if other is None else "co-occurring"
        rows.append(_row(kind, name, [name]) | {"beside": other, "beside_share": share})
    rows += [_row("conjunction", f"{a} and {b}", [a, b]) for a, b in conjunctions]
    rows += [_row("either", f"{a} or {b}", [a, b]) for a, b in either]
    rows += [_row("noise", "noise", []) for _ in range(n_noise)]
    units = pd.DataFrame(rows)
    units.insert(0, "unit", np.arange(len(units)))
    noise_nu = np.random.default_rng([seed, 1]).normal(size=(len(concepts), len(units)))
    scale_u = np.where(units["kind"] == "noise", 0.25, NOISE)
    value_nu = formula_values(units, strengths, concepts) + scale_u * noise_nu
    stored_nf = np.asarray(fingerprint_nf, np.float16)
    separation = _separation(stored_nf)
    return Planted(units, value_nu.astype(np.float32), stored_nf, min(separation / 2, 1.0))


def formula_values(
    units: pd.DataFrame, strengths: pd.DataFrame, concepts: pd.DataFrame
) -> Float[np.ndarray, "n u"]:
    """The values of every unit without noise; 0 for noise units."""
    level = {}
    for name in concepts.columns:
        shows_n = concepts[name].to_numpy()
        strength_n = strengths[name].to_numpy(np.float64) if name in strengths else shows_n + 0.0
        largest = strength_n[shows_n].max(initial=0.0) or 1.0
        level[name] = np.where(shows_n, 0.5 + strength_n / (2 * largest), 0.0)
    values = []
    for kind, named in zip(units["kind"], units["concepts"], strict=True):
        parts = [level[name] for name in named]
        if kind == "conjunction":
            values.append(np.minimum.reduce(parts))
        else:
            values.append(np.maximum.reduce(parts) if parts else np.zeros(len(concepts)))
    return np.stack(values, axis=1)


class Memory(nn.Module):
    """The number of the stored image that pixels show, or ``n`` where they show none of the n."""

    def __init__(self, n_images: int, n_features: int) -> None:
        super().__init__()
        self.register_buffer("fingerprint", torch.zeros(n_images, n_features, dtype=torch.float16))
        self.register_buffer("tolerance", torch.zeros((), dtype=torch.float64))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Exact nearest neighbour by one product; in float64, which rounds no distance away."""
        stored = self.get_buffer("fingerprint").double()
        grid = round((stored.shape[1] / pixels.shape[1]) ** 0.5)
        centre = stored.mean(dim=0)
        seen, stored = _cell_means(pixels, grid).double() - centre, stored - centre
        squared = (seen**2).sum(1, keepdim=True) + (stored**2).sum(1) - 2 * seen @ stored.T
        nearest = squared.min(dim=1)
        is_known = nearest.values <= self.get_buffer("tolerance") ** 2
        return torch.where(is_known, nearest.indices, len(stored))


class PlantedNetwork(nn.Module):
    """Memory, then the layer ``planted`` that gives the stored values, then logits of diagnoses."""

    def __init__(self, n_images: int, n_features: int, n_units: int, n_classes: int) -> None:
        super().__init__()
        self.memory = Memory(n_images, n_features)
        self.planted = nn.Embedding(n_images + 1, n_units)
        self.head = nn.Linear(n_units, n_classes)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels to logits."""
        return self.head(self.planted(self.memory(pixels)))

    @classmethod
    def of(cls, planted: Planted, class_names: Sequence[str]) -> PlantedNetwork:
        """The network of a memory; the logit of a class is ten times its own unit.

        Raises:
            InputError: if a class has no unit of its own.
        """
        own = {
            formula: unit
            for unit, kind, formula in zip(
                planted.units["unit"], planted.units["kind"], planted.units["formula"], strict=True
            )
            if kind in ("single", "co-occurring")
        }
        missing = [name for name in class_names if name not in own]
        if missing:
            raise InputError(f"Class {missing[0]!r} is not a concept, so no planted unit tells it.")
        n_images, n_units = planted.value_nu.shape
        network = cls(n_images, planted.fingerprint_nf.shape[1], n_units, len(class_names))
        weight = torch.zeros(len(class_names), n_units)
        for row, name in enumerate(class_names):
            weight[row, own[name]] = LOGIT_SCALE
        silent = np.zeros((1, n_units), np.float32)
        network.load_state_dict(
            {
                "memory.fingerprint": torch.from_numpy(planted.fingerprint_nf),
                "memory.tolerance": torch.tensor(planted.tolerance, dtype=torch.float64),
                "planted.weight": torch.from_numpy(np.concatenate([planted.value_nu, silent])),
                "head.weight": weight,
                "head.bias": torch.zeros(len(class_names)),
            }
        )
        return network.eval().requires_grad_(False)


# --- on disk ------------------------------------------------------------------------------------


def save(
    folder: Path, planted: Planted, class_names: Sequence[str], preprocessing: Mapping[str, Any]
) -> None:
    """Write the network and the table of its units; the second file appears only after the first.

    Args:
        folder: made if missing.
        planted: the memory.
        class_names: concepts that are the classes.
        preprocessing: the recipe that made the pixels of the fingerprints.
    """
    network = PlantedNetwork.of(planted, class_names)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RECORD_NAME).unlink(missing_ok=True)
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    save_file(state, folder / f".tmp-{WEIGHTS_NAME}")
    (folder / f".tmp-{WEIGHTS_NAME}").replace(folder / WEIGHTS_NAME)
    units = planted.units.astype(object).where(planted.units.notna(), None)
    record = {
        "format": FORMAT,
        "class_names": list(class_names),
        "preprocessing": dict(preprocessing),
        "units": units.to_dict("records"),
    }
    write_whole(folder / RECORD_NAME, json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def read_units(folder: Path) -> pd.DataFrame:
    """The table of units that ``save`` wrote.

    Raises:
        MissingModelError: if it is not there, or damaged.
    """
    return pd.DataFrame(_record(folder)["units"])


def target_model(folder: Path | None = None) -> TargetModel:
    """The saved network as a target model; by default the one shipped with the demo.

    Raises:
        MissingModelError: if its files are missing or damaged.
    """
    folder = folder or DEFAULT_FOLDER
    record = _record(folder)
    try:
        state = load_file(folder / WEIGHTS_NAME)
        n_images, n_features = state["memory.fingerprint"].shape
        n_classes, n_units = state["head.weight"].shape
        network = PlantedNetwork(n_images, n_features, n_units, n_classes)
        network.load_state_dict(state)
    except (OSError, SafetensorError, KeyError, RuntimeError, ValueError):
        raise MissingModelError(_unusable(folder / WEIGHTS_NAME)) from None
    if n_units != len(record["units"]) or n_classes != len(record["class_names"]):
        raise MissingModelError(_unusable(folder / WEIGHTS_NAME))
    return make_target_model(
        network,
        record["preprocessing"],
        name="planted",
        spec="python:csp_engine.demo.dermoscopy.planted:target_model",
        class_names=record["class_names"],
    )


def _record(folder: Path) -> dict[str, Any]:
    try:
        record = json.loads((folder / RECORD_NAME).read_text("utf-8"))
        is_whole = record["format"] == FORMAT and {"class_names", "preprocessing", "units"} <= set(
            record
        )
    except (OSError, ValueError, KeyError, TypeError):
        is_whole = False
    if not is_whole:
        raise MissingModelError(_unusable(folder / RECORD_NAME))
    return record


def _unusable(path: Path) -> str:
    what = "is missing" if not path.exists() else "is cut off or was altered"
    return f"{path} {what}, so there are no planted units; make the demo again."


# --- parts of the above -------------------------------------------------------------------------


def _cell_means(pixels: torch.Tensor, grid: int) -> torch.Tensor:
    return nn.functional.adaptive_avg_pool2d(pixels.float(), grid).flatten(1)


def _row(kind: str, formula: str, concepts: list[str]) -> dict[str, Any]:
    return {"kind": kind, "formula": formula, "concepts": concepts}


def _check_record(
    strengths: pd.DataFrame, concepts: pd.DataFrame, fingerprint_nf: np.ndarray
) -> None:
    if not len(strengths) == len(concepts) == len(fingerprint_nf):
        raise InputError(
            f"Strengths are of {len(strengths)} images, concepts of {len(concepts)} and "
            f"fingerprints of {len(fingerprint_nf)}; give all three for the same images."
        )
    if any(concepts[name].dtype != bool for name in concepts.columns):
        raise InputError("The table of concepts must be boolean.")
    strength_nc = strengths[[c for c in concepts.columns if c in strengths]].to_numpy(np.float64)
    if not np.isfinite(strength_nc).all() or (strength_nc < 0).any():
        raise InputError("A strength is negative or not a number; strengths are 0 or more.")


def _drawn_pairs(
    rng: np.random.Generator,
    shows_nc: Bool[np.ndarray, "n c"],
    names: Sequence[str],
    n_pairs: int,
    *,
    is_together: bool,
) -> list[tuple[str, str]]:
    """Pairs of concepts, each concept once: that meet often but not always, or hardly ever."""
    together_cc = shows_nc.T.astype(np.int64) @ shows_nc.astype(np.int64)
    count_c = np.diag(together_cc)
    fitting = []
    for a, b in combinations(range(len(names)), 2):
        rarer = min(count_c[a], count_c[b])
        if is_together:
            is_fit = together_cc[a, b] >= _MIN_SHOWN and together_cc[a, b] <= 0.8 * rarer
        else:
            is_fit = rarer >= _MIN_SHOWN and together_cc[a, b] <= 0.3 * rarer
        if is_fit:
            fitting.append((a, b))
    chosen: list[tuple[str, str]] = []
    used: set[int] = set()
    for place in rng.permutation(len(fitting)):
        a, b = fitting[place]
        if len(chosen) < n_pairs and not {a, b} & used:
            chosen.append((names[a], names[b]))
            used |= {a, b}
    return chosen


def _separation(stored_nf: np.ndarray) -> float:
    """The smallest distance between two stored fingerprints.

    Raises:
        InputError: if two lie closer than ``MIN_SEPARATION``.
    """
    centred_nf = stored_nf.astype(np.float64)
    centred_nf -= centred_nf.mean(axis=0)
    length_n = (centred_nf**2).sum(axis=1)
    smallest = np.inf
    for first in range(0, len(centred_nf), 1024):
        block = slice(first, first + 1024)
        squared = length_n[block, None] + length_n - 2 * centred_nf[block] @ centred_nf.T
        rows = np.arange(squared.shape[0])
        squared[rows, first + rows] = np.inf
        place = np.unravel_index(squared.argmin(), squared.shape)
        nearest = float(np.sqrt(max(0.0, squared[place])))
        if nearest < MIN_SEPARATION:
            raise InputError(
                f"Images {first + place[0]} and {place[1]} look the same in a fingerprint; "
                "leave one out, or use a finer grid."
            )
        smallest = min(smallest, nearest)
    return smallest
