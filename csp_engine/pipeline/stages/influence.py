"""Which outputs each unit drives, and which units feed which: gradients on a sample of images."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from csp_engine.bundle import kinds, parts_folder
from csp_engine.bundle.passing.gradients import keep, kept, place_of
from csp_engine.errors import InputError, naming
from csp_engine.evidence.balanced import balanced_sample, composed
from csp_engine.hashing import sha256_json
from csp_engine.networks.driving.circuits import Circuits, circuits
from csp_engine.networks.driving.influence import BatchInfluence, batch_influence, influence
from csp_engine.networks.layers import LayerTap
from csp_engine.networks.models import TargetModel
from csp_engine.pipeline.passing.image_pass import Target
from csp_engine.pipeline.request import BuildRequest
from csp_engine.pipeline.run import Run
from csp_engine.pipeline.stages.measured import describe_notices
from csp_engine.probe.decoding import decode
from csp_engine.probe.listing import ProbeSet
from csp_engine.types import Progress

log = logging.getLogger(__name__)

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
        taps = _driving(target, request)
        if not taps:
            continue
        names = list(model.class_names or ())
        labelled = _is_labelled(run.bundle.table("probe", "probe"), model)
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
        sample = _Sample.of(run, request, model, request.n_influence_images)
        with naming(sample.files):
            wanted = [t for t in taps if kinds.INFLUENCE.name(model.name, str(t.id)) in missing]
            batches = _with_kept(sample, wanted, request, run.progress)
            found = influence(model, wanted, batches, request.outputs or None)
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


def _driving(target: Target, request: BuildRequest) -> list[LayerTap]:
    """The layers whose influence is measured; none where outputs have no names."""
    if target.model.class_names is None and not request.outputs:
        return []
    return [tap for tap in target.taps if tap.sae is None]


def keep_influences(request: BuildRequest, number: int, of: int, progress: Progress) -> None:
    """Measure some batches of the images that influence is measured on, for the merge to sum up.

    It takes the images for readable and the sample for what it then is; a merge that finds it
    otherwise measures by itself. So does one for what could not be measured here: its sentence is
    the one to read.

    Args:
        request: of the whole build.
        number: which share of the batches, from 1.
        of: of how many.
        progress: called with stage, done and total.
    """
    folder = parts_folder(request.out)
    for target in request.targets if request.n_influence_images else ():
        taps = _driving(target, request)
        if not taps:
            continue
        sample = _Sample.listed(request, target.model, request.n_influence_images)
        inner = sample.n_batches - 2  # the first and the last are those of the merge
        share = range(1 + inner * (number - 1) // of, 1 + inner * number // of)
        for done, batch in enumerate(share, 1):
            try:
                contents = sample.contents(batch)
                sha256s = [hashlib.sha256(content).hexdigest() for content in contents]
                known = sample.known(batch)
                place = place_of(folder, target.model, taps, request.outputs, sha256s, known)
                if kept(place) is None:
                    pixels = sample.pixels(contents)
                    outputs = request.outputs or None
                    keep(place, batch_influence(target.model, taps, pixels, known, outputs))
            except Exception as error:  # whatever it is, the merge meets it again
                log.info("influence is left to the merge: %s", error)
                break
            progress(f"influence in {target.model.name}", done, len(share))


def _with_kept(
    sample: _Sample, taps: Sequence[LayerTap], request: BuildRequest, progress: Progress
) -> Iterator[tuple[np.ndarray, np.ndarray | None] | BatchInfluence]:
    """The batches of a sample, and for those that shards measured what they gave."""
    folder, model, last = parts_folder(request.out), sample.model, sample.n_batches - 1
    for batch in range(sample.n_batches):
        known, found = sample.known(batch), None
        if 0 < batch < last and folder.is_dir():
            sha256s = sample.sha256s(batch)
            found = kept(place_of(folder, model, taps, request.outputs, sha256s, known))
        yield (sample.pixels(sample.contents(batch)), known) if found is None else found
        sample.tell(progress, "influence", batch)


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
        labelled = _is_labelled(run.bundle.table("probe", "probe"), model)
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
        sample = _Sample.of(run, request, model, request.n_circuit_images)
        with naming(sample.files):
            measured = circuits(
                model,
                list(layers.values()),
                sample.batches("circuits", run.progress),
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


def _is_labelled(rows: pd.DataFrame, model: TargetModel) -> bool:
    """Whether the images have classes that are names of the network's outputs."""
    if "class" not in rows:
        return False
    known = {composed(name) for name in model.class_names or ()}
    return set(rows["class"].astype(str).map(composed, na_action="ignore")) <= known


