"""The whole demo, so small that a test can make it: every part of it, and little of each."""

from __future__ import annotations

from pathlib import Path

import pytest

from csp_engine.demo.shipping import world
from csp_engine.demo.shipping.parts import Plan, World
from csp_engine.demo.training import classifiers
from csp_engine.types import Progress, silent

QUICK = Plan(
    n_probe=120, n_held_out=60, n_words=48, n_lessons=24, n_slice=12,
    encoder_steps=3, classifier_steps=3, captioner_steps=5, n_exemplars=10, n_partners=2,
)  # fmt: skip
"""Every part is made, none knows much."""

LAYERS = ("layer2@max",)
"""One layer of each classifier, with 256 of the 1,536 channels that the demo browses."""


def make(work: Path, progress: Progress = silent, parts_of: Path | None = None) -> World:
    """Make the demo in a work folder, on one thread.

    With two, two processes on two cores wait for each other at every sum.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifiers, "LAYERS", LAYERS)
        patch.setattr(world, "N_THREADS", 1)
        return world.build_world(work, QUICK, progress, parts_of)
