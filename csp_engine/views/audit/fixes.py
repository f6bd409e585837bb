"""What became of a classifier's decisions once part of it was held still, in figures and words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from csp_engine import numbers
from csp_engine.bundle import Bundle, StoredFix, StoredIntervention
from csp_engine.evaluation.paired_effects import (
    LEAST_GROUPS,
    Drawn,
    bounded,
    count_groups,
    difference,
    strongest,
)
from csp_engine.pipeline.added.fixes import Piece
from csp_engine.stats.intervals import Share, share_of
from csp_engine.views.audit.figures import Figure
from csp_engine.views.audit.interventions import carried_by, effects, narrowest
from csp_engine.views.memo import Memo
from csp_engine.views.sentence import listed

HELD_AT = {
    "zero": "at 0",
    "mean": "at the mean",
    "conditional": "at the mean of photographs without artefacts",
}
SIZES = (5, 10, 20, 50)
"""How many of the strongest carriers a search tries together."""
FEW = f"Intervals are given for {LEAST_GROUPS} groups (lesions, patients, photographs) or more"
POINT = 0.01
"""A fix may cost clean photographs at most so much accuracy."""


class Points(Figure):
    """A difference of shares, in points, and its interval."""

    @property
    def signed(self) -> str:
        """As ``+6.5 (+3.7 to +9.3)``."""
        if not self.is_known:
            return numbers.UNKNOWN
        value, low, high = (
            f"{100 * each:+.1f}".replace("-", "−") for each in (self.value, self.low, self.high)
        )
        return f"{value} ({f'{low} to {high}' if self.has_interval else numbers.BARE})"


@dataclass(frozen=True, slots=True)
class Ranked:
    """An area under the ROC curve before and after, and the difference."""

    before: float
    after: float
    change: Points

    @property
    def words(self) -> tuple[str, str]:
        """Before and after as pages write them; unknown where a slice is of one kind alone."""
        before, after = (
            numbers.UNKNOWN if math.isnan(x) else f"{x:.3f}" for x in (self.before, self.after)
        )
        return before, after


@dataclass(frozen=True, slots=True)
class Counted:
    """How many of some photographs a network decides rightly for, before and after."""

    n: int
    before: Share
    after: Share
    change: Points


@dataclass(frozen=True, slots=True)
class SliceOutcome:
    """One slice of photographs, of ``n_groups`` lesions, patients or single photographs.

    ``right`` counts all, ``found`` those of the followed output that are called so, ``cleared``
    the others that are not, ``classes`` the right ones by true class. ``n_mended`` wrong decisions
    became right, ``n_broken`` right ones wrong. ``random`` is the smallest and largest change of
    the share that is right with any of the random controls. ``beside`` are other networks, as they
    are: share that is right, found, and the area.
    """

    name: str
    n_groups: int
    right: Counted
    found: Counted
    cleared: Counted
    ranked: Ranked
    classes: tuple[tuple[str, Counted], ...]
    n_mended: int
    n_broken: int
    random: tuple[float, float] | None
    beside: tuple[tuple[str, Share, Share, float], ...]

    @property
    def is_of_few(self) -> bool:
        """Whether its groups are too few for any interval."""
        return self.n_groups < LEAST_GROUPS


@dataclass(frozen=True, slots=True)
class Gap:
    """How much less often the network is right on the worst slice than on the clean one.

    ``closed`` is the share of the gap that is gone, NaN where there was none. ``random`` are the
    smallest and largest gap of the random controls, ``beside`` those of other networks.
    """

    worst: str
    before: Points
    after: Points
    closed: float
    random: tuple[float, float] | None
    beside: tuple[tuple[str, Points], ...]


@dataclass(frozen=True, slots=True)
class Held:
    """One part that was held still: units of a layer, or one direction of it."""

    layer: str
    units: tuple[int, ...]
    is_direction: bool

    @property
    def words(self) -> str:
        """As ``20 neurons of layer2@max``."""
        if self.is_direction:
            return f"a direction of {self.layer}"
        n = len(self.units)
        return f"{n} neuron{'s' * (n != 1)} of {self.layer}"


@dataclass(frozen=True, slots=True)
class Tested:
    """One fix, as it was tried."""

    model: str
    output: str
    images: str
    clean: str
    mode: str
    chosen_on: str
    held: tuple[Held, ...]
    n_random: int
    slices: tuple[SliceOutcome, ...]
    gap: Gap | None

    @property
    def part(self) -> str:
        """What was held still, in words."""
        return " and ".join(each.words for each in self.held)

    def of(self, name: str) -> SliceOutcome:
        """One slice."""
        return next(each for each in self.slices if each.name == name)

    @property
    def sentence(self) -> str:
        """What came of it on the worst slice, what is followed first; never the gap alone."""
        clean = self.of(self.clean)
        worst = clean if self.gap is None else self.of(self.gap.worst)
        found, right = worst.found, worst.right
        where = f" in {worst.name}" if len(self.slices) > 1 else ""
        return (
            f"With {self.part} held {HELD_AT[self.mode]}, {self.model} finds {found.after.n_hits} "
            f"of the {numbers.count(found.n)} photographs of {self.output}{where} instead of "
            f"{found.before.n_hits}, and decides rightly for {_percent(right.after.share)} of all "
            f"there instead of {_percent(right.before.share)}."
        )

    @property
    def details(self) -> str:
        """What it changes elsewhere, and what random controls of the same size do."""
        clean = self.of(self.clean)
        worst = clean if self.gap is None else self.of(self.gap.worst)
        told = [f"That is {worst.right.change.signed} points."]
        if worst is not clean:
            told.append(_on_clean(clean))
        for each in self.slices:
            if each.name not in (clean.name, worst.name) and each.right.change.high < 0:
                told.append(f"On {each.name} it costs {_size(each.right.change)}.")
        if worst.random is not None:
            low, high = (f"{100 * x:+.1f}".replace("-", "−") for x in worst.random)
            what = f"{self.n_random} random controls of the same size change"
            if self.n_random == 1:
                what = "One random control of the same size changes"
            ends = low if low == high else f"{low} to {high}"
            told.append(f"{what} the share that is right on {worst.name} by {ends}.")
        few = [f"{each.name} has {each.n_groups}" for each in self.slices if each.is_of_few]
        if few:
            told.append(f"{FEW}; {listed(few)}. Give more photographs with --images.")
        return " ".join(told)

    @property
    def verdict(self) -> str:
        """Whether it is a fix: better on the worst slice, at no more than a point on the clean."""
        clean = self.of(self.clean).right.change
        if self.gap is None:
            return "There is one slice only, so nothing tells a fix from a change."
        worst = self.of(self.gap.worst).right.change
        if not (worst.has_interval and clean.has_interval):
            return "Photographs are of too few groups to tell a fix from chance."
        helps, costs = worst.low > 0, -clean.value > POINT
        if helps and not costs and clean.low < -POINT:
            return (
                "It helps. What it costs on clean photographs is no more than a point as measured, "
                f"though up to {-100 * clean.low:.1f} points cannot be ruled out."
            )
        if helps and not costs:
            return "It helps, at no more than a point on clean photographs."
        if helps:
            return "It helps where artefacts mislead, and costs more than a point without them."
        return "No gain was shown where artefacts mislead."

    @property
    def gap_sentence(self) -> str:
        """The gap before and after, of the random controls and of other networks."""
        gap = self.gap
        if gap is None:
            return ""
        told = [
            f"{self.model} is right less often on {gap.worst} than on {self.clean} by "
            f"{_points(gap.before)} points; after the change by {_points(gap.after)}"
        ]
        if gap.closed > 0 and gap.before.low > 0:
            share = "all" if gap.closed >= 1 else f"{100 * gap.closed:.0f} %"
            told[0] += f", so {share} of the gap is gone"
        told[0] += "."
        if gap.random is not None:
            low, high = (f"{100 * each:.1f}".replace("-", "−") for each in gap.random)
            told.append(f"Random controls leave {low} to {high}.")
        told += [f"{name} has {_points(each)}." for name, each in gap.beside]
        return " ".join(told)


def figures(stored: StoredFix, seed: int = 0) -> Tested:
    """The figures of a fix, from its decisions and scores."""
    table = stored.photographs
    rows = table[~table["is_choosing"].astype(bool)].reset_index(drop=True)
    number = {name: i for i, name in enumerate(stored.classes)}
    truth_n = rows["class"].map(number).to_numpy(np.int64)
    drawn = Drawn(rows["group"].to_numpy(), seed)
    called_vi, score_wi = np.asarray(stored.called_vi), np.asarray(stored.score_wi, np.float64)
    is_right_rn = called_vi == truth_n
    output = number[stored.output]
    is_positive_n = truth_n == output
    is_called_vi = called_vi == output
    what = stored.runs["what"].to_numpy(object)
    others = [(int(i), str(stored.runs["model"].iloc[i])) for i in np.flatnonzero(what == "beside")]
    random = np.flatnonzero(what == "random")

    def counted(hit_rn: np.ndarray, among_n: np.ndarray) -> Counted:
        n = int(among_n.sum())
        before, after = (share_of(int((hit_rn[i] & among_n).sum()), n) for i in (0, 1))
        return Counted(n, before, after, _change(drawn, hit_rn, among_n))

    slices = []
    for name in dict.fromkeys(rows["slice"]):
        among_n = (rows["slice"] == name).to_numpy(bool)
        areas = [drawn.auroc(score_wi[i], is_positive_n, among_n) for i in (0, 1)]
        share_r = is_right_rn[:, among_n].mean(1)
        beside = tuple(
            (
                model,
                share_of(int(is_right_rn[i, among_n].sum()), int(among_n.sum())),
                share_of(
                    int((is_called_vi[i] & is_positive_n & among_n).sum()),
                    int((is_positive_n & among_n).sum()),
                ),
                drawn.auroc(score_wi[i], is_positive_n, among_n)[0],
            )
            for i, model in others
        )
        slices.append(
            SliceOutcome(
                str(name),
                count_groups(rows["group"].to_numpy()[among_n]),
                counted(is_right_rn, among_n),
                counted(is_called_vi, among_n & is_positive_n),
                counted(~is_called_vi, among_n & ~is_positive_n),
                Ranked(areas[0][0], areas[1][0], _points_of(difference(areas[1], areas[0]))),
                tuple(
                    (each, counted(is_right_rn, among_n & (truth_n == i)))
                    for each, i in number.items()
                    if (among_n & (truth_n == i)).any()
                ),
                int((~is_right_rn[0] & is_right_rn[1] & among_n).sum()),
                int((is_right_rn[0] & ~is_right_rn[1] & among_n).sum()),
                _range(share_r[random] - share_r[0]),
                beside,
            )
        )
    gap = _gap(stored, rows, drawn, is_right_rn, slices, others, random)
    return Tested(
        str(stored.runs["model"].iloc[0]),
        stored.output,
        stored.images,
        stored.clean,
        stored.mode,
        stored.chosen_on,
        _held(stored.cuts[stored.cuts["run"] == 1]),
        len(random),
        tuple(slices),
        gap,
    )


def kept(bundle: Bundle, memo: Memo, model: str, name: str) -> Tested:
    """The figures of a fix that a bundle holds, worked out once."""
    key = ("fix", bundle.digest, model, name)
    return memo.once(key, lambda: figures(bundle.fix(model, name)))


def _change(drawn: Drawn, hit_rn: np.ndarray, among_n: np.ndarray) -> Points:
    before, after = (drawn.share(hit_rn[i], among_n) for i in (0, 1))
    return _points_of(difference(after, before))


def _points_of(figure: tuple[float, np.ndarray]) -> Points:
    found = bounded(*figure)
    return Points(found.value, found.low, found.high)


def _range(values: np.ndarray) -> tuple[float, float] | None:
    return (float(values.min()), float(values.max())) if len(values) else None


def _gap(
    stored: StoredFix,
    rows: pd.DataFrame,
    drawn: Drawn,
    is_right_rn: np.ndarray,
    slices: list[SliceOutcome],
    others: list[tuple[int, str]],
    random: np.ndarray,
) -> Gap | None:
    if len(slices) < 2:
        return None
    worst = min(
        (each for each in slices if each.name != stored.clean), key=lambda s: s.right.before.share
    ).name
    is_of = {name: (rows["slice"] == name).to_numpy(bool) for name in (stored.clean, worst)}

    def gap_of(run: int) -> tuple[float, np.ndarray]:
        clean, other = (drawn.share(is_right_rn[run], is_of[n]) for n in (stored.clean, worst))
        return difference(clean, other)

    before, after = _points_of(gap_of(0)), _points_of(gap_of(1))
    closed = 1 - after.value / before.value if before.value > 0 else float("nan")
    shares = [is_right_rn[random][:, is_of[name]].mean(1) for name in (stored.clean, worst)]
    beside = tuple((model, _points_of(gap_of(i))) for i, model in others)
    return Gap(worst, before, after, closed, _range(shares[0] - shares[1]), beside)


def _held(cuts: pd.DataFrame) -> tuple[Held, ...]:
    found = []
    for _, piece in cuts.groupby("piece", sort=True):
        found.append(
            Held(
                str(piece["layer"].iloc[0]),
                tuple(int(unit) for unit in piece["unit"]),
                bool(piece["is_direction"].iloc[0]),
            )
        )
    return tuple(found)


def _on_clean(clean: SliceOutcome) -> str:
    change = clean.right.change
    if not (clean.n_mended or clean.n_broken):
        return f"On {clean.name} no decision changes."
    if round(100 * change.value, 1) == 0:
        return f"On {clean.name} as many are right as before ({change.signed})."
    value, low, high = change.value, change.low, change.high
    verb = "adds"
    if value < 0:
        verb, value, low, high = "costs", -value, -high, -low
    ends = f"{100 * low:.1f} to {100 * high:.1f}".replace("-", "−")
    ends = ends if change.has_interval else numbers.BARE
    return f"On {clean.name} it {verb} {100 * value:.1f} points ({ends})."


def _size(figure: Points) -> str:
    low, high = sorted((abs(figure.low), abs(figure.high)))
    return f"{100 * abs(figure.value):.1f} ({100 * low:.1f} to {100 * high:.1f})"


def _percent(share: float) -> str:
    return numbers.UNKNOWN if math.isnan(share) else f"{100 * share:.1f} %"


def _points(figure: Points) -> str:
    value, low, high = (
        f"{100 * x:.1f}".replace("-", "−") for x in (figure.value, figure.low, figure.high)
    )
    return f"{value} ({f'{low} to {high}' if figure.has_interval else numbers.BARE})"


# ------------------------------------------------------------------ pictures


@dataclass(frozen=True, slots=True)
class Turned:
    """A photograph whose decision turned: what it is, what it was called, what it is called now."""

    file: str
    slice: str
    truth: str
    before: str
    after: str
    picture: int

    @property
    def is_mended(self) -> bool:
        """Whether the new decision is the right one."""
        return self.after == self.truth


def turned(stored: StoredFix) -> tuple[Turned, ...]:
    """The pictures that are kept, those of the followed output first, mended before broken."""
    is_reported_n = ~stored.photographs["is_choosing"].to_numpy(bool)
    place_n = np.cumsum(is_reported_n) - 1
    found = []
    for picture, row in enumerate(stored.shown["row"].tolist()):
        shot = stored.photographs.iloc[row]
        before, after = (stored.classes[int(stored.called_vi[i, place_n[row]])] for i in (0, 1))
        found.append(
            Turned(
                str(shot["file"]), str(shot["slice"]), str(shot["class"]), before, after, picture
            )
        )
    return tuple(
        sorted(found, key=lambda t: (not t.is_mended, t.truth != stored.output, t.slice, t.file))
    )


# ------------------------------------------------------------------ what to take out


def carriers(bundle: Bundle, model: str, artefact: str) -> Piece | None:
    """The neurons that carry an artefact's effect, in the layer in which fewest do; else None."""
    stored = _shown(bundle, model, artefact)
    if stored is None:
        return None
    scope = narrowest(carried_by(bundle, stored, model, artefact))
    if scope is None:
        return None
    return strongest_units(bundle, model, artefact, scope.layer, scope.n_carriers or 0)


