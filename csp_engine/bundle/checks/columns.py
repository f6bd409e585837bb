"""Which columns the tables of a bundle have, of what kind, and between which values."""

from __future__ import annotations

import numpy as np
import pandas as pd

from csp_engine.bundle import kinds
from csp_engine.bundle.checks.arrays import Files, n_images_of, n_units_of
from csp_engine.bundle.checks.pointing import FIGURES as MAP_FIGURES

TEXT, COUNT, NUMBER, FLAG = "text", "count", "number", "flag"
KNOWN_NUMBER = "known number"

_ENDS = ("", "_low", "_high")
_MEASURES = tuple(f"{measure}{end}" for measure in ("pearson", "auroc", "auprc") for end in _ENDS)
COLUMNS: dict[tuple[str, str], dict[str, str]] = {
    ("images", "images"): {
        "sha256": TEXT,
        "width": COUNT,
        "height": COUNT,
        "duplicate_of": "image",
        "duplicate_group": "image",
    },
    ("probe", "probe"): {"file": TEXT, "sha256": TEXT},
    ("probe", "skipped"): {"file": TEXT, "reason": TEXT},
    ("probe", "classes"): {"name": TEXT, "n_images": COUNT},
    ("neurons", "units"): {
        "mean": NUMBER,
        "std": NUMBER,
        "min": NUMBER,
        "max": NUMBER,
        "density": NUMBER,
        "is_dead": FLAG,
        "is_dense": FLAG,
        "is_constant": FLAG,
        "never_positive": FLAG,
        "n_exemplars": COUNT,
    },
    ("neurons", "class_counts"): {"unit": "unit", "class": "class", "count": COUNT},
    ("audit", "units"): {
        "clarity": NUMBER,
        "polysemanticity": NUMBER,
        "cluster_0": COUNT,
        "cluster_1": COUNT,
        "silhouette": NUMBER,
        "nearest_unit": NUMBER,
        "redundancy": NUMBER,
    },
    ("candidates", "candidates"): {
        "unit": "unit",
        "mode": TEXT,
        "rank": COUNT,
        "text": TEXT,
        "log_p": NUMBER,
        "log_prior": NUMBER,
        "pmi": NUMBER,
    },
    ("candidates", "sets"): {"unit": "unit", "mode": TEXT, "p_nothing": NUMBER},
    ("candidates", "answers"): {
        "unit": "unit",
        "mode": TEXT,
        "status": TEXT,
        "note": TEXT,
        "answer": TEXT,
        "n_tokens_in": COUNT,
        "n_tokens_out": COUNT,
    },
    ("vocabulary", "labels"): {"text": TEXT, "source": TEXT},
    ("words", "words"): {"text": TEXT, "source": TEXT},
    ("scores", "labels"): {"text": TEXT, "source": TEXT},
    ("index", "rows"): {"model": TEXT, "layer": TEXT, "unit": COUNT},
    ("projection", "rows"): {"model": TEXT, "layer": TEXT, "unit": COUNT},
    ("influence", "outputs"): {"name": TEXT},
    ("circuit", "outputs"): {"name": TEXT, "n_images": COUNT},
    ("circuit", "nodes"): {
        "output": COUNT,
        "layer": TEXT,
        "unit": COUNT,
        "effect": KNOWN_NUMBER,
    },
    ("circuit", "edges"): {"source": COUNT, "target": COUNT, "effect": KNOWN_NUMBER},
    ("truth", "units"): {"n_positive": NUMBER, **dict.fromkeys(_MEASURES, NUMBER)},
    ("intervention", "effects"): {
        **dict.fromkeys(("artefact", "foil"), TEXT),
        **dict.fromkeys(("n_pairs", "n_groups", "n_called", "n_lost", "n_gained"), COUNT),
        **{f"{m}{end}": KNOWN_NUMBER for m in ("change", "effect") for end in _ENDS},
        **{f"neutral{end}": NUMBER for end in _ENDS},
    },
    ("intervention", "pairs"): {
        **dict.fromkeys(("artefact", "file"), TEXT),
        "group": COUNT,
        "is_choosing": FLAG,
        **{f"is_called_{version}": FLAG for version in ("without", "neutral", "with")},
        "score_without": KNOWN_NUMBER,
        "score_neutral": NUMBER,
        "score_with": KNOWN_NUMBER,
    },
    ("intervention", "units"): {
        **dict.fromkeys(("artefact", "layer"), TEXT),
        "unit": COUNT,
        "attribution": KNOWN_NUMBER,
        "change": KNOWN_NUMBER,
    },
    ("intervention", "sets"): {
        **dict.fromkeys(("artefact", "layer", "what"), TEXT),
        "n_units": COUNT,
        **{f"necessity{end}": KNOWN_NUMBER for end in _ENDS},
        **{f"sufficiency{end}": NUMBER for end in _ENDS},
    },
    ("intervention", "given"): {
        **dict.fromkeys(("artefact", "layer", "name"), TEXT),
        **dict.fromkeys(("n_units", "n_directions"), COUNT),
        **{f"{m}{end}": KNOWN_NUMBER for m in ("necessity", "sufficiency") for end in _ENDS},
    },
    ("intervention", "gates"): {
        **dict.fromkeys(("artefact", "why"), TEXT),
        **dict.fromkeys(("n_with", "n_without"), COUNT),
        **{f"{m}{end}": NUMBER for m in ("real", "pasted", "neutral", "observed") for end in _ENDS},
        "least": NUMBER,
    },
    ("intervention", "shown"): {"pair": COUNT, "version": TEXT},
    ("fix", "photographs"): {
        **dict.fromkeys(("file", "class", "slice"), TEXT),
        "group": COUNT,
        "is_choosing": FLAG,
    },
    ("fix", "runs"): dict.fromkeys(("what", "model"), TEXT),
    ("fix", "cuts"): {
        **dict.fromkeys(("run", "piece", "unit"), COUNT),
        "layer": TEXT,
        "is_direction": FLAG,
        **dict.fromkeys(("weight", "at"), KNOWN_NUMBER),
    },
    ("fix", "shown"): {"row": COUNT},
    ("curves", "photographs"): {
        **dict.fromkeys(("file", "class", "slice"), TEXT),
        "group": COUNT,
        "is_choosing": FLAG,
    },
    ("curves", "orders"): {"order": TEXT, "repeat": COUNT, "unit": "unit"},
    ("curves", "runs"): {"order": TEXT, "repeat": COUNT, "n_units": COUNT},
    ("factors", "photographs"): {
        **dict.fromkeys(("file", "class", "slice", "decided"), TEXT),
        "group": COUNT,
        "is_choosing": FLAG,
    },
    ("factors", "factors"): {
        **dict.fromkeys(
            ("share", "chosen", "gap", "gap_low", "gap_high", "wrong", "right"), KNOWN_NUMBER
        ),
        "is_called": FLAG,
    },
    ("factors", "shown"): {"factor": COUNT, "row": COUNT},
    ("maps", "photographs"): {
        **dict.fromkeys(("artefact", "map"), TEXT),
        "group": COUNT,
        **dict.fromkeys(MAP_FIGURES, KNOWN_NUMBER),
    },
    ("maps", "units"): {"artefact": TEXT, "unit": "unit", "answer": KNOWN_NUMBER},
    ("truth", "concepts"): {"name": TEXT, "wordings": TEXT, "n_positive": COUNT},
    ("separation", "names"): {"name": TEXT, "kind": TEXT, "auroc": NUMBER, "shuffled": NUMBER},
    ("columns", "columns"): {"name": TEXT, "n_known": COUNT, "n_positive": COUNT},
    ("association", "columns"): {
        **dict.fromkeys(("name", "kind", "beside"), TEXT),
        **dict.fromkeys(
            ("n_known", "n_positive", "n_with", "n_without", "n_associated", "n_suspects"), COUNT
        ),
        **dict.fromkeys(("least", "beside_v"), NUMBER),
        "is_tried": FLAG,
    },
    ("association", "found"): {
        "unit": "unit",
        "column": COUNT,
        "is_suspect": FLAG,
        **{f"auroc{end}": KNOWN_NUMBER for end in _ENDS},
        **{f"within{end}": NUMBER for end in _ENDS},
        **dict.fromkeys(("difference", "pearson"), NUMBER),
        **dict.fromkeys(("p", "q_bh", "q_by", "p_family", "q_suspect"), KNOWN_NUMBER),
    },
    ("performance", "slices"): {
        "slice": TEXT,
        "n": COUNT,
        **dict.fromkeys(("n_correct", "accuracy", "low", "high"), NUMBER),
    },
    ("images", "skipped"): {"listed": COUNT, "reason": TEXT},
    ("faithfulness", "units"): {
        **{f"{m}{end}": NUMBER for m in ("pearson", "auprc") for end in _ENDS},
        "n_said": NUMBER,
    },
    ("trust", "metrics"): {
        "metric": TEXT,
        **{f"{m}_{n}": NUMBER for m in ("missing", "extra") for n in ("falls", "by")},
        **dict.fromkeys(("auroc", "low", "high", "n_right", "n_wrong"), NUMBER),
        "is_passed": FLAG,
    },
}
IF_THERE: dict[tuple[str, str], dict[str, str]] = {
    ("candidates", "sets"): {"n_exemplar": COUNT, "n_contrast": COUNT},
    ("intervention", "units"): {
        **dict.fromkeys(("confirmed", "moved"), KNOWN_NUMBER),
        **dict.fromkeys(("confirmed_within", "moved_within"), NUMBER),
    },
    ("vocabulary", "labels"): {"parents": TEXT},
    ("words", "words"): {"parents": TEXT},
}
"""Columns that a table may do without."""

