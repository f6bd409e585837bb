"""Linear Explanations: a unit as a sparse, signed sum of concepts that predicts its activation.

Oikarinen and Weng, "Linear Explanations for Individual Neurons", ICML 2024. Departures in
docs/methods.md: least squares, the weights belong to the concepts that are named, and a test.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64

from csp_engine.evidence.evidence import Evidence
from csp_engine.methods.depths.joined import parts_of
from csp_engine.methods.method import Method, OwnLabel, Parameter, Params, Stores, Written
from csp_engine.methods.sums.elastic_net import ElasticNet
from csp_engine.methods.sums.moments import (
    Moments,
    Rows,
    correlation_of,
    least_squares,
    standardised,
)
from csp_engine.words.vocabularies import clean_label

SEED = 0
SHARES = (0.7, 0.1, 0.2)
"""Of the images: those that fit, those that choose, those that test."""

ATOMS = ("labels", "columns")


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """What is the same for all units: concepts, and the images that fit, choose and test."""

    names: tuple[str, ...]
    concept_qd: Float64[np.ndarray, "q d"]
    from_columns: bool
    net: ElasticNet
    fit: Rows
    choose: Rows
    test: Rows


@dataclass(frozen=True, slots=True, eq=False)
class Sum:
    """A sum of concepts, and its correlation on the images that choose."""

    atoms: tuple[int, ...]
    weight_k: Float64[np.ndarray, " k"]
    correlation: float

    def text(self, names: tuple[str, ...]) -> str:
        """In words, the largest weight first: "0.80 ruler − 0.30 hair"."""
        order = sorted(range(len(self.atoms)), key=lambda k: (-abs(self.weight_k[k]), k))
        parts = []
        for k in order:
            sign = "−" if self.weight_k[k] < 0 else "+"
            lead = f" {sign} " if parts else "−" * (sign == "−")
            parts.append(f"{lead}{abs(self.weight_k[k]):.2f} {names[self.atoms[k]]}")
        return "".join(parts)


def prepare(evidence: Evidence, label_td: Float32[np.ndarray, "t d"], params: Params) -> Layer:
    """Concepts, and a division of the probe set that is the same for all units."""
    from_columns = params["atoms"] == "columns" and evidence.has("columns")
    if from_columns:
        names = tuple(clean_label(name) for name in evidence.columns.names)
        row_nd = _filled(evidence.columns.value_nc)
        concept_qd = np.eye(len(names))
    else:
        texts, joined = evidence.texts, parts_of(evidence.texts)
        single = [t for t in range(len(label_td)) if t not in joined]
        names = tuple(texts[t] for t in single)
        row_nd, concept_qd = np.asarray(evidence.image_nd), label_td[single].astype(np.float64)
    order = np.random.default_rng(SEED).permutation(evidence.different_images)
    stops = np.rint(np.cumsum(SHARES[:2]) * len(order)).astype(int)
    fit, choose, test = (Rows(row_nd, np.sort(part)) for part in np.split(order, stops))
    concept_qd, kept = standardised(concept_qd, fit.row_dd)
    net = ElasticNet(concept_qd, fit.row_dd, params["penalty"], params["share"])
    return Layer(tuple(names[q] for q in kept), concept_qd, from_columns, net, fit, choose, test)


def _filled(value_nc: Float32[np.ndarray, "n c"]) -> Float32[np.ndarray, "n c"]:
    """Concept columns in which what nobody knows is the mean of what is known."""
    known_nc = ~np.isnan(value_nc)
    total_c = np.where(known_nc, value_nc, 0).sum(axis=0, dtype=np.float64)
    mean_c = total_c / np.maximum(known_nc.sum(axis=0), 1)
    return np.where(known_nc, value_nc, mean_c).astype(np.float32)


def score(evidence: Evidence, label_td: Float32[np.ndarray, "t d"], params: Params) -> Written:
    """``a ~ sum_t w_t x_t``: few concepts t, by elastic net and then one by one."""
    layer = evidence.once("linear_explanations", lambda: prepare(evidence, label_td, params))
    activation_un = np.asarray(evidence.activation_un, np.float32)
    fit, choose, test = (
        rows.with_activations(activation_un) for rows in (layer.fit, layer.choose, layer.test)
    )
    n_units = evidence.n_units
    extra = {
        "held_out": np.zeros(n_units, np.float32),
        "p": np.ones(n_units),
        "n_concepts": np.zeros(n_units, np.int32),
        "from_columns": np.full(n_units, layer.from_columns),
    }
    labels: list[list[OwnLabel]] = []
    for u in range(n_units):
        sums = grown(layer.concept_qd, ranked(layer.net, fit, u), fit, choose, u, params)
        labels.append([OwnLabel(s.text(layer.names), s.correlation) for s in reversed(sums)])
        if sums:
            best = sums[-1]
            r = correlation_of(best.weight_k, layer.concept_qd[list(best.atoms)], test, u)
            extra["held_out"][u], extra["p"][u] = r, p_of_correlation(r, test.n_images)
            extra["n_concepts"][u] = len(best.atoms)
    return Written(labels, p_u=extra["p"], extra=extra)


def foremost(text: str) -> tuple[str, ...]:
    """The concept with the largest weight of a sum in words; none where that is below zero."""
    found = re.match(r"\d+\.\d\d (.+?)(?= [+−] \d+\.\d\d |$)", text)
    return (found[1],) if found else ()


def ranked(net: ElasticNet, fit: Moments, u: int) -> list[int]:
    """Concepts with a weight in the elastic net, the largest first."""
    spread = np.sqrt(fit.variance_u[u])
    if not spread:
        return []
    weight_q = net.weights(fit.cross_ud[u] / spread)
    order = np.argsort(-np.abs(weight_q), kind="stable")
    return order[weight_q[order] != 0].tolist()


def grown(
    concept_qd: Float64[np.ndarray, "q d"],
    candidates: list[int],
    fit: Moments,
    choose: Moments,
    u: int,
    params: Params,
) -> list[Sum]:
    """Sums of one concept more each, as long as that pays on the images that choose.

    Of the first ``width`` candidates the one joins with which least squares correlates most. One
    that gains less than ``tolerance`` is never tried again.
    """
    sums: list[Sum] = []
    left, chosen, spread = list(candidates), [], np.sqrt(fit.variance_u[u])
    while left and len(chosen) < params["length"]:
        bar = sums[-1].correlation + params["tolerance"] if sums else 0.0
        tried, poor = [], set()
        for atom in left[: params["width"]]:
            own_kd = concept_qd[[*chosen, atom]]
            weight_k = least_squares(own_kd, fit, u) / spread
            r = correlation_of(weight_k, own_kd, choose, u)
            if r > 0 and r >= bar:
                tried.append(Sum((*chosen, atom), weight_k, r))
            elif sums:
                poor.add(atom)
        if not tried:
            break
        best = max(tried, key=lambda one: one.correlation)
        sums.append(best)
        chosen = list(best.atoms)
        left = [atom for atom in left if atom not in poor and atom not in chosen]
    return sums


def p_of_correlation(r: float, n_images: int) -> float:
    """p-value of a correlation that is not above 0 in truth, one-sided, by Student's t."""
    from scipy.special import stdtr

    if n_images < 3 or not r:
        return 1.0
    t = r * np.sqrt((n_images - 2) / max(1 - r * r, 1e-300))
    return float(stdtr(n_images - 2, -t))