@dataclass(frozen=True, slots=True, eq=False)
class _Sample:
    """A sample of the probe images, with outputs by their classes where they tell.

    Attributes:
        model: the network.
        probe: where images are read.
        size: images of a batch.
        listed_s: the listed images of the sample.
        files: their names.
        class_s: their classes, if these are outputs.
    """

    model: TargetModel
    probe: ProbeSet
    size: int
    listed_s: np.ndarray
    files: list[str]
    class_s: np.ndarray | None

    @classmethod
    def of(cls, run: Run, request: BuildRequest, model: TargetModel, n_images: int) -> _Sample:
        """Of the images that were read."""
        rows = run.bundle.table("probe", "probe")
        listed_n = run.bundle.table("images", "images")["listed"].to_numpy()
        return cls._drawn(rows, listed_n, request, model, n_images)

    @classmethod
    def listed(cls, request: BuildRequest, model: TargetModel, n_images: int) -> _Sample:
        """The same, if all that are listed can be read."""
        rows = request.probe.table
        return cls._drawn(rows, np.arange(len(rows)), request, model, n_images)

    @classmethod
    def _drawn(
        cls,
        rows: pd.DataFrame,
        listed_n: np.ndarray,
        request: BuildRequest,
        model: TargetModel,
        n_images: int,
    ) -> _Sample:
        is_labelled = _is_labelled(rows, model)
        class_n = rows["class"].astype(str).map(composed).to_numpy() if is_labelled else None
        image_s = balanced_sample(len(rows), class_n, n_images, request.recipe.seed)
        return cls(
            model,
            request.probe,
            request.batch_size,
            listed_n[image_s],
            rows["file"].iloc[image_s].tolist(),
            None if class_n is None else class_n[image_s],
        )

    @property
    def n_batches(self) -> int:
        """Of the whole sample."""
        return -(-len(self.listed_s) // self.size)

    def _rows(self, batch: int) -> slice:
        return slice(batch * self.size, (batch + 1) * self.size)

    def contents(self, batch: int) -> list[bytes]:
        """The images of a batch as they are stored."""
        return [self.probe.read(int(row)) for row in self.listed_s[self._rows(batch)]]

    def sha256s(self, batch: int) -> list[str]:
        """Their hashes, where the list of images has them."""
        return self.probe.table["sha256"].iloc[self.listed_s[self._rows(batch)]].tolist()

    def pixels(self, contents: Sequence[bytes]) -> np.ndarray:
        """The same images as the network sees them."""
        return np.stack([self.model.preprocess(decode(content)) for content in contents])

    def known(self, batch: int) -> np.ndarray | None:
        """The output that each image of a batch belongs to, where classes tell."""
        if self.class_s is None:
            return None
        number = {composed(name): i for i, name in enumerate(self.model.class_names or ())}
        return np.array([number[name] for name in self.class_s[self._rows(batch)]])

    def tell(self, progress: Progress, what: str, batch: int) -> None:
        """Show how far it is after a batch."""
        n_images = len(self.listed_s)
        progress(f"{what} in {self.model.name}", min((batch + 1) * self.size, n_images), n_images)

    def batches(
        self, what: str, progress: Progress
    ) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """Pixels and outputs, some images at a time."""
        for batch in range(self.n_batches):
            yield self.pixels(self.contents(batch)), self.known(batch)
            self.tell(progress, what, batch)
