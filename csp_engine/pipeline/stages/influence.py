"""Which outputs each unit drives, and which units feed which: gradients on a sample of images."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from csp_engine.bundle import kinds
from csp_engine.errors import InputError, naming
from csp_engine.evidence.balanced import balanced_sample, composed
from csp_engine.hashing import sha256_json
from csp_engine.networks.driving.circuits import Circuits, circuits
from csp_engine.networks.driving.influence import influence
from csp_engine.networks.models import TargetModel
from csp_engine.pipeline.image_pass import Target
from csp_engine.pipeline.request import BuildRequest
from csp_engine.pipeline.run import Run
from csp_engine.pipeline.stages.measured import describe_notices
from csp_engine.probe.decoding import decode

N_NEURONS = 5
"""Neurons of each layer that the circuit of an output shows: those that drive it most."""


def require_telling_names(request: BuildRequest) -> None:
    """Refuse image classes that are the name of several outputs: which is meant cannot be told.

    Raises:
        InputError: as above, with the name and the outputs.
    """
    table = request.probe.table
    if request.n_influence_images == 0 or "class" not in table:
        return
    classes = set(table["class"].dropna().astype(str).map(composed))
    for target in request.targets:
        names = [composed(name) for name in target.model.class_names or ()]
        if not classes <= set(names):
            continue
        for name in sorted(classes):
            if names.count(name) > 1:
                places = " and ".join(str(i) for i, other in enumerate(names) if other == name)
                raise InputError(
                    f"Outputs {places} of {target.model.name} are all called {name!r}, so images "
                    "of that class belong to none for certain; give different names with "
                    "--class-names FILE, or build with --influence-images 0."
                )


def influences(run: Run, request: BuildRequest) -> None:
    """Which outputs each unit drives, from gradients on a sample of the images."""
    if request.n_influence_images == 0:
        return
    for target in request.targets:
        model = target.model
        if model.class_names is None and not request.outputs:
            continue
        names = list(model.class_names or ())
        labelled = _is_labelled(run, model)
        taps = [tap for tap in target.taps if tap.sae is None]
        identities = {}
        for tap in taps:
            name = kinds.INFLUENCE.name(model.name, str(tap.id))
            identities[name] = run.key(
                name,
                {
                    "n_images": request.n_influence_images,
                    "seed": run.recipe.seed,
                    "is_predicted_class": not labelled,
                    "outputs": list(request.outputs),
                },
                [kinds.ACTIVATIONS.name(model.name, str(tap.id)), "probe"],
                {"class_names": sha256_json(names)},
            )
        missing = [name for name in identities if not run.is_fresh(name)]
        if not missing:
            continue
        sample = _Sample(run, request, target, labelled, request.n_influence_images)
        with naming(sample.files):
            found = influence(
                model,
                [t for t in taps if kinds.INFLUENCE.name(model.name, str(t.id)) in missing],
                sample.batches("influence"),
                request.outputs or None,
            )
        describe_notices(model, run.described["models"])  # its outputs were looked at only now
        for name in missing:
            _, layer = kinds.INFLUENCE.parts(name)
            if layer not in found:
                run.keys.pop(name)
                continue
            values = found[layer]
            with run.writing(name, identities[name]) as folder:
                folder.table("outputs", pd.DataFrame({"name": list(values.output_names)}))
                folder.array("gradient_activation", values.gradient_activation_cu)
                folder.array("n_image", values.n_image_c)
                if values.direct_weight_cu is not None:
                    folder.array("direct_weight", values.direct_weight_cu)
                folder.facts.update(
                    is_predicted_class=not labelled, n_images=int(values.n_image_c.sum())
                )


def circuits_of_outputs(run: Run, request: BuildRequest) -> None:
    """For each output, the neurons that drive it most in each layer, and which feed which."""
    if request.n_circuit_images == 0:
        return
    for target in request.targets:
        model = target.model
        of_module = {tap.id.module: tap for tap in target.taps if tap.sae is None}
        layers = {
            str(tap.id): tap
            for tap in of_module.values()
            if kinds.INFLUENCE.name(model.name, str(tap.id)) in run.keys
        }
        if not layers:
            continue
        name = kinds.CIRCUIT.name(model.name)
        labelled = _is_labelled(run, model)
        identity = run.key(
            name,
            {
                "n_images": request.n_circuit_images,
                "n_neurons": N_NEURONS,
                "seed": run.recipe.seed,
                "is_predicted_class": not labelled,
                "outputs": list(request.outputs),
            },
            [*(kinds.INFLUENCE.name(model.name, layer) for layer in layers), "probe"],
            {"class_names": sha256_json(list(model.class_names or ()))},
        )
        if run.is_fresh(name):
            continue
        effect_cu = {}
        for layer in layers:
            stored = run.bundle.influence(model.name, layer)
            assert stored is not None
            effect_cu[layer] = np.asarray(stored.gradient_activation_cu)
            names = stored.output_names
        unit_ci = {
            layer: np.argsort(-np.abs(effect), axis=1, kind="stable")[:, :N_NEURONS]
            for layer, effect in effect_cu.items()
        }
        sample = _Sample(run, request, target, labelled, request.n_circuit_images)
        with naming(sample.files):
            measured = circuits(
                model,
                list(layers.values()),
                sample.batches("circuits"),
                unit_ci,
                request.outputs or None,
            )
        describe_notices(model, run.described["models"])
        nodes, edges = _graph(measured, unit_ci, effect_cu)
        with run.writing(name, identity) as folder:
            outputs = {"name": list(names), "n_images": measured.n_image_c}
            folder.table("outputs", pd.DataFrame(outputs))
            folder.table("nodes", nodes)
            folder.table("edges", edges)
            folder.facts.update(
                is_predicted_class=not labelled, n_images=int(measured.n_image_c.sum())
            )


def _graph(
    measured: Circuits, unit_ci: dict[str, np.ndarray], effect_cu: dict[str, np.ndarray]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Nodes and edges of every output that has images; what has no effect is left out."""
    nodes: list[tuple[int, str, int, float]] = []
    edges: list[tuple[int, int, float]] = []
    for c in np.flatnonzero(measured.n_image_c).tolist():
        place: dict[tuple[str, int], int] = {}
        for layer in measured.layers:
            for i, unit in enumerate(unit_ci[layer][c].tolist()):
                effect = float(effect_cu[layer][c, unit])
                if effect:
                    place[layer, i] = len(nodes)
                    nodes.append((c, layer, unit, effect))
        for pair in measured.pairs:
            for (j, i), effect in np.ndenumerate(pair.effect_cji[c]):
                source, target = place.get((pair.source, i)), place.get((pair.target, j))
                if effect and source is not None and target is not None:
                    edges.append((source, target, float(effect)))
    return (
        pd.DataFrame(nodes, columns=["output", "layer", "unit", "effect"]).astype(
            {"output": "int32", "layer": "string", "unit": "int32", "effect": "float32"}
        ),
        pd.DataFrame(edges, columns=["source", "target", "effect"]).astype(
            {"source": "int32", "target": "int32", "effect": "float32"}
        ),
    )


