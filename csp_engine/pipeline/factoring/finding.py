"""Factors of a layer, ranked by how much they push wrong decisions, and what becomes without them.

Nobody has to say what the bias is: a factor that pushes wrong decisions more than right ones
misleads, whatever it shows (after *Gradient trail*, arXiv 2605.28780).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float32

from csp_engine.bundle import StoredFactors
from csp_engine.bundle.checks.factored import N_SHOWN, N_TRIED, called_in_turn, leading
from csp_engine.errors import InputError, naming
from csp_engine.evaluation.directions import factors
from csp_engine.evaluation.paired_effects import LEAST_GROUPS, count_groups, mean_gap
from csp_engine.networks.intervening.pushing import PushRuns
from csp_engine.pipeline.added.fixes import Piece
from csp_engine.pipeline.added.fixing import Trials
from csp_engine.probe.images import thumbnail

N_FACTORS = 12
N_RANDOM = 20
N_PLACES = 8000
"""Places of the layer that factors are fitted to, about."""
SIDE = 112
"""Pixels of a picture."""


@dataclass(frozen=True, slots=True, eq=False)
class _Half:
    """Photographs of one half: how much each factor pushes each decision, and what was decided."""

    rows: np.ndarray
    push_nk: Float32[np.ndarray, "n k"]
    called_n: np.ndarray
    is_wrong_n: np.ndarray


def find_factors(
    trials: Trials, layer: str, n_factors: int = N_FACTORS, n_random: int = N_RANDOM, seed: int = 0
) -> StoredFactors:
    """Factors of one layer, ranked by how much they push wrong decisions rather than right ones.

    Half of the groups fits the factors and ranks them by ``gap``, the mean push of wrong decisions
    less that of right ones. On the other half the gap is measured again, with its interval, and
    the factors are tested in their order until the first whose interval does not lie above 0: one
    test at a time, in an order that came from elsewhere, errs as often as one interval does. The
    first few are projected out of the layer, and decisions about the other half made anew.

    Args:
        trials: a classifier and photographs of known class.
        layer: one of the target's layers.
        n_factors: how many, at most; a layer may have fewer.
        n_random: directions with the numbers of the first factor in another order, as a control.
        seed: of places, factors and controls.

    Raises:
        InputError: if the layer has negative activations or does not exist, if a photograph gives
            values that are not finite, or if decisions are wrong in too few groups.
    """
    module = trials.module_of.get(layer)
    if module is None:
        raise InputError(
            f"Layer {layer!r} cannot be factored; it can be {', '.join(trials.module_of)}."
        )
    tap = trials.runs.tap_of[module]
    runs = PushRuns(trials.model, [tap], trials.output)
    table = trials.photographs.table
    n_each = max(1, -(-N_PLACES // max(len(trials.choosing), 1)))
    seen = [
        runs.places(pixels, module, n_each, seed * 100_003 + n_done)
        for pixels, n_done in trials.blocks(trials.choosing, f"places of {layer}")
    ]
    readout_uk, share_k = factors(np.concatenate(seen).T, n_factors, seed)
    direction_uk = readout_uk / np.maximum(np.linalg.norm(readout_uk, axis=0), 1e-30)
    chosen, told = (
        _half(trials, runs, module, direction_uk, rows)
        for rows in (trials.choosing, trials.reported)
    )
    group_n = table["group"].to_numpy(np.int64)
    for half, which in ((chosen, "choose"), (told, "are reported on")):
        _require_groups(trials, half, group_n[half.rows], which)
    order, chosen_k = leading(chosen.push_nk, chosen.is_wrong_n)
    rows: list[dict[str, Any]] = []
    for place, k in enumerate(order):
        gap = mean_gap(told.push_nk[:, k], told.is_wrong_n, group_n[told.rows], seed)
        rows.append(
            {
                "share": float(share_k[k]),
                "chosen": float(chosen_k[place]),
                "gap": gap.value,
                "gap_low": gap.low,
                "gap_high": gap.high,
                "wrong": float(told.push_nk[told.is_wrong_n, k].mean(dtype=np.float64)),
                "right": float(told.push_nk[~told.is_wrong_n, k].mean(dtype=np.float64)),
            }
        )
    found = pd.DataFrame(rows)
    found["is_called"] = called_in_turn(found["gap_low"].to_numpy())
    push_nk = np.empty((len(table), len(order)), np.float32)
    called_n = np.empty(len(table), np.int64)
    for half in (chosen, told):
        push_nk[half.rows], called_n[half.rows] = half.push_nk[:, order], half.called_n
    direction_uk = np.ascontiguousarray(direction_uk[:, order], np.float32)
    called_vi = _decided(trials, layer, direction_uk, told.called_n, n_random, seed)
    return _with_pictures(
        StoredFactors(
            images=trials.photographs.name,
            classes=trials.classes,
            n_tried=min(N_TRIED, len(order)),
            n_random=n_random,
            photographs=table.assign(
                decided=pd.array([trials.classes[i] for i in called_n], "string")
            ),
            factors=found,
            direction_uk=direction_uk,
            push_nk=push_nk,
            called_vi=called_vi,
            shown=pd.DataFrame({"factor": np.zeros(0, np.int32), "row": np.zeros(0, np.int32)}),
            thumbs=(),
        ),
        trials,
    )


def _half(
    trials: Trials, runs: PushRuns, module: str, direction_uk: np.ndarray, rows: np.ndarray
) -> _Half:
    truth_n = trials.truth(rows)
    pushes, called = [], []
    first = 0
    for pixels, n_done in trials.blocks(rows, f"what pushes decisions along {module}"):
        with naming(trials.files(rows[first:n_done])):
            push_nk, called_n = runs.pushes(pixels, truth_n[first:n_done], module, direction_uk)
        pushes.append(push_nk)
        called.append(called_n)
        first = n_done
    called_n = np.concatenate(called).astype(np.int64)
    return _Half(rows, np.concatenate(pushes), called_n, called_n != truth_n)


def _require_groups(trials: Trials, half: _Half, group_n: np.ndarray, which: str) -> None:
    """Refuse wrong, or right, decisions of few groups, of which an interval would be too close.

    Raises:
        InputError: counting decisions and groups.
    """
    n_groups = [count_groups(group_n[own]) for own in (half.is_wrong_n, ~half.is_wrong_n)]
    if min(n_groups) >= LEAST_GROUPS:
        return
    n_wrong, n_all = int(half.is_wrong_n.sum()), len(half.rows)
    over = "" if count_groups(group_n) == n_all else " of different groups"
    in_words = f"{n_groups[0]} group{'s' * (n_groups[0] != 1)}"
    told = f", in {in_words}, and rightly in {n_groups[1]}" if over else ""
    raise InputError(
        f"{trials.model.name} decides wrongly for {n_wrong} of the {n_all} photographs that "
        f"{which}{told}; at least {LEAST_GROUPS} wrong and {LEAST_GROUPS} right ones{over} are "
        "needed. Give other photographs with --images."
    )


def _decided(
    trials: Trials,
    layer: str,
    direction_uk: np.ndarray,
    called_n: np.ndarray,
    n_random: int,
    seed: int,
) -> np.ndarray:
    """Decisions about reported photographs: as they are, without each factor, random ones."""
    rng = np.random.default_rng([seed, 1])
    parts = [direction_uk[:, k] for k in range(min(N_TRIED, direction_uk.shape[1]))]
    parts += [rng.permutation(parts[0]) for _ in range(n_random)]
    every = [(), *(trials.cuts([Piece(layer, part)], "zero") for part in parts)]
    _, called_vi = trials.decided(trials.reported, every, f"decisions without parts of {layer}")
    # As they were pushed: a tie may fall otherwise where no gradient is asked for.
    return np.concatenate([called_n[None], called_vi[1:]]).astype(np.uint16)


def _with_pictures(stored: StoredFactors, trials: Trials) -> StoredFactors:
    """Of every called factor that is projected out, the wrong decisions that it pushes most."""
    shown = [(k, row) for k in stored.pictured for row in stored.most_pushed(k, N_SHOWN)]
    thumbs = tuple(thumbnail(trials.photographs.image(row), SIDE) for _, row in shown)
    table = pd.DataFrame(shown, columns=pd.Index(["factor", "row"])).astype("int32")
    return stored.with_pictures(table, thumbs)
