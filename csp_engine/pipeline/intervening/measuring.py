"""What adding one thing to photographs does to an output, and what carries it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from csp_engine.bundle import Bundle, BundleWriter, stage_key
from csp_engine.bundle.kinds import INTERVENTION
from csp_engine.errors import InputError, UnreadableImageError, naming
from csp_engine.evaluation.paired_effects import (
    IN_HALVES,
    UNKNOWN,
    count_groups,
    evenly,
    halves,
    matched_sets,
    mean_effect,
    ratio,
    strongest,
)
from csp_engine.hashing import sha256_json
from csp_engine.networks.intervening.pairs import Attributed, PairRuns, Part
from csp_engine.pasting.pairs import VERSIONS, ImagePairs
from csp_engine.pasting.pasted import PastedPairs
from csp_engine.pipeline.added.gating import Gated, as_rows
from csp_engine.pipeline.intervening.keeping import Measured, keep_interventions, require_same
from csp_engine.pipeline.intervening.rows import (
    Shot,
    bounds,
    no_units,
    pair_rows,
    set_rows,
    unit_rows,
)
from csp_engine.pipeline.passing.image_pass import Target
from csp_engine.probe.images import thumbnail
from csp_engine.reading.groups import by_turns, group_numbers, names_of_groups
from csp_engine.types import Progress, silent

log = logging.getLogger(__name__)

SIZES = (1, 5, 20, 50)
"""How many of the strongest carriers are swapped together."""
RANDOM_SIZE = 20
"""The size that random sets have."""
N_RANDOM = 20
CONTROL_PAIRS = 40
"""Pairs of the confirming half that random sets are tried on, at most."""
N_SHOWN = 6
"""Pairs of each artefact whose pictures are kept."""


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """A part of a layer that somebody asks about: units, a direction or a basis, and its name."""

    name: str
    layer: str
    part: Part

    @property
    def n_directions(self) -> int:
        """How many directions it spans; 0 for units."""
        if self.part.dtype.kind != "f":
            return 0
        return 1 if self.part.ndim == 1 else self.part.shape[1]


def add_interventions(
    path: Path,
    target: Target,
    pairs: ImagePairs,
    output: str,
    *,
    gates: Mapping[str, Gated] | None = None,
    given: Sequence[Given] = (),
    n_random: int = N_RANDOM,
    seed: int = 0,
    progress: Progress = silent,
) -> Bundle:
    """Measure pairs of images, as ``measure_pairs`` does, and keep what they show in a bundle.

    Args:
        path: a finished bundle, changed in place; an earlier stage of the model is replaced.
        target: one of its networks, with the layers of interest.
        pairs: see ``measure_pairs``, as for all others.
        output: name or number of an output.
        gates: what real photographs say about pasted artefacts.
        given: parts of layers to swap besides.
        n_random: random sets for each artefact and layer.
        seed: of halves, random sets and bootstrap draws.
        progress: called with what is done.

    Raises:
        InputError: if the network is not the bundle's, or what ``measure_pairs`` refuses.
        BundleError: if another process is writing the bundle.
    """
    bundle = Bundle.open(path)
    require_same(bundle, target.model.name, target.model.fingerprint)
    stage = INTERVENTION.name(target.model.name)
    identity = identity_of(target, pairs, output, gates, given, n_random, seed)
    with BundleWriter(path) as writer:
        if writer.is_fresh(stage, stage_key(stage, **identity)):
            return bundle
    measured = measure_pairs(
        target, pairs, output,
        gates=gates, given=given, n_random=n_random, seed=seed, progress=progress,
    )  # fmt: skip
    return keep_interventions(path, measured)


def measure_pairs(
    target: Target,
    pairs: ImagePairs,
    output: str,
    *,
    gates: Mapping[str, Gated] | None = None,
    given: Sequence[Given] = (),
    n_random: int = N_RANDOM,
    seed: int = 0,
    progress: Progress = silent,
) -> Measured:
    """Measure how an output answers to what pairs of images differ in, and which units carry it.

    Of every artefact: the paired effect on the log-odds of the output, how often the decision is
    lost or gained, and by layer the attribution of the effect to units on one half of the groups.
    On the other half the strongest carriers are swapped together between the two versions, as are
    random sets of units and the direction of the mean difference. Where pairs have a neutral
    version, it takes the place of the photograph without anything.

    Args:
        target: a network, with the layers of interest.
        pairs: the images.
        output: name or number of an output.
        gates: what real photographs say about pasted artefacts (``gate_pastes``); pairs that
            were pasted need it, and it is kept beside their effects.
        given: parts of layers to swap besides, each of another name.
        n_random: random sets for each artefact and layer.
        seed: of halves, random sets and bootstrap draws.
        progress: called with what is done.

    Raises:
        InputError: if no artefact has pairs of enough groups, the output does not exist, or pasted
            pairs come without their gates.
    """
    identity = identity_of(target, pairs, output, gates, given, n_random, seed)
    runs = PairRuns(target.model, target.taps, output)
    told = _Told([], [], [], [], [], [])
    refused: list[str] = []
    for shot in _shots(target.model, pairs, refused, progress):
        _measure(shot, runs, pairs, told, given, n_random, seed, progress)
    if not told.effects:
        more = "--photos" if isinstance(pairs, PastedPairs) else "--pairs"
        raise InputError(
            f"{pairs.name}: {'; '.join(refused)}. Intervals need {IN_HALVES} groups, half to "
            f"find what carries an effect and half to confirm it; give more with {more}."
        )
    for each in refused:
        log.warning("%s, and %d groups are needed; it is left out.", each, IN_HALVES)
    tables = {
        "effects": pd.DataFrame(told.effects).astype({"artefact": "string"}),
        "pairs": pd.concat(told.pairs, ignore_index=True),
        "units": pd.concat(told.units, ignore_index=True) if told.units else no_units(),
        "sets": set_rows(told.sets),
        "shown": pd.DataFrame([row for _, row in told.thumbs]),
    }
    if told.given:
        kinds = dict.fromkeys(("artefact", "layer", "name"), "string")
        kinds |= dict.fromkeys(("n_units", "n_directions"), "int32")
        tables["given"] = pd.DataFrame(told.given).astype(kinds)
    if gates is not None:
        tried = {each["artefact"] for each in told.effects}
        gated = as_rows(gates)
        tables["gates"] = gated[gated["artefact"].isin(tried)].reset_index(drop=True)
    facts = {
        "output": output,
        "images": pairs.name,
        "n_pairs": sum(len(each) for each in told.pairs),
        "has_neutral": bool(all(each["foil"] == "neutral" for each in told.effects)),
    }
    thumbs = tuple(content for content, _ in told.thumbs)
    return Measured(target.model.name, identity, facts, tables, thumbs)


def identity_of(
    target: Target,
    pairs: ImagePairs,
    output: str,
    gates: Mapping[str, Gated] | None = None,
    given: Sequence[Given] = (),
    n_random: int = N_RANDOM,
    seed: int = 0,
) -> dict[str, Any]:
    """What the measurement is made from, as the key of a stage takes it; see ``measure_pairs``."""
    if isinstance(pairs, PastedPairs) and gates is None:
        raise InputError(
            "Pasted artefacts are believed only behind their gates; give those of 'gate_pastes'."
        )
    identity: dict[str, Any] = {
        "version": INTERVENTION.version,
        "params": {
            "output": output,
            "layers": [str(tap.id) for tap in target.taps if tap.sae is None],
            "sizes": list(SIZES),
            "n_random": n_random,
            "seed": seed,
        },
        "needs": {},
        "inputs": {
            "model": target.model.fingerprint,
            "pairs": pairs.fingerprint,
            "groups": sha256_json(_groups(pairs).tolist()),
        },
    }
    if given:
        named = [{"name": each.name, "layer": each.layer} for each in given]
        identity["params"] = {**identity["params"], "given": named}
        identity["inputs"]["given"] = sha256_json([np.asarray(g.part).tolist() for g in given])
    if gates is not None:
        rows = as_rows(gates).to_json(orient="records", double_precision=9)
        identity["inputs"]["gates"] = sha256_json(rows)
    return identity


@dataclass(frozen=True, slots=True, eq=False)
class _Told:
    """Rows of the tables, artefact by artefact."""

    effects: list[dict[str, Any]]
    pairs: list[pd.DataFrame]
    units: list[pd.DataFrame]
    sets: list[dict[str, Any]]
    given: list[dict[str, Any]]
    thumbs: list[tuple[bytes, dict[str, Any]]]


def _shots(model: Any, pairs: ImagePairs, refused: list[str], progress: Progress) -> Iterator[Shot]:
    """The pairs of every artefact, decoded and preprocessed; unreadable ones left out.

    Of an artefact whose pairs are of too few groups, ``refused`` gets a clause instead.
    """
    table = pairs.table
    group_n = _groups(pairs)
    n_done = 0
    for artefact, rows in table.groupby("artefact", sort=False).indices.items():
        held: dict[str, list[np.ndarray]] = {name: [] for name in VERSIONS}
        kept = []
        for row in rows:
            n_done += 1
            try:
                images = pairs.images(int(row))
            except (UnreadableImageError, OSError) as error:
                log.warning("%s is left out: %s", table["file"].iloc[row], error)
                continue
            kept.append(int(row))
            without, with_it, neutral = images
            for name, image in zip(VERSIONS, (without, neutral, with_it), strict=True):
                if image is not None:
                    held[name].append(model.preprocess(image))
            progress("pairs of images", n_done, len(table))
        n_groups = count_groups(group_n[kept])
        if n_groups < IN_HALVES:
            n = len(kept)
            groups = f"of {n_groups} group{'s' * (n_groups != 1)}"
            refused.append(f"{artefact} has {n} pair{'s' * (n != 1)} that can be read, {groups}")
            continue
        pixels = {name: np.stack(found) for name, found in held.items() if len(found) == len(kept)}
        yield Shot(str(artefact), np.array(kept), pixels, group_n[kept])


def _groups(pairs: ImagePairs) -> np.ndarray:
    """What pairs are drawn together: those of one lesion or patient, else of one photograph."""
    return group_numbers(names_of_groups(pairs.table))


def _measure(
    shot: Shot,
    runs: PairRuns,
    pairs: ImagePairs,
    told: _Told,
    given: Sequence[Given],
    n_random: int,
    seed: int,
    progress: Progress,
) -> None:
    """One artefact: its effect, and what carries it."""
    files = pairs.table["file"].iloc[shot.row_n]
    with naming(files.tolist()):
        scored = {name: runs.scores(pixels) for name, pixels in shot.pixels.items()}
    is_choosing_n = halves(shot.group_n, seed)
    change_n = scored["with"][0] - scored["without"][0]
    net_n = scored["with"][0] - scored[shot.foil][0]
    effect = mean_effect(net_n, shot.group_n, seed)
    row = {
        "artefact": shot.artefact,
        "foil": shot.foil,
        "n_pairs": len(change_n),
        "n_groups": count_groups(shot.group_n),
        **bounds("change", mean_effect(change_n, shot.group_n, seed)),
        **bounds("effect", effect),
    }
    neutral = UNKNOWN
    if "neutral" in scored:
        neutral = mean_effect(scored["neutral"][0] - scored["without"][0], shot.group_n, seed)
    before_n, after_n = scored[shot.foil][1], scored["with"][1]
    row |= bounds("neutral", neutral) | {
        "n_called": int(before_n.sum()),
        "n_lost": int((before_n & ~after_n).sum()),
        "n_gained": int((~before_n & after_n).sum()),
    }
    told.effects.append(row)
    told.pairs.append(pair_rows(shot, pairs, scored, is_choosing_n))
    _show(shot, pairs, net_n, told)
    confirm_n = ~is_choosing_n
    choose = {name: pixels[is_choosing_n] for name, pixels in shot.pixels.items()}
    confirm = {name: pixels[confirm_n] for name, pixels in shot.pixels.items()}
    group_n = shot.group_n[confirm_n]
    whole_n = net_n[confirm_n]
    confirmed = mean_effect(whole_n, group_n, seed)
    found, again = (
        _attributed(runs, half, shot.foil, files[own_n].tolist())
        for half, own_n in ((choose, is_choosing_n), (confirm, confirm_n))
    )
    few = _controls(whole_n, group_n, seed)
    swapped, swapped_few = _naming_swaps(runs, files[confirm_n].to_numpy(object), few)
    for at, (module, attributed) in enumerate(found.items()):
        progress(f"what carries {shot.artefact}", at, len(found))
        tap = runs.tap_of[module]
        mean_u = attributed.effect_nu.mean(0)
        rows = unit_rows(shot.artefact, str(tap.id), attributed, again[module], group_n)
        told.units.append(rows)
        if not (effect.is_away_from_zero and confirmed.is_away_from_zero):
            continue  # a share of what may be nothing means nothing
        parts, names = _parts(attributed, strongest(mean_u, effect.value), n_random, seed)
        base_n, top_n = scored[shot.foil][0][confirm_n], scored["with"][0][confirm_n]
        upper, lower = confirm["with"], confirm[shot.foil]
        n_own = sum(what != "random" for what, _ in names)
        removed_sn = top_n - swapped(module, upper, lower, parts[:n_own])
        added_sn = swapped(module, lower, upper, parts[:n_own]) - base_n
        random_sn = top_n[few] - swapped_few(module, upper[few], lower[few], parts[n_own:])
        for i, (what, n_units) in enumerate(names):
            if i < n_own:
                necessity = ratio(removed_sn[i], whole_n, group_n, seed)
                sufficiency = ratio(added_sn[i], whole_n, group_n, seed)
            else:
                necessity = ratio(random_sn[i - n_own], whole_n[few], group_n[few], seed)
                sufficiency = UNKNOWN
            told.sets.append(
                {
                    "artefact": shot.artefact,
                    "layer": str(tap.id),
                    "what": what,
                    "n_units": n_units,
                    **bounds("necessity", necessity),
                    **bounds("sufficiency", sufficiency),
                }
            )
        asked = [each for each in given if each.layer == str(tap.id)]
        own = [each.part for each in asked]
        if not asked:
            continue
        gone_sn = top_n - swapped(module, upper, lower, own)
        come_sn = swapped(module, lower, upper, own) - base_n
        for each, gone_n, come_n in zip(asked, gone_sn, come_sn, strict=True):
            told.given.append(
                {
                    "artefact": shot.artefact,
                    "layer": each.layer,
                    "name": each.name,
                    "n_units": len(each.part),
                    "n_directions": each.n_directions,
                    **bounds("necessity", ratio(gone_n, whole_n, group_n, seed)),
                    **bounds("sufficiency", ratio(come_n, whole_n, group_n, seed)),
                }
            )
    progress(f"what carries {shot.artefact}", len(found), len(found))


def _attributed(
    runs: PairRuns, pixels: dict[str, np.ndarray], foil: str, files: list[str]
) -> dict[str, Attributed]:
    with naming(files):
        return runs.attributed(pixels["with"], pixels[foil])


def _controls(whole_n: np.ndarray, group_n: np.ndarray, seed: int) -> np.ndarray:
    """Pairs that random sets are swapped in: a few of every group in turn, which will do.

    All of them where the few by themselves show no effect, so that a share of it means something.
    """
    few = by_turns(np.arange(len(whole_n)), group_n)[:CONTROL_PAIRS]
    shown = mean_effect(whole_n[few], group_n[few], seed).is_away_from_zero
    return few if shown else np.arange(len(whole_n))


def _naming_swaps(
    runs: PairRuns, file_n: np.ndarray, few: np.ndarray
) -> tuple[Callable[..., np.ndarray], Callable[..., np.ndarray]]:
    """Swaps of some pairs, and of a few of them, which name the file without an answer."""

    def of(files: list[str]) -> Callable[..., np.ndarray]:
        def swapped(*given: Any) -> np.ndarray:
            with naming(files):
                return runs.swapped(*given)

        return swapped

    return of(file_n.tolist()), of(file_n[few].tolist())


def _parts(
    attributed: Attributed, order_u: np.ndarray, n_random: int, seed: int
) -> tuple[list[Part], list[tuple[str, int]]]:
    """The strongest carriers, the direction of the mean change, then random sets; their names."""
    n_units = len(order_u)
    parts: list[Part] = []
    names = []
    for size in SIZES:
        if size < n_units:
            parts.append(order_u[:size])
            names.append(("strongest", size))
    mean_u = attributed.change_nu.mean(0).astype(np.float64)
    length = float(np.linalg.norm(mean_u))
    if length > 0:
        parts.append((mean_u / length).astype(np.float32))
        names.append(("direction", n_units))
    size = min(RANDOM_SIZE, n_units // 3 or n_units // 2)  # or others would make one set only
    for random in matched_sets(
        order_u[:size], attributed.activation_u, attributed.influence_u, n_random, seed
    ):
        parts.append(random)
        names.append(("random", size))
    return parts, names


def _show(shot: Shot, pairs: ImagePairs, net_n: np.ndarray, told: _Told) -> None:
    """Pictures of a few pairs, from the largest effect to the smallest."""
    for at in evenly(net_n, N_SHOWN):
        without, with_it, neutral = pairs.images(int(shot.row_n[at]))
        place = sum(len(each) for each in told.pairs[:-1]) + int(at)
        for version, image in zip(VERSIONS, (without, neutral, with_it), strict=True):
            if image is not None:
                content = thumbnail(image)
                told.thumbs.append((content, {"pair": np.int32(place), "version": version}))
