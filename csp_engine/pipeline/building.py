"""The two ways to run the stages of a build: from images, or from a finished bundle.

``build`` measures what is missing (one pass over the images) and derives the rest; ``relabel``
derives again from a finished bundle without touching images. A stage runs only if no stage with
the same content key is committed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from csp_engine.bundle import Bundle, BundleWriter
from csp_engine.captioners import Captioner
from csp_engine.captioners.generators import Generator
from csp_engine.encoders.threads import threads
from csp_engine.networks.devices import n_threads
from csp_engine.pipeline.deriving import derive
from csp_engine.pipeline.passing.image_pass import Target
from csp_engine.pipeline.recipe import Recipe
from csp_engine.pipeline.request import BuildRequest
from csp_engine.pipeline.run import Run
from csp_engine.pipeline.seeing import see
from csp_engine.pipeline.sharing.dividing import Sharing
from csp_engine.pipeline.stages.candidates import (
    describe_captioner,
)
from csp_engine.pipeline.stages.influence import circuits_of_outputs, influences
from csp_engine.pipeline.stages.measured import measure
from csp_engine.pipeline.stages.vocabulary import is_vocabulary_held
from csp_engine.pipeline.trying.possible import require_possible
from csp_engine.search.projection import LayingOut, laid_out_later
from csp_engine.types import Encoder, Progress, silent
from csp_engine.words.vocabularies import Vocabulary


def build(
    request: BuildRequest, progress: Progress = silent, sharing: Sharing | None = None
) -> Bundle:
    """Build, complete or refresh a bundle.

    Interrupted at any moment, the next call with the same request continues and ends with the
    same content as an undisturbed one.

    Args:
        request: what to build.
        progress: called with stage, done and total.
        sharing: has other processes compute what takes long; without it this one does all.

    Raises:
        InputError: for requests that cannot work, before anything is written where possible.
        StaleError: if the captioner was made for another encoder.
        BundleError: if another process is writing the bundle.
    """
    require_possible(request)
    captioner, encoder = request.captioner, request.encoder
    with BundleWriter(request.out) as writer:
        _drop_damaged(writer)
        run = Run(writer, request.recipe, progress)
        run.sharing = sharing
        run.targets = {target.model.name: target for target in request.targets}
        run.described["captioner"] = (
            None if captioner is None else describe_captioner(captioner, request.out)
        )
        measure(run, request)
        derive(run, request.vocabulary, encoder, request.dense_at, captioner)
        with threads(request.gradient_threads or n_threads()):
            influences(run, request)
            circuits_of_outputs(run, request)
        see(run, request)
        run.finish()
    return Bundle.open(request.out)


def _drop_damaged(writer: BundleWriter) -> None:
    """Forget stages that ``verify`` would find fault with, so that they are made again."""
    from csp_engine.bundle.verifying.crosscheck import contradictions  # loads scipy.stats

    held = Bundle(writer.path, writer.manifest, "")
    damaged = sorted({stage for stage, _ in contradictions(held, whole=False)})
    if damaged:
        writer.begin()
        writer.drop(damaged)


def relabel(
    path: Path,
    recipe: Recipe,
    vocabulary: Vocabulary | None = None,
    encoder: Encoder | None = None,
    progress: Progress = silent,
    captioner: Captioner | Generator | None = None,
    told: Callable[[str], None] | None = None,
    targets: Sequence[Target] = (),
    lay_out: LayingOut = laid_out_later,
) -> Bundle:
    """Derive labels again in a finished bundle, without images or target models.

    Args:
        path: the bundle, changed in place; stages whose parameters did not change are kept.
        recipe: the new parameters.
        vocabulary: new labels; None keeps those of the bundle.
        encoder: needed when texts must be embedded anew (new vocabulary or templates).
        progress: called with stage, done and total.
        captioner: proposes labels, instead of the one that did or for the first time; None keeps
            the candidates that the bundle holds.
        told: called with a sentence for each label method that is left out because it needs what
            this copy of the bundle leaves out; without it such a method is refused.
        targets: the networks, where a captioner is shown what excites their neurons.
        lay_out: begins to lay out the map, as ``search.projection.laid_out_later``.

    Raises:
        BundleError: if something is needed that this copy leaves out.
        StaleError: if encoder or captioner do not belong to the bundle's embeddings.
        InputError: if texts must be embedded and no encoder is given, or candidates made anew and
            no captioner.
    """
    Bundle.open(path)
    with BundleWriter(path) as writer:
        run = Run(writer, recipe, progress)
        run.targets = {target.model.name: target for target in targets}
        run.lay_out = lay_out
        run.adopt()
        if captioner is not None:
            run.described["captioner"] = describe_captioner(captioner, path)
        elif "captioner" in writer.manifest.inputs:
            run.described["captioner"] = writer.manifest.inputs["captioner"]
        dense_at = run.held_params("neurons").get("dense_at", 0.99)
        with writer.together():
            derive(run, vocabulary, encoder, dense_at, captioner, told)
        run.finish()
    return Bundle.open(path)


def needs_texts(bundle: Bundle, recipe: Recipe, vocabulary: Vocabulary | None) -> bool:
    """Whether ``relabel`` would have to embed texts, and so needs the encoder."""
    return not is_vocabulary_held(bundle, recipe, vocabulary)
