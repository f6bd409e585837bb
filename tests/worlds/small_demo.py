"""The whole demo, so small that a test can make it: every part of it, and little of each."""

from __future__ import annotations

from pathlib import Path

import pytest

from csp_engine.demo.shipping import world
from csp_engine.demo.shipping.parts import QUICK, World
from csp_engine.demo.training import classifiers
from csp_engine.types import Progress, silent

LAYERS = ("layer2@max",)
"""One layer of each classifier, with 256 of the 1,536 channels that the demo browses."""


def make(work: Path, progress: Progress = silent) -> World:
    """Make the demo in a work folder, on one thread.

    With two, two processes on two cores wait for each other at every sum.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifiers, "LAYERS", LAYERS)
        patch.setattr(world, "N_THREADS", 1)
        return world.build_world(work, QUICK, progress)
