"""Stages that follow from measurements alone: exemplars to search index, without images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from csp_engine.bundle import Bundle, StageFolder, kinds
from csp_engine.captioners import Captioner
from csp_engine.errors import BundleError, InputError
from csp_engine.evidence import exemplars
from csp_engine.evidence.contrast import mine_contrast
from csp_engine.methods import METHODS, noise_evidence
from csp_engine.pipeline.request import require_enough_images
from csp_engine.pipeline.run import Run
from csp_engine.pipeline.stages.candidates import caption_layer, require_candidates
from csp_engine.pipeline.stages.labelled import (
    audit_layer,
    embed_vocabulary,
    index_method,
    keep_words,
    map_method,
    require_methods,
    require_texts,
    score_layer,
    words_of,
)
from csp_engine.types import ContrastSet, Encoder
from csp_engine.words.vocabularies import Vocabulary

BLOCK_BYTES = 1 << 26
"""How much of an activation array is in memory at a time."""


_UNIT_COLUMNS = (
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


def derive(
    run: Run,
    vocabulary: Vocabulary | None,
    encoder: Encoder | None,
    dense_at: float,
    captioner: Captioner | None = None,
) -> None:
    """Everything that follows from measurements: exemplars to search index.

    What cannot work for lack of a captioner or an encoder is refused before anything changes.
    """
    _require_telling_vectors(run)
    _require_activations(run, dense_at)
    words = words_of(run, vocabulary)
    require_candidates(run, captioner)
    require_texts(run, words, encoder)
    _null_identity(run)
    require_methods(run)
    keep_words(run, words)
    _null(run)
    for model, layer in run.layers:
        _neurons(run, model, layer, dense_at)
        _contrast(run, model, layer)
        caption_layer(run, model, layer, captioner)
    embed_vocabulary(run, words, encoder)
    for model, layer in run.layers:
        for method in run.recipe.methods:
            score_layer(run, model, layer, method)
        audit_layer(run, model, layer)
    searched = [m for m in run.recipe.methods if METHODS[m].stores.vectors != "none"]
    for method in searched:
        index_method(run, method)
    if searched:
        map_method(run, searched[0])


def _require_telling_vectors(run: Run) -> None:
    """Refuse an encoder that cannot tell images apart; all that follows would mean nothing."""
    sample_nd = np.asarray(run.bundle.image_vectors()[:256])
    if len(sample_nd) > 1 and float(np.ptp(sample_nd, axis=0).max()) < 1e-6:
        raise InputError(
            "The encoder gives the same vector for every image; check its weights and "
            "preprocessing, or choose another with --encoder."
        )


def _require_activations(run: Run, dense_at: float) -> None:
    """Refuse at once what needs activations that this copy of the bundle leaves out."""
    for model, layer in run.layers:
        measured = kinds.ACTIVATIONS.name(model, layer)
        needing = (kinds.NEURONS.name(model, layer), kinds.CONTRAST.name(model, layer))
        _neurons_identity(run, model, layer, dense_at)
        _pairs_identity(run, model, layer)
        if run.bundle.stage(measured).omitted and not all(map(run.is_fresh, needing)):
            raise BundleError(
                "Other exemplars or contrast images need activations: "
                + run.bundle.left_out(measured)
            )


def _blocks(run: Run, model: str, layer: str) -> Iterator[tuple[slice, np.ndarray]]:
    """Runs of units with their activations ``(u, n)``, each small enough for memory."""
    activation_un = run.bundle.streamed(kinds.ACTIVATIONS.name(model, layer), "activation")
    n_units, n_images = activation_un.shape
    step = max(1, BLOCK_BYTES // (4 * n_images))
    for first in range(0, n_units, step):
        units = slice(first, min(first + step, n_units))
        yield units, activation_un[units]


def _neurons_identity(run: Run, model: str, layer: str, dense_at: float) -> dict[str, Any]:
    recipe = run.recipe
    return run.key(
        kinds.NEURONS.name(model, layer),
        {"n_exemplars": recipe.n_exemplars, "dense_at": dense_at, "seed": recipe.seed},
        [kinds.ACTIVATIONS.name(model, layer), "probe"],
    )


def _neurons(run: Run, model: str, layer: str, dense_at: float) -> None:
    recipe, stage = run.recipe, kinds.NEURONS.name(model, layer)
    identity = _neurons_identity(run, model, layer, dense_at)
    if run.is_fresh(stage):
        return
    bundle = run.bundle
    n_units, n_images = bundle.array(kinds.ACTIVATIONS.name(model, layer), "activation").shape
    require_enough_images(n_images, recipe, "has")
    columns: dict[str, list[np.ndarray]] = {}
    arrays: dict[str, list[np.ndarray]] = {}
    stratum = np.zeros(0, np.int32)
    for units, values_un in _blocks(run, model, layer):
        ranked = exemplars.rank_exemplars(values_un, recipe.n_exemplars, first_unit=units.start)
        statistics = exemplars.unit_statistics(values_un, dense_at=dense_at, first_unit=units.start)
        strat_image, strat_activation, stratum = exemplars.stratified_samples(
            values_un, seed=recipe.seed, first_unit=units.start
        )
        random_image, random_activation = exemplars.random_samples(
            values_un, seed=recipe.seed, first_unit=units.start
        )
        for name in _UNIT_COLUMNS:
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
    with run.writing(stage, identity) as folder:
        folder.table("units", pd.DataFrame({n: np.concatenate(p) for n, p in columns.items()}))
        for name, values in joined.items():
            folder.array(name, values)
        folder.array("stratum", stratum)
        folder.table(
            "class_counts",
            _class_counts(bundle, joined["exemplar_image"], joined["exemplar_count"]),
        )
        folder.facts.update(
            n_units=n_units,
            n_images=n_images,
            quantile_levels=[float(q) for q in exemplars.QUANTILE_LEVELS],
            **{
                f"n_{name.removeprefix('is_')}": int(np.concatenate(columns[name]).sum())
                for name in ("is_dead", "is_dense", "is_constant", "never_positive")
            },
        )


def _mining(run: Run) -> dict[str, Any]:
    """The contrast rule and the image groups that it keeps apart.

    Where the probe set has no group ids, every image is a group of its own, so the rule that
    images of one group are never paired has nothing to do.
    """
    bundle, rule = run.bundle, run.recipe.contrast_rule()
    groups: dict[str, Any] = {"duplicate_group_n": None, "group_n": None}
    if rule.exclude_near_duplicates:
        column = bundle.table("images", "images")["duplicate_group"]
        groups["duplicate_group_n"] = column.to_numpy(np.int32)
    if rule.exclude_same_group:
        probe = bundle.table("probe", "probe")
        if "group" in probe:
            groups["group_n"] = group_numbers(probe["group"])
        else:
            rule = replace(rule, exclude_same_group=False)
    return {"rule": rule, **groups}


def _contrast_identity(run: Run) -> tuple[dict[str, Any], list[str]]:
    recipe = run.recipe
    params = {
        "threshold": recipe.threshold,
        "n_partners": recipe.n_partners,
        "reuse": recipe.reuse,
        "exclude_near_duplicates": recipe.exclude_near_duplicates,
        "exclude_same_group": recipe.exclude_same_group,
    }
    needs = ["embeddings"]
    if recipe.exclude_near_duplicates:
        needs.append("images")
    if recipe.exclude_same_group:
        needs.append("probe")
    return params, needs


def _pairs_identity(run: Run, model: str, layer: str) -> dict[str, Any]:
    params, needs = _contrast_identity(run)
    return run.key(
        kinds.CONTRAST.name(model, layer), params, [kinds.NEURONS.name(model, layer), *needs]
    )


def _contrast(run: Run, model: str, layer: str) -> None:
    stage = kinds.CONTRAST.name(model, layer)
    identity = _pairs_identity(run, model, layer)
    if run.is_fresh(stage):
        return
    bundle = run.bundle
    mined = mine_contrast(
        bundle.streamed(kinds.ACTIVATIONS.name(model, layer), "activation"),
        bundle.exemplars(model, layer),
        bundle.image_vectors(),
        **_mining(run),
        progress=lambda step, done, total: run.progress(f"{step} of {layer}", done, total),
    )
    with run.writing(stage, identity) as folder:
        _write_contrast(folder, mined)


def _null_identity(run: Run) -> dict[str, Any]:
    recipe = run.recipe
    params, needs = _contrast_identity(run)
    params |= {
        "n_draws": recipe.n_null,
        "n_exemplars": recipe.n_exemplars,
        "n_paired": recipe.n_score,
        "seed": recipe.seed,
    }
    return run.key("null", params, needs)


def _null(run: Run) -> None:
    recipe = run.recipe
    identity = _null_identity(run)
    if run.is_fresh("null"):
        return
    drawn = noise_evidence(
        run.bundle.image_vectors(),
        n_draws=recipe.n_null,
        n_exemplars=recipe.n_exemplars,
        seed=recipe.seed,
        n_paired=recipe.n_score,
        progress=lambda _, done, total: run.progress("random image sets", done, total),
        **_mining(run),
    )
    with run.writing("null", identity) as folder:
        folder.array("exemplar_image", drawn.exemplars.image_uk)
        folder.array("exemplar_activation", drawn.exemplars.activation_uk)
        folder.array("exemplar_count", drawn.exemplars.count_u)
        _write_contrast(folder, drawn.contrast)


def _write_contrast(folder: StageFolder, mined: ContrastSet) -> None:
    folder.array("contrast_image", mined.image_ukj)
    folder.array("contrast_similarity", mined.similarity_ukj)
    folder.array("contrast_activation", mined.activation_ukj)
    folder.array("n_partner", mined.n_partner_uk)
    folder.array("pool", mined.pool_u)
    folder.array("threshold", mined.threshold_u)


def group_numbers(groups: pd.Series) -> np.ndarray:
    """Group ids as numbers; an image without a group is a group of its own."""
    codes, _ = pd.factorize(groups)
    alone = codes < 0
    return np.where(alone, codes.max(initial=0) + 1 + np.arange(len(codes)), codes).astype(np.int32)


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
