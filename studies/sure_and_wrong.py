"""Where do labels come from that CSP+ calls reliable and that are wrong? The demo's own neurons.

Stored labels are judged by the strict rule of ``csp evaluate``, and counted by what is true and
what is said: those that meet the first three conditions. Then three ways to claim less: another bar
on the explained share; that no label of another meaning which scores at least ``near`` of the best
one goes with the activation by so much more (correlation, activations from the demo's thumbnails);
and the fourth condition, that the next meaning scores no more than so large a share of the best
one's score. None needs the truth. Half of the neurons choose, the others confirm.

    python -m studies sure_and_wrong [--out FOLDER]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from csp_engine.bundle import Bundle
from csp_engine.methods import RELIABLE_AT
from csp_engine.methods.csp_plus import CSP_PLUS
from csp_engine.methods.depths.columns import meanings
from csp_engine.stats.intervals import share_of
from csp_engine.views.accuracy import judged_labels
from studies.real_dermoscopy import ROOT, rounded
from studies.vocabulary_gap import DEMO, Words, activations

METHOD = "csp_plus"
SIGNALS = ("fit", "reach", "halves_agree", "next", "two_words", "best_percentile_u")
FIVE: dict[str, float] = {"two_words": 0}
FOUR = {**FIVE, "enough": 0}
THREE = {**FOUR, "apart": 1.0}
"""Bars that leave the first conditions of a reliable label, as studies of the others found them."""
RESULT = Path(__file__).parent / "results" / "sure_and_wrong.json"
BARS = (0.65, 0.675, 0.7, 0.725, 0.75)
AHEAD = (0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.1)
NEXT = (0.99, 0.98, 0.97, 0.96, 0.95, 0.93, 0.9)


def known(bundle: Bundle) -> pd.DataFrame:
    """Every neuron with what is stored of its label; the demo's planted units are among them."""
    table = judged_labels(bundle)[METHOD].reset_index(drop=True)
    texts = bundle.labels()["text"].to_numpy(object)
    parts = []
    for (model, layer), own in table.groupby(["model", "layer"], sort=False):
        unit_u = own["unit"].to_numpy()
        label_uk = np.asarray(bundle.scores(model, layer, METHOD).label_uk)
        stored = {
            name: np.asarray(bundle.score_array(model, layer, METHOD, name))[unit_u]
            for name in SIGNALS
        }
        stored["percentile"] = stored.pop("best_percentile_u")
        score_uk = np.asarray(bundle.scores(model, layer, METHOD).score_uk)
        stored["score"] = score_uk[unit_u, 0]
        parts.append(own.assign(label=texts[label_uk[unit_u, 0]], **stored))
    return pd.concat(parts)


def outdone(bundle: Bundle, table: pd.DataFrame, made: Mapping[str, np.ndarray]) -> pd.Series:
    """By how much more the activation goes with another meaning that scores nearly as much.

    ``made`` holds activations by ``model/layer``; neurons of other layers get NaN.
    """
    words = Words(bundle)
    place = {text: t for t, text in enumerate(words.texts)}
    is_single_t = np.array([" and " not in text for text in words.texts])
    meaning_td = meanings(words.image_nd, words.label_td).astype(np.float32)
    near, same = CSP_PLUS.params["near"], CSP_PLUS.params["same"]

    def gaps(activation_un: np.ndarray, own: pd.DataFrame) -> Iterator[float]:
        centred_un = activation_un - activation_un.mean(axis=1, keepdims=True)
        length_u1 = np.maximum(np.linalg.norm(centred_un, axis=1, keepdims=True), 1e-12)
        fit_ut = (centred_un / length_u1) @ words.column_nt
        score_ut = words.scores(activation_un)
        for label, fit_t, score_t in zip(own["label"], fit_ut, score_ut, strict=True):
            best = place[label]
            rival_t = is_single_t & (meaning_td @ meaning_td[best] < same)
            rival_t &= score_t >= near * score_t[best]
            yield float(fit_t[rival_t].max() - fit_t[best]) if rival_t.any() else -1.0

    found = pd.Series(np.nan, table.index)
    for (model, layer), own in table.groupby(["model", "layer"], sort=False):
        activation_un = made.get(f"{model}/{layer}")
        for first in range(0, len(own) if activation_un is not None else 0, 64):
            some = own.iloc[first : first + 64]
            found[some.index] = list(gaps(activation_un[some["unit"].to_numpy()], some))
    return found


def claimed(table: pd.DataFrame, bars: Mapping[str, float]) -> pd.Series:
    """What CSP+ calls reliable with other bars than its own, by what is stored."""
    bar = {**CSP_PLUS.params, **bars}
    said_u = table["halves_agree"].astype(bool) & (table["percentile"] >= np.float32(RELIABLE_AT))
    said_u &= (table["fit"] >= bar["least_fit"]) & (table["next"] <= np.float32(bar["apart"]))
    said_u &= table["score"] >= np.float32(bar["enough"]) * table["reach"]
    said_u &= table["two_words"] >= np.float32(bar["two_words"]) * table["reach"]
    return said_u & (table["fit"] >= bar["explained"] * table["reach"])


def figures(table: pd.DataFrame, claims_u: pd.Series) -> dict[str, Any]:
    """Shares of right and wrong claims where there is a truth, and of refusals where none is."""
    has_truth_u = table["concepts"].map(len) > 0
    is_chosen_u = np.random.default_rng(0).random(len(table)) < 0.5
    result: dict[str, Any] = {}
    for part, among_u in (("all", True), ("chooses", is_chosen_u), ("confirms", ~is_chosen_u)):
        own = table[has_truth_u & among_u]
        right_u, claimed_u = own["best"].astype(bool), claims_u[own.index]
        right, wrong = ((claimed_u & is_it).sum() for is_it in (right_u, ~right_u))
        result[part] = {
            "n": len(own),
            "right": share_of(int(right), len(own)).share,
            "wrong": share_of(int(wrong), len(own)).share,
        }
    none_u = table["kind"] == "none"
    return {**result, "none refused": 1 - float(claims_u[none_u].mean())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "bundles" / "vocabulary-gap")
    args = parser.parse_args()
    bundle = Bundle.open(DEMO)
    table = known(bundle)
    assert (table["claims"].astype(bool) == claimed(table, {})).all()
    claims_u = claimed(table, THREE)
    wrong = table[claims_u & ~table["best"].astype(bool) & (table["concepts"].map(len) > 0)]
    pairs = wrong.assign(true=wrong["concepts"].map(" + ".join)).groupby(["true", "label"]).size()
    result: dict[str, Any] = {
        "wrong": {f"{true} -> {said}": int(n) for (true, said), n in pairs.items()},
        "bars": {
            f"{bar:g}": figures(table, claimed(table, {**THREE, "explained": bar})) for bar in BARS
        },
    }
    gap_u = outdone(bundle, table, activations(bundle, args.out))
    result["further condition"] = {
        f"{ahead:g}": figures(table, claims_u & ~(gap_u >= ahead)) for ahead in AHEAD
    }
    result["next meaning"] = {
        f"{most:g}": figures(table, claimed(table, {**THREE, "apart": most})) for most in NEXT
    }
    for name, value in result.items():
        print(name, *(f"  {key}: {each}" for key, each in value.items()), sep="\n")
    RESULT.write_text(json.dumps(rounded(result), indent=1) + "\n")


if __name__ == "__main__":
    main()
