"""Two sides of a comparison: which layers they are, and the table of their matches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.cells import csv_text
from csp_engine.errors import CspError, InputError
from csp_engine.methods import method_title
from csp_engine.search import require_same_space
from csp_engine.search.matching import Matching, chance_level, match
from csp_engine.types import NeuronRef
from csp_engine.views.address import View, pick
from csp_engine.views.controls import SAME_AT
from csp_engine.views.memo import Memo
from csp_engine.views.places import places
from csp_engine.views.random_sets import null_of, sizes
from csp_engine.views.table.agreement import label_distance
from csp_engine.views.table.rows import neuron_table

KINDS = {
    "all": "All neurons",
    "mutual": "Each other's best match",
    "oneway": "One-sided match",
    "unmatched": "Without a match",
    "differ": "Mutual, meanings differ",
}
STATUS = {
    "differ": "meanings differ",
    "mutual": "mutual",
    "oneway": "one-sided",
    "unmatched": "no match",
    "": "no evidence",
}


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """One layer of one bundle."""

    name: str
    bundle: Bundle
    model: str
    layer: str

    @property
    def title(self) -> str:
        """Bundle, model and layer in one line."""
        parts = [self.name] if self.model == self.name else [self.name, self.model]
        return " / ".join([*parts, self.layer])

    @property
    def key(self) -> tuple[str, str, str]:
        """Bundle, model and layer."""
        return (self.name, self.model, self.layer)

    def view(self, method: str, unit: int = 0) -> View:
        """The view of one of its neurons."""
        return View(self.name, self.model, self.layer, unit, method, is_all_layers=False)

    def rows(self, memo: Memo, method: str) -> pd.DataFrame:
        """Its neurons, with their rows in the order of units."""
        every = neuron_table(self.bundle, memo, method)
        place = places(self.bundle).index((self.model, self.layer))
        return every[every["place"] == place].reset_index(drop=True)


def sides_of(bundles: Mapping[str, Bundle]) -> dict[tuple[str, str, str], Side]:
    """Every layer of some bundles, which are given by name."""
    found = [
        Side(name, bundle, model, layer)
        for name, bundle in bundles.items()
        for model, layer in places(bundle)
    ]
    return {side.key: side for side in found}


def other_side(
    params: Mapping[str, str], here: Side, every: Mapping[tuple[str, str, str], Side]
) -> tuple[Side, tuple[str, ...]]:
    """What ``?bundle2&model2&layer2`` names, made valid, or the most telling thing to compare with.

    That is the same layer of another model with the same encoder, then the next layer.
    """
    asked = [params.get("bundle2"), params.get("model2"), params.get("layer2")]
    if not any(asked):
        fingerprint = here.bundle.manifest.inputs["encoder"]["fingerprint"]

        keys = list(every)

        def telling(side: Side) -> tuple[bool, bool, bool, bool, int]:
            theirs = side.bundle.manifest.inputs["encoder"]["fingerprint"]
            return (
                side.key != here.key,
                theirs == fingerprint,
                (side.name, side.model) != (here.name, here.model),
                side.layer == here.layer,
                -abs(keys.index(side.key) - keys.index(here.key)),
            )

        return max(every.values(), key=telling), ()
    notes = []
    chosen: list[str] = []
    for level, (kind, text) in enumerate(zip(("bundle", "model", "layer"), asked, strict=True)):
        options = list(dict.fromkeys(k[level] for k in every if list(k[:level]) == chosen))
        default = here.key[level] if here.key[level] in options else options[0]
        name, note = pick(f"{kind} to compare with", text or default, options)
        chosen.append(name)
        notes += [note] if note else []
    return every[chosen[0], chosen[1], chosen[2]], tuple(notes)


MOST_PAIRS = 400_000_000
"""Pairs of neurons that are compared while somebody waits: 20,000 with 20,000 take some seconds."""
MOST_TRIED = 12
"""Layers compared before one is chosen to begin with."""


def telling_side(
    memo: Memo, here: Side, every: Mapping[tuple[str, str, str], Side], method: str
) -> Side:
    """The layer of a model that differs most from what it would be compared with; else ``here``.

    The one with the most partners whose meanings differ, then with the most reliably labelled
    neurons that have no partner. Of a model with many layers, the last ``MOST_TRIED`` are tried.
    """
    best, most = here, (0, 0)
    tried = [side for side in every.values() if side.key[:2] == here.key[:2]][-MOST_TRIED:]
    for side in tried:
        other, _ = other_side({}, side, every)
        try:
            rows = compare(memo, side, other, method).rows
        except CspError:
            continue  # the page says why, once somebody chooses it
        is_alone_u = rows["reliable"] & (rows["kind"] == "unmatched")
        if (found := (int(rows["differ"].sum()), int(is_alone_u.sum()))) > most:
            best, most = side, found
    return best


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Every neuron of side A with its best match in B.

    ``rows`` has A's ``unit``, ``label``, ``reliable``; B's as ``unit_b`` and so on; ``similarity``;
    ``differ``, whether two neurons that are each other's best match have reliable labels that do
    not mean the same, and ``apart``, how far apart the encoder places these, NaN where it does not
    know them both; and ``kind``: ``mutual``, ``oneway``, ``unmatched`` (no more alike than random
    image sets of the neuron's own size rarely are), or empty where A's neuron has no evidence.
    ``bars`` are the least and the most that a neuron must exceed; None without random image sets.
    ``n_other_unmatched`` counts the ``n_other`` neurons of B with evidence in the same way: like
    none of A more than random image sets of their own size rarely are. ``other_alone`` holds the
    families that these are of.
    """

    rows: pd.DataFrame
    bars: tuple[float, float] | None
    n_other: int
    n_other_unmatched: int
    other_alone: pd.Series

    @property
    def alone(self) -> pd.Series:
        """The families of A's neurons without a match."""
        return self.rows["family"][self.kept("unmatched")]

    def count(self, kind: str) -> int:
        """How many neurons of A a choice of ``KINDS`` keeps."""
        return int(self.kept(kind).sum())

    def kept(self, kind: str) -> np.ndarray:
        """Which rows a choice of ``KINDS`` keeps."""
        if kind == "all":
            return np.ones(len(self.rows), bool)
        if kind == "differ":
            return self.rows["differ"].to_numpy(bool)
        return (self.rows["kind"] == kind).to_numpy()

    def ordered(self, kind: str) -> pd.DataFrame:
        """The rows that a choice keeps; what the sides do not share first, and twins last.

        First pairs whose labels mean different things, the farthest apart first; then neurons
        without a match, those with a reliable label first; then all others. Among equals, the less
        similar come first; neurons without evidence are last.
        """
        rows = self.rows[self.kept(kind)]
        is_alone = (rows["kind"] == "unmatched").to_numpy()
        group_u = np.select(
            [rows["differ"].to_numpy(bool), is_alone, (rows["kind"] != "").to_numpy()], [0, 1, 2], 3
        )
        told_u = np.where(is_alone & rows["reliable"].to_numpy(bool), -1.0, 0.0)
        told_u = np.where(group_u == 0, -rows["apart"].fillna(2).to_numpy(float), told_u)
        alike_u = rows["similarity"].fillna(2).to_numpy(float)
        return rows.iloc[np.lexsort((alike_u, told_u, group_u))]


