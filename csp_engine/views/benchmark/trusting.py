"""Which figure to believe where the truth is not known: tried on units planted into a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from jaxtyping import Float32

from csp_engine.bundle import Bundle
from csp_engine.errors import InputError
from csp_engine.evaluation.faithfulness.label_checks import Check, check_metrics
from csp_engine.evaluation.faithfulness.simulation import own_figures
from csp_engine.evaluation.faithfulness.telling import telling
from csp_engine.evaluation.ground_truth import halves
from csp_engine.evaluation.metrics.registered import METRICS
from csp_engine.evaluation.planted_units import Plan, Unit, plant
from csp_engine.pipeline.added.faithfulness import predicted_by
from csp_engine.pipeline.added.judging import require_independent, thumbnail_vectors
from csp_engine.types import Encoder, Progress, TextRecipe, silent
from csp_engine.vectors import normalise_rows
from csp_engine.views.benchmark.planted import TRIED_ROWS, World, judged, world_of

OF_LABELS = tuple(m for m in METRICS.values() if {"prediction", "said"} & set(m.takes))
"""Metrics of what a label predicts."""


def trusted_metrics(
    bundle: Bundle,
    plan: Plan | None = None,
    judge: Encoder | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """How well each metric tells right labels of planted units from wrong ones. JSON-ready.

    Labels are chosen by all methods on half of the images, and judged on the other half. ``rows``
    holds for each metric its AUROC (``telling``) and both checks (``missing``, ``extra``), the best
    metric first among those that pass both. Without a judge the bundle's own encoder predicts,
    which chose the labels; ``judge`` is then None.

    Raises:
        InputError: if nothing can be planted, or the judge is the bundle's own encoder.
    """
    if judge is not None:
        require_independent(bundle, judge)
    plan, world = plan or Plan(), world_of(bundle)
    units = [u for u in plant(world.is_shown_nc, world.image_nd, plan) if u.row in TRIED_ROWS]
    first_n, second_n = halves(len(world.image_nd), None, plan.seed)
    choosing = replace(
        world, image_nd=world.image_nd[first_n], is_shown_nc=world.is_shown_nc[first_n]
    )
    half = [replace(unit, activation_n=unit.activation_n[first_n]) for unit in units]
    told = judged(choosing, half, world.recipe.n_null, progress)
    said: dict[tuple[int, int], bool] = {}
    for table in told.values():
        for unit, (label, is_right) in enumerate(
            zip(table["label"], table["is_right"], strict=True)
        ):
            if isinstance(label, int | np.integer):
                said[unit, int(label)] = bool(is_right)
    if not said:
        raise InputError(f"No method of {bundle.name} has a label for any planted unit.")
    unit_a, label_a = (np.array(column) for column in zip(*said, strict=True))
    right_a = np.array(list(said.values()))
    act_un = np.stack([unit.activation_n[second_n] for unit in units])
    labels, own_a = np.unique(label_a, return_inverse=True)
    predicted_tn = _predicted(bundle, world, judge, labels, second_n, progress)
    figures = own_figures(act_un[unit_a], predicted_tn, own_a, OF_LABELS)
    # A unit that prefers a companion does not answer alike to all images of its concept.
    exact = [at for at, unit in enumerate(units) if not unit.row.startswith("co-occurrence")]
    shows_un = np.stack([_shown(world, units[at])[second_n] for at in exact])
    checks = {
        each.metric: each for each in check_metrics(act_un[exact], shows_un, OF_LABELS, plan.seed)
    }
    rows: list[dict[str, Any]] = []
    for metric in OF_LABELS:
        found = checks[metric.name]
        rows.append(
            {
                "metric": metric.name,
                **asdict(telling(figures[metric.name], right_a)),
                "missing": _as_json(found.missing),
                "extra": _as_json(found.extra),
                "is_passed": found.missing.is_passed and found.extra.is_passed,
            }
        )
    rows.sort(key=lambda row: (not row["is_passed"], -(row["auroc"] if row["auroc"] > 0 else 0.0)))
    return {
        "judge": None if judge is None else judge.spec,
        "n_images": int(second_n.sum()),
        "n_units": len(units),
        "rows": rows,
    }


def _as_json(check: Check) -> dict[str, Any]:
    return {"falls": asdict(check.falls), "by": check.by, "is_passed": check.is_passed}


def _predicted(
    bundle: Bundle,
    world: World,
    judge: Encoder | None,
    labels: np.ndarray,
    image_n: np.ndarray,
    progress: Progress,
) -> Float32[np.ndarray, "t n"]:
    """What labels predict for some images, by the judge or by the bundle's own encoder."""
    texts = [world.texts[label] for label in labels]
    row = {text: at for at, text in enumerate(world.texts)}

    def kept(prompts: Sequence[str]) -> np.ndarray:
        return normalise_rows(np.asarray(world.label_td[[row[text] for text in prompts]]))

    embed, recipe = kept, TextRecipe(("{}",))
    image_nd = world.image_nd
    if judge is not None:
        embed, recipe = judge.embed_texts, world.recipe.text_recipe()
        image_nd = thumbnail_vectors(bundle, judge, progress)
    place, predicted_tn = predicted_by(embed, image_nd[image_n], texts, bundle, recipe)
    return predicted_tn[[place[text] for text in texts]]


def _shown(world: World, unit: Unit) -> np.ndarray:
    """Which images show what a planted unit answers to."""
    own_nc = world.is_shown_nc[:, list(unit.concepts)]
    return np.asarray(own_nc.all(axis=1) if unit.row == "conjunction" else own_nc.any(axis=1), bool)
