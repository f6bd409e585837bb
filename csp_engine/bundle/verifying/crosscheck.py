"""Whether the stages of a bundle fit one another: what follows from others is computed again.

Hashes say that files are those of the manifest; whoever can write both can make them agree. So
samples of units are followed from activations to statistics and exemplars, from images to contrast
similarities, and from both to vectors, labels, scores and percentiles, by the engine's own methods;
and the search index is compared with the vectors that it is of. What nothing else in the bundle
determines (texts of labels, activations themselves) cannot be checked this way; ``unchecked`` names
the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import faiss
import numpy as np

from csp_engine.bundle import kinds
from csp_engine.bundle.checks.arrays import fault_of_array
from csp_engine.bundle.checks.tables import fault_of_table
from csp_engine.bundle.reader import Bundle, read_contrast
from csp_engine.bundle.verifying import judged, measured
from csp_engine.bundle.verifying.associated import association
from csp_engine.bundle.verifying.audited import audit
from csp_engine.bundle.verifying.counted import counts, images
from csp_engine.bundle.verifying.intervened import curves, factors, fix, intervention
from csp_engine.bundle.verifying.sampling import LOSS, Found, is_here, is_same, sampled
from csp_engine.bundle.verifying.scored import scores
from csp_engine.bundle.verifying.separated import separation
from csp_engine.errors import BundleError, CspError, LeftOutError
from csp_engine.evaluation.column_fit import column_fit
from csp_engine.evidence.contrast import thresholds
from csp_engine.evidence.exemplars import rank_exemplars, unit_statistics
from csp_engine.evidence.speaker import Speaker
from csp_engine.methods.scoring.random_sets import noise_activations
from csp_engine.types import ContrastSet, Exemplars
from csp_engine.vectors.coded import (
    LISTED,
    N_NEAREST,
    CodedIndex,
    asked,
    exact_scores,
    is_codes,
    measured_recall,
    off_by,
)

RECALL_LOSS = 0.01
"""How far apart recall may lie that was measured on another machine, where sums round otherwise."""


def contradictions(bundle: Bundle, *, whole: bool = True, speaker: Speaker | None = None) -> Found:
    """What does not fit in a bundle whose files are those of its manifest.

    Args:
        bundle: an open bundle.
        whole: look at every value of large arrays, not at a sample, and at methods that look at
            activations or ask a captioner, which takes seconds for every layer.
        speaker: the captioner of the bundle, where it is at hand.
    """
    for name, record in bundle.manifest.stages.items():
        if not record.omitted and kinds.stage_kind(name) in kinds.KINDS:
            yield from _guarded(name, _meaning, bundle, name, whole)
    yield from measured.flags(bundle)
    yield from _guarded(kinds.VOCABULARY.name(), measured.lists, bundle)
    yield from _guarded(kinds.IMAGES.name(), images, bundle)
    for model in bundle.model_names:
        for layer in bundle.layers(model):
            for check in (_statistics, _exemplars, counts, _contrast):
                yield from _guarded(kinds.NEURONS.name(model, layer), check, bundle, model, layer)
            yield from _guarded(kinds.AUDIT.name(model, layer), audit, bundle, model, layer)
            yield from _guarded(kinds.COLUMNS.name(model, layer), _columns, bundle, model, layer)
            for method in bundle.methods(model, layer):
                stage = kinds.SCORES.name(model, layer, method)
                yield from _guarded(stage, scores, bundle, model, layer, method, whole, speaker)
    for stage, once in ((kinds.NULL.name(), _null), (kinds.SEPARATION.name(), separation)):
        if bundle.has(stage):
            yield from _guarded(stage, once, bundle)
    for (method,) in kinds.INDEX.among(bundle.manifest.stages):
        yield from _guarded(kinds.INDEX.name(method), _index, bundle, method)
    for kind, check in (
        (kinds.ASSOCIATION, association),
        (kinds.TRUTH, measured.truth),
        (kinds.INFLUENCE, measured.influence),
        (kinds.CIRCUIT, measured.circuit),
        (kinds.PERFORMANCE, measured.performance),
        (kinds.INTERVENTION, intervention),
        (kinds.FIX, fix),
        (kinds.FACTORS, factors),
        (kinds.CURVES, curves),
        (kinds.FAITHFULNESS, judged.faithfulness),
        (kinds.TRUST, judged.trust),
        (kinds.PROJECTION, measured.projection),
    ):
        for stage in filter(kind.is_of, bundle.manifest.stages):
            if is_here(bundle, stage):
                yield from _guarded(stage, check, bundle, *kind.parts(stage))


def _guarded(stage: str, check: Any, *about: Any) -> Found:
    try:
        yield from check(*about)
    except LeftOutError:
        return  # a slim copy is whole without it
    except (CspError, KeyError, TypeError, ValueError, IndexError, RuntimeError) as error:
        yield stage, f"Stage {stage} cannot be checked: {str(error).rstrip('.')}."


def _meaning(bundle: Bundle, stage: str, whole: bool) -> Found:
    """What arrays and tables hold; every value, where reading looks at a sample."""
    for file in bundle.stage(stage).files:
        name, _, ending = file.rpartition(".")
        fault = ""
        if ending == "npy":
            fault = fault_of_array(bundle, stage, name, bundle.array(stage, name), whole=whole)
        elif ending == "parquet":
            fault = fault_of_table(bundle, stage, name, bundle.table(stage, name))
        if fault:
            yield stage, f"{file} of stage {stage} {fault}."


def _statistics(bundle: Bundle, model: str, layer: str) -> Found:
    """Statistics of units again, for a sample of them."""
    stage, activations = kinds.NEURONS.name(model, layer), kinds.ACTIVATIONS.name(model, layer)
    if not is_here(bundle, activations):
        return
    units = bundle.table(stage, "units")
    rows, histogram_ub = sampled(len(units)), np.asarray(bundle.array(stage, "histogram"))
    fresh = unit_statistics(
        np.asarray(bundle.activations(model, layer)[rows]),
        dense_at=float(bundle.stage(stage).params["dense_at"]),
        n_bins=histogram_ub.shape[1],
    )
    kept = {f"{name}_u": units[name].to_numpy()[rows] for name in units}
    kept["quantile_uq"] = np.asarray(bundle.array(stage, "quantile"))[rows]
    # In units of what each one reaches, for activations are on any scale.
    reach_u = np.maximum(np.maximum(-fresh.min_u, fresh.max_u), np.float32(1e-30))
    for name, kept_u in kept.items():
        fresh_u = getattr(fresh, name, None)
        if fresh_u is None:  # numbers of exemplars
            continue
        if kept_u.dtype.kind == "f" and name != "density_u":
            scale_u = reach_u[:, None] if kept_u.ndim > 1 else reach_u
            kept_u, fresh_u = kept_u / scale_u, fresh_u / scale_u
        if not np.allclose(kept_u, fresh_u, rtol=1e-4, atol=1e-5):
            what = name.rpartition("_")[0]
            yield stage, f"{what} of {stage} is not what follows from its activations."
    if not np.array_equal(histogram_ub[rows], fresh.histogram_ub):
        yield stage, f"histogram of {stage} is not what follows from its activations."


def _exemplars(bundle: Bundle, model: str, layer: str) -> Found:
    stage = kinds.NEURONS.name(model, layer)
    exemplars = bundle.exemplars(model, layer)
    activations = kinds.ACTIVATIONS.name(model, layer)
    units = bundle.units(model, layer)
    has_activations = is_here(bundle, activations)
    may_be_shown_n = np.ones(bundle.n_images, bool)
    if bundle.stage(stage).params.get("copies") == "once":
        first_n = bundle.first_copies()
        may_be_shown_n = first_n == np.arange(len(first_n))
    for unit in sampled(len(exemplars.count_u)).tolist():
        count = int(exemplars.count_u[unit])
        image_k = exemplars.image_uk[unit, :count]
        value_k = exemplars.activation_uk[unit, :count]
        if (np.diff(value_k) > 0).any() or len(np.unique(image_k)) != count:
            yield stage, f"The exemplars of unit {unit} of {stage} are not in order."
        if count and not np.isclose(value_k[0], units["max"].iat[unit], atol=LOSS):
            yield stage, f"The strongest exemplar of unit {unit} of {stage} is not its maximum."
        if not has_activations:
            continue
        own_n = np.asarray(bundle.activations(model, layer)[unit])
        if not np.array_equal(own_n[image_k], value_k):
            yield stage, f"The exemplars of unit {unit} of {stage} do not have its activations."
        elif not may_be_shown_n[image_k].all():
            yield stage, f"The exemplars of unit {unit} of {stage} hold copies of one image."
        elif count and not np.array_equal(np.sort(own_n[may_be_shown_n])[::-1][:count], value_k):
            yield stage, f"The exemplars of unit {unit} of {stage} are not its strongest images."
        samples = bundle.samples(model, layer)
        for image_s, value_s in (
            (samples.stratified_image_us[unit], samples.stratified_activation_us[unit]),
            (samples.random_image_us[unit], samples.random_activation_us[unit]),
        ):
            if not np.array_equal(own_n[image_s], value_s):
                yield stage, f"The samples of unit {unit} of {stage} do not have its activations."


def _contrast(bundle: Bundle, model: str, layer: str) -> Found:
    stage, activations = (kind.name(model, layer) for kind in (kinds.CONTRAST, kinds.ACTIVATIONS))
    if not bundle.has(stage) or not bundle.has(kinds.EMBEDDINGS.name()):
        return
    measured_un = bundle.activations(model, layer) if is_here(bundle, activations) else None
    yield from _pairs(
        bundle,
        stage,
        bundle.exemplars(model, layer),
        bundle.contrast(model, layer),
        None if measured_un is None else lambda unit: np.asarray(measured_un[unit]),
    )


def _pairs(
    bundle: Bundle,
    stage: str,
    exemplars: Exemplars,
    contrast: ContrastSet,
    own: Callable[[int], np.ndarray] | None,
) -> Found:
    """Contrast images again, for a sample of units; ``own`` gives a unit's activations."""
    image_nd, rule = bundle.image_vectors(), str(bundle.stage(stage).params["threshold"])
    for unit in sampled(len(exemplars.count_u)).tolist():
        count = int(exemplars.count_u[unit])
        own_n = None if own is None else own(unit)
        if own_n is not None:
            (bar,) = thresholds(own_n[None], rule)
            loss = 1e-6 * float(np.abs(own_n).max())
            if not np.isclose(contrast.threshold_u[unit], bar, rtol=1e-5, atol=loss):
                yield stage, f"The threshold of unit {unit} of {stage} is not that of {rule!r}."
            elif np.count_nonzero(own_n < contrast.threshold_u[unit]) != contrast.pool_u[unit]:
                yield stage, f"Unit {unit} of {stage} has another number of quiet images."
        for k in range(min(count, contrast.image_ukj.shape[1])):
            n_partner = int(contrast.n_partner_uk[unit, k])
            image_j = contrast.image_ukj[unit, k, :n_partner]
            cosine_j = image_nd[image_j] @ image_nd[exemplars.image_uk[unit, k]]
            if not np.allclose(contrast.similarity_ukj[unit, k, :n_partner], cosine_j, atol=LOSS):
                yield stage, f"Contrast images of unit {unit} of {stage} are not as alike as said."
                break
            value_j = contrast.activation_ukj[unit, k, :n_partner]
            if own_n is not None and not np.array_equal(own_n[image_j], value_j):
                yield stage, f"Contrast images of unit {unit} of {stage} have other activations."
                break
            if (value_j >= contrast.threshold_u[unit]).any():
                yield stage, f"Contrast images of unit {unit} of {stage} do not leave it quiet."
                break