def compare(memo: Memo, a: Side, b: Side, method: str) -> Comparison:
    """Match the concept vectors of two layers by one method.

    Raises:
        StaleError: if two encoders made them.
        InputError: if the method did not score both layers, or they have too many neurons.
    """
    require_same_space(a.bundle, b.bundle)
    n_units, n_other = (side.bundle.n_units(side.model, side.layer) for side in (a, b))
    if n_units * n_other > MOST_PAIRS:
        raise InputError(
            f"{a.title} has {numbers.count(n_units)} neurons and {b.title} "
            f"{numbers.count(n_other)}; layers are compared up to {numbers.count(MOST_PAIRS)} "
            "pairs of neurons, so choose a smaller layer."
        )
    for side in (a, b):
        if method not in side.bundle.methods(side.model, side.layer):
            if not side.bundle.methods(side.model, side.layer):
                raise InputError(
                    f"{side.title} has no labels, so there are no concept vectors to compare; run "
                    f"'csp label {side.bundle.path.name}'."
                )
            raise InputError(
                f"{method_title(method)} has no concept vectors of {side.title}; choose another "
                "method."
            )

    def make() -> Comparison:
        vector_ud = np.asarray(a.bundle.scores(a.model, a.layer, method).vector_ud)
        other_vd = np.asarray(b.bundle.scores(b.model, b.layer, method).vector_ud)
        found = match(vector_ud, other_vd)
        bar_u, is_above = _above_chance(memo, a, method, found, other_vd)
        known_u = bar_u[~np.isnan(bar_u) & np.any(vector_ud, axis=1)]
        bars = (float(known_u.min()), float(known_u.max())) if len(known_u) else None
        back = match(other_vd, vector_ud)
        _, is_above_v = _above_chance(memo, b, method, back, vector_ud)
        kind = np.select(
            [
                ~found.has_match_u,
                is_above & found.is_mutual_u,
                is_above,
            ],
            ["", "mutual", "oneway"],
            "unmatched",
        )
        mine, theirs = a.rows(memo, method), b.rows(memo, method)
        columns = ["place", "unit", "label", "reliable", "state"]
        paired = theirs.iloc[found.other_u] if len(theirs) else theirs.reindex(found.other_u)
        rows = mine[["model", "layer", "family", *columns]].copy()
        for name in columns:
            values = paired[name].to_numpy(object)
            rows[f"{name}_b"] = np.where(found.has_match_u, values, None)
        rows["reliable_b"] = rows["reliable_b"].fillna(False).astype(bool)
        rows["similarity"] = found.similarity_u
        rows["kind"] = kind
        rows["apart"], rows["differ"] = _apart(a.bundle, memo, rows)
        has_b_v = np.any(other_vd, axis=1)
        is_alone_v = has_b_v & ~is_above_v
        alone = theirs["family"][is_alone_v] if len(theirs) else pd.Series(dtype=object)
        return Comparison(rows, bars, int(has_b_v.sum()), int(is_alone_v.sum()), alone)

    key = ("compare", a.bundle.digest, b.bundle.digest, *a.key[1:], *b.key[1:], method)
    return memo.once(key, make)


