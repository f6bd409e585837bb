"""Which neurons carry the effect of each thing that was added."""

from __future__ import annotations

from csp_engine import numbers
from csp_engine.bundle import kinds
from csp_engine.errors import InputError, LeftOutError
from csp_engine.exports.report.asked import NETWORK, Asked, Chapter, number_of, words
from csp_engine.exports.report.document import Block, Cell, Source, Table, Text
from csp_engine.views.audit.figures import Figure
from csp_engine.views.audit.groups import Firing, firing, layer_beside
from csp_engine.views.audit.interventions import (
    Audited,
    Swapped,
    audited,
    carrier_sentence,
    effects,
)


def shared(figure: Figure) -> Cell:
    """A share of an effect with its interval."""
    if not figure.is_known:
        return words(numbers.UNKNOWN)
    return Cell(figure.share, figure.value, figure.low, figure.high)


def make(asked: Asked) -> tuple[Block, ...]:
    """For each effect that was shown: the sentence, the swaps by layer, and the suspects."""
    stored = asked.stored
    if stored is None:
        return ()
    blocks: list[Block] = []
    for effect in effects(stored):
        if effect.is_withheld or not effect.effect.is_away_from_zero:
            continue
        found = audited(asked.bundle, asked.model, effect.artefact, asked.method)
        assert found is not None
        blocks += _of(asked, found, stored.output)
    return tuple(blocks)


def _of(asked: Asked, found: Audited, output: str) -> list[Block]:
    stage = kinds.INTERVENTION.name(asked.model)
    artefact = found.effect.artefact
    files = ["sets.parquet", *(["given.parquet"] if found.given else [])]
    sets = asked.source(stage, *files)
    blocks: list[Block] = [Text(f"{artefact}: {carrier_sentence(found, output)}", sets)]
    rows = []
    for each in found.layers:
        named: list[tuple[str, Swapped]] = [
            (f"{numbers.count(s.n_units)} strongest carriers", s) for s in each.strongest
        ]
        named += [("one direction", each.direction)] if each.direction is not None else []
        for name, swapped in named:
            rows.append(
                (
                    words(f"{each.layer}, {name}"),
                    shared(swapped.necessity),
                    shared(swapped.sufficiency),
                )
            )
        if each.random_most is not None:
            rows.append(
                (
                    words(
                        f"{each.layer}, the most of {each.n_random} random sets of "
                        f"{each.random_size}"
                    ),
                    Cell(f"{each.random_most:.2f}".replace("-", "−"), each.random_most),
                    words(numbers.UNKNOWN),
                )
            )
    rows += [
        (words(each.words), shared(each.swapped.necessity), shared(each.swapped.sufficiency))
        for each in found.given
    ]
    if rows:
        blocks.append(
            Table(
                f"{artefact}: share of the effect",
                ("swapped", "gone with it (95 % interval)", "comes with it alone"),
                tuple(rows),
                sets,
                "Activations come from the other version of the same photograph. Carriers were "
                "ranked by attribution on one half of the photographs and swapped on the other. "
                "A share above 1 means that what is left works the other way.",
            )
        )
    if found.scope is not None and found.suspects:
        blocks.append(_suspects(asked, found))
    return [*blocks, *_together(asked, found)]


def _together(asked: Asked, found: Audited) -> list[Block]:
    """Which neurons fire together in the layer, by their part of the effect."""
    layer, artefact = layer_beside(asked.bundle, asked.model, found), found.effect.artefact
    if not layer:
        return []
    try:
        groups = firing(asked.bundle, asked.memo, asked.model, layer, asked.method, found)
    except LeftOutError:
        neurons = asked.source(kinds.NEURONS.name(asked.model, layer))
        told = (
            f"{artefact}: which neurons of {layer} fire together is found in its activations, "
            "which this copy of the bundle leaves out."
        )
        return [Text(told, neurons)]
    except InputError as error:
        return [Text(f"{artefact}: {error}", asked.source(kinds.IMAGES.name()))]
    sources = asked.source(kinds.ACTIVATIONS.name(asked.model, layer))
    sources += asked.source(kinds.INTERVENTION.name(asked.model), "units.parquet")
    blocks: list[Block] = [Text(f"{artefact}: {groups.sentence}", sources)]
    if groups.groups:
        blocks.append(_groups(asked, groups, sources))
    return blocks


