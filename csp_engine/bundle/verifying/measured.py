"""Figures that cannot be measured again from a bundle alone, but must agree with themselves.

Of ground truth, the activations and true concepts are not kept; of performance, no images; of
circuits, no gradients. What is kept still says some things twice. A stage is also described by
hashes of what it was made from; where such a list lies in the stage, its hash can be made again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from csp_engine.bundle import kinds
from csp_engine.bundle.reader import Bundle
from csp_engine.bundle.verifying.sampling import LOSS, Found, is_here
from csp_engine.evidence.balanced import balanced_sample, composed
from csp_engine.hashing import sha256_json
from csp_engine.stats.planes import neighbour_recall, principal_components
from csp_engine.words.vocabularies import Vocabulary, label_table, parents_in

NEAR = 1e-4
"""How far an exact share may lie off: it is kept with seven digits at least."""
RECALL_LOSS = 0.01
"""How far a share of neighbours may lie off, of which some are equally near but for rounding."""
OF_DIRECT = 0.02
"""How far influence may lie off, of the largest of its output: networks may compute in bfloat16."""


def truth(bundle: Bundle, model: str, layer: str) -> Found:
    """Ground truth: concepts against their bounds, areas against counts of pairs."""
    stage = kinds.TRUTH.name(model, layer)
    record = bundle.stage(stage)
    units, concepts = bundle.table(stage, "units"), bundle.table(stage, "concepts")
    for name in ("pearson", "auroc", "auprc"):
        yield from bounds(stage, units, f"{name}_low", f"{name}_high")
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
    yield from facts(bundle, stage, counted)


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
    yield from bounds(stage, rows, "low", "accuracy", "high")
    if {"n", "n_correct", "accuracy"} <= set(rows):
        n, n_correct = (rows[name].to_numpy(np.float64) for name in ("n", "n_correct"))
        accuracy = rows["accuracy"].to_numpy(np.float64)
        if ((n_correct < 0) | (n_correct > n)).any():
            yield stage, f"A slice of {stage} has more correct answers than images."
        elif not np.allclose(accuracy[n > 0], (n_correct / np.maximum(n, 1))[n > 0], atol=0.006):
            yield stage, f"accuracy of {stage} is not n_correct of n."
    yield from facts(bundle, stage, {"n_slices": len(rows)})


def influence(bundle: Bundle, model: str, layer: str) -> Found:
    """How many images are behind each output; and influence, where weights say what it must be."""
    stage = kinds.INFLUENCE.name(model, layer)
    record, n_image_c = bundle.stage(stage), np.asarray(bundle.array(stage, "n_image"))
    if record.facts.get("n_images") != int(n_image_c.sum()):
        yield stage, f"n_images of {stage} is not the sum of n_image."
    gradient_cu = np.asarray(bundle.array(stage, "gradient_activation"))
    if np.any(gradient_cu[n_image_c == 0]):
        yield stage, f"gradient_activation of {stage} is of outputs that no image belongs to."
    names = bundle.table(stage, "outputs")["name"].tolist()
    own_c = _images_of_outputs(bundle, stage, names)
    if own_c is None:
        return
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


def _images_of_outputs(bundle: Bundle, stage: str, names: list[str]) -> list[np.ndarray] | None:
    """Which images are behind each output; None where the network's own decisions say that."""
    probe, params = bundle.table(kinds.PROBE.name(), "probe"), bundle.stage(stage).params
    composed_c = [composed(name) for name in names]
    is_told = {"n_images", "seed"} <= set(params) and not params.get("is_predicted_class", True)
    if not is_told or "class" not in probe or len(set(composed_c)) < len(names):
        return None
    class_n = probe["class"].astype(str).map(composed).to_numpy()
    sample = balanced_sample(len(probe), class_n, int(params["n_images"]), int(params["seed"]))
    return [sample[class_n[sample] == name] for name in composed_c]


def circuit(bundle: Bundle, model: str) -> Found:
    """Of every output and layer the strongest neurons, with the effects that influence holds."""
    stage = kinds.CIRCUIT.name(model)
    outputs, nodes = bundle.table(stage, "outputs"), bundle.table(stage, "nodes")
    names, n_image_c = tuple(outputs["name"]), outputs["n_images"].to_numpy()
    if bundle.stage(stage).facts.get("n_images", n_image_c.sum()) != n_image_c.sum():
        yield stage, f"n_images of {stage} is not the sum of its outputs."
    own_c = _images_of_outputs(bundle, stage, list(names))
    if own_c is not None and n_image_c.tolist() != [len(images) for images in own_c]:
        yield stage, f"n_images of {stage} is not the classes of the images that its seed draws."
    if n_image_c[nodes["output"].unique()].min(initial=1) < 1:
        yield stage, f"Stage {stage} has neurons of an output that no image belongs to."
    yield from _edges(stage, nodes, bundle.table(stage, "edges"))
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


