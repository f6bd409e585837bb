"""Hold part of a classifier still and see what becomes of its decisions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from csp_engine.bundle import StoredFix
from csp_engine.bundle.checks.held import MODES
from csp_engine.errors import InputError, naming
from csp_engine.evaluation.paired_effects import (
    IN_HALVES,
    count_groups,
    evenly,
    matched_sets,
)
from csp_engine.networks.intervening.ablation import AblatedRuns, Cut
from csp_engine.pipeline.added.fixes import Piece
from csp_engine.pipeline.added.photographs import Photographs
from csp_engine.pipeline.passing.image_pass import Target
from csp_engine.probe.images import thumbnail
from csp_engine.types import Progress, silent

CLEAN = "clean"
N_RANDOM = 20
N_SHOWN = 6
"""Photographs kept as pictures of each way a decision turns."""
THUMB_SIDE = 112
BLOCK = 64


class Trials:
    """One network and photographs: what happens when pieces of it are held still."""

    def __init__(
        self,
        target: Target,
        photographs: Photographs,
        output: str,
        *,
        clean: str | None = None,
        progress: Progress = silent,
    ) -> None:
        """Prepare.

        Args:
            target: a classifier, with the layers of interest.
            photographs: of which the choosing ones say what pieces are held at.
            output: name or number of the output whose score is followed.
            clean: the slice without artefacts; default the one called so, else the first.
            progress: called with what is done.

        Raises:
            InputError: if a class or the clean slice does not exist, or photographs are of too few
                groups for any interval.
        """
        self.model = target.model
        self.photographs = photographs
        self.runs = AblatedRuns(target.model, target.taps, output)
        self.module_of = {str(tap.id): tap.id.module for tap in target.taps if tap.sae is None}
        self._progress = progress
        table = photographs.table
        slices = list(dict.fromkeys(table["slice"]))
        alike = [name for name in slices if name.casefold() == (clean or CLEAN).casefold()]
        found = clean if clean in slices else next(iter(alike), clean)
        self.clean = found or slices[0]
        if self.clean not in slices:
            raise InputError(
                f"No photograph is of the slice {self.clean!r}; they are of {', '.join(slices)}."
            )
        self.classes = self._classes(next(iter(self.blocks(np.arange(1))))[0])
        strange = sorted(set(table["class"]) - set(self.classes))
        if strange:
            raise InputError(
                f"{photographs.name}: {strange[0]!r} is no class of {self.model.name}; its classes "
                f"are {', '.join(self.classes[:20])}."
            )
        for name in sorted(set(table["class"])):
            if self.classes.count(name) > 1:
                places = " and ".join(str(i) for i, c in enumerate(self.classes) if c == name)
                raise InputError(
                    f"Outputs {places} of {self.model.name} are all called {name!r}, so nothing "
                    "says which of them is right for a photograph of that class; give different "
                    "names with 'csp build --class-names'."
                )
        self._require_groups()
        # By its name; a number may have been asked for.
        is_number = output not in self.classes and output.isdecimal()
        self.output = (target.model.class_names or ())[int(output)] if is_number else output
        self._held: dict[str, dict[str, np.ndarray]] = {}

    def _classes(self, pixels: np.ndarray) -> tuple[str, ...]:
        """What the numbers of decisions stand for.

        A network with one output decides between its class (1) and the photographs' other one (0).

        Raises:
            InputError: if the outputs have no names, or one output meets more than two classes.
        """
        names = tuple(self.model.class_names or ())
        if not names:
            raise InputError(
                f"The outputs of {self.model.name} have no names, so nothing says which class each "
                "stands for; name them with 'csp build --class-names'."
            )
        if self.runs.n_outputs(pixels) > 1:
            return names
        others = sorted(set(self.photographs.table["class"]) - set(names))
        if len(others) > 1:
            raise InputError(
                f"{self.model.name} has one output, {names[0]!r}, and {self.photographs.name} are "
                f"of {len(others)} other classes: {', '.join(others[:10])}; call all others alike."
            )
        return (*(others or [f"not {names[0]}"]), names[0])

    def _require_groups(self) -> None:
        n_groups = count_groups(self.photographs.table["group"].to_numpy())
        if n_groups < IN_HALVES:
            raise InputError(
                f"{self.photographs.name} are of {n_groups} groups (lesions, patients or single "
                f"photographs), and intervals need {IN_HALVES}, half to choose and half to report "
                "on; give more with --images."
            )

    @property
    def choosing(self) -> np.ndarray:
        """Rows of the photographs that choose."""
        return np.flatnonzero(self.photographs.table["is_choosing"].to_numpy(bool))

    @property
    def reported(self) -> np.ndarray:
        """Rows of the photographs that are reported on."""
        return np.flatnonzero(~self.photographs.table["is_choosing"].to_numpy(bool))

    def cuts(self, pieces: Sequence[Piece], mode: str) -> tuple[Cut, ...]:
        """Pieces with what they are held at.

        Raises:
            InputError: if a layer cannot be cut, or a unit does not exist.
        """
        found = []
        for piece in pieces:
            module = self.module_of.get(piece.layer)
            if module is None:
                raise InputError(
                    f"Layer {piece.layer!r} cannot be cut; it can be in "
                    f"{', '.join(self.module_of)}."
                )
            at_u = self.held(mode)[module]
            part = piece.part
            if not piece.is_direction and len(part) and int(part.max()) >= len(at_u):
                raise InputError(
                    f"There is no neuron {int(part.max())} in {piece.layer}; it has 0 to "
                    f"{len(at_u) - 1}."
                )
            found.append(Cut(module, part, at_u))
        return tuple(found)

    def held(self, mode: str) -> dict[str, np.ndarray]:
        """By module, the activation of every unit that a mode holds it at."""
        if mode not in MODES:
            raise InputError(f"{mode!r} is not a mode; choose {', '.join(MODES)}.")
        if mode not in self._held:
            if mode == "zero":
                means = self.held("mean")
                self._held[mode] = {name: np.zeros_like(each) for name, each in means.items()}
            else:
                rows = self.choosing
                if mode == "conditional":
                    is_clean_n = (self.photographs.table["slice"] == self.clean).to_numpy(bool)
                    rows = rows[is_clean_n[rows]]
                self._held[mode] = self._over(rows, self.runs.means, f"activations, {mode}")
        return self._held[mode]

    def influence(self) -> dict[str, np.ndarray]:
        """By module, how much every unit drives the output on the choosing photographs."""
        return self._over(self.choosing, self.runs.influences, "influence of neurons")

    def decided(
        self, rows: np.ndarray, trials: Sequence[Sequence[Cut]], what: str
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scores and classes, ``(t, n)``, of trials on some photographs."""
        scores, classes = [], []
        for pixels, n_done in self.blocks(rows, what):
            with naming(self.files(rows[n_done - len(pixels) : n_done])):
                score_tn, class_tn = self.runs.ablated(pixels, trials)
            scores.append(score_tn)
            classes.append(class_tn)
        return np.concatenate(scores, 1), np.concatenate(classes, 1)

    def truth(self, rows: np.ndarray) -> np.ndarray:
        """The number of the true class of some photographs."""
        named = self.photographs.table["class"].iloc[rows]
        return named.map({name: i for i, name in enumerate(self.classes)}).to_numpy(np.int64)

    def _over(
        self, rows: np.ndarray, measure: Callable[[np.ndarray], dict[str, np.ndarray]], what: str
    ) -> dict[str, np.ndarray]:
        if not len(rows):
            raise InputError(
                f"{self.photographs.name}: no photograph of {self.clean!r} is among those that "
                "choose; give more, or another --clean."
            )
        sums: dict[str, np.ndarray] = {}
        for pixels, n_done in self.blocks(rows, what):
            with naming(self.files(rows[n_done - len(pixels) : n_done])):
                measured = measure(pixels)
            for name, each in measured.items():
                sums[name] = sums.get(name, np.zeros(len(each))) + len(pixels) * each
        return {name: (each / len(rows)).astype(np.float32) for name, each in sums.items()}

    def files(self, rows: np.ndarray) -> list[str]:
        """The names of some photographs."""
        return self.photographs.table["file"].iloc[rows].astype(str).tolist()

    def blocks(self, rows: np.ndarray, what: str = "") -> Any:
        """Pixels of some photographs, some at a time, and how many are done then.

        Where ``what`` says what is done with them, progress is told after each block.
        """
        for start in range(0, len(rows), BLOCK):
            part = rows[start : start + BLOCK]
            images = [self.photographs.image(int(row)) for row in part]
            yield np.stack([self.model.preprocess(i) for i in images]), start + len(part)
            if what:
                self._progress(what, start + len(part), len(rows))