def _groups(asked: Asked, found: Firing, sources: tuple[Source, ...]) -> Table:
    has_truth = any(each.truths for each in found.groups)
    columns = ("group", "neurons", "part of the effect", "rank correlation (95 % interval)",
               "for example")  # fmt: skip
    if has_truth:
        sources += asked.source(kinds.TRUTH.name(asked.model, found.layer), "units.parquet")
    if asked.method in asked.bundle.methods(asked.model, found.layer):
        scores = kinds.SCORES.name(asked.model, found.layer, asked.method)
        sources += asked.source(scores, "label_uk.npy", "reliable_u.npy")
    return Table(
        f"{found.artefact}: neurons of {found.layer} that fire together",
        (*columns, "truly respond to") if has_truth else columns,
        tuple(
            (
                words(each.name),
                number_of(len(each.unit_k)),
                words(each.part) if each.share is None else Cell(each.part, each.share),
                Cell(
                    each.together.share, each.together.value, *each.together.bounds,
                    found.found.n_confirming,
                ),
                words(", ".join(f"{ref.unit} {label.title}" for ref, label in each.members)),
                *([words(each.answers)] if has_truth else []),
            )
            for each in found.groups
        ),
        sources,
        "Groups come by what attribution gives them, less what works against it. They were found "
        f"on {numbers.count(found.found.n_choosing)} images, and correlations are over "
        f"{numbers.count(found.found.n_confirming)} others.",
    )  # fmt: skip


def _told(figure: Figure) -> Cell:
    if not figure.is_known:
        return words(numbers.UNKNOWN)
    return Cell(figure.fine, figure.value, *figure.bounds)


def _suspects(asked: Asked, found: Audited) -> Table:
    assert found.scope is not None
    layer = found.scope.layer
    has_truth = any(each.truth for each in found.suspects)
    columns = (
        "neuron", "attribution", "part of the effect", "on the other half (95 % interval)",
        "change of its activation", "label",
    )  # fmt: skip
    sources = asked.source(kinds.INTERVENTION.name(asked.model), "units.parquet")
    if asked.method in asked.bundle.methods(asked.model, layer):
        scores = kinds.SCORES.name(asked.model, layer, asked.method)
        sources += asked.source(scores, "label_uk.npy", "reliable_u.npy")
    if has_truth:
        sources += asked.source(kinds.TRUTH.name(asked.model, layer), "units.parquet")
    return Table(
        f"{found.effect.artefact}: the {len(found.suspects)} strongest carriers of {layer}",
        (*columns, "truly responds to") if has_truth else columns,
        tuple(
            (
                words(each.neuron),
                Cell(f"{each.attribution:+.3f}".replace("-", "−"), each.attribution),
                Cell(numbers.share(each.share), each.share),
                _told(each.confirmed),
                _told(each.moved),
                words(each.label.title),
                *([words(each.truth)] if has_truth else []),
            )
            for each in found.suspects
        ),
        sources,
        "The layer in which fewest neurons carry half of the effect. Attribution ranks them on "
        "one half of the photographs; what the other half says of each stands beside it, with an "
        "interval of its own. Labels by "
        f"{asked.method or 'no method'} are resemblance: they name a neuron and prove nothing.",
    )


CARRIERS = Chapter(
    "carriers",
    "Which neurons carry it",
    make,
    NETWORK,
    "No activations were swapped or removed, so it is not known which neurons carry an effect.",
)