def _null(bundle: Bundle) -> Found:
    """Random image sets drawn again, for a sample of them, with the noise that their seed gives."""
    stage = kinds.NULL.name()
    params, held = bundle.stage(stage).params, bundle.random_sets()
    rows, seed = sampled(len(held.count_u)), int(params["seed"])
    noise_rn = np.concatenate([noise_activations(bundle.n_images, int(r), 1, seed) for r in rows])
    copy_of_n = bundle.first_copies() if params.get("copies") == "once" else None
    fresh = rank_exemplars(noise_rn, held.image_uk.shape[1], copy_of_n=copy_of_n)
    for name in ("image_uk", "activation_uk", "count_u"):
        if not np.array_equal(getattr(held, name)[rows], getattr(fresh, name)):
            yield stage, f"The random image sets of stage {stage} are not those of its seed."
            return
    noise = dict(zip(rows.tolist(), noise_rn, strict=True))
    yield from _pairs(bundle, stage, held, read_contrast(bundle, stage), noise.__getitem__)


def _columns(bundle: Bundle, model: str, layer: str) -> Found:
    """Figures of concept columns again, for a sample of units."""
    stage, held = kinds.COLUMNS.name(model, layer), bundle.columns(model, layer)
    activations = kinds.ACTIVATIONS.name(model, layer)
    if held is None or not is_here(bundle, activations):
        return
    names = held.columns["name"].tolist()
    value_nc = bundle.table(kinds.PROBE.name(), "probe")[names].to_numpy(np.float32)
    rows = sampled(bundle.n_units(model, layer))
    fresh = column_fit(np.asarray(bundle.activations(model, layer)[rows]), value_nc)
    for field in ("pearson_uc", "auroc_uc", "auprc_uc"):
        if not is_same(np.asarray(getattr(held, field))[rows], getattr(fresh, field)):
            yield stage, f"{field} of {stage} is not what follows from its activations."
    counts = {"n_known": ~np.isnan(value_nc), "n_positive": value_nc == 1}
    for name, counted_nc in counts.items():
        if not np.array_equal(held.columns[name], counted_nc.sum(axis=0)):
            yield stage, f"{name} of {stage} is not what the probe set says."


