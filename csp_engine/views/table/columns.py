"""What can be said of every neuron: each column declared once, for tables, maps and files alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from csp_engine.audits.registered import AUDITS
from csp_engine.audits.statistic import Statistic
from csp_engine.errors import InputError
from csp_engine.evaluation.metrics.metric import Metric
from csp_engine.evaluation.metrics.registered import METRICS
from csp_engine.views.controls import SAME_AT

Kind = Literal["text", "number", "figure", "count", "share", "flag"]


@dataclass(frozen=True, slots=True)
class NeuronColumn:
    """One column of the table of neurons.

    ``kind`` is text, number, figure (three digits, whatever its size), count, share (0 to 1, shown
    in percent) or flag. ``term`` is the word of the glossary that tells more. Any column
    may order the rows; those that are ``is_ranged`` may be narrowed to a range, and ``is_coloured``
    ones colour the map, there under ``colour_title`` where that differs.
    """

    name: str
    title: str
    kind: Kind
    meaning: str
    term: str
    is_ranged: bool = False
    is_coloured: bool = False
    colour_title: str = ""

    @property
    def is_number(self) -> bool:
        """Whether its values are numbers, which stand to the right."""
        return self.kind not in ("text", "flag")

    @property
    def of_colour(self) -> str:
        """Its title where it colours the map: a label counts there only if it is reliable."""
        return self.colour_title or self.title


def _measured(owner: Statistic | Metric) -> NeuronColumn:
    """The column of a statistic or of a metric, as that declares it."""
    return NeuronColumn(
        owner.name,
        owner.title,
        owner.kind,
        owner.meaning,
        owner.term,
        is_ranged=True,
        is_coloured=True,
    )


_STATISTICS = tuple(_measured(each) for each in AUDITS.values() if each.is_column)
_METRICS = tuple(
    _measured(each)
    for each in METRICS.values()
    if "truth" in each.takes and not each.is_always_kept
)

_DECLARED = (
    NeuronColumn(
        "label",
        "Best label",
        "text",
        "The label that the chosen method scores highest.",
        "label",
        is_coloured=True,
        colour_title="Reliable label",
    ),
    NeuronColumn(
        "family",
        "Family",
        "text",
        "All reliable labels that mean the same, under the one that most neurons have.",
        "family",
        is_coloured=True,
    ),
    NeuronColumn(
        "others",
        "Other methods",
        "text",
        "Best labels of the other methods, where they are reliable.",
        "method",
    ),
    NeuronColumn(
        "disagreement",
        "Disagreement",
        "number",
        "The largest distance, for the encoder, between reliable labels of different methods, from "
        f"0 to 2; up to {1 - SAME_AT:g} they count as the same thing in other words.",
        "disagreement",
    ),
    NeuronColumn(
        "review", "Review", "text", "What reviewers say about it, or that they disagree.", "verdict"
    ),
    NeuronColumn(
        "model", "Model", "text", "The network under study.", "target model", is_coloured=True
    ),
    NeuronColumn(
        "layer",
        "Layer",
        "text",
        "Where in the network, and how its maps become one number.",
        "layer",
        is_coloured=True,
    ),
    NeuronColumn("unit", "Unit", "count", "Number of the neuron within its layer.", "unit"),
    NeuronColumn(
        "match",
        "Match",
        "number",
        "Cosine of the query and the neuron's concept vector.",
        "concept vector",
        is_ranged=True,
        is_coloured=True,
    ),
    NeuronColumn(
        "match_null",
        "Match percentile",
        "share",
        "Share of random image sets that match the query less well.",
        "percentile",
    ),
    NeuronColumn(
        "score",
        "Score",
        "number",
        "Score of the best label; different methods have different scales.",
        "score",
        is_ranged=True,
    ),
    NeuronColumn(
        "margin",
        "Margin",
        "number",
        "Score of the best label minus that of the second.",
        "margin",
        is_ranged=True,
    ),
    NeuronColumn(
        "lead",
        "Ahead by",
        "number",
        "Score of the best label minus that of the next label that means something else.",
        "lead",
        is_ranged=True,
    ),
    NeuronColumn(
        "percentile",
        "Percentile",
        "share",
        "Share of random image sets whose best label scores lower.",
        "percentile",
        is_ranged=True,
        is_coloured=True,
    ),
    NeuronColumn(
        "reliable",
        "Reliable",
        "flag",
        "Whether the best label scores higher than those of 95 % of random image sets.",
        "reliable label",
    ),
    NeuronColumn(
        "unsaid",
        "No word fits",
        "flag",
        "Whether it follows something that can be read from the images and that no label says.",
        "no word fits",
    ),
    NeuronColumn(
        "confidence",
        "Confidence",
        "share",
        "How likely the best label is right, learnt from neurons of this bundle whose truth is "
        "known.",
        "confidence",
        is_ranged=True,
        is_coloured=True,
    ),
    NeuronColumn(
        "moves",
        "Moves",
        "text",
        "Of the outputs, the one on which it ranks highest in its layer by the size of gradient × "
        "activation, and which way.",
        "gradient × activation",
    ),
    NeuronColumn(
        "moves_rank",
        "Rank in layer",
        "count",
        "Its rank there among the neurons of its layer; 1 moves the output most.",
        "gradient × activation",
    ),
    NeuronColumn(
        "label_pearson",
        "Label Pearson",
        "number",
        "Correlation of activation with what the best label predicts, by an encoder that did not "
        "choose it.",
        "faithfulness",
        is_ranged=True,
        is_coloured=True,
    ),
    NeuronColumn(
        "label_auprc",
        "Label AUPRC",
        "number",
        "Average precision of finding, by activation, the images that the best label is said of.",
        "faithfulness",
        is_ranged=True,
        is_coloured=True,
    ),
    *_STATISTICS,
    NeuronColumn(
        "density",
        "Density",
        "share",
        "Share of probe images on which the neuron is active.",
        "density",
        is_ranged=True,
        is_coloured=True,
    ),
    NeuronColumn(
        "max", "Strongest", "figure", "Largest activation on the probe set.", "activation"
    ),
    NeuronColumn(
        "state",
        "State",
        "text",
        "Dead, dense, constant or never positive on the probe set.",
        "dead",
    ),
    NeuronColumn(
        "class",
        "Class",
        "text",
        "The class that most exemplars show, if they show it more often than the probe set does.",
        "exemplar",
    ),
    NeuronColumn(
        "truth",
        "Truth",
        "text",
        "The concept that the neuron truly responds to, measured on images with known concepts.",
        "true concept",
        is_coloured=True,
    ),
    *_METRICS,
    NeuronColumn(
        "column",
        "Concept column",
        "text",
        "The concept column of the probe set that correlates best with the neuron; the next "
        "three figures are for it, or for the column that you chose.",
        "concept column",
        is_coloured=True,
    ),
    NeuronColumn(
        "column_auroc",
        "Column AUROC",
        "number",
        "Chance that an image with the concept excites the neuron more than one without.",
        "AUROC",
        is_ranged=True,
        is_coloured=True,
    ),
    NeuronColumn(
        "column_pearson",
        "Column Pearson",
        "number",
        "Correlation of activation with the concept column.",
        "Pearson correlation",
        is_ranged=True,
        is_coloured=True,
    ),
    NeuronColumn(
        "column_auprc",
        "Column AUPRC",
        "number",
        "Average precision of finding images with the concept by activation.",
        "AUPRC",
        is_ranged=True,
    ),
)


def require_own_names() -> None:
    """Refuse statistics and metrics that are called as another column: no table could show both.

    Raises:
        InputError: naming the first.
    """
    for what, owners in (("Statistic", _STATISTICS), ("Metric", _METRICS)):
        for owner in owners:
            if sum(column.name == owner.name for column in _DECLARED) > 1:
                raise InputError(
                    f"{what} {owner.name!r} has the name of another column of the table of "
                    "neurons; rename it."
                )


require_own_names()
COLUMNS = {column.name: column for column in _DECLARED}
"""The columns by name, in the order in which tables show them."""

UNIT_STATISTICS = (*(column.name for column in _STATISTICS), "density", "max")
"""Columns that the table of units of a bundle holds under the same name."""
TRUTH_METRICS = tuple(column.name for column in _METRICS)
"""Columns that the table of ground truth of a bundle holds under the same name."""
RANGED = tuple(column.name for column in _DECLARED if column.is_ranged)
COLOURS = ("layer", *(c.name for c in _DECLARED if c.is_coloured and c.name != "layer"))
"""Columns that can colour the map, the one that every bundle has first."""