LINEAR_EXPLANATIONS = Method(
    name="linear_explanations",
    title="Linear Explanations",
    summary="Names a neuron by a short sum of concepts, such as “0.80 ruler − 0.30 hair”, that "
    "predicts its activation on every image.",
    paper="Oikarinen and Weng, Linear Explanations, ICML 2024",
    version=1,
    order=60,
    parameters=(
        Parameter("penalty", 0.05, "λ of the elastic net", low=1e-4, high=1),
        Parameter("share", 0.99, "share of it on absolute weights", low=0.01, high=1),
        Parameter("length", 10, "most concepts in a sum", low=1, high=50),
        Parameter("tolerance", 0.02, "correlation that one more must gain", low=0, high=1),
        Parameter("width", 10, "concepts tried at each step", low=1, high=1000),
        Parameter("atoms", "labels", "what sums are made of", choices=ATOMS),
    ),
    needs=("activations", "texts"),
    uses=("columns", "copies"),
    stores=Stores(
        arrays={
            "held_out": "correlation of the best sum on images that neither fitted nor chose it",
            "p": "p-value of that",
            "n_concepts": "concepts in the best sum",
            "from_columns": "whether the sum is of concept columns; else of labels",
        },
        vectors="none",
    ),
    score=score,
    depth="",
    writes=True,
    has_null=False,
    test="on images that neither fitted nor chose it, with 5 % false discoveries over the layer",
    says=foremost,
    unit_block=256,
)