def _edges(stage: str, nodes: pd.DataFrame, edges: pd.DataFrame) -> Found:
    """What feeds what: each pair once, from earlier layers to later ones, in the order of both."""
    source_e, target_e = (edges[end].to_numpy() for end in ("source", "target"))
    layer_n = nodes["layer"].to_numpy()
    if (source_e >= target_e).any():
        yield stage, f"Stage {stage} has a neuron that feeds one before it."
    if (edges["effect"] == 0).any():
        yield stage, f"Stage {stage} has a neuron that feeds another nothing."
    # Rows go output by output, layers by layers, and within those by target and then by source.
    groups = [nodes["output"].to_numpy()[source_e], layer_n[source_e], layer_n[target_e]]
    for _, at in edges.groupby(groups, sort=False).indices.items():
        pair = list(zip(target_e[at].tolist(), source_e[at].tolist(), strict=True))
        if (np.diff(at) != 1).any() or pair != sorted(set(pair)):
            yield stage, f"Stage {stage} does not list what feeds what in order, each pair once."
            return


def projection(bundle: Bundle, method: str) -> Found:
    """Every neuron that has a vector has a place on the map, where its vector belongs."""
    stage = kinds.PROJECTION.name(method)
    rows, xy_u2 = bundle.table(stage, "rows"), np.asarray(bundle.array(stage, "xy"))
    held = dict(layers_in_order(bundle, rows, method))
    if not held:
        yield stage, f"Stage {stage} does not place every neuron once, layer by layer."
        return
    vectors = [np.asarray(bundle.score_array(*each, method, "vector_ud")) for each in held]
    vector_ud = np.concatenate(vectors)
    has_vector_u = np.any(vector_ud, axis=1)
    if not np.array_equal(np.isfinite(xy_u2).all(axis=1), has_vector_u):
        yield stage, f"Stage {stage} places other neurons than have vectors."
        return
    distinct_md, first_m, place_u = np.unique(
        vector_ud[has_vector_u], axis=0, return_index=True, return_inverse=True
    )
    distinct_md = np.ascontiguousarray(distinct_md, np.float32)
    own_u2 = xy_u2[has_vector_u]
    xy_m2 = own_u2[first_m]
    facts_of = bundle.stage(stage).facts
    yield from facts(bundle, stage, {"n_distinct": len(distinct_md)})
    if not np.array_equal(xy_m2[place_u.ravel()], own_u2):
        yield stage, f"Stage {stage} places neurons with the same vector apart."
    elif len(distinct_md) > 1:
        recall = neighbour_recall(distinct_md, xy_m2)
        if abs(recall - float(facts_of.get("neighbour_recall", recall))) > RECALL_LOSS:
            yield stage, f"neighbour_recall of {stage} is not that of its places."
    if facts_of.get("kind") == "pca" and not _is_principal(distinct_md, xy_m2):
        yield stage, f"Places in {stage} are not those of its vectors."


def layers_in_order(
    bundle: Bundle, rows: pd.DataFrame, method: str
) -> Iterator[tuple[tuple[str, str], slice]]:
    """The rows of each layer that has labels by a method, if every unit is there once, in order."""
    named = [(m, la) for m in bundle.model_names for la in bundle.layers(m)]
    named = {each for each in named if bundle.has(kinds.SCORES.name(*each, method))}
    groups: dict[Any, np.ndarray] = rows.groupby(["model", "layer"], sort=False).indices
    if set(groups) != named:
        return
    unit_u = rows["unit"].to_numpy()
    found: dict[tuple[str, str], slice] = {}
    for each, at_m in groups.items():
        n_units = bundle.n_units(*each)
        start = int(at_m[0])
        if not np.array_equal(at_m, np.arange(start, start + n_units)) or not np.array_equal(
            unit_u[at_m], np.arange(n_units)
        ):
            return
        found[each] = slice(start, start + n_units)
    yield from found.items()


