"""INVERT: the formula of concepts whose images a unit ranks highest, tested on other images.

Bykov et al., "Labeling Neural Representations with Inverse Recognition", NeurIPS 2023. Departures
in docs/methods.md: halves, ties, one form for each meaning, and no sigmoid on activations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int

from csp_engine.errors import InputError
from csp_engine.evidence.evidence import Evidence
from csp_engine.methods.formulas.atoms import Atoms, atoms_of_columns, atoms_of_labels
from csp_engine.methods.formulas.beam import Bounds, Found, Search
from csp_engine.methods.formulas.formula import Formula, affirmed
from csp_engine.methods.formulas.ranks import auc, doubled_ranks, p_above
from csp_engine.methods.method import Method, OwnLabel, Parameter, Params, Stores, Written

SEED = 0
ATOMS = ("columns", "labels")


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """What is the same for all units: concepts, either half of the images, and the search."""

    atoms: Atoms
    from_columns: bool
    chosen_s: Int[np.ndarray, " s"]
    tested_s: Int[np.ndarray, " s"]
    search: Search
    test_atoms: Atoms


def check(params: Params) -> None:
    """Some number of images must be allowed."""
    if params["smallest"] > params["largest"]:
        raise InputError(
            f"smallest {params['smallest']} is above largest {params['largest']}; give the "
            "smallest share of images that a formula may hold on, and then the largest."
        )


def prepare(evidence: Evidence, label_td: Float32[np.ndarray, "t d"], params: Params) -> Layer:
    """Concepts, and the halves of the probe set: one chooses, the other tests."""
    different_m = evidence.different_images  # a copy would test what it has chosen
    order = np.random.default_rng(SEED).permutation(different_m)
    chosen_s, tested_s = (np.sort(half) for half in np.split(order, [len(order) // 2]))
    from_columns = params["atoms"] == "columns" and evidence.has("columns")
    if from_columns:
        atoms = atoms_of_columns(evidence.columns)
    else:
        atoms = atoms_of_labels(np.asarray(evidence.image_nd), label_td, evidence.texts)
    bounds = Bounds(
        int(np.ceil(params["smallest"] * len(chosen_s))),
        int(np.floor(params["largest"] * len(chosen_s))),
    )
    search = Search(atoms.of_images(chosen_s), bounds, length=params["length"], beam=params["beam"])
    return Layer(atoms, from_columns, chosen_s, tested_s, search, atoms.of_images(tested_s))


def score(evidence: Evidence, label_td: Float32[np.ndarray, "t d"], params: Params) -> Written:
    """``AUC(phi) = P(a(x+) > a(x-)) + P(tie) / 2`` of images where phi holds against the others."""
    layer = evidence.once("invert", lambda: prepare(evidence, label_td, params))
    activation_un = np.asarray(evidence.activation_un, np.float32)
    n_units = evidence.n_units
    extra = {
        "held_out": np.full(n_units, 0.5, np.float32),
        "p": np.ones(n_units),
        "n_shown": np.zeros(n_units, np.int32),
        "from_columns": np.full(n_units, layer.from_columns),
    }
    labels: list[list[OwnLabel]] = []
    for u, beams in enumerate(layer.search.best(activation_un[:, layer.chosen_s])):
        found = worth_their_length(beams, params["gain"])
        labels.append([OwnLabel(f.formula.text(layer.atoms.names), f.auc) for f in found])
        if found:
            best = found[0].formula
            extra["held_out"][u], extra["p"][u] = tested(
                best, layer.test_atoms, activation_un[u, layer.tested_s]
            )
            extra["n_shown"][u] = np.count_nonzero(best.truth(layer.atoms)[0])
    return Written(labels, p_u=extra["p"], extra=extra)


def worth_their_length(beams: list[list[Found]], gain: float) -> list[Found]:
    """Formulas above chance, best first; a longer one must beat all shorter ones by ``gain``."""
    bar, kept = 0.5, []
    for own in beams:
        better = [found for found in own if found.auc > bar and found.auc >= bar + gain]
        if own is beams[0]:
            better = [found for found in own if found.auc > bar]
        kept += better
        bar = max([bar, *(found.auc for found in better)])
    return sorted(kept, key=lambda found: -found.auc)


def tested(
    formula: Formula, atoms: Atoms, activation_s: Float32[np.ndarray, " s"]
) -> tuple[float, float]:
    """AUC and p-value on other images, among those where it is known whether the formula holds."""
    holds_s, fails_s = formula.truth(atoms)
    known_s = holds_s | fails_s
    rank_k, shown_k = doubled_ranks(activation_s[known_s]), holds_s[known_s]
    return auc(rank_k, shown_k), p_above(rank_k, shown_k)


INVERT = Method(
    name="invert",
    title="INVERT",
    summary="Names a neuron by a formula of concepts, such as “ruler AND NOT hair”, whose images "
    "it ranks above all others: concept columns, or labels that the encoder sees where there are "
    "none.",
    paper="Bykov et al., INVERT, NeurIPS 2023",
    version=1,
    order=50,
    parameters=(
        Parameter("length", 3, "most concepts in a formula", low=1, high=5),
        Parameter("beam", 3, "formulas kept at each length", low=1, high=100),
        Parameter(
            "smallest",
            0.01,
            "smallest share of images that show it",
            low=0,
            high=1,
            published=0.002,
        ),
        Parameter("largest", 0.5, "largest share of images that show it", low=0, high=1),
        Parameter(
            "gain", 0.02, "AUC that a longer formula must gain", low=0, high=0.5, published=0.0
        ),
        Parameter("atoms", "columns", "what formulas are made of", choices=ATOMS),
    ),
    needs=("activations", "texts"),
    uses=("columns", "copies"),
    stores=Stores(
        arrays={
            "held_out": "AUC of the best formula on the half of the images that did not choose it",
            "p": "p-value of that",
            "n_shown": "probe images on which the best formula holds",
            "from_columns": "whether the formula is of concept columns; else of labels",
        },
        vectors="none",
    ),
    check=check,
    score=score,
    depth="",
    writes=True,
    has_null=False,
    test="on the images that did not choose it, with 5 % false discoveries over the layer",
    says=affirmed,
    unit_block=64,
    coarse=0.05,
)