def _apart(bundle: Bundle, memo: Memo, rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """How far apart the reliable labels of mutual matches lie, and whether their meanings differ.

    The words of one encoder are compared by the vectors of one side's vocabulary; a text that it
    lacks differs from every other text.
    """
    is_said_u = (rows["reliable"] & rows["reliable_b"]).to_numpy(bool)
    at = np.flatnonzero(is_said_u & (rows["kind"] == "mutual").to_numpy())
    apart_u, differ_u = np.full(len(rows), np.nan), np.zeros(len(rows), bool)
    one_a, other_a = (rows[name].to_numpy(object)[at] for name in ("label", "label_b"))
    if len(at):
        apart_a = label_distance(bundle, memo)(one_a, other_a)
        apart_u[at] = apart_a
        differ_u[at] = np.where(np.isnan(apart_a), one_a != other_a, apart_a > 1 - SAME_AT)
    return apart_u, differ_u


def _above_chance(
    memo: Memo, side: Side, method: str, found: Matching, other_vd: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What each neuron of a side must exceed, NaN where no sets are kept, and whether it does."""
    bar_u = _chance(memo, side, method, other_vd)
    return bar_u, found.similarity_u > np.nan_to_num(bar_u, nan=-np.inf)


def _chance(memo: Memo, a: Side, method: str, other_vd: np.ndarray) -> np.ndarray:
    """For each neuron of A the similarity that random image sets of its size rarely pass."""
    size_u = sizes(a.bundle, memo, a.model, a.layer, method)
    bar_u = np.full(len(size_u), np.nan)
    for size in np.unique(size_u).tolist():
        null_rd = null_of(a.bundle, memo, a.model, a.layer, method, size)
        if null_rd is not None:
            bar_u[size_u == size] = chance_level(null_rd, other_vd)
    return bar_u


def named(labels: pd.Series, reliable: pd.Series) -> pd.Series:
    """Labels as cards write them: those that mean nothing with a question mark."""
    return labels.where(reliable | labels.isna() | (labels == ""), "unclear: " + labels + "?")


def status(rows: pd.DataFrame) -> pd.Series:
    """What kind of match each row is, in words."""
    return rows["kind"].where(~rows["differ"].astype(bool), "differ").map(STATUS)


def pairs_csv(a: Side, b: Side, rows: pd.DataFrame) -> bytes:
    """The pairs as a page shows them, as a CSV file; nothing rounded."""
    theirs = [
        "" if unit is None else str(NeuronRef(b.model, b.layer, int(unit)))
        for unit in rows["unit_b"].tolist()
    ]
    written = pd.DataFrame(
        {
            "neuron": [str(NeuronRef(a.model, a.layer, int(unit))) for unit in rows["unit"]],
            "label": rows["label"].to_numpy(),
            "reliable": rows["reliable"].to_numpy(),
            "match": theirs,
            "match_label": rows["label_b"].to_numpy(),
            "match_reliable": rows["reliable_b"].to_numpy(),
            "similarity": rows["similarity"].to_numpy(),
            "kind": status(rows).to_numpy(),
        }
    )
    return csv_text(written).encode()
