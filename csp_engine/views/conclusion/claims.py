"""What is measured of one neuron, in a few sentences: what it fires on, what that is worth.

Every sentence rests on one kind of evidence and gives its figures: images that excite the neuron
against all images and against look-alikes, labels and how often such labels are right, the known
truth, and what the neuron moves. Nothing is said that was not measured.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from csp_engine import numbers
from csp_engine.bundle import Bundle, StoredTruth
from csp_engine.stats.enrichment import NONE, Enrichment, tail_chance
from csp_engine.types import NeuronRef
from csp_engine.views.conclusion.carriers import carriers
from csp_engine.views.conclusion.meaning import Same, property_of, same_meaning
from csp_engine.views.confidence import NOT_CALIBRATED, Trust, trust_of
from csp_engine.views.images.facts import properties
from csp_engine.views.memo import Memo
from csp_engine.views.neuron.candidates import stored
from csp_engine.views.neuron.influence import moved_most
from csp_engine.views.neuron.label import best_label
from csp_engine.views.neuron.shared import CHANCE, Shared, shared
from csp_engine.views.sentence import listed

MUCH = 0.1
"""Share of a layer that a neuron is among if it is said to move an output."""
CLASS = "class: "
"""How the names of properties begin that are classes."""

SAYS = ", as its best label says"

Words = tuple[tuple[str, bool], ...]
"""Pieces of a sentence; those that are marked come from outside (labels, names)."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One sentence.

    ``kind`` is ``images``, ``label``, ``truth``, ``outputs``, ``carries`` or ``warning``.
    """

    kind: str
    words: Words

    def __str__(self) -> str:
        return "".join(text for text, _ in self.words)


def conclusion_of(
    bundle: Bundle, memo: Memo, neuron: NeuronRef, method: str, trust: Trust | None = None
) -> tuple[Claim, ...]:
    """All that is measured of a neuron, in an order to read; empty where nothing is.

    ``trust`` is that of its best label, where the caller has worked it out already.
    """
    known = shared(bundle, memo, neuron)
    same = same_meaning(bundle, memo)
    label = best_label(bundle, neuron, method)
    truth = bundle.truth(neuron.model, neuron.layer)
    if not label.text:
        trust = None
    elif trust is None:
        trust = trust_of(bundle, memo, neuron, stored(bundle, neuron, method))
    says = SAYS
    if trust is not None and trust.is_learnt and trust.doubts:
        says += ", against the odds"
    claims = [
        *_images(bundle, memo, neuron, known),
        *_label(bundle, neuron, method, label.text, trust, same),
        *_truth(truth, neuron, label.text, says, same),
        *_carries(bundle, memo, neuron),
        *_outputs(bundle, memo, neuron),
    ]
    if label.is_named:
        claims += _contradiction(bundle, memo, neuron, label.text, truth, same)
    return tuple(claims)


def fires_on(known: Shared) -> Enrichment | None:
    """The property that exemplars have most beyond the probe set, by the lower end of their share.

    None where chance explains all of them. Lift would prefer what is rare.
    """
    return max(known.striking, key=lambda row: row.low - row.base, default=None)


def _images(bundle: Bundle, memo: Memo, neuron: NeuronRef, known: Shared) -> list[Claim]:
    if not known.rows:
        return []
    row = fires_on(known)
    if row is None:
        text = (
            f"Nothing that is recorded of the images sets its {numbers.count(known.n_chosen)} "
            "exemplars apart."
        )
        return [Claim("images", ((text, False),))]
    told = (
        f": {numbers.count(row.n_here)} of {numbers.count(row.n_chosen)} exemplars show it, "
        f"{numbers.share(row.base)} of all images"
    )
    apart = [_beside(bundle, memo, neuron, each) for each in known.striking]
    own = next(each for each in apart if each.row is row)
    clear = [each for each in apart if each.p * len(apart) <= CHANCE]
    best = max(clear, key=lambda each: each.gap, default=None)
    if own.n_quiet:
        told += (
            "; of the look-alikes that leave it quiet, "
            f"{numbers.count(own.n_showing)} of {numbers.count(own.n_quiet)}"
        )
        if own.gap <= 0:
            told += ", as often"
        elif own.is_alike:
            told += ", nearly as often"
    fires = "Fires on" if 2 * row.n_here >= row.n_chosen else "Prefers"
    words = [
        (f"{fires} images of the class " if _is_class(row) else f"{fires} ", False),
        (row.name.removeprefix(CLASS), True),
    ]
    if best is not None and best.gap > own.gap and own.is_common:
        words += [
            (f"{told}. What tells them apart most is ", False),
            (f"{'the class ' if _is_class(best.row) else ''}", False),
            (best.row.name.removeprefix(CLASS), True),
            (
                f": {numbers.count(best.row.n_here)} of {numbers.count(best.row.n_chosen)} "
                f"exemplars, {numbers.count(best.n_showing)} of {numbers.count(best.n_quiet)} "
                "look-alikes.",
                False,
            ),
        ]
    else:
        unknown = own.n_quiet and own.is_alike
        words.append((f"{told}{', so something else tells them apart' if unknown else ''}.", False))
    return [Claim("images", tuple(words))]


def _is_class(row: Enrichment) -> bool:
    return row.name.startswith(CLASS)


@dataclass(frozen=True, slots=True)
class _Beside:
    """A property of the exemplars among the nearest contrast images.

    ``n_showing`` of ``n_quiet`` show it, of those where that is known. ``p`` is the chance that so
    many of those that show it, or more, are exemplars (Fisher's exact test, one-sided).
    """

    row: Enrichment
    n_showing: int
    n_quiet: int

    @property
    def gap(self) -> float:
        """Its share among the exemplars less that among the contrast images."""
        return self.row.share - self.n_showing / self.n_quiet if self.n_quiet else 0.0

    @property
    def is_alike(self) -> bool:
        """Whether contrast images show it at least three quarters as often, as far as one can tell.

        Few images tell nothing: none of one look-alike is no share that is nearly as large.
        """
        here, quiet = self.row.n_here * self.n_quiet, self.n_showing * self.row.n_chosen
        return 4 * quiet >= 3 * here and self.p > CHANCE

    @property
    def is_common(self) -> bool:
        """Whether contrast images show it at least half as often as exemplars do."""
        return self.gap <= self.row.share / 2

    @property
    def p(self) -> float:
        n_both = self.row.n_here + self.n_showing
        n_images = self.row.n_chosen + self.n_quiet
        return tail_chance(self.row.n_here, self.row.n_chosen, n_both, n_images)


def _beside(bundle: Bundle, memo: Memo, neuron: NeuronRef, row: Enrichment) -> _Beside:
    contrast = bundle.contrast(neuron.model, neuron.layer)
    has_k = np.asarray(contrast.n_partner_uk[neuron.unit]) > 0
    images = np.unique(np.asarray(contrast.image_ukj[neuron.unit])[has_k, 0])
    return _Beside(row, *_showing(bundle, memo, row.name, images))


def _showing(bundle: Bundle, memo: Memo, name: str, images: np.ndarray) -> tuple[int, int]:
    held = properties(bundle, memo)
    at = held.names.index(name)
    code_m = held.property_cn[held.column_p[at], images]
    return int((code_m == at).sum()), int((code_m >= NONE).sum())


def _label(
    bundle: Bundle, neuron: NeuronRef, method: str, text: str, trust: Trust | None, same: Same
) -> list[Claim]:
    if trust is None:
        return []
    methods = bundle.methods(neuron.model, neuron.layer)
    others = [best_label(bundle, neuron, name).text for name in methods if name != method]
    others = [other for other in others if other]
    words: list[tuple[str, bool]] = [("“", False), (text, True), ("” ", False)]
    words.append((_worth(trust), False))
    if others:
        n_same = sum(same(text, other) for other in others)
        words.append((_agreeing(n_same, len(others)), False))
    return [Claim("label", (*words, (".", False)))]


def _worth(trust: Trust) -> str:
    if trust.is_learnt:
        return f"is {trust.words}"
    if trust.words == "not judged":
        return "is a label that nothing has judged"
    return f"is {trust.words} by random image sets ({NOT_CALIBRATED})"


def _agreeing(n_same: int, n_others: int) -> str:
    if n_others == 1:
        return f"; the other method {'means the same' if n_same else 'says something else'}"
    if n_same == n_others:
        return f"; all {n_others + 1} methods mean the same"
    if n_same == 0:
        return f"; the other {n_others} methods say something else"
    return f"; {n_same} of {n_others} other methods mean{'s' if n_same == 1 else ''} the same"


def _truth(
    truth: StoredTruth | None, neuron: NeuronRef, label: str, says: str, same: Same
) -> list[Claim]:
    if truth is None:
        return []
    row = truth.units.iloc[neuron.unit]
    planted = row.get("planted")
    if isinstance(planted, str):
        if row.get("planted_kind") == "noise":
            return [Claim("truth", (("Planted: noise that answers to no concept.", False),))]
        end = f"{says}." if label and same(label, planted) else "."
        return [Claim("truth", (("Planted: ", False), (planted, True), (end, False)))]
    concept = row["true_concept"]
    if not isinstance(concept, str):
        n_concepts = numbers.count(len(truth.concepts))
        text = f"{_measured(truth)}it follows none of {n_concepts} known concepts closely."
        return [Claim("truth", ((text, False),))]
    end = f" (AUROC {numbers.score(float(row['auroc']))})"
    words = [(f"{_measured(truth)}it follows ", False), (concept, True), (end, False)]
    if not label:
        pass
    elif _means(truth, concept, label, same):
        words.append((says, False))
    else:
        near = next((c for c in _related(truth, neuron.unit) if _means(truth, c, label, same)), "")
        words.append((" and " if near else ", which its best label does not say", False))
        words += [(near, True), (says, False)] if near else []
    return [Claim("truth", (*words, (".", False)))]


def _measured(truth: StoredTruth) -> str:
    """On what it was measured, which need not be the probe set."""
    return f"Measured on {numbers.count(truth.n_image)} labelled images: "


def _related(truth: StoredTruth, unit: int) -> list[str]:
    """Concepts that a unit follows as closely as a true concept must, by the same two figures."""
    with np.errstate(invalid="ignore"):
        is_close_c = (np.asarray(truth.auroc_uc[unit]) >= truth.rule["auroc_min"]) & (
            np.asarray(truth.pearson_uc[unit]) >= truth.rule["pearson_min"]
        )
    return truth.concepts["name"].to_numpy(object)[is_close_c].tolist()


def _means(truth: StoredTruth, concept: str, label: str, same: Same) -> bool:
    """Whether a label is one of the wordings of a concept, or means the same to the encoder."""
    names = truth.concepts["name"].tolist()
    wordings = [concept]
    if concept in names and "wordings" in truth.concepts:
        wordings += json.loads(truth.concepts["wordings"].iloc[names.index(concept)])
    return any(same(label, each) for each in wordings)


def _carries(bundle: Bundle, memo: Memo, neuron: NeuronRef) -> list[Claim]:
    rows = carriers(bundle, memo).get(neuron, [])
    if not rows:
        return []
    (artefact, output, share, n_carriers), *rest = sorted(rows, key=lambda row: (row[3], -row[2]))
    n_others = n_carriers - 1
    words = [
        (f"With {n_others} others it" if n_others else "It alone", False),
        (" carries the effect of ", False),
        (artefact, True),
        (" on ", False),
        (output, True),
        (f" (its own part {100 * share:.0f} %)" if n_others else "", False),
    ]
    if rest:
        words += [("; it has a part in that of ", False), (listed([r[0] for r in rest]), True)]
    return [Claim("carries", (*words, (".", False)))]


def _outputs(bundle: Bundle, memo: Memo, neuron: NeuronRef) -> list[Claim]:
    """The output on which the neuron ranks highest in its layer, by |gradient × activation|."""
    found = moved_most(bundle, memo, neuron.model, neuron.layer)
    if found is None or not found.rank_u[neuron.unit]:
        return []
    rank, n_units = int(found.rank_u[neuron.unit]), len(found.rank_u)
    place = f"{numbers.count(rank)} of {numbers.count(n_units)} in its layer"
    output = found.output_names[found.output_u[neuron.unit]]
    if rank > n_units * MUCH:
        start = "By gradient it moves no output much: at best, rank "
        return [Claim("outputs", ((f"{start}{place} on ", False), (output, True), (".", False)))]
    start = f"By gradient it {'raises' if found.effect_u[neuron.unit] > 0 else 'lowers'} "
    return [Claim("outputs", ((start, False), (output, True), (f" (rank {place}).", False)))]


def _contradiction(
    bundle: Bundle,
    memo: Memo,
    neuron: NeuronRef,
    label: str,
    truth: StoredTruth | None,
    same: Same,
) -> list[Claim]:
    """A label that says what most exemplars are known not to show."""
    name = property_of(bundle, memo, label, same)
    if name is None:
        return []
    exemplars = bundle.exemplars(neuron.model, neuron.layer)
    images = np.asarray(exemplars.image_uk[neuron.unit, : int(exemplars.count_u[neuron.unit])])
    n_here, n_known = _showing(bundle, memo, name, images)
    if not n_known or 2 * n_here >= n_known:
        return []
    words = (
        ("The label and the pictures disagree: only ", False),
        (f"{numbers.count(n_here)} of {numbers.count(n_known)} exemplars show ", False),
        (name, True),
        (".", False),
    )
    return [Claim("warning", words)]
