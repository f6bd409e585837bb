"""A bundle's labels and searches against its ground truth, where it has some.

A neuron's truth is what was planted in it, where it is a planted unit, else its measured true
concept, else none.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from csp_engine.bundle import Bundle, kinds
from csp_engine.errors import BundleError, InputError
from csp_engine.evaluation.label_accuracy import (
    TOP,
    difference,
    right_labels,
    summary,
    wording_key,
)
from csp_engine.search import open_index, query_vector, rank
from csp_engine.stats.intervals import Share, share_of
from csp_engine.types import Encoder, Progress, silent
from csp_engine.views.memo import Memo
from csp_engine.views.places import places, scoring_methods

MEASURED, NONE = "measured", "none"
"""Kinds of truth beside those of planted units: a measured true concept; none of the concepts."""


def known_neurons(bundle: Bundle) -> pd.DataFrame:
    """Every neuron of the layers with ground truth, and what is true of it.

    Columns: ``model``, ``layer``, ``unit``; ``kind``, that of a planted unit (``noise`` included),
    ``measured`` or ``none``; ``concepts``, the names that are true of it (two for a conjunction
    and for either-or); ``related``, all concepts whose AUROC and Pearson reach the rule's
    thresholds on this neuron, without interval.

    Raises:
        BundleError: if no layer has ground truth.
    """
    rows: list[dict[str, Any]] = []
    for model in bundle.model_names:
        for layer in bundle.layers(model):
            truth = bundle.truth(model, layer)
            if truth is None:
                continue
            names = truth.concepts["name"].to_numpy(object)
            with np.errstate(invalid="ignore"):
                is_related_uc = (np.asarray(truth.auroc_uc) >= truth.rule["auroc_min"]) & (
                    np.asarray(truth.pearson_uc) >= truth.rule["pearson_min"]
                )
            units = truth.units.astype(object).where(truth.units.notna(), None)
            for unit, row in enumerate(units.to_dict("records")):
                if row.get("planted") is not None:
                    kind, concepts = row["planted_kind"], json.loads(row["planted_concepts"])
                elif row["true_concept"] is not None:
                    kind, concepts = MEASURED, [row["true_concept"]]
                else:
                    kind, concepts = NONE, []
                related = {*names[is_related_uc[unit]], *concepts}
                where = {"model": model, "layer": layer, "unit": unit}
                rows.append(where | {"kind": kind, "concepts": concepts, "related": related})
    if not rows:
        raise BundleError(
            f"Bundle {bundle.name} has no ground truth; it is measured where it is known which "
            "image shows which concept (docs/methods.md, Ground truth)."
        )
    return pd.DataFrame(rows)


def wordings_of(bundle: Bundle) -> dict[str, tuple[str, ...]]:
    """Concept name → its wordings, over all layers with ground truth."""
    found: dict[str, tuple[str, ...]] = {}
    for model in bundle.model_names:
        for layer in bundle.layers(model):
            truth = bundle.truth(model, layer)
            for name, texts in (truth.wordings() if truth else {}).items():
                found[name] = tuple(dict.fromkeys(found.get(name, ()) + texts))
    return found


def reliable_claims(bundle: Bundle) -> dict[str, Share]:
    """For how many neurons each method claims a reliable label."""
    found = {}
    for method in scoring_methods(bundle):
        own = [bundle.scores(*p, method) for p in places(bundle) if method in bundle.methods(*p)]
        n_reliable = sum(int(np.asarray(each.reliable_u).sum()) for each in own)
        found[method] = share_of(n_reliable, sum(len(each.reliable_u) for each in own))
    return found


def has_truth(bundle: Bundle) -> bool:
    """Whether some layer has ground truth."""
    return any(bundle.truth(*place) is not None for place in places(bundle))


def kept_accuracy(bundle: Bundle, memo: Memo) -> dict[str, Any] | None:
    """``label_accuracy``, worked out once; None where no layer has ground truth."""
    if not has_truth(bundle):
        return None
    return memo.once(
        ("label accuracy", bundle.digest),
        lambda: label_accuracy(bundle, kept_judged_labels(bundle, memo)),
    )


def label_accuracy(
    bundle: Bundle, tables: Mapping[str, pd.DataFrame] | None = None
) -> dict[str, Any]:
    """Every method's labels against the truth, over all neurons that have one. JSON-ready.

    ``methods`` holds for each method: ``best`` and ``top`` (right, first or among five),
    ``related`` (the best label names some concept that goes with the neuron), each over neurons;
    ``best_over_neurons`` (``best`` with neurons drawn anew) and ``best_by_concept``; ``chance`` (a
    label drawn blindly); ``n_unreachable`` (no wording is among the labels, so no method could be
    right); ``by_kind`` and ``by_layer``; and for methods that can say "no reliable label": how
    often they say so for neurons whose truth is none or noise (``silent_where_none``, and each by
    itself in ``silent_by_kind``), and how often they claim where there is one
    (``claims_where_true``), with the share of claims that are right (``right_where_claimed``); of
    all neurons with a truth, those with a claim that is right (``claimed_and_right``) and wrong
    (``claimed_and_wrong``).
    ``differences`` compares each two methods over the neurons that both labelled.

    Args:
        bundle: with ground truth.
        tables: ``judged_labels`` of the bundle, where they are there already.
    """
    tables = tables or judged_labels(bundle)
    differences = []
    names = list(tables)
    for place, first in enumerate(names):
        for second in names[place + 1 :]:
            differences.append(difference(first, second, tables[first], tables[second]))
    neurons = known_neurons(bundle)
    has_truth = neurons["concepts"].map(len) > 0
    return {
        "n_neurons": len(neurons),
        "n_with_truth": int(has_truth.sum()),
        "n_by_kind": neurons["kind"].value_counts().to_dict(),
        "top": TOP,
        "methods": {method: summary(table) for method, table in tables.items()},
        "differences": differences,
    }


def judged_labels(bundle: Bundle) -> dict[str, pd.DataFrame]:
    """For every method the rows of ``known_neurons``, with what the method said of each.

    Further columns: ``best`` and ``top`` (right, first or among five), ``is_related`` (the best
    label names some concept that goes with the neuron), ``claims`` (reliable; None for labels of
    other tools), ``chance`` (of a label drawn blindly), ``is_unreachable`` (no label is right).
    """
    neurons, wordings = known_neurons(bundle), wordings_of(bundle)
    keys = {name: {wording_key(text) for text in texts} for name, texts in wordings.items()}
    per_method: dict[str, list[pd.DataFrame]] = {}
    for _, own in neurons.groupby(["model", "layer"], sort=False):
        model, layer = own[["model", "layer"]].iloc[0]
        for method in bundle.methods(model, layer):
            rows = _judged(bundle, own, (model, layer, method), keys)
            per_method.setdefault(method, []).append(rows)
    return {method: pd.concat(parts) for method, parts in per_method.items()}


def kept_judged_labels(bundle: Bundle, memo: Memo) -> dict[str, pd.DataFrame]:
    """``judged_labels``, worked out once."""
    return memo.once(("judged labels", bundle.digest), lambda: judged_labels(bundle))


def search_recall(
    bundle: Bundle,
    method: str,
    encoder: Encoder | None = None,
    *,
    wordings: Mapping[str, Sequence[str]] | None = None,
    progress: Progress = silent,
) -> pd.DataFrame:
    """For every wording of every concept that some neuron answers to: is one of those found?

    A neuron answers to a concept if it is its measured true one or it was planted (alone, beside
    another, or as one of either-or; a conjunction does not answer to one part). Columns:
    ``concept``, ``wording``, ``n_answering`` neurons, ``first_rank`` (from 1) of such a neuron
    among all neurons of the index, ``is_found`` (within the first five), ``chance`` that five
    neurons drawn blindly hold one.

    Args:
        bundle: with ground truth and an index of the method.
        method: whose concept vectors are searched.
        encoder: the bundle's; needed for wordings that are not in the vocabulary.
        wordings: other texts to search for each concept; by default those of the bundle.
        progress: called with the texts done.
    """
    from scipy.stats import hypergeom

    neurons = known_neurons(bundle)
    answering = neurons[~neurons["kind"].isin(["conjunction"])].explode("concepts").dropna()
    index, rows = open_index(bundle, method)
    number = {key: row for row, key in enumerate(rows.itertuples(index=False, name=None))}
    texts = wordings or wordings_of(bundle)
    found: list[dict[str, Any]] = []
    work = [(name, text) for name, its_texts in texts.items() for text in its_texts]
    for done, (name, text) in enumerate(work, start=1):
        own = answering[answering["concepts"] == name]
        ids = own[["model", "layer", "unit"]].itertuples(index=False, name=None)
        wanted = {number[neuron] for neuron in ids if neuron in number}
        if len(own):
            order = rank(index, query_vector(bundle, text, encoder), index.ntotal).row_m
            hits = np.flatnonzero(np.isin(order, list(wanted)))
            first = int(hits[0]) + 1 if len(hits) else None
            blind = 1 - hypergeom.pmf(0, index.ntotal, len(wanted), min(TOP, index.ntotal))
            found.append(
                {
                    "concept": name,
                    "wording": text,
                    "n_answering": len(own),
                    "first_rank": first,
                    "is_found": first is not None and first <= TOP,
                    "chance": float(blind),
                }
            )
        progress("search", done, len(work))
    if not found:
        raise InputError(f"No neuron of {bundle.name} responds to any of the concepts.")
    return pd.DataFrame(found).astype({"first_rank": "Int64"})


def _judged(
    bundle: Bundle, neurons: pd.DataFrame, stage: tuple[str, str, str], keys: Mapping[str, set[str]]
) -> pd.DataFrame:
    """The rows of one layer with what a method said of each."""
    scores = bundle.scores(*stage)
    texts = list(bundle.method_labels(*stage)["text"])

    def accepted(column: str) -> list[set[str]]:
        return [set().union(*(keys[name] for name in names)) for names in neurons[column]]

    label_uk, count_u = np.asarray(scores.label_uk), np.asarray(scores.count_u)
    right = accepted("concepts")
    best_u, top_u = right_labels(label_uk, count_u, texts, right)
    related_u, _ = right_labels(label_uk, count_u, texts, accepted("related"))
    n_texts = Counter(wording_key(text) for text in texts)
    n_right_u = np.array([sum(n_texts[key] for key in ok) for ok in right])
    record = bundle.stage(kinds.SCORES.name(*stage))
    claims_u = np.asarray(scores.reliable_u, object)
    if record.params.get("imported"):
        claims_u = np.full(len(claims_u), None)
    return neurons.assign(
        best=best_u,
        top=top_u,
        is_related=related_u,
        claims=claims_u,
        chance=n_right_u / len(texts),
        is_unreachable=n_right_u == 0,
    )
