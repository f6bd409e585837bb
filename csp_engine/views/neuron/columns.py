"""The concept columns of the probe set that one neuron goes with, and those it goes against."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.types import NeuronRef

N_SHOWN = 8


@dataclass(frozen=True, slots=True)
class ColumnFit:
    """One neuron and one column; a figure that is not defined is NaN, its text a dash.

    ``n_positive`` of ``n_known`` images show the concept.
    """

    name: str
    pearson: float
    auroc: float
    auprc: float
    n_positive: int
    n_known: int

    @property
    def share(self) -> float:
        """How long its bar is, in [-1, 1]."""
        return 0.0 if math.isnan(self.pearson) else self.pearson

    @property
    def cells(self) -> tuple[str, ...]:
        """AUROC, Pearson, AUPRC and the images behind them, as text."""
        figures = (self.auroc, self.pearson, self.auprc)
        images = f"{numbers.count(self.n_positive)} of {numbers.count(self.n_known)}"
        return (*map(numbers.score, figures), images)


def column_fits(bundle: Bundle, neuron: NeuronRef) -> tuple[ColumnFit, ...]:
    """Every column, the strongest correlation first, those without one last; empty without any."""
    held = bundle.columns(neuron.model, neuron.layer)
    if held is None:
        return ()
    pearson_c = np.asarray(held.pearson_uc[neuron.unit])
    order_c = np.argsort(-np.nan_to_num(np.abs(pearson_c), nan=-1), kind="stable")
    # As lists: a table is slow cell by cell.
    names, n_positive, n_known = (
        held.columns[name].tolist() for name in ("name", "n_positive", "n_known")
    )
    auroc_c, auprc_c = held.auroc_uc[neuron.unit].tolist(), held.auprc_uc[neuron.unit].tolist()
    return tuple(
        ColumnFit(
            str(names[c]),
            float(pearson_c[c]),
            auroc_c[c],
            auprc_c[c],
            int(n_positive[c]),
            int(n_known[c]),
        )
        for c in order_c.tolist()
    )
