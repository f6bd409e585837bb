"""How strongly each unit goes with each concept column of the probe set.

The three figures of ``ground_truth.association``, on the images of the build itself: nothing was
held out, so they say what a unit goes with on these images, and choose or prove nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float32

from csp_engine.evaluation.ground_truth import UNIT_BLOCK, Association
from csp_engine.evaluation.metrics.auprc import AUPRC
from csp_engine.evaluation.metrics.auroc import AUROC
from csp_engine.evaluation.metrics.metric import Columns, Judged
from csp_engine.evaluation.metrics.pearson import PEARSON
from csp_engine.types import Progress, silent


def column_fit(
    activation_un: Float32[Any, "u n"],
    value_nc: Float32[np.ndarray, "n c"],
    *,
    unit_block: int = UNIT_BLOCK,
    progress: Progress = silent,
) -> Association:
    """Pearson, AUROC and average precision of every unit with every column.

    Images where a column says nothing (NaN) are left out for that column alone. A column that all
    its images show, or none, gives NaN throughout; a constant unit as in ``Association``.

    Args:
        activation_un: finite activations; any array that gives rows when sliced.
        value_nc: 1 where an image shows the concept, 0 where it does not, NaN where nobody knows.
        unit_block: units at a time; results do not depend on it.
        progress: called with the units done.
    """
    n_units, n_columns = len(activation_un), value_nc.shape[1]
    found = {
        metric: np.full((n_units, n_columns), np.nan, np.float32)
        for metric in (PEARSON, AUROC, AUPRC)
    }
    known_nc = ~np.isnan(value_nc)
    is_varied_c = np.array(
        [len(np.unique(value_nc[known_nc[:, c], c])) > 1 for c in range(n_columns)], bool
    )
    # Columns that leave out the same images share their ranks.
    known_ng, group_c = np.unique(known_nc, axis=1, return_inverse=True)
    groups = []
    for g, is_known_n in enumerate(known_ng.T):
        own_c = np.flatnonzero((group_c.reshape(-1) == g) & is_varied_c)
        if len(own_c):
            columns = Columns(value_nc[np.ix_(is_known_n, own_c)].astype(np.float64))
            groups.append((is_known_n, own_c, columns))
    for start in range(0, n_units if groups else 0, unit_block):
        block = np.asarray(activation_un[start : start + unit_block], np.float32)
        whole = Judged(block, groups[0][2])
        for is_known_n, own_c, columns in groups:
            judged = whole.among(is_known_n, columns)
            for metric, figure_uc in found.items():
                figure_uc[start : start + unit_block, own_c] = metric.figures(judged)
        progress("columns", min(start + unit_block, n_units), n_units)
    return Association(found[PEARSON], found[AUROC], found[AUPRC])
