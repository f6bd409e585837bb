"""The circuit of an output: what its strongest neurons are called, and which of them feed which."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from csp_engine import numbers
from csp_engine.bundle import Bundle, StoredCircuit
from csp_engine.bundle.names import told_apart
from csp_engine.types import NeuronRef
from csp_engine.views.neuron.label import BestLabel, best_label


@dataclass(frozen=True, slots=True)
class Fed:
    """One neuron that feeds another: its place among the nodes, and its effect in figures.

    ``share`` is the effect as a share of the largest effect on the same neuron. ``name`` is its
    number, after its layer where the other neuron is fed by several.
    """

    node: int
    name: str
    effect: float
    share: float
    effect_text: str


@dataclass(frozen=True, slots=True)
class Node:
    """One neuron of a circuit: its effect on the output, and what feeds it, strongest first.

    ``share`` is the effect as a share of the largest in its layer.
    """

    neuron: NeuronRef
    label: BestLabel
    effect: float
    share: float
    effect_text: str
    fed_by: tuple[Fed, ...]


@dataclass(frozen=True, slots=True)
class Circuit:
    """The neurons that drive an output, by layer, from the output backwards.

    ``layers`` holds, for each layer, the places of its neurons in ``nodes``, strongest first.
    """

    output: str
    n_images: int
    is_predicted_class: bool
    layers: tuple[tuple[str, tuple[int, ...]], ...]
    nodes: tuple[Node, ...]

    @property
    def last_layers(self) -> frozenset[str]:
        """Layers that feed no other: the last one, and branches that go on to the output alone."""
        feeding = {self.nodes[fed.node].neuron.layer for node in self.nodes for fed in node.fed_by}
        return frozenset(layer for layer, _ in self.layers) - feeding

    @property
    def images(self) -> str:
        """How many images it was measured on, and of what."""
        whose = "that the network takes for" if self.is_predicted_class else "of"
        return f"{numbers.count(self.n_images)} images {whose} {self.output}"


def outputs_of(bundle: Bundle, model: str) -> tuple[str, ...]:
    """Outputs of a model whose circuit is known, in the order of the network."""
    stored = bundle.circuit(model)
    if stored is None:
        return ()
    shown = set(stored.nodes["output"].tolist())
    names = told_apart(stored.outputs["name"].tolist())
    return tuple(name for c, name in enumerate(names) if c in shown)


def circuit(bundle: Bundle, model: str, output: str, method: str) -> Circuit | None:
    """The circuit of one output, its neurons called as a method calls them; None if unknown.

    Neurons of a layer that the method did not label have no label.
    """
    stored = bundle.circuit(model)
    if stored is None or output not in outputs_of(bundle, model):
        return None
    row = told_apart(stored.outputs["name"].tolist()).index(output)
    own = stored.nodes[stored.nodes["output"] == row]
    place = {int(node): at for at, node in enumerate(own.index)}
    effect_m = own["effect"].to_numpy(float)
    largest = own["effect"].abs().groupby(own["layer"]).max().to_dict()
    texts = numbers.signed_alike(effect_m)
    fed = _fed(stored, own, place)
    nodes = []
    for at, (layer, unit) in enumerate(zip(own["layer"], own["unit"], strict=True)):
        neuron = NeuronRef(model, str(layer), int(unit))
        nodes.append(
            Node(
                neuron,
                best_label(bundle, neuron, method),
                float(effect_m[at]),
                float(effect_m[at]) / (float(largest[layer]) or 1.0),
                texts[at],
                fed.get(at, ()),
            )
        )
    layers: dict[str, list[int]] = {}
    for at, node in enumerate(nodes):
        layers.setdefault(node.neuron.layer, []).append(at)
    backwards = tuple((layer, tuple(held)) for layer, held in reversed(layers.items()))
    n_images = int(stored.outputs["n_images"].iloc[row])
    return Circuit(output, n_images, stored.is_predicted_class, backwards, tuple(nodes))


def _fed(
    stored: StoredCircuit, own: pd.DataFrame, place: dict[int, int]
) -> dict[int, tuple[Fed, ...]]:
    """What feeds each node, by its place; edges of other outputs are not among the places."""
    edges = stored.edges[stored.edges["target"].isin(place)]
    found: dict[int, tuple[Fed, ...]] = {}
    for target, group in edges.groupby("target"):
        order = group["effect"].abs().sort_values(ascending=False, kind="stable").index
        ranked: pd.DataFrame = group.loc[order]
        effect_e = ranked["effect"].to_numpy(float)
        texts = numbers.signed_alike(effect_e)
        largest = float(np.abs(effect_e).max())
        sources = own.loc[ranked["source"]]
        names = sources["unit"].astype(str)
        if sources["layer"].nunique() > 1:
            names = sources["layer"] + " / " + names
        found[place[int(str(target))]] = tuple(
            Fed(place[int(source)], str(name), float(effect), float(effect) / largest, text)
            for source, name, effect, text in zip(
                ranked["source"], names, effect_e, texts, strict=True
            )
        )
    return found
