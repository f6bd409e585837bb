"""Measure statistics on all units of a layer, block by block."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float32

from csp_engine.audits.statistic import Measured, Seen, Statistic
from csp_engine.errors import InputError
from csp_engine.evidence.evidence import Evidence
from csp_engine.registry import require_shapes
from csp_engine.types import Exemplars, Progress, silent


def measure_units(
    statistics: Sequence[Statistic],
    evidence: Evidence,
    n_score: int = 30,
    *,
    unit_block: int = 256,
    progress: Progress = silent,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The columns and arrays of some statistics, for a whole layer.

    Args:
        statistics: what to measure.
        evidence: of the units, with what the statistics need.
        n_score: how many exemplars of each unit are looked at.
        unit_block: units at a time; results do not depend on it.
        progress: called with the units done.

    Returns:
        Columns of one value per unit, and arrays of more.
    """
    found: list[dict[str, list[np.ndarray]]] = [{} for _ in statistics]
    n_units = evidence.n_units
    for start in range(0, max(n_units, 1), unit_block):
        block = evidence.block(slice(start, start + unit_block))
        seen = Seen(block, *scored_embeddings(block.exemplars, block.image_nd, n_score))
        for statistic, own in zip(statistics, found, strict=True):
            for name, values in (statistic.measure(seen) or {}).items():
                own.setdefault(name, []).append(np.asarray(values))
        progress("audit", min(start + unit_block, n_units), n_units)
    columns: dict[str, np.ndarray] = {}
    arrays: dict[str, np.ndarray] = {}
    for statistic, own in zip(statistics, found, strict=True):
        whole = statistic.across({name: np.concatenate(parts) for name, parts in own.items()})
        _require_whole(statistic, whole, n_units)
        columns |= {name: values for name, values in whole.items() if name in statistic.columns}
        arrays |= {name: values for name, values in whole.items() if name in statistic.arrays}
    return columns, arrays


def _require_whole(statistic: Statistic, whole: Measured, n_units: int) -> None:
    """Refuse a statistic that leaves out something it declares, or whose rows are not the units.

    Raises:
        InputError: naming what is missing, or has another shape.
    """
    what = f"Statistic {statistic.name!r}"
    declared = (*statistic.columns, *statistic.arrays)
    if missing := [name for name in declared if name not in whole]:
        raise InputError(
            f"{what} gives no {missing[0]!r}; it gives {', '.join(whole) or 'nothing'}."
        )
    require_shapes(what, whole, dict.fromkeys(declared, (n_units,)))
    if deep := [name for name in statistic.columns if whole[name].ndim > 1]:
        raise InputError(f"{what} gives {deep[0]} of {whole[deep[0]].ndim} axes; a column has one.")
    figure_u = np.asarray(whole[statistic.name])
    if figure_u.dtype.kind not in "iufb":
        raise InputError(
            f"{what} gives {statistic.name} of {figure_u.dtype}; give numbers, and other things "
            "as columns beside it."
        )
    if figure_u.dtype.kind == "f" and np.isinf(figure_u).any():
        raise InputError(
            f"{what} gives {statistic.name} without bound; give NaN where it is not defined."
        )


def scored_embeddings(
    exemplars: Exemplars, image_nd: Float32[np.ndarray, "n d"], n_score: int
) -> tuple[Float32[np.ndarray, "u k d"], Bool[np.ndarray, "u k"]]:
    """Embeddings of each unit's first ``n_score`` exemplars, and which of them exist; else zero."""
    n_rank = min(n_score, exemplars.image_uk.shape[1])
    mask_uk = np.arange(n_rank) < exemplars.count_u[:, None]
    x_ukd = np.array(image_nd[exemplars.image_uk[:, :n_rank]])
    x_ukd[~mask_uk] = 0
    return x_ukd, mask_uk