def on_pairs(bundle: Bundle, model: str) -> str:
    """What chose carriers and directions, in words."""
    stored = bundle.intervention(model)
    assert stored is not None
    return f"chosen on one half of {stored.images}"


def strongest_units(bundle: Bundle, model: str, artefact: str, layer: str, n_units: int) -> Piece:
    """The units of a layer to which attribution gives most of an artefact's effect."""
    stored = bundle.intervention(model)
    assert stored is not None
    rows = _rows_of(stored.units, artefact, layer)
    effect = float(stored.effects.set_index("artefact")["effect"][artefact])
    order = strongest(rows["attribution"].to_numpy(), effect)
    units = rows["unit"].to_numpy()[order[:n_units]]
    return Piece(layer, np.sort(units.astype(np.int64)))


def direction(bundle: Bundle, model: str, artefact: str) -> Piece | None:
    """The direction of the mean change that carries most of an artefact's effect; else None."""
    stored = _shown(bundle, model, artefact)
    if stored is None:
        return None
    shares = {
        each.layer: each.direction.necessity.value
        for each in carried_by(bundle, stored, model, artefact)
        if each.direction is not None and each.direction.carries
    }
    if not shares:
        return None
    return direction_of(bundle, model, artefact, max(shares, key=lambda layer: shares[layer]))


