"""What a captioner said of one neuron: its phrases by meaning, and the answer as it came."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from csp_engine import numbers
from csp_engine.bundle import Bundle, kinds
from csp_engine.captioners.captions import MODES
from csp_engine.captioners.generators.asking import ALL_STATUSES
from csp_engine.methods import METHODS
from csp_engine.methods.depths.columns import grouped, spread_root
from csp_engine.types import NeuronRef
from csp_engine.vectors import normalise_rows
from csp_engine.views.memo import Memo
from csp_engine.words.vocabularies import as_label, same_label

SHOWN = {MODES[0]: "Exemplars alone", MODES[1]: "Exemplars and contrast images"}
_NOTHING_SAID = dict.fromkeys(
    ("n_without_phrase", "n_same_answer", "n_tokens_in", "n_tokens_out", "cost"), 0
)
MOST_IMAGES = 20_000
"""Images that similar meanings are judged by; more would not change them."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """One question about a neuron, and what became of it.

    ``meanings`` are its phrases, those that mean the same together; ``happened`` says in words
    whether there was an answer; ``answer`` is what the model wrote, as data to be shown.
    """

    shown: str
    meanings: tuple[tuple[str, ...], ...]
    happened: str
    answer: str
    prompt: str
    model: str
    seed: int

    @property
    def phrases(self) -> str:
        """The phrases in one line."""
        return "; ".join(" = ".join(f"“{text}”" for text in same) for same in self.meanings)


def own_labels(bundle: Bundle, neuron: NeuronRef) -> frozenset[str]:
    """What a captioner proposed for this very neuron, as ``same_label`` compares labels."""
    table = bundle.candidates(neuron.model, neuron.layer)
    if table is None:
        return frozenset()
    own = np.flatnonzero(table["unit"].to_numpy() == neuron.unit)
    texts = table["text"].array.take(own).tolist()
    return frozenset(same_label(as_label(str(text))) for text in texts)


def proposals(bundle: Bundle, memo: Memo, neuron: NeuronRef) -> tuple[Proposal, ...]:
    """What a captioner that is shown pictures said; empty where none was asked."""
    table = bundle.answers(neuron.model, neuron.layer)
    said = bundle.candidates(neuron.model, neuron.layer)
    if table is None or said is None:
        return ()
    stage = bundle.stage(kinds.CANDIDATES.name(neuron.model, neuron.layer))
    prompts = stage.params.get("prompts", {})
    spec = bundle.manifest.inputs.get("captioner", {}).get("spec", "")
    own = said[said["unit"] == neuron.unit]
    found = []
    for row in table[table["unit"] == neuron.unit].to_dict("records"):
        texts = own["text"][own["mode"] == row["mode"]].tolist()
        happened = ALL_STATUSES.get(row["status"], row["status"])
        if row["note"]:
            happened += f" ({row['note']})"
        found.append(
            Proposal(
                SHOWN.get(row["mode"], row["mode"]),
                by_meaning(bundle, memo, texts),
                happened,
                row["answer"],
                str(prompts.get(row["mode"], "")),
                spec,
                int(stage.params.get("seed", 0)),
            )
        )
    return tuple(found)


def by_meaning(bundle: Bundle, memo: Memo, texts: list[str]) -> tuple[tuple[str, ...], ...]:
    """Phrases in their order, those that the encoder finds on the same images together.

    Two mean one thing where their similarities with the images correlate as CSP+ asks.
    """
    place = memo.once(("label places", bundle.digest), lambda: _places(bundle))
    known = {text: place.get(same_label(as_label(text))) for text in texts}
    if len(texts) < 2 or any(label is None for label in known.values()):
        return tuple((text,) for text in texts)
    label_td = np.asarray(bundle.label_vectors()[list(known.values())], np.float64)
    root_dd = memo.once(("spread of images", bundle.digest), lambda: _root(bundle))
    same = METHODS["csp_plus"].params["same"]
    groups = grouped(normalise_rows(label_td @ root_dd), same)
    distinct = list(known)
    return tuple(tuple(distinct[t] for t in group) for group in groups)


def _places(bundle: Bundle) -> dict[str, int]:
    texts = bundle.labels()["text"].tolist()
    return {same_label(text): t for t, text in enumerate(texts)}


def _root(bundle: Bundle) -> np.ndarray:
    image_nd = bundle.image_vectors()
    return spread_root(np.asarray(image_nd[:: -(-len(image_nd) // MOST_IMAGES)]))


def proposal_notices(bundle: Bundle) -> list[str]:
    """What went wrong with a captioner's answers and what they cost, a sentence for each layer."""
    found = []
    for model, layer in kinds.CANDIDATES.among(bundle.manifest.stages):
        stage = bundle.stage(kinds.CANDIDATES.name(model, layer))
        facts, n = {**_NOTHING_SAID, **stage.facts}, len(bundle.units(model, layer))
        if "n_unanswered" not in stage.facts:
            continue
        where, said = f"{model}/{layer}", []
        if facts["n_unanswered"]:
            said.append(
                f"{numbers.count(facts['n_unanswered'])} questions got no answer; the same command "
                "asks them again"
            )
        if facts["n_without_phrase"]:
            said.append(f"{numbers.count(facts['n_without_phrase'])} answers hold no phrase")
        if n >= 8 and 2 * facts["n_same_answer"] > n:
            said.append(
                f"{numbers.count(facts['n_same_answer'])} answers are the same, so they say little "
                "about single neurons; try a larger model"
            )
        cost = facts["cost"]
        paid = f", for {cost:,.2f} in all" if cost >= 1 else f", for {cost:.2g} in all"
        tokens = f"{numbers.count(facts['n_tokens_in'])} tokens asked and "
        tokens += f"{numbers.count(facts['n_tokens_out'])} answered{paid if cost else ''}"
        if facts["n_tokens_in"]:
            said.append(tokens)
        if said:
            found.append(f"{where}, candidates: {'; '.join(said)}.")
    return found
