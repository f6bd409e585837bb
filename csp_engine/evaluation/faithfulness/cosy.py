"""CoSy: does a unit answer to images made from its label more than to any others?

Kopf et al., "CoSy: Evaluating Textual Explanations of Neurons", NeurIPS 2024. Images that a
generator makes of the label are compared with control images by the area under the ROC curve and
by the difference of mean activations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from csp_engine.errors import InputError
from csp_engine.evaluation.metrics.auroc import AUROC
from csp_engine.evaluation.metrics.mad import MAD
from csp_engine.evaluation.metrics.metric import Columns, Judged
from csp_engine.stats.drawn import percentile_interval
from csp_engine.stats.intervals import LEVEL, auroc_interval

N_RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Cosy:
    """Both figures with their bounds: Newcombe's for the area, a bootstrap's for the difference.

    The latter's are NaN of too few images. ``auroc`` is 0.5 and ``mad`` 0 for a unit that answers
    to everything alike.
    """

    auroc: float
    auroc_low: float
    auroc_high: float
    mad: float
    mad_low: float
    mad_high: float


def cosy(
    made_m: Float32[np.ndarray, " m"],
    control_n: Float32[np.ndarray, " n"],
    *,
    level: float = LEVEL,
    seed: int = 0,
) -> Cosy:
    """Compare a unit's activations on images of its label with those on control images.

    Args:
        made_m: on images that were made of the label.
        control_n: on control images.
        level: of the intervals.
        seed: of the bootstrap, which draws both kinds of images anew.

    Raises:
        InputError: if there are fewer than two images of a kind.
    """
    if min(len(made_m), len(control_n)) < 2:
        raise InputError(
            f"CoSy compares {len(made_m)} images of a label with {len(control_n)} others; at least "
            "2 of each are needed."
        )
    value_n = np.concatenate([made_m, control_n]).astype(np.float32)
    is_made_n1 = (np.arange(len(value_n)) < len(made_m)).astype(np.float64)[:, None]
    judged = Judged(value_n[None], Columns(is_made_n1))
    auroc, mad = (float(metric.figures(judged)[0, 0]) for metric in (AUROC, MAD))
    low, high = auroc_interval(np.array(auroc), len(made_m), len(control_n), level)
    rng = np.random.default_rng(seed)
    made_rm = made_m[rng.integers(len(made_m), size=(N_RESAMPLES, len(made_m)))]
    control_rn = control_n[rng.integers(len(control_n), size=(N_RESAMPLES, len(control_n)))]
    gap_r = made_rm.mean(axis=1, dtype=np.float64) - control_rn.mean(axis=1, dtype=np.float64)
    spread_r = control_rn.std(axis=1, dtype=np.float64)
    drawn_r = np.where(spread_r > 0, gap_r / np.where(spread_r > 0, spread_r, 1.0), 0.0)
    ends = percentile_interval(drawn_r, min(len(made_m), len(control_n)), level)
    return Cosy(auroc, float(low), float(high), mad, *ends)
