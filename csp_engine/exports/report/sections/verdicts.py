"""What reviewers said of the neurons."""

from __future__ import annotations

from collections import Counter

from csp_engine import numbers
from csp_engine.exports.report.asked import Asked, Chapter, words
from csp_engine.exports.report.document import Block, Points, Source, Table, Text
from csp_engine.reviews import WITHDRAWN
from csp_engine.views.audit.agreement import agreement, pair_in_words, together_in_words

HISTORY = "verdicts"
"""What stands for the database among the sources, with the hash of its last entry."""


def make(asked: Asked) -> tuple[Block, ...]:
    """The last word of every reviewer on every neuron of the network, and the history's head."""
    said = asked.said
    if said is None:
        return ()
    source = (Source(f"{HISTORY}, entry {said.last}", said.head),)
    rows = [row for row in said.rows if row["neuron"].startswith(f"{asked.model}/")]
    if not rows:
        return ()
    last = [row for row in rows if row["is_latest"] and row["verdict"] != WITHDRAWN]
    reviewers = Counter(row["reviewer"] for row in last)
    by = ", ".join(f"{name} ({n})" for name, n in sorted(reviewers.items()))
    blocks: list[Block] = [
        Text(
            f"{numbers.count(len({row['neuron'] for row in last}))} neurons of {asked.model} have "
            f"a verdict, by {numbers.count(len(reviewers))} "
            f"{'reviewer' if len(reviewers) == 1 else 'reviewers'}: {by}."
            if last
            else f"All verdicts on neurons of {asked.model} were withdrawn.",
            source,
        )
    ]
    if last:
        blocks.append(
            Table(
                "The last word of each reviewer",
                (
                    "neuron",
                    "reviewer",
                    "verdict",
                    "confidence",
                    "because of",
                    "note",
                    "given (UTC)",
                    "shown as",
                ),
                tuple(
                    (
                        words(row["neuron"]),
                        words(row["reviewer"]),
                        words(row["verdict"]),
                        words(row["confidence"]),
                        words(row["reason"]),
                        words(row["note"]),
                        words(row["given_at"].replace("T", " ").removesuffix("Z")),
                        words(_shown(row)),
                    )
                    for row in sorted(last, key=lambda row: (row["neuron"], row["reviewer"]))
                ),
                source,
                "Verdicts are opinions of people who looked at images, texts and figures. “Shown "
                "as”: the label that the reviewer saw.",
            )
        )
        found = agreement(rows, asked.model)
        told = [*map(pair_in_words, found.pairs), together_in_words(found)]
        if found.pairs:
            blocks.append(Points(tuple(filter(None, told)), source))
        if found.differing:
            blocks.append(
                Table(
                    "Neurons on which reviewers differ",
                    ("neuron", "verdicts"),
                    tuple(
                        (words(neuron), words("; ".join(f"{who}: {what}" for who, what in said_of)))
                        for neuron, said_of in found.differing
                    ),
                    source,
                )
            )
    blocks.append(Points(_chain(said.last, said.head, said.problems), source))
    return tuple(blocks)


def _shown(row: dict[str, object]) -> str:
    if not row["method"]:
        return "nothing: no label was shown"
    label = str(row["label"] or "no reliable label")
    return label if row["same_bundle"] else f"{label} (in another build of the bundle)"


def _chain(n_entries: int, head: str, problems: tuple[str, ...]) -> tuple[str, ...]:
    entries = f"{numbers.count(n_entries)} {'entry' if n_entries == 1 else 'entries'}"
    if not head:
        return (f"The history of {entries} is not chained, so a later change would go unnoticed.",)
    if problems:
        return (
            f"The history of {entries} is not as it was written; its verdicts prove nothing.",
            *problems,
        )
    return (
        f"The history has {entries}, each of which fits the one before it. Its last hash is "
        f"{head}; 'csp reviews --verify --head' finds any later change of what is reported here.",
    )


VERDICTS_ = Chapter(
    "verdicts",
    "Verdicts",
    make,
    lacking="No person has recorded a verdict on a neuron of this network.",
)