def _index(bundle: Bundle, method: str) -> Found:
    """Every neuron, and every vector of the search index where it is stored."""
    stage = kinds.INDEX.name(method)
    rows = bundle.index_rows(method)
    places = dict(measured.layers_in_order(bundle, rows, method))
    if not places:
        yield stage, f"Stage {stage} does not list every neuron once, layer by layer."
        return
    if not bundle.has_index_file(method):
        return
    try:
        index = bundle.index(method)
        id_m = faiss.vector_to_array(index.id_map)
    except (RuntimeError, MemoryError, AttributeError) as error:
        raise BundleError(f"index.faiss is not a FAISS index ({type(error).__name__})") from None
    facts = bundle.stage(stage).facts
    if is_codes(index) != (facts.get("kind") == "codes"):
        yield stage, f"Stage {stage} is of another kind than it says."
        return
    unit_u = rows["unit"].to_numpy()
    for (model, layer), held in places.items():
        row_m = np.arange(held.start, held.stop)
        vector_ud = np.asarray(bundle.score_array(model, layer, method, "vector_ud"))
        here_m = np.intersect1d(row_m, id_m)
        with_evidence = row_m[np.any(vector_ud[unit_u[row_m]], axis=1)]
        if not np.array_equal(here_m, np.sort(with_evidence)):
            yield stage, f"Stage {stage} does not hold the neurons of {model}/{layer}."
        elif off_by(index, here_m, vector_ud[unit_u[here_m]]).max(initial=0) > LOSS:
            yield stage, f"Stage {stage} holds other vectors than those of {model}/{layer}."
    if is_codes(index):
        every_ud = np.concatenate(
            [
                np.asarray(bundle.score_array(*place, method, "vector_ud"))[unit_u[held]]
                for place, held in places.items()
            ]
        )
        yield from _recall(bundle, stage, index, every_ud)


def _recall(bundle: Bundle, stage: str, index: Any, vector_ud: np.ndarray) -> Found:
    """How many of the nearest the codes of a search index find, measured again."""
    facts = bundle.stage(stage).facts
    searched = CodedIndex(index, vector_ud.__getitem__, int(facts["n_reranked"]))
    kept_md = vector_ud[np.any(vector_ud, axis=1)]
    # Labels may have changed since somebody's own vectors were imported.
    is_imported = bundle.stage(stage).params.get("imported")
    sets = asked(kept_md, None if is_imported else np.asarray(bundle.label_vectors()))
    found = measured_recall(searched, sets, exact_scores(kept_md, sets))
    for n, fresh in zip((N_NEAREST, LISTED), found, strict=True):
        if abs(fresh - float(facts[f"recall_at_{n}"])) > RECALL_LOSS:
            yield stage, f"Stage {stage} finds another share of the nearest than it says."
            return