def direction_of(bundle: Bundle, model: str, artefact: str, layer: str) -> Piece:
    """The direction of an artefact's mean change in one layer, of length 1."""
    stored = bundle.intervention(model)
    assert stored is not None
    rows = _rows_of(stored.units, artefact, layer).sort_values("unit")
    change_u = rows["change"].to_numpy(np.float64)
    length = float(np.linalg.norm(change_u)) or 1.0
    return Piece(layer, (change_u / length).astype(np.float32))


def options(bundle: Bundle, model: str) -> list[Piece]:
    """What a search may hold still: of every artefact and layer the strongest units, a direction.

    Only artefacts whose effect was shown against a neutral paste count, so that no sign of the
    disease itself is taken out.
    """
    found: list[Piece] = []
    stored = bundle.intervention(model)
    for artefact in artefacts(bundle, model):
        assert stored is not None
        for layer in dict.fromkeys(stored.units["layer"]):
            n_units = bundle.n_units(model, layer)
            found += [
                strongest_units(bundle, model, artefact, layer, size)
                for size in SIZES
                if size < n_units
            ]
            found.append(direction_of(bundle, model, artefact, layer))
    return found


def artefacts(bundle: Bundle, model: str) -> tuple[str, ...]:
    """Artefacts whose effect was shown against a neutral paste, the largest first."""
    stored = bundle.intervention(model)
    if stored is None:
        return ()
    return tuple(
        each.artefact
        for each in effects(stored)
        if each.has_neutral and each.effect.is_away_from_zero and not each.is_withheld
    )


