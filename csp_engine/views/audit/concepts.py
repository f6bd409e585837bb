"""What of a concept set a bundle can go by, and what its reader can choose from."""

from __future__ import annotations

from dataclasses import dataclass

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.bundle.names import told_apart
from csp_engine.reading.tables import singular_key
from csp_engine.search import stored_label
from csp_engine.views.audit.associations import layers_with
from csp_engine.views.audit.interventions import models_with
from csp_engine.views.sentence import listed
from csp_engine.words.concepts import ConceptSet, Tag

MOST_WORDS = 1000
"""Words of the vocabulary that are offered; others can be typed."""
MOST_NAMED = 8


@dataclass(frozen=True, slots=True)
class Reach:
    """What a concept set finds in a bundle.

    ``named`` holds for each tag the concepts, each by the name that the bundle knows, else by its
    usual one, and once, however often the set lists it; ``n_columns`` of them are columns of the
    images, ``n_words`` words of the vocabulary, and ``lacking`` are neither.
    """

    named: dict[Tag, tuple[str, ...]]
    n_columns: int
    n_words: int
    lacking: tuple[str, ...]

    @property
    def n(self) -> int:
        """All concepts of the set."""
        return sum(map(len, self.named.values()))

    def sentence(self) -> str:
        """As one would say it."""
        told = (
            f"Of its {numbers.count(self.n)} concepts, {numbers.count(self.n_columns)} "
            f"{'is' if self.n_columns == 1 else 'are'} marked in the images, and "
            f"{numbers.count(self.n_words)} {'is' if self.n_words == 1 else 'are'} in the "
            "vocabulary."
        )
        if not self.lacking:
            return told
        rest = len(self.lacking) - MOST_NAMED
        named = [f"“{each}”" for each in self.lacking[:MOST_NAMED]]
        named += [f"{numbers.count(rest)} others"] if rest > 0 else []
        return f"{told} Neither marked nor in the vocabulary, so without effect: {listed(named)}."


def columns_of(bundle: Bundle, model: str) -> tuple[str, ...]:
    """Concept columns that neurons of a model were compared with."""
    for layer in layers_with(bundle, model):
        stored = bundle.association(model, layer)
        assert stored is not None
        own = stored.columns[stored.columns["kind"] == "concept"]
        return tuple(str(name) for name in own["name"])
    return ()


def reach(bundle: Bundle, model: str, concepts: ConceptSet) -> Reach:
    """What a concept set finds in a bundle."""
    column_of = {singular_key(name): name for name in columns_of(bundle, model)}
    named: dict[Tag, list[str]] = {tag: [] for tag in concepts.tags}
    columns, words, lacking = set(), set(), []
    for group in concepts.groups:
        for names in group.concepts:
            column = next((c for n in names if (c := column_of.get(singular_key(n)))), None)
            word = next((n for n in names if stored_label(bundle, n) is not None), None)
            called = column or word or names[0]
            named[group.tag].append(called)
            if column is not None:
                columns.add(called)
            if word is not None:
                words.add(called)
            if column is None and word is None:
                lacking.append(called)
    return Reach(
        {tag: tuple(dict.fromkeys(found)) for tag, found in named.items()},
        len(columns),
        len(words),
        tuple(dict.fromkeys(lacking)),
    )


def choices(bundle: Bundle, model: str) -> tuple[str, ...]:
    """Names that a reader can tag: columns of the images, then words of the vocabulary."""
    words = list(bundle.label_ids)[:MOST_WORDS]
    return tuple(dict.fromkeys((*columns_of(bundle, model), *words)))


def outputs_of(bundle: Bundle, model: str) -> tuple[str, ...]:
    """Names of a network's outputs, the one that was tried with pairs of images first."""
    found: list[str] = []
    if model in models_with(bundle):
        stored = bundle.intervention(model)
        assert stored is not None
        found.append(stored.output)
    for layer in bundle.layers(model):
        held = bundle.influence(model, layer)
        if held is not None:
            found += told_apart(held.output_names)
            break
    return tuple(dict.fromkeys(name for name in found if name.strip()))
