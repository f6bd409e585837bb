"""Statistics, strongest images and samples of every unit: stages ``neurons:MODEL/LAYER``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from csp_engine.bundle import Bundle, kinds
from csp_engine.errors import BundleError
from csp_engine.evidence import exemplars
from csp_engine.pipeline.copies import copies_params, copy_of
from csp_engine.pipeline.request import require_enough_images
from csp_engine.pipeline.run import Run
from csp_engine.pipeline.stage import Made, Stage

BLOCK_BYTES = 1 << 26
"""How much of an activation array is in memory at a time."""

UNIT_COLUMNS = (
    "mean",
    "std",
    "min",
    "max",
    "density",
    "is_dead",
    "is_dense",
    "is_constant",
    "never_positive",
)
"""Columns of the table of units, beside ``n_exemplars``."""


def _params(run: Run, model: str, layer: str) -> dict[str, Any]:
    recipe = run.recipe
    own = {"n_exemplars": recipe.n_exemplars, "dense_at": run.dense_at, "seed": recipe.seed}
    return {**own, **copies_params(run)}


def _needs(run: Run, model: str, layer: str) -> list[str]:
    return [kinds.ACTIVATIONS.name(model, layer), kinds.PROBE.name()]


def _require_activations(run: Run) -> None:
    """Refuse at once what needs activations that this copy of the bundle leaves out."""
    for model, layer in run.layers:
        measured = kinds.ACTIVATIONS.name(model, layer)
        needing = (kinds.NEURONS.name(model, layer), kinds.CONTRAST.name(model, layer))
        if run.bundle.stage(measured).omitted and not all(map(run.is_fresh, needing)):
            raise BundleError(
                "Other exemplars or contrast images need activations: "
                + run.bundle.left_out(measured)
            )


def _make(run: Run, model: str, layer: str) -> Made:
    recipe = run.recipe
    bundle = run.bundle
    n_units, n_images = bundle.activations(model, layer).shape
    require_enough_images(n_images, recipe, "has")
    copy_of_n = copy_of(run)
    columns: dict[str, list[np.ndarray]] = {}
    arrays: dict[str, list[np.ndarray]] = {}
    stratum = np.zeros(0, np.int32)
    for units, values_un in _blocks(run, model, layer):
        ranked = exemplars.rank_exemplars(
            values_un, recipe.n_exemplars, first_unit=units.start, copy_of_n=copy_of_n
        )
        statistics = exemplars.unit_statistics(
            values_un, dense_at=run.dense_at, first_unit=units.start
        )
        strat_image, strat_activation, stratum = exemplars.stratified_samples(
            values_un, seed=recipe.seed, first_unit=units.start
        )
        random_image, random_activation = exemplars.random_samples(
            values_un, seed=recipe.seed, first_unit=units.start
        )
        for name in UNIT_COLUMNS:
            columns.setdefault(name, []).append(getattr(statistics, f"{name}_u"))
        columns.setdefault("n_exemplars", []).append(ranked.count_u)
        for name, values in {
            "quantile": statistics.quantile_uq,
            "histogram": statistics.histogram_ub,
            "exemplar_image": ranked.image_uk,
            "exemplar_activation": ranked.activation_uk,
            "exemplar_count": ranked.count_u,
            "stratified_image": strat_image,
            "stratified_activation": strat_activation,
            "random_image": random_image,
            "random_activation": random_activation,
        }.items():
            arrays.setdefault(name, []).append(values)
        run.progress(f"exemplars of {layer}", units.stop, n_units)
    joined = {name: np.concatenate(parts) for name, parts in arrays.items()}
    counts = _class_counts(bundle, joined["exemplar_image"], joined["exemplar_count"])
    return Made(
        tables={
            "units": pd.DataFrame({n: np.concatenate(p) for n, p in columns.items()}),
            "class_counts": counts,
        },
        arrays={**joined, "stratum": stratum},
        facts={
            "n_units": n_units,
            "n_images": n_images,
            "quantile_levels": [float(q) for q in exemplars.QUANTILE_LEVELS],
            **{
                f"n_{name.removeprefix('is_')}": int(np.concatenate(columns[name]).sum())
                for name in ("is_dead", "is_dense", "is_constant", "never_positive")
            },
        },
    )


def _blocks(run: Run, model: str, layer: str) -> Iterator[tuple[slice, np.ndarray]]:
    """Runs of units with their activations ``(u, n)``, each small enough for memory."""
    activation_un = run.bundle.activations(model, layer, once=True)
    n_units, n_images = activation_un.shape
    step = max(1, BLOCK_BYTES // (4 * n_images))
    for first in range(0, n_units, step):
        units = slice(first, min(first + step, n_units))
        yield units, activation_un[units]


def _class_counts(bundle: Bundle, image_uk: np.ndarray, count_u: np.ndarray) -> pd.DataFrame:
    """Long table of how many exemplars of each unit carry each class; empty without classes."""
    classes = bundle.table("probe", "classes")
    probe = bundle.table("probe", "probe")
    names = {"unit": "int32", "class": "int32", "count": "int32"}
    if classes.empty:
        return pd.DataFrame(columns=list(names)).astype(names)
    number = {name: i for i, name in enumerate(classes["name"])}
    class_n = probe["class"].map(lambda c: number.get(str(c)))
    unit_uk = np.broadcast_to(np.arange(len(image_uk))[:, None], image_uk.shape)
    shown = np.arange(image_uk.shape[1]) < count_u[:, None]
    rows = pd.DataFrame(
        {"unit": unit_uk[shown], "class": class_n.to_numpy()[image_uk[shown]]}
    ).dropna()
    counted = rows.value_counts(["unit", "class"], sort=False).reset_index(name="count")
    return counted.astype(names)


STAGE = Stage(
    kind=kinds.NEURONS,
    params=_params,
    needs=_needs,
    make=_make,
    require=_require_activations,
)
