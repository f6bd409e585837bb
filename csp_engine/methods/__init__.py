"""Methods that put labels on neurons, behind one interface.

``METHODS`` maps a name to a ``Method``; ``label_units`` applies one to a layer. Each method is one
module of this room, found by ``registered``, and described with its formula and departures in
``docs/methods.md``.
"""

from csp_engine.methods.method import (
    Method,
    OwnLabel,
    Parameter,
    Scored,
    ScoreParts,
    Stores,
    Written,
    resolve_params,
)
from csp_engine.methods.registered import METHODS, find_method, method_title
from csp_engine.methods.scoring.group_labels import group_labels
from csp_engine.methods.scoring.halves import NullComponents, re_rank, rescore
from csp_engine.methods.scoring.labelling import Labelled, label_layer, label_units, pair_statistics
from csp_engine.methods.scoring.moving_gamma import (
    MovedLabels,
    move_labels,
    null_best,
    score_paths,
)
from csp_engine.methods.scoring.random_sets import noise_evidence
from csp_engine.methods.scoring.ranking import RELIABLE_AT, Ranking
from csp_engine.methods.scoring.score_parts import score_parts

__all__ = [
    "METHODS",
    "RELIABLE_AT",
    "Labelled",
    "Method",
    "MovedLabels",
    "NullComponents",
    "OwnLabel",
    "Parameter",
    "Ranking",
    "ScoreParts",
    "Scored",
    "Stores",
    "Written",
    "find_method",
    "group_labels",
    "label_layer",
    "label_units",
    "method_title",
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
