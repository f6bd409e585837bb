"""Figures that cannot be measured again from a bundle alone, but must agree with themselves.

Of ground truth, the activations and true concepts are not kept; of performance, no images; of
faithfulness and trust, no judge; of circuits, no gradients. What is kept still says some things
twice.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd

from csp_engine.bundle import kinds
from csp_engine.bundle.reader import Bundle
from csp_engine.bundle.verifying.sampling import Found, is_here
from csp_engine.evaluation.faithfulness.label_checks import FALLS_BY, FALLS_FOR
from csp_engine.evidence.balanced import balanced_sample, composed

NEAR = 1e-4
"""How far an exact share may lie off: it is kept with seven digits at least."""
OF_DIRECT = 0.02
"""How far influence may lie off, of the largest of its output: networks may compute in bfloat16."""


def truth(bundle: Bundle, model: str, layer: str) -> Found:
    """Ground truth: concepts against their bounds, areas against counts of pairs."""
    stage = kinds.TRUTH.name(model, layer)
    record = bundle.stage(stage)
    units, concepts = bundle.table(stage, "units"), bundle.table(stage, "concepts")
    for name in ("pearson", "auroc", "auprc"):
        yield from _bounds(stage, units, f"{name}_low", f"{name}_high")
    params, has_concept_u = record.params, units["concept"].notna().to_numpy()
    is_true_u = units["true_concept"].notna().to_numpy()
    if {"auroc_min", "pearson_min"} <= set(params):
        meets_u = has_concept_u
        for name in ("auroc", "pearson"):
            low_u = units[f"{name}_low"].to_numpy(np.float32)
            meets_u = meets_u & (low_u >= np.float32(params[f"{name}_min"]))
        if not np.array_equal(is_true_u, meets_u):
            unit = int(np.flatnonzero(is_true_u != meets_u)[0])
            yield stage, f"true_concept of unit {unit} of {stage} is not what its bounds say."
    is_other_u = is_true_u & (units["true_concept"] != units["concept"]).fillna(True).to_numpy(bool)
    if is_other_u.any():
        unit = int(np.flatnonzero(is_other_u)[0])
        yield stage, f"Unit {unit} of {stage} has a true_concept that is not its concept."
    n_of = dict(zip(concepts["name"], concepts["n_positive"], strict=True))
    most_u = units["concept"].map(n_of).fillna(0).to_numpy(float)
    if (units["n_positive"].to_numpy(float) > most_u).any():
        yield stage, f"n_positive of units of {stage} is more than the concepts have."
    n_images = record.facts.get("n_images")
    if isinstance(n_images, int):
        yield from _areas(bundle, stage, concepts["n_positive"].to_numpy(np.float64), n_images)
    counted = {"n_true": int(is_true_u.sum()), "n_units": len(units), "n_concepts": len(concepts)}
    if "planted" in units:
        counted["n_planted"] = int(units["planted"].notna().sum())
    yield from _facts(bundle, stage, counted)


def _areas(bundle: Bundle, stage: str, n_positive_c: np.ndarray, n_images: int) -> Found:
    """An area under the ROC curve is a number of pairs, or halves of them, out of all."""
    auroc_uc = np.asarray(bundle.array(stage, "auroc_uc"), np.float64)
    n_halves_c = 2 * n_positive_c * (n_images - n_positive_c)
    is_defined_c = n_halves_c > 0
    if (np.isnan(auroc_uc) == is_defined_c).any():
        yield stage, f"auroc_uc of {stage} is not defined where concepts are."
        return
    halves_uc = auroc_uc[:, is_defined_c] * n_halves_c[is_defined_c]
    loss_c = 1e-3 + 2.0**-23 * n_halves_c[is_defined_c]  # float32 has 24 bits
    is_off_uc = (np.abs(halves_uc - np.round(halves_uc)) > loss_c) & (loss_c < 0.25)
    if is_off_uc.any():
        unit = int(np.argwhere(is_off_uc)[0, 0])
        yield stage, f"auroc_uc of unit {unit} of {stage} cannot be counted from its images."


def performance(bundle: Bundle, model: str) -> Found:
    """Slices: shares against counts."""
    stage = kinds.PERFORMANCE.name(model)
    rows = bundle.table(stage, "slices")
    yield from _bounds(stage, rows, "low", "accuracy", "high")
    if {"n", "n_correct", "accuracy"} <= set(rows):
        n, n_correct = (rows[name].to_numpy(np.float64) for name in ("n", "n_correct"))
        accuracy = rows["accuracy"].to_numpy(np.float64)
        if ((n_correct < 0) | (n_correct > n)).any():
            yield stage, f"A slice of {stage} has more correct answers than images."
        elif not np.allclose(accuracy[n > 0], (n_correct / np.maximum(n, 1))[n > 0], atol=0.006):
            yield stage, f"accuracy of {stage} is not n_correct of n."
    yield from _facts(bundle, stage, {"n_slices": len(rows)})


def influence(bundle: Bundle, model: str, layer: str) -> Found:
    """How many images are behind each output; and influence, where weights say what it must be."""
    stage = kinds.INFLUENCE.name(model, layer)
    record, n_image_c = bundle.stage(stage), np.asarray(bundle.array(stage, "n_image"))
    if record.facts.get("n_images") != int(n_image_c.sum()):
        yield stage, f"n_images of {stage} is not the sum of n_image."
    gradient_cu = np.asarray(bundle.array(stage, "gradient_activation"))
    if np.any(gradient_cu[n_image_c == 0]):
        yield stage, f"gradient_activation of {stage} is of outputs that no image belongs to."
    probe = bundle.table(kinds.PROBE.name(), "probe")
    names = [composed(name) for name in bundle.table(stage, "outputs")["name"]]
    params = record.params
    is_told = {"n_images", "seed"} <= set(params) and not params.get("is_predicted_class", True)
    if not is_told or "class" not in probe or len(set(names)) < len(names):
        return
    class_n = probe["class"].astype(str).map(composed).to_numpy()
    sample = balanced_sample(len(probe), class_n, int(params["n_images"]), int(params["seed"]))
    own_c = [sample[class_n[sample] == name] for name in names]
    if n_image_c.tolist() != [len(images) for images in own_c]:
        yield stage, f"n_image of {stage} is not the classes of the images that its seed draws."
        return
    activations = kinds.ACTIVATIONS.name(model, layer)
    if "direct_weight.npy" not in record.files or not is_here(bundle, activations):
        return
    activation_un = bundle.activations(model, layer)
    weight_cu = np.asarray(bundle.array(stage, "direct_weight"))
    for c, images in enumerate(own_c):
        if not len(images):
            continue
        fresh_u = weight_cu[c] * np.asarray(activation_un[:, images]).mean(axis=1)
        loss = OF_DIRECT * float(np.abs(fresh_u).max(initial=0)) + 1e-6
        if np.abs(gradient_cu[c] - fresh_u).max(initial=0) > loss:
            yield stage, f"gradient_activation of {names[c]!r:.80} of {stage} is not its weights'."


def circuit(bundle: Bundle, model: str) -> Found:
    """Of every output and layer the strongest neurons, with the effects that influence holds."""
    stage = kinds.CIRCUIT.name(model)
    names, nodes = tuple(bundle.table(stage, "outputs")["name"]), bundle.table(stage, "nodes")
    n_most = bundle.stage(stage).params.get("n_neurons", len(nodes))
    for layer, of_layer in nodes.groupby("layer", sort=False):
        driven = bundle.influence(model, str(layer))
        if driven is None or driven.output_names != names:
            yield stage, f"Layer {layer} of {stage} has no influence on its outputs."
            continue
        effect_cu = np.asarray(driven.gradient_activation_cu)
        for output, own in of_layer.groupby("output", sort=False):
            row = int(str(output))
            effect_u = effect_cu[row]
            order = np.argsort(-np.abs(effect_u), kind="stable")[:n_most]
            order = order[effect_u[order] != 0]
            if own["unit"].tolist() != order.tolist() or not np.array_equal(
                own["effect"].to_numpy(np.float32), effect_u[order]
            ):
                yield (
                    stage,
                    f"Neurons of {layer} in {stage} are not those that drive {names[row]} most.",
                )
                break


def faithfulness(bundle: Bundle, model: str, layer: str, method: str) -> Found:
    """Which units have figures, against which have labels."""
    stage = kinds.FAITHFULNESS.name(model, layer, method)
    units = bundle.table(stage, "units")
    has_label_u = np.asarray(bundle.scores(model, layer, method).count_u) > 0
    for name in ("pearson", "auprc"):
        yield from _bounds(stage, units, f"{name}_low", f"{name}_high")
        if units[name].notna().to_numpy()[~has_label_u].any():
            yield stage, f"{name} of {stage} is of units that have no label."
    yield from _facts(bundle, stage, {"n_units": len(units), "n_labelled": int(has_label_u.sum())})


def trust(bundle: Bundle) -> Found:
    """Which figures count as passed, by the falls that are kept beside."""
    stage = kinds.TRUST.name()
    rows = bundle.table(stage, "metrics")
    yield from _bounds(stage, rows, "low", "auroc", "high")
    passed = np.ones(len(rows), bool)
    for name, least in (("falls", FALLS_FOR), ("by", FALLS_BY)):
        for check in ("missing", "extra"):
            passed &= rows[f"{check}_{name}"].to_numpy(np.float64) >= least
    if not np.array_equal(rows["is_passed"].to_numpy(bool), passed):
        yield stage, f"is_passed of {stage} is not what its figures say."


def projection(bundle: Bundle, method: str) -> Found:
    """Every neuron has one place on the map, unless it has no vector."""
    stage = kinds.PROJECTION.name(method)
    rows, xy_u2 = bundle.table(stage, "rows"), np.asarray(bundle.array(stage, "xy"))
    groups = rows.groupby(["model", "layer"], sort=False).indices
    named = [(m, la) for m in bundle.model_names for la in bundle.layers(m)]
    named = [each for each in named if bundle.has(kinds.SCORES.name(*each, method))]
    if set(groups) != set(named) or any(
        sorted(rows["unit"].to_numpy()[groups[each]].tolist()) != list(range(bundle.n_units(*each)))
        for each in named
    ):
        yield stage, f"Stage {stage} does not place every neuron once."
        return
    for model, layer in named:
        at_m = groups[model, layer]
        vector_ud = np.asarray(bundle.score_array(model, layer, method, "vector_ud"))
        has_vector_m = np.any(vector_ud[rows["unit"].to_numpy()[at_m]], axis=1)
        if not np.array_equal(np.isfinite(xy_u2[at_m]).all(axis=1), has_vector_m):
            yield stage, f"Stage {stage} places other neurons of {model}/{layer} than have vectors."


def _bounds(stage: str, rows: pd.DataFrame, *names: str) -> Found:
    """That figures of each row grow from column to column."""
    for low, high in pairwise(names):
        if {low, high} <= set(rows):
            low_r, high_r = (rows[name].to_numpy(np.float64) for name in (low, high))
            if (low_r > high_r + NEAR).any():
                row = int(np.flatnonzero(low_r > high_r + NEAR)[0])
                yield stage, f"Row {row} of {stage} has {low} above {high}."


def _facts(bundle: Bundle, stage: str, counted: dict[str, int]) -> Found:
    facts = bundle.stage(stage).facts
    for name, count in counted.items():
        if name in facts and facts[name] != count:
            yield stage, f"{name} of {stage} is not what its table says."