def _is_labelled(run: Run, model: TargetModel) -> bool:
    """Whether the images have classes that are names of the network's outputs."""
    rows = run.bundle.table("probe", "probe")
    if "class" not in rows:
        return False
    known = {composed(name) for name in model.class_names or ()}
    return set(rows["class"].astype(str).map(composed, na_action="ignore")) <= known


class _Sample:
    """A sample of the probe images, with outputs by their classes where they tell."""

    def __init__(
        self, run: Run, request: BuildRequest, target: Target, labelled: bool, n_images: int
    ) -> None:
        rows = run.bundle.table("probe", "probe")
        self._run, self._request, self._model = run, request, target.model
        self._classes = rows["class"].astype(str).map(composed).to_numpy() if labelled else None
        self.image_n = balanced_sample(len(rows), self._classes, n_images, run.recipe.seed)
        self.files = rows["file"].iloc[self.image_n].tolist()

    def batches(self, what: str) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """Pixels and outputs, some images at a time."""
        run, model, probe = self._run, self._model, self._request.probe
        listed = run.bundle.table("images", "images")["listed"].to_numpy()
        number = {composed(name): i for i, name in enumerate(model.class_names or ())}
        size = self._request.batch_size
        for first in range(0, len(self.image_n), size):
            images = self.image_n[first : first + size]
            pixels = np.stack(
                [model.preprocess(decode(probe.read(int(listed[i])))) for i in images]
            )
            known = None
            if self._classes is not None:
                known = np.array([number[self._classes[i]] for i in images])
            yield pixels, known
            run.progress(f"{what} in {model.name}", first + len(images), len(self.image_n))