def try_fix(
    trials: Trials,
    pieces: Sequence[Piece],
    mode: str,
    *,
    chosen_on: str,
    beside: Sequence[Target] = (),
    n_random: int = N_RANDOM,
    seed: int = 0,
    progress: Progress = silent,
) -> StoredFix:
    """Hold pieces of a network still, and decide about the reported photographs anew.

    As a control, random pieces of the same kind: sets of other units of the layer, as active and as
    influential, and directions with the same numbers in another order.

    Args:
        trials: the network and the photographs.
        pieces: what is held still, all together.
        mode: what at, one of ``MODES``.
        chosen_on: what chose the pieces, in words.
        beside: other classifiers of the same classes, as they are: retrained ones.
        n_random: random controls.
        seed: of the controls.
        progress: called with what is done.

    Raises:
        InputError: if nothing is to be held still, or it does not exist.
    """
    if not pieces:
        raise InputError("Nothing to take out; name neurons with --units, or --from an artefact.")
    cuts = trials.cuts(pieces, mode)
    controls = _controls(trials, pieces, n_random, seed)
    rows = trials.reported
    every = [(), cuts, *(trials.cuts(each, mode) for each in controls)]
    score_tn, class_tn = trials.decided(rows, every, "decisions")
    model = trials.model.name
    named = [("before", model), ("after", model)]
    scores, classes = [score_tn[:2]], [class_tn[:2]]
    for other in beside:
        theirs = Trials(
            other, trials.photographs, trials.output, clean=trials.clean, progress=progress
        )
        if theirs.classes != trials.classes:
            raise InputError(
                f"{other.model.name} has other classes than {model}, so it cannot stand beside it."
            )
        score_1n, class_1n = theirs.decided(rows, [()], f"decisions of {other.model.name}")
        named.append(("beside", other.model.name))
        scores.append(score_1n)
        classes.append(class_1n)
    named += [("random", model)] * len(controls)
    table = trials.photographs.table
    stored = StoredFix(
        output=trials.output,
        images=trials.photographs.name,
        mode=mode,
        clean=trials.clean,
        chosen_on=chosen_on,
        classes=trials.classes,
        photographs=table,
        runs=pd.DataFrame(named, columns=pd.Index(["what", "model"])).astype("string"),
        cuts=_cut_rows(trials, pieces, controls, mode, len(named)),
        score_wi=np.concatenate(scores),
        called_vi=np.concatenate([*classes, class_tn[2:]]).astype(np.uint16),
        shown=pd.DataFrame({"row": np.zeros(0, np.int32)}),
        thumbs=(),
    )
    return _with_pictures(stored, trials)