def _shown(bundle: Bundle, model: str, artefact: str) -> StoredIntervention | None:
    """Pairs of images, where they show an effect of the artefact that is not withheld."""
    stored = bundle.intervention(model)
    if stored is None:
        return None
    known = {each.artefact for each in effects(stored) if not each.is_withheld}
    return stored if artefact in known else None


def _rows_of(units: pd.DataFrame, artefact: str, layer: str) -> pd.DataFrame:
    return units[(units["artefact"] == artefact) & (units["layer"] == layer)]


# ------------------------------------------------------------------ as data


def as_json(found: Tested) -> dict[str, Any]:
    """All of it, as plain data; shares and differences of shares from 0 to 1."""
    return {
        "model": found.model,
        "output": found.output,
        "images": found.images,
        "clean": found.clean,
        "held": [
            {"layer": h.layer, "is_direction": h.is_direction,
             "units": None if h.is_direction else list(h.units)}
            for h in found.held
        ],
        "mode": found.mode,
        "chosen_on": found.chosen_on,
        "n_random": found.n_random,
        "sentence": found.sentence,
        "details": found.details,
        "verdict": found.verdict,
        "gap": None if found.gap is None else {
            "worst": found.gap.worst,
            "before": found.gap.before.as_json(),
            "after": found.gap.after.as_json(),
            "closed": numbers.plain_json(found.gap.closed),
            "random": found.gap.random,
            "beside": {name: each.as_json() for name, each in found.gap.beside},
        },
        "slices": [
            {
                "slice": each.name,
                "n_groups": each.n_groups,
                **{name: _counted_json(getattr(each, name))
                   for name in ("right", "found", "cleared")},
                "auroc": {
                    "before": numbers.plain_json(each.ranked.before),
                    "after": numbers.plain_json(each.ranked.after),
                    "change": each.ranked.change.as_json(),
                },
                "classes": {name: _counted_json(c) for name, c in each.classes},
                "n_mended": each.n_mended,
                "n_broken": each.n_broken,
                "random": each.random,
                "beside": {
                    name: {"right": right.n_hits, "found": hits.n_hits,
                           "auroc": numbers.plain_json(auroc)}
                    for name, right, hits, auroc in each.beside
                },
            }
            for each in found.slices
        ],
    }  # fmt: skip


def _counted_json(counted: Counted) -> dict[str, Any]:
    return {
        "n": counted.n,
        "before": counted.before.n_hits,
        "after": counted.after.n_hits,
        "change": counted.change.as_json(),
    }
