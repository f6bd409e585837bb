"""Whether figures of labels that another encoder judged agree with one another.

Its vectors are not kept, so no figure can be measured again; but the same label of the same neuron
has the same figures whichever method chose it, and is said of as many images wherever it stands.
"""

from __future__ import annotations

import numpy as np

from csp_engine.bundle import kinds
from csp_engine.bundle.reader import Bundle
from csp_engine.bundle.verifying.measured import bounds, facts
from csp_engine.bundle.verifying.sampling import Found, is_here
from csp_engine.evaluation.faithfulness.label_checks import FALLS_BY, FALLS_FOR
from csp_engine.stats.intervals import auroc_interval


def faithfulness(bundle: Bundle, model: str, layer: str, method: str) -> Found:
    """Which units have figures, against which have labels; and figures of the same labels."""
    stage = kinds.FAITHFULNESS.name(model, layer, method)
    record, units = bundle.stage(stage), bundle.table(stage, "units")
    text_u = _best_labels(bundle, model, layer, method)
    has_label_u = text_u != ""
    for name in ("pearson", "auprc"):
        yield from bounds(stage, units, f"{name}_low", f"{name}_high")
        if units[name].notna().to_numpy()[~has_label_u].any():
            yield stage, f"{name} of {stage} is of units that have no label."
    counted = {"n_units": len(units), "n_labelled": int(has_label_u.sum())}
    if not record.facts.get("is_held_out", True):
        counted["n_images"] = bundle.n_images
    yield from facts(bundle, stage, counted)
    n_images = record.facts.get("n_images", np.inf)
    if (units["n_said"].to_numpy(float) > n_images).any():
        yield stage, f"n_said of {stage} is more than its images."
    if record.facts.get("n_groups", 0) > n_images:
        yield stage, f"n_groups of {stage} is more than its images."
    yield from _of_same_labels(bundle, stage, text_u)


def _of_same_labels(bundle: Bundle, stage: str, text_u: np.ndarray) -> Found:
    """Figures against those of other methods of the layer, and counts against the first stage's."""
    record, units = bundle.stage(stage), bundle.table(stage, "units")
    place = kinds.FAITHFULNESS.parts(stage)[:2]
    count_of = dict(zip(text_u.tolist(), units["n_said"].tolist(), strict=True))
    for at, other in enumerate(filter(kinds.FAITHFULNESS.is_of, bundle.manifest.stages)):
        own, of = bundle.stage(other), kinds.FAITHFULNESS.parts(other)
        is_of_layer = of[:2] == place
        if not (is_of_layer or at == 0) or not is_here(bundle, other, kinds.SCORES.name(*of)):
            continue
        if any(own.inputs.get(name) != record.inputs.get(name) for name in ("judge", "images")):
            continue
        other_u, theirs = _best_labels(bundle, *of), bundle.table(other, "units")
        said = zip(other_u.tolist(), theirs["n_said"].tolist(), strict=True)
        off = [text for text, count in said if text and count_of.get(text, count) != count]
        if off:
            yield stage, f"n_said of {off[0]!r:.80} in {stage} is not the same throughout {other}."
            return
        is_alike = own.inputs == record.inputs and all(
            own.facts.get(name) == value
            for name, value in record.facts.items()
            if name != "n_labelled"
        )
        if not is_of_layer or not is_alike:
            continue
        same_u = (text_u == other_u) & (text_u != "")
        both = (each.loc[same_u].to_numpy(float) for each in (units, theirs))
        off_u = ~np.isclose(*both, equal_nan=True).all(axis=1)
        if off_u.any():
            unit = int(np.flatnonzero(same_u)[off_u][0])
            yield stage, f"Figures of unit {unit} of {stage} are not those of its label in {other}."
            return


def _best_labels(bundle: Bundle, model: str, layer: str, method: str) -> np.ndarray:
    """The best label of every unit, empty where it has none."""
    held = bundle.scores(model, layer, method)
    texts = bundle.method_labels(model, layer, method)["text"].to_numpy(object)
    has_label_u = np.asarray(held.count_u) > 0
    if not len(texts):
        return np.full(len(has_label_u), "", object)
    return np.where(has_label_u, texts[np.asarray(held.label_uk)[:, 0]], "")


def trust(bundle: Bundle) -> Found:
    """Figures against counts of labels, and which of them count as passed, by their falls."""
    stage = kinds.TRUST.name()
    rows = bundle.table(stage, "metrics")
    auroc_r, n_right_r, n_wrong_r = (
        rows[name].to_numpy(np.float64) for name in ("auroc", "n_right", "n_wrong")
    )
    n_pairs_r = n_right_r * n_wrong_r
    halves_r = 2 * auroc_r * n_pairs_r
    is_known_r = n_pairs_r > 0
    if np.isfinite(auroc_r[~is_known_r]).any() or not np.allclose(
        halves_r[is_known_r], np.round(halves_r[is_known_r]), rtol=0, atol=1e-3
    ):
        yield stage, f"auroc of {stage} cannot be counted from its labels."
    elif is_known_r.any():
        counts = (each[is_known_r].astype(np.int64) for each in (n_right_r, n_wrong_r))
        fresh = auroc_interval(auroc_r[is_known_r], *counts)
        for name, fresh_r in zip(("low", "high"), fresh, strict=True):
            if not np.allclose(rows[name].to_numpy(np.float64)[is_known_r], fresh_r, atol=1e-6):
                yield stage, f"{name} of {stage} is not what follows from auroc and its labels."
    passed = np.ones(len(rows), bool)
    for name, least in (("falls", FALLS_FOR), ("by", FALLS_BY)):
        for check in ("missing", "extra"):
            passed &= rows[f"{check}_{name}"].to_numpy(np.float64) >= least
    if not np.array_equal(rows["is_passed"].to_numpy(bool), passed):
        yield stage, f"is_passed of {stage} is not what its figures say."
    place_r = list(zip(~passed, -np.where(auroc_r > 0, auroc_r, 0.0), strict=True))
    if place_r != sorted(place_r) or rows["metric"].duplicated().any():
        yield stage, f"The metrics of {stage} are not in the order of its figures, each once."
