"""Everything that follows from measurements, without images: exemplars to search index."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import groupby

import numpy as np

from csp_engine.bundle import kinds
from csp_engine.captioners import Captioner
from csp_engine.captioners.generators import Generator
from csp_engine.errors import InputError
from csp_engine.pipeline.recipe import Recipe
from csp_engine.pipeline.registered import STAGES
from csp_engine.pipeline.run import Run
from csp_engine.pipeline.stage import Of, Stage
from csp_engine.pipeline.stages.candidates import unanswered
from csp_engine.pipeline.stages.scores import methods_without_evidence
from csp_engine.pipeline.stages.vocabulary import words_of
from csp_engine.types import Encoder
from csp_engine.words.vocabularies import Vocabulary


def derive(
    run: Run,
    vocabulary: Vocabulary | None,
    encoder: Encoder | None,
    dense_at: float,
    captioner: Captioner | Generator | None = None,
    told: Callable[[str], None] | None = None,
) -> None:
    """Make every stage that follows from measurements, where the bundle lacks it.

    All are registered first, and what cannot work is refused before anything changes; but label
    methods that need what this copy of the bundle leaves out are left out, if ``told`` takes the
    sentence about it.
    """
    _require_telling_vectors(run)
    run.dense_at, run.encoder, run.captioner = dense_at, encoder, captioner
    run.words = words_of(run, vocabulary)
    measured = dict(run.keys)
    _register_all(run)
    if told is not None and (lacking := methods_without_evidence(run)):
        run.recipe = _without(run.recipe, lacking, told)
        run.keys.clear()
        run.keys.update(measured)
        _register_all(run)
    for stage in STAGES:
        stage.require(run)
    if missing := unanswered(run):
        run.writer.begin()
        run.writer.drop(missing)
    waiting = [
        (partial(stage.begin, run, *of), set(stage.needs(run, *of)))
        for stage in STAGES
        if stage.begin is not None
        for of in stage.of_build(run)
        if not run.is_fresh(stage.kind.name(*of))
    ]
    for stage, of in _in_turn(run):
        stage.ensure(run, of)
        name = stage.kind.name(*of)
        for begin, needs in waiting:
            if name in needs:
                needs.remove(name)
                if not needs:
                    begin()


def _in_turn(run: Run) -> Iterator[tuple[Stage, Of]]:
    """All stages, each after those that it is made from.

    One layer after the other, so that its activations are read while they are in memory. Scores
    that read none come after those of all layers, and with them what is made from them: what was
    begun elsewhere goes on meanwhile.
    """
    for is_of_layer, group in groupby(STAGES, key=_is_of_layer):
        together = list(group)
        late: list[tuple[Stage, Of]] = []
        late_kinds: set[str] = set()
        for layer in run.layers if is_of_layer else [()]:
            for stage in together:
                is_late = not late_kinds.isdisjoint(stage.kind.needs)
                for of in stage.of_build(run):
                    if is_of_layer and of[:2] != layer:
                        continue
                    if is_late or _reads_none(run, stage, of):
                        late.append((stage, of))
                        late_kinds.add(stage.name)
                    else:
                        yield stage, of
        yield from late


def _reads_none(run: Run, stage: Stage, of: Of) -> bool:
    """Whether these are scores that come from exemplars alone."""
    is_score = stage.kind is kinds.SCORES
    return is_score and kinds.ACTIVATIONS.name(*of[:2]) not in stage.needs(run, *of)


def _register_all(run: Run) -> None:
    for stage in STAGES:
        for of in stage.of_build(run):
            stage.register(run, of)


def _without(recipe: Recipe, lacking: dict[str, str], told: Callable[[str], None]) -> Recipe:
    """The recipe without these methods; as it is where no other would be left."""
    rest = tuple(name for name in recipe.methods if name not in lacking)
    if not rest:
        return recipe
    for name, why in lacking.items():
        told(f"{name} is left out and {', '.join(rest)} ran: {why}")
    kept = tuple(each for each in recipe.parameters if each[0].split(".")[0] in rest)
    return replace(recipe, methods=rest, parameters=kept)


def _is_of_layer(stage: Stage) -> bool:
    return stage.kind.of[:2] == ("model", "layer")


def _look_the_same(run: Run, n_images: int) -> bool:
    """Whether all images are near-duplicates, or the same once they are small."""
    groups = run.bundle.table(kinds.IMAGES.name(), "images")["duplicate_group"]
    if groups.nunique() == 1:
        return True
    return len({run.bundle.thumbnail(image) for image in range(n_images)}) == 1


def _require_telling_vectors(run: Run) -> None:
    """Refuse an encoder that cannot tell images apart; all that follows would mean nothing."""
    sample_nd = np.asarray(run.bundle.image_vectors()[:256])
    if len(sample_nd) > 1 and float(np.ptp(sample_nd, axis=0).max()) < 1e-6:
        if _look_the_same(run, len(sample_nd)):
            raise InputError(
                f"The images of {run.described.get('probe', {}).get('name', 'the probe set')} all "
                "look the same, so nothing can be told about neurons; give images that differ."
            )
        raise InputError(
            "The encoder gives the same vector for every image; check its weights and "
            "preprocessing, or choose another with --encoder."
        )
