"""Whether pasted artefacts may stand for real ones, asked of photographs that have real ones."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from csp_engine.bundle import Bundle, kinds
from csp_engine.encoders.answering import embedded
from csp_engine.errors import InputError, UnreadableImageError, naming
from csp_engine.evaluation.paired_effects import UNKNOWN, Bounded
from csp_engine.evaluation.within_classes import difference_within_classes
from csp_engine.networks.intervening.pairs import PairRuns
from csp_engine.pasting.gate import Gate, gate
from csp_engine.pasting.pairs import VERSIONS, ImagePairs
from csp_engine.pasting.pasted import columns_of
from csp_engine.pipeline.passing.image_pass import Target
from csp_engine.probe import ProbeSet
from csp_engine.probe.decoding import decode
from csp_engine.reading.groups import numbers_over
from csp_engine.types import Encoder, Progress, silent

log = logging.getLogger(__name__)

N_REAL = 400
"""Real photographs with an artefact, and without it, that are looked at, at most."""
BATCH = 32


@dataclass(frozen=True, slots=True)
class Gated:
    """What real photographs say about one pasted artefact.

    Attributes:
        artefact: its name.
        gate: what a probe of the real one makes of the pasted one; None where it was not asked.
        why: why it was not asked, as a clause; empty where it was.
        observed: log-odds of the output, real photographs with it less those without, within
            classes; NaN where columns do not tell.
        n_with: real photographs with it that were looked at.
        n_without: the same without it.
    """

    artefact: str
    gate: Gate | None
    why: str
    observed: Bounded
    n_with: int
    n_without: int


def gate_pastes(
    bundle: Bundle,
    target: Target,
    output: str,
    photos: ProbeSet,
    pairs: ImagePairs,
    encoder: Encoder,
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> dict[str, Gated]:
    """Ask of every artefact whether what knows the real one recognises the pasted one.

    Concept columns of the photographs say which of them have it. Vectors come from the bundle
    where it holds the photograph, else from the encoder.

    Args:
        bundle: whose vectors are used.
        target: the network whose output is followed.
        output: name or number of the output.
        photos: real photographs, those that were pasted into among them.
        pairs: the pasted pairs.
        encoder: the bundle's.
        seed: chooses photographs, and draws.
        progress: called with what is done.

    Raises:
        InputError: if the encoder cannot look at images.
    """
    if not getattr(encoder, "needs_pixels", True):
        raise InputError(
            f"{encoder.spec} holds stored vectors and cannot look at pasted images, so no paste "
            "can be trusted; name an encoder that can with --encoder, or give pairs with --pairs."
        )
    flags = {artefact: _flags(photos, artefact) for artefact in pairs.table["artefact"].unique()}
    rng = np.random.default_rng(seed)
    chosen = {
        artefact: [_some(np.flatnonzero(flag_n == value), rng) for value in (1, 0)]
        for artefact, flag_n in flags.items()
        if flag_n is not None
    }
    wanted = sorted({int(row) for rows in chosen.values() for part in rows for row in part})
    real = _looked_at(bundle, target, output, photos, wanted, encoder, progress)
    group_n, group_p = numbers_over(photos.table, pairs.table)
    found = {}
    for artefact, flag_n in flags.items():
        if flag_n is None:
            why = f"no column of {photos.name} says which photographs have it"
            found[artefact] = Gated(artefact, None, why, UNKNOWN, 0, 0)
            continue
        rows = np.array([r for part in chosen[artefact] for r in part if r in real.place], int)
        at = [real.place[int(row)] for row in rows]
        has_n = flag_n[rows] == 1
        counts = int(has_n.sum()), int((~has_n).sum())
        has_classes = "class" in photos.table and photos.table["class"].notna().any()
        classes = photos.table["class"].iloc[rows] if has_classes else [""] * len(rows)
        observed = difference_within_classes(
            real.score_n[at], has_n, list(classes), group_n[rows], seed
        )
        own = np.flatnonzero((pairs.table["artefact"] == artefact).to_numpy())
        asked, why = None, ""
        try:
            vectors, kept = _of_pairs(pairs, own, encoder, artefact, progress)
            asked = gate(
                artefact, real.vector_nd[at], has_n, group_n[rows],
                vectors["without"], vectors["with"], vectors["neutral"], group_p[kept],
            )  # fmt: skip
        except InputError as error:
            why = str(error).rstrip(".")
        found[artefact] = Gated(artefact, asked, why, observed, *counts)
    return found


@dataclass(frozen=True, slots=True, eq=False)
class _Real:
    """Vectors and scores of real photographs, and the place of each row among them."""

    place: dict[int, int]
    vector_nd: np.ndarray
    score_n: np.ndarray


def _flags(photos: ProbeSet, artefact: str) -> np.ndarray | None:
    """1 where a photograph has it, 0 where it has not, NaN where nobody says; None without column.

    Of several columns one that says yes is enough; no takes all.
    """
    columns = columns_of(photos, artefact)
    if not columns:
        return None
    value_nc = photos.table[columns].to_numpy(np.float64)
    flag_n = np.where((value_nc > 0).any(axis=1), 1.0, 0.0)
    return np.where((flag_n == 0) & np.isnan(value_nc).any(axis=1), np.nan, flag_n)


def _some(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rows if len(rows) <= N_REAL else np.sort(rng.choice(rows, N_REAL, replace=False))


def _looked_at(
    bundle: Bundle,
    target: Target,
    output: str,
    photos: ProbeSet,
    rows: Sequence[int],
    encoder: Encoder,
    progress: Progress,
) -> _Real:
    """What encoder and network make of real photographs; unreadable ones are left out."""
    held = bundle.table(kinds.IMAGES.name(), "images")["sha256"].tolist()
    stored = dict(zip(held, range(len(held)), strict=True))
    image_nd = bundle.image_vectors()
    runs = PairRuns(target.model, target.taps, output)
    place: dict[int, int] = {}
    vectors: list[np.ndarray] = []
    scores: list[np.ndarray] = []
    for part in _batches(photos, rows):
        pixels = np.stack([target.model.preprocess(image) for _, image in part])
        with naming([str(photos.table["file"].iloc[row]) for row, _ in part]):
            scores.append(runs.scores(pixels)[0])
        at = [stored.get(photos.table["sha256"].iloc[row]) for row, _ in part]
        new = [each for each, where in zip(part, at, strict=True) if where is None]
        named = photos.table["file"].iloc[[row for row, _ in new]].tolist()
        fresh = iter(_embedded(encoder, [image for _, image in new], named))
        for (row, _), where in zip(part, at, strict=True):
            place[row] = len(vectors)
            vectors.append(next(fresh) if where is None else np.asarray(image_nd[where]))
        progress("look at real photographs", len(vectors), len(rows))
    if not vectors:
        return _Real({}, np.zeros((0, 1), np.float32), np.zeros(0, np.float32))
    return _Real(place, np.stack(vectors), np.concatenate(scores))


def _batches(photos: ProbeSet, rows: Sequence[int]) -> Iterator[list[tuple[int, Image.Image]]]:
    part = []
    for row in rows:
        try:
            part.append((row, decode(photos.read(row))))
        except (UnreadableImageError, OSError) as error:
            log.warning("%s is left out: %s", photos.table["file"].iloc[row], error)
        if len(part) == BATCH:
            yield part
            part = []
    if part:
        yield part


def _embedded(encoder: Encoder, images: Sequence[Image.Image], files: Sequence[str]) -> np.ndarray:
    if not images:
        return np.zeros((0, 1), np.float32)
    pixels = np.stack([encoder.preprocess(image) for image in images])
    return embedded(encoder, pixels, files)


def _of_pairs(
    pairs: ImagePairs,
    rows: np.ndarray,
    encoder: Encoder,
    artefact: str,
    progress: Progress,
) -> tuple[Mapping[str, np.ndarray], np.ndarray]:
    """Vectors of the three versions of every pair, and which pairs could be read."""
    held: dict[str, list[np.ndarray]] = {version: [] for version in VERSIONS}
    kept: list[int] = []
    for at, row in enumerate(rows):
        try:
            without, with_it, neutral = pairs.images(int(row))
        except (UnreadableImageError, OSError):
            continue  # told when its effect is measured
        if neutral is None:
            raise InputError("its pairs have no neutral version")
        kept.append(int(row))
        file = str(pairs.table["file"].iloc[row])
        found = _embedded(encoder, [without, neutral, with_it], [file] * len(VERSIONS))
        for version, vector in zip(VERSIONS, found, strict=True):
            held[version].append(vector)
        progress(f"does pasted {artefact} pass for real", at + 1, len(rows))
    if not kept:
        raise InputError("none of its pairs can be read")
    return {version: np.stack(found) for version, found in held.items()}, np.array(kept)


def as_rows(gates: Mapping[str, Gated]) -> pd.DataFrame:
    """The table that a bundle keeps of them, one row an artefact."""
    rows: list[dict[str, Any]] = []
    for each in gates.values():
        held = each.gate
        row: dict[str, Any] = {"artefact": each.artefact, "why": each.why}
        row["least"] = np.nan if held is None else held.least
        for name in ("real", "pasted", "neutral"):
            area = None if held is None else getattr(held, name)
            row[name] = np.nan if area is None else area.auroc
            row[f"{name}_low"] = np.nan if area is None else area.low
            row[f"{name}_high"] = np.nan if area is None else area.high
        row |= {"n_with": each.n_with, "n_without": each.n_without}
        for end, value in zip(
            ("", "_low", "_high"),
            (each.observed.value, each.observed.low, each.observed.high),
            strict=True,
        ):
            row[f"observed{end}"] = value
        rows.append(row)
    figures = [
        f"{name}{end}"
        for name in ("real", "pasted", "neutral", "observed")
        for end in ("", "_low", "_high")
    ]
    return pd.DataFrame(rows).astype(
        {"artefact": "string", "why": "string", "n_with": "int32", "n_without": "int32"}
        | dict.fromkeys(["least", *figures], "float64")
    )
