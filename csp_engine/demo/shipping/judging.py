"""What the demo's judge, an encoder that chose no label, says of the demo's labels."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np

from csp_engine import pipeline
from csp_engine.bundle.kinds import TRUST
from csp_engine.demo.shipping.parts import BUNDLE, World
from csp_engine.demo.training.judge import N_CAPTIONS, N_LESSONS, PatchJudge
from csp_engine.demo.training.pictures import Pictures, embed_pictures
from csp_engine.errors import InputError
from csp_engine.pipeline.added.judging import Judged
from csp_engine.views.benchmark.trusting import trusted_metrics

log = logging.getLogger(__name__)


def judge_labels(
    world: World, held: Pictures, activations: Mapping[tuple[str, str], np.ndarray], images: str
) -> None:
    """Put into the bundle how well labels predict its neurons, and which figure to believe.

    Args:
        world: with a bundle.
        held: photographs that no network learnt from and no bundle shows.
        activations: of all layers on them.
        images: what they are, in words.
    """
    judge = PatchJudge(
        n_lessons=min(N_LESSONS, world.plan.n_words),
        n_captions=min(N_CAPTIONS, 4 * world.plan.n_words),
    )
    judged = Judged(judge, embed_pictures(judge, held.image_nhwc), activations, None, True, images)
    bundle = pipeline.add_faithfulness(world.path(BUNDLE), judged, world.progress)
    if bundle.has(TRUST.name()):
        return
    try:
        found = trusted_metrics(bundle, judge=judge, progress=world.progress)
    except InputError as error:
        log.warning("Which figure to trust is not known: %s", error)
        return
    pipeline.add_trust(bundle.path, found)
