"""Beam search for the formulas whose images rank highest, for many units at once.

The AUC of a formula follows from the sum of its images' ranks and their number. For all formulas
"beam AND concept" both are one matrix product: (ranks, masked by the beam's formulas) times the
concepts; those with NOT and with OR follow by subtraction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int64

from csp_engine.methods.formulas.atoms import Atoms
from csp_engine.methods.formulas.formula import AND, OR, Formula
from csp_engine.methods.formulas.ranks import auc, doubled_ranks

_TILE = 512
_NEAR = 1e-4
"""Sums are in float32; what may be among the best by them is judged again by whole numbers."""

_FORMS = ((AND, False), (AND, True), (OR, False), (OR, True))


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """A formula, its AUC, and on which images it holds for certain."""

    formula: Formula
    auc: float
    shown_s: Bool[np.ndarray, " s"]


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many images may show a formula."""

    least: int
    most: int


class Search:
    """Looks for formulas of given concepts.

    An image on which a formula is not known counts as one that does not show it; nor does it show
    its denial. Concepts that fewer images show, or lack, than may show a formula take no part: they
    could only shave single images off another formula.
    """

    def __init__(self, atoms: Atoms, bounds: Bounds, *, length: int, beam: int) -> None:
        self.atoms, self.bounds, self.length, self.beam = atoms, bounds, length, beam
        self.n_images = atoms.shown_qn.shape[1]
        n_shown_q = np.count_nonzero(atoms.shown_qn, axis=1)
        n_known_q = (
            np.full(len(n_shown_q), self.n_images)
            if atoms.known_qn is None
            else np.count_nonzero(atoms.known_qn, axis=1)
        )
        self.size_fq = np.stack([n_shown_q, n_known_q - n_shown_q])
        self.is_rare_q = self.size_fq.min(axis=0) < max(bounds.least, 1)

    def best(self, activation_us: Float32[np.ndarray, "u s"]) -> list[list[list[Found]]]:
        """For each unit the beam at each length, best first; no more lengths than there are."""
        rank_us = np.stack([doubled_ranks(row) for row in activation_us])
        # Mean 0, and small, so that float32 sums keep their digits: sums of a denial follow too.
        centred_us = ((rank_us / 2 - (self.n_images + 1) / 2) / self.n_images).astype(np.float32)
        sum_ufq = np.stack(self._sums(centred_us), axis=1)
        beams: list[list[list[Found]]] = [[] for _ in rank_us]
        for u, rank_s in enumerate(rank_us):
            chosen = self._choose(rank_s, self._literals(sum_ufq[u]), set())
            beams[u] += [chosen] if chosen else []
        for length in range(2, self.length + 1):
            going = [u for u, own in enumerate(beams) if len(own) == length - 1]
            rows = [(u, found) for u in going for found in beams[u][-1]]
            if not rows:
                break
            masks = np.stack([found.shown_s for _, found in rows]).astype(np.float32)
            masked = masks * centred_us[[u for u, _ in rows]]
            sum_rfq = np.stack(self._sums(masked), axis=1)
            size_rfq = np.stack(self._sums(masks), axis=1)
            start = 0
            for u in going:
                stop = start + len(beams[u][-1])
                part = slice(start, stop)
                seen = {f.shown_s.tobytes() for own in beams[u] for f in own}
                grown = self._grown(
                    beams[u][-1], masked[part], sum_rfq[part], size_rfq[part], sum_ufq[u]
                )
                chosen = self._choose(rank_us[u], grown, seen)
                beams[u] += [chosen] if chosen else []
                start = stop
        return beams

    def _sums(
        self, row_rs: Float32[np.ndarray, "r s"]
    ) -> tuple[Float32[np.ndarray, "r q"], Float32[np.ndarray, "r q"]]:
        """Sums of rows over the images of every concept, and over those of its denial."""
        shown_rq = self._product(row_rs, self.atoms.shown_qn)
        if self.atoms.known_qn is None:
            total_r1 = row_rs.sum(axis=1, dtype=np.float64, keepdims=True).astype(np.float32)
            return shown_rq, total_r1 - shown_rq
        return shown_rq, self._product(row_rs, self.atoms.known_qn) - shown_rq

    @staticmethod
    def _product(
        row_rs: Float32[np.ndarray, "r s"], is_qs: Bool[np.ndarray, "q s"]
    ) -> Float32[np.ndarray, "r q"]:
        out_rq = np.empty((len(row_rs), len(is_qs)), np.float32)
        for start in range(0, len(is_qs), _TILE):
            tile = is_qs[start : start + _TILE].astype(np.float32)
            out_rq[:, start : start + _TILE] = row_rs @ tile.T
        return out_rq

    def _auc(self, total: np.ndarray, size: np.ndarray) -> np.ndarray:
        """From sums of centred ranks; -inf where the size is out of bounds."""
        other = self.n_images - size
        fits = (size >= self.bounds.least) & (size <= self.bounds.most) & (size > 0) & (other > 0)
        divisor = np.where(fits, size * other, 1)
        return np.where(fits, self.n_images * total.astype(np.float64) / divisor + 0.5, -np.inf)

    def _literals(self, sum_fq: Float32[np.ndarray, "f q"]) -> Iterator[tuple[float, Formula]]:
        """Concepts and their denials, by falling AUC."""
        auc_fq = self._auc(sum_fq, self.size_fq)
        auc_fq[:, self.is_rare_q] = -np.inf
        for place in _falling(auc_fq):
            denied, atom = divmod(place, auc_fq.shape[1])
            yield float(auc_fq.flat[place]), Formula(((atom, bool(denied)),))

    def _grown(
        self,
        beam: Sequence[Found],
        masked_bs: Float32[np.ndarray, "b s"],
        sum_bfq: Float32[np.ndarray, "b f q"],
        size_bfq: Float32[np.ndarray, "b f q"],
        sum_fq: Float32[np.ndarray, "f q"],
    ) -> Iterator[tuple[float, Formula]]:
        """All formulas of the beam with one more literal, by falling AUC.

        One that holds on the very images of a shorter one says nothing new.
        """
        own_b11 = np.array([[[np.count_nonzero(f.shown_s)]] for f in beam], np.float64)
        total_b11 = masked_bs.sum(axis=1, dtype=np.float64)[:, None, None]
        both_bfq = np.rint(size_bfq).astype(np.float64)
        either_bfq = own_b11 + self.size_fq - both_bfq
        auc_bofq = np.stack(
            [
                self._auc(sum_bfq, both_bfq),
                self._auc(total_b11 + sum_fq - sum_bfq, either_bfq),
            ],
            axis=1,
        )
        for o, joined_bfq in enumerate((both_bfq, either_bfq)):
            auc_bofq[:, o][(joined_bfq == own_b11) | (joined_bfq == self.size_fq)] = -np.inf
        auc_bofq[..., self.is_rare_q] = -np.inf
        for b, found in enumerate(beam):
            auc_bofq[b, :, :, list(found.formula.atoms)] = -np.inf
        n_atoms = auc_bofq.shape[-1]
        for place in _falling(auc_bofq):
            row, atom = divmod(place, n_atoms)
            b, form = divmod(row, len(_FORMS))
            operator, denied = _FORMS[form]
            formula = beam[b].formula.joined(operator, (atom, denied))
            yield float(auc_bofq.flat[place]), formula

    def _choose(
        self,
        rank_s: Int64[np.ndarray, " s"],
        falling: Iterator[tuple[float, Formula]],
        seen: set[bytes],
    ) -> list[Found]:
        """The best formulas, judged by whole numbers, that hold on images of their own.

        Of several that hold on the same images, the first in the order of the concepts.
        """
        kept: dict[bytes, Found] = {}
        for near, formula in falling:
            if len(kept) >= self.beam:
                bar = sorted(found.auc for found in kept.values())[-self.beam]
                if near < bar - _NEAR:
                    break
            shown_s = formula.truth(self.atoms)[0]
            key = shown_s.tobytes()
            if key in seen or (key in kept and kept[key].formula <= formula):
                continue
            kept[key] = Found(formula, auc(rank_s, shown_s), shown_s)
        return sorted(kept.values(), key=lambda found: (-found.auc, found.formula))[: self.beam]


def _falling(value: np.ndarray) -> Iterator[int]:
    """Places of the finite values, the largest first."""
    for place in np.argsort(-value, axis=None, kind="stable"):
        if value.flat[place] == -np.inf:
            return
        yield int(place)