_SHARED = ("auroc", "auprc", "accuracy", "within", "p", "q", "least", "beside")
_RANGES = {"pearson": (-1, 1), **dict.fromkeys(_SHARED, (0, 1))}
"""Between which values figures lie, their bounds with them; by how the column's name begins."""


def fault_of_column(files: Files, stage: str, values: pd.Series, what: str) -> str:
    """What is wrong with a column, as the end of "a column that …"; empty if nothing is."""
    if not len(values):
        return ""
    if what == TEXT:
        if isinstance(values.dtype, pd.StringDtype):
            return "holds nothing in places" if values.isna().any() else ""
        is_text = values.map(lambda value: isinstance(value, str)).all()
        return "" if is_text else "holds more than text"
    if what == FLAG:
        return "" if values.dtype.kind == "b" else "holds more than yes and no"
    if what in (NUMBER, KNOWN_NUMBER):
        if values.dtype.kind not in "fiu":
            return "holds more than numbers"
        value_r = values.to_numpy(float)
        if what == KNOWN_NUMBER and not np.isfinite(value_r).all():
            return "holds something that is not a number"
        low, high = _RANGES.get(str(values.name).partition("_")[0], (-np.inf, np.inf))
        outside_r = value_r[(value_r < low - 1e-6) | (value_r > high + 1e-6)]
        return f"holds {outside_r[0]:g}, outside of {low} to {high}" if len(outside_r) else ""
    if values.dtype.kind not in "iu" or values.min() < 0:
        return "holds more than whole numbers from 0"
    bound = {
        "image": lambda: n_images_of(files),
        "unit": lambda: n_units_of(files, stage),
        "class": lambda: len(files.table(kinds.PROBE.name(), "classes")),
    }.get(what, lambda: None)()
    if bound is not None and values.max() >= bound:
        return f"names {what} {values.max()}, but there are {bound}"
    return ""
