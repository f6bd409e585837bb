"""Statistics of every unit: those measured together, then each other one by itself."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pandas as pd

from csp_engine.audits.measuring import measure_units
from csp_engine.audits.registered import AUDITS
from csp_engine.audits.statistic import Statistic
from csp_engine.bundle import kinds
from csp_engine.errors import InputError
from csp_engine.pipeline.given import layer_evidence, stages_for, what_lacks
from csp_engine.pipeline.run import Run
from csp_engine.pipeline.stage import Made, Of, Stage
from csp_engine.pipeline.stages.neurons import UNIT_COLUMNS

log = logging.getLogger(__name__)


def require_own_columns(statistics: Iterable[Statistic]) -> None:
    """Refuse statistics with a column of the name of another: both stand in one table.

    Raises:
        InputError: naming the statistic and the column.
    """
    taken = dict.fromkeys((*UNIT_COLUMNS, "n_exemplars"), "every neuron has")
    for statistic in statistics:
        for column in statistic.columns:
            if column in taken:
                raise InputError(
                    f"Statistic {statistic.name!r} has the column {column!r}, which "
                    f"{taken[column]} already; rename one of them."
                )
            taken[column] = f"statistic {statistic.name!r} has"


require_own_columns(AUDITS.values())
TOGETHER = [statistic for statistic in AUDITS.values() if statistic.is_together]
APART = [statistic for statistic in AUDITS.values() if not statistic.is_together]


def _all_needs(statistics: Sequence[Statistic]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(need for each in statistics for need in each.needs))


def _made_from(statistics: Sequence[Statistic], model: str, layer: str) -> list[str]:
    more = stages_for(_all_needs(statistics), model, layer)
    return [kinds.NEURONS.name(model, layer), kinds.EMBEDDINGS.name(), *more]


def _make(run: Run, statistics: Sequence[Statistic], model: str, layer: str) -> Made:
    needs = _all_needs(statistics)
    what = "audit" if statistics is TOGETHER else statistics[0].name
    columns, arrays = measure_units(
        list(statistics),
        layer_evidence(run, model, layer, f"Statistic {statistics[0].name!r}", needs),
        run.recipe.n_score,
        progress=lambda _, done, total: run.progress(f"{what} of {layer}", done, total),
    )
    return Made(tables={"units": pd.DataFrame(columns)}, arrays=arrays)


def _places(run: Run) -> Iterator[Of]:
    """The statistics that can be measured, layer by layer."""
    for model, layer in run.layers:
        for statistic in APART:
            if not what_lacks(run, statistic.needs, model, layer):
                yield model, layer, statistic.name


def _warn(run: Run) -> None:
    """Say which statistics are left out, and why."""
    for model, layer in run.layers:
        for statistic in APART:
            lacking = what_lacks(run, statistic.needs, model, layer)
            if lacking:
                log.warning("%s of %s/%s is left out: %s", statistic.title, model, layer, lacking)


def _own_params(run: Run, model: str, layer: str, name: str) -> dict[str, Any]:
    own = {"statistic": name, "statistic_version": AUDITS[name].version}
    return {"n_score": run.recipe.n_score, **own}


AUDIT = Stage(
    kind=kinds.AUDIT,
    params=lambda run, model, layer: {"n_score": run.recipe.n_score},
    needs=lambda run, model, layer: _made_from(TOGETHER, model, layer),
    make=lambda run, model, layer: _make(run, TOGETHER, model, layer),
)
STATISTIC = Stage(
    kind=kinds.STATISTIC,
    params=_own_params,
    needs=lambda run, model, layer, name: _made_from([AUDITS[name]], model, layer),
    places=_places,
    make=lambda run, model, layer, name: _make(run, [AUDITS[name]], model, layer),
    require=_warn,
)