def _controls(
    trials: Trials, pieces: Sequence[Piece], n_random: int, seed: int
) -> list[list[Piece]]:
    """Random pieces of the same kinds and sizes."""
    if not n_random:
        return []
    means, influence = trials.held("mean"), trials.influence()
    columns: list[list[Piece]] = []
    for at, piece in enumerate(pieces):
        module = trials.module_of[piece.layer]
        taken = [p.part for p in pieces if p.layer == piece.layer and not p.is_direction]
        if piece.is_direction:
            rng = np.random.default_rng([seed, at])
            drawn: list[np.ndarray] = [rng.permutation(piece.part) for _ in range(n_random)]
        else:
            own, everything = piece.part, np.concatenate(taken)
            drawn = _stand_ins(own, everything, means[module], influence[module], n_random, seed)
        columns.append([replace(piece, part=each) for each in drawn])
    n_found = min(map(len, columns))
    return [[column[i] for column in columns] for i in range(n_found)]


def _stand_ins(
    own: np.ndarray,
    taken: np.ndarray,
    activation_u: np.ndarray,
    influence_u: np.ndarray,
    n_random: int,
    seed: int,
) -> list[np.ndarray]:
    """Random sets that hold nothing of any piece that is taken out of the layer."""
    free = np.setdiff1d(np.arange(len(activation_u)), np.setdiff1d(taken, own))
    places = np.searchsorted(free, own)
    found = matched_sets(places, activation_u[free], influence_u[free], n_random, seed)
    return [free[each] for each in found]


def _cut_rows(
    trials: Trials,
    pieces: Sequence[Piece],
    controls: Sequence[Sequence[Piece]],
    mode: str,
    n_runs: int,
) -> pd.DataFrame:
    rows = []
    first_random = n_runs - len(controls)
    for run, made in [(1, pieces), *enumerate(controls, first_random)]:
        for number, piece in enumerate(made):
            part = piece.part
            unit_u = np.arange(len(part)) if piece.is_direction else part
            at_u = trials.held(mode)[trials.module_of[piece.layer]][unit_u]
            rows.append(
                pd.DataFrame(
                    {
                        "run": np.full(len(unit_u), run, np.int32),
                        "piece": np.full(len(unit_u), number, np.int32),
                        "layer": pd.array([piece.layer] * len(unit_u), "string"),
                        "is_direction": piece.is_direction,
                        "unit": unit_u.astype(np.int32),
                        "weight": part.astype(np.float32) if piece.is_direction else np.float32(1),
                        "at": at_u.astype(np.float32),
                    }
                )
            )
    return pd.concat(rows, ignore_index=True)


def _with_pictures(stored: StoredFix, trials: Trials) -> StoredFix:
    """Small pictures of decisions that turn, those of the followed output before others.

    Of photographs whose decision is mended and of those whose is broken, some at equal steps of the
    score's change.
    """
    rows = trials.reported
    truth_n = trials.truth(rows)
    is_right_2n = stored.called_vi[:2] == truth_n
    change_n = stored.score_wi[1] - stored.score_wi[0]
    is_positive_n = (stored.photographs["class"].iloc[rows] == stored.output).to_numpy(bool)
    picked: list[int] = []
    for was, now in ((False, True), (True, False)):
        turned = (is_right_2n[0] == was) & (is_right_2n[1] == now)
        for among in (turned & is_positive_n, turned & ~is_positive_n):
            found = np.flatnonzero(among)
            picked += found[evenly(change_n[found], N_SHOWN)].tolist()
    shown = np.sort(rows[np.array(sorted(set(picked)), np.int64)])
    thumbs = tuple(thumbnail(trials.photographs.image(int(r)), THUMB_SIDE) for r in shown)
    return replace(stored, shown=pd.DataFrame({"row": shown.astype(np.int32)}), thumbs=thumbs)
