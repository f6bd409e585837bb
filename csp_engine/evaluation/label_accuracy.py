"""How often labels and searches are right about neurons whose true concept is known: the figures.

A label is right if it is one of the wordings of the concept. Neurons of one concept stand or fall
together, so every share comes twice: over neurons, with Wilson's interval and with neurons drawn
anew, and as the mean over concepts, with concepts drawn anew.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int32

from csp_engine.stats.drawn import N_RESAMPLES, mean_interval, percentile_interval
from csp_engine.stats.intervals import LEVEL, paired_difference, share_of
from csp_engine.words.vocabularies import clean_label

TOP = 5
"""How many labels, or search results, a person looks at."""


@dataclass(frozen=True, slots=True)
class DrawnShare:
    """A share of neurons; bounds from drawing neurons with replacement, NaN of too few."""

    n: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class MeanOverConcepts:
    """The mean of the concepts' own values; bounds from drawing concepts, NaN of too few."""

    n_concepts: int
    mean: float
    low: float
    high: float


@lru_cache(1 << 16)
def wording_key(text: str) -> str:
    """What two texts have in common that count as the same label."""
    return clean_label(text).casefold()


def right_labels(
    label_uk: Int32[np.ndarray, "u k"],
    count_u: Int32[np.ndarray, " u"],
    texts: Sequence[str],
    accepted_u: Sequence[Collection[str]],
) -> tuple[Bool[np.ndarray, " u"], Bool[np.ndarray, " u"]]:
    """Whether the best label, and one of the best five, is an accepted text.

    Args:
        label_uk: labels of each unit, best first, as rows of ``texts``.
        count_u: how many of them mean anything; 0 is never right.
        texts: of the labels.
        accepted_u: for each unit the ``wording_key`` of every text that is right.
    """
    keys = [wording_key(text) for text in texts]
    first_u, top_u = np.zeros(len(count_u), bool), np.zeros(len(count_u), bool)
    for u, accepted in enumerate(accepted_u):
        said = [keys[label] in accepted for label in label_uk[u, : min(count_u[u], TOP)]]
        first_u[u], top_u[u] = any(said[:1]), any(said)
    return first_u, top_u


def drawn_share(is_hit_u: np.ndarray, *, level: float = LEVEL, seed: int = 0) -> DrawnShare:
    """A share with a percentile bootstrap over neurons.

    The hits among n neurons drawn with replacement are binomial, so they are drawn as such.
    """
    n, n_hits = len(is_hit_u), int(np.asarray(is_hit_u, bool).sum())
    if not n:
        return DrawnShare(0, float("nan"), float("nan"), float("nan"))
    drawn = np.random.default_rng(seed).binomial(n, n_hits / n, N_RESAMPLES) / n
    return DrawnShare(n, n_hits / n, *percentile_interval(drawn, n, level))


def mean_over_concepts(
    value_u: np.ndarray, concept_u: Sequence[str], *, level: float = LEVEL, seed: int = 0
) -> MeanOverConcepts:
    """The mean of the concepts' mean values, with a percentile bootstrap over concepts."""
    mean_c = pd.Series(np.asarray(value_u, float)).groupby(np.asarray(concept_u)).mean().to_numpy()
    return MeanOverConcepts(len(mean_c), *mean_interval(mean_c, level, seed))


def recall_summary(table: pd.DataFrame, n_wordings: int = 3) -> dict[str, Any]:
    """Shares of a ``search_recall`` table. JSON-ready.

    ``wordings``: of all texts; ``by_concept``: mean over concepts; ``usual_wording``: of concepts,
    by their first text; ``every_wording``: of concepts, whether all their texts succeed;
    ``three_wordings``: of the concepts with that many texts, whether at least three succeed.
    """
    groups = table.groupby("concept", sort=False)["is_found"]
    n_found, n_texts = groups.sum().to_numpy(), groups.size().to_numpy()
    is_first_found = groups.first().to_numpy()
    is_many = n_texts >= n_wordings
    return {
        "n_concepts": len(n_found),
        "wordings": asdict(share_of(int(table["is_found"].sum()), len(table))),
        "by_concept": asdict(
            mean_over_concepts(table["is_found"].to_numpy(), list(table["concept"]))
        ),
        "usual_wording": asdict(share_of(int(is_first_found.sum()), len(n_found))),
        "every_wording": asdict(share_of(int((n_found == n_texts).sum()), len(n_found))),
        "three_wordings": asdict(
            share_of(int((n_found[is_many] >= n_wordings).sum()), int(is_many.sum()))
        ),
        "chance": round(float(table["chance"].mean()), 4),
    }


def _concept_of(table: pd.DataFrame) -> list[str]:
    return [" + ".join(names) for names in table["concepts"]]


def summary(table: pd.DataFrame) -> dict[str, Any]:
    """Shares of one method's labels, from the rows of its neurons. JSON-ready."""
    has_truth = table["concepts"].map(len) > 0
    true, none = table[has_truth], table[~has_truth]

    def share(rows: pd.DataFrame, column: str) -> dict[str, Any]:
        return asdict(share_of(int(rows[column].sum()), len(rows)))

    result: dict[str, Any] = {
        "best": share(true, "best"),
        "best_over_neurons": asdict(drawn_share(true["best"].to_numpy())),
        "top": share(true, "top"),
        "related": share(true, "is_related"),
        "best_by_concept": asdict(mean_over_concepts(true["best"].to_numpy(), _concept_of(true))),
        "chance": round(float(true["chance"].mean()), 5) if len(true) else None,
        "n_unreachable": int(true["is_unreachable"].sum()),
        "by_kind": {kind: share(own, "best") for kind, own in true.groupby("kind", sort=False)},
        "by_layer": {
            f"{model}/{layer}": share(own, "best")
            for (model, layer), own in true.groupby(["model", "layer"], sort=False)
        },
    }
    if table["claims"].notna().all():
        says_none = none.assign(is_silent=~none["claims"].astype(bool))
        claims_u, is_right_u = true["claims"].to_numpy(bool), true["best"].to_numpy(bool)
        told = true.assign(claims_right=claims_u & is_right_u, claims_wrong=claims_u & ~is_right_u)
        result["silent_where_none"] = share(says_none, "is_silent")
        result["silent_by_kind"] = {
            kind: share(own, "is_silent") for kind, own in says_none.groupby("kind", sort=False)
        }
        result["claims_where_true"] = share(true, "claims")
        result["right_where_claimed"] = share(true[claims_u], "best")
        result["claimed_and_right"] = share(told, "claims_right")
        result["claimed_and_wrong"] = share(told, "claims_wrong")
    return result


def difference(
    first: str, second: str, first_table: pd.DataFrame, second_table: pd.DataFrame
) -> dict[str, Any]:
    """Two methods compared over the neurons that both labelled. JSON-ready."""
    on = ["model", "layer", "unit"]
    both = first_table.merge(second_table[[*on, "best"]], on=on, suffixes=("", "_second"))
    both = both[both["concepts"].map(len) > 0]
    one, other = both["best"].to_numpy(bool), both["best_second"].to_numpy(bool)
    by_concept = mean_over_concepts(one.astype(float) - other, _concept_of(both))
    return {
        "first": first,
        "second": second,
        "over_neurons": asdict(paired_difference(one, other)),
        "by_concept": asdict(by_concept),
    }
