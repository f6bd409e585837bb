"""Methods that put labels on neurons, behind one interface.

``METHODS`` maps a name to a ``Method``; ``label_units`` applies one to a layer. Each method is
described, with its formula and departures, in ``docs/methods.md``.
"""

from csp_engine.methods.csp import NullComponents, re_rank, rescore
from csp_engine.methods.method import Method, Scored, resolve_params
from csp_engine.methods.scoring.groups import group_labels
from csp_engine.methods.scoring.labelling import METHODS, label_units, pair_statistics
from csp_engine.methods.scoring.null import noise_evidence
from csp_engine.methods.scoring.one_gamma import MovedLabels, move_labels, null_best, score_paths
from csp_engine.methods.scoring.parts import ScoreParts, score_parts
from csp_engine.methods.scoring.ranking import RELIABLE_AT, Ranking

PAPER_PARAMS: dict[str, dict[str, object]] = {
    "csp": {"weighting": "raw"},
    "semanticlens": {},
    "clip_dissect": {"prior": "layer"},
}
"""What the published methods do where the product's defaults differ."""

__all__ = [
    "METHODS",
    "PAPER_PARAMS",
    "RELIABLE_AT",
    "Method",
    "MovedLabels",
    "NullComponents",
    "Ranking",
    "ScoreParts",
    "Scored",
    "group_labels",
    "label_units",
    "move_labels",
    "noise_evidence",
    "null_best",
    "pair_statistics",
    "re_rank",
    "rescore",
    "resolve_params",
    "score_parts",
    "score_paths",
]