def _is_principal(vector_md: np.ndarray, xy_m2: np.ndarray) -> bool:
    """Whether places are along the principal components, where those are not nearly tied."""
    spread_d = np.linalg.eigvalsh(np.cov(vector_md.T, bias=True))[::-1][:3]
    if len(vector_md) < 2 or (-np.diff(spread_d) < 0.01 * spread_d[0]).any():
        return True
    fresh_m2 = principal_components(vector_md)
    # A loading that ties with another may turn the sign.
    return all(
        any(np.allclose(xy_m2[:, axis], sign * fresh_m2[:, axis], atol=LOSS) for sign in (1, -1))
        for axis in (0, 1)
    )


def bounds(stage: str, rows: pd.DataFrame, *names: str) -> Found:
    """That figures of each row grow from column to column."""
    for low, high in pairwise(names):
        if {low, high} <= set(rows):
            low_r, high_r = (rows[name].to_numpy(np.float64) for name in (low, high))
            if (low_r > high_r + NEAR).any():
                row = int(np.flatnonzero(low_r > high_r + NEAR)[0])
                yield stage, f"Row {row} of {stage} has {low} above {high}."


def facts(bundle: Bundle, stage: str, counted: dict[str, int]) -> Found:
    """That small results are what tables count."""
    said = bundle.stage(stage).facts
    for name, count in counted.items():
        if name in said and said[name] != count:
            yield stage, f"{name} of {stage} is not what its table says."


# ------------------------------------------------------------------ said in two places


def flags(bundle: Bundle) -> Found:
    """Yes and no that a stage holds both among its parameters and among its results."""
    for stage, record in bundle.manifest.stages.items():
        for name, value in record.params.items():
            said = record.facts.get(name, value)
            if isinstance(value, bool) and isinstance(said, bool) and said is not value:
                yield stage, f"{name} of {stage} is {said}, and it was made with {value}."


def lists(bundle: Bundle) -> Found:
    """Lists of images, labels, true concepts and slices, by the hashes that name them."""
    stages = bundle.manifest.stages
    vocabulary = kinds.VOCABULARY.name()
    if is_here(bundle, vocabulary):
        n_labels, said = len(bundle.labels()), bundle.manifest.inputs.get("vocabulary", {})
        if said.get("n_labels", n_labels) != n_labels:
            yield vocabulary, f"n_labels of the vocabulary is not what stage {vocabulary} holds."
    looked_at: list[tuple[str, str, Callable[[], Collection[str]]]] = []
    images = kinds.IMAGES.name()
    # A stage that lacks a file is told of elsewhere.
    if (
        is_here(bundle, images)
        and "images.parquet" in bundle.stage(images).files
        and not bundle.stage(images).facts.get("n_skipped")
    ):
        looked_at.append((images, "probe", lambda: _of_images(bundle.table(images, "images"))))
    words = kinds.WORDS.name() if kinds.WORDS.name() in stages else kinds.VOCABULARY.name()
    if is_here(bundle, words):
        looked_at.append((words, "vocabulary", lambda: _of_labels(bundle, words)))
    for stage in filter(kinds.TRUTH.is_of, stages):
        table = lambda at=stage: _of_rows(bundle.table(at, "concepts"))  # noqa: E731
        looked_at.append((stage, "concepts", table))
    for stage in filter(kinds.PERFORMANCE.is_of, stages):
        table = lambda at=stage: _of_rows(bundle.table(at, "slices"))  # noqa: E731
        looked_at.append((stage, "slices", table))
    for stage, name, made_again in looked_at:
        said = bundle.stage(stage).inputs.get(name)
        fresh = made_again() if said is not None and is_here(bundle, stage) else ()
        if fresh and said not in fresh:
            yield stage, f"Stage {stage} holds other {_WHAT[name]} than it was made from."


_WHAT = {
    "probe": "images",
    "vocabulary": "labels",
    "concepts": "true concepts",
    "slices": "slices",
}


def _of_images(rows: pd.DataFrame) -> tuple[str, str]:
    """As a build names its images, and as an import from NeuroLens does."""
    own = rows["sha256"].tolist()
    return hashlib.sha256("\n".join(own).encode()).hexdigest(), sha256_json(own)


def _of_labels(bundle: Bundle, stage: str) -> tuple[str]:
    held = bundle.table(stage, "words" if stage == kinds.WORDS.name() else "labels")
    table = label_table(held["text"].tolist(), held["source"].tolist(), parents_in(held))
    return (Vocabulary("", table).sha256,)


def _of_rows(rows: pd.DataFrame) -> tuple[str, ...]:
    """The hash of a table; none where a file may give back something else than it was given."""
    return () if rows.isna().to_numpy().any() else (sha256_json(rows.to_dict("records")),)
