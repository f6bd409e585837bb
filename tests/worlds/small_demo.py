"""The whole demo, so small that a test can make it: every part of it, and little of each."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from csp_engine.demo.shipping import bundling, world
from csp_engine.demo.shipping.parts import Plan, World
from csp_engine.demo.simulator.pairs import SimulatedPairs
from csp_engine.demo.training import classifiers
from csp_engine.types import Progress, silent
from tests.worlds import toys

QUICK = Plan(
    n_probe=120, n_held_out=60, n_words=48, n_lessons=24, n_slice=12,
    encoder_steps=3, classifier_steps=3, captioner_steps=5, n_exemplars=10, n_partners=2,
)  # fmt: skip
"""Every part is made, none knows much."""

LAYERS = ("layer2@max",)
"""One layer of each classifier, with 256 of the 1,536 channels that the demo browses."""


ARTEFACTS = ("colour patch",)
"""What is added to photographs, of the eight things that the demo adds."""


def make(work: Path, progress: Progress = silent, parts_of: Path | None = None) -> World:
    """Make the demo in a work folder, on one thread.

    With two, two processes on two cores wait for each other at every sum.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifiers, "LAYERS", LAYERS)
        few = partial(SimulatedPairs, artefacts=ARTEFACTS)
        patch.setattr(bundling, "SimulatedPairs", few)
        patch.setattr(world, "N_THREADS", 1)
        return world.build_world(work, QUICK, progress, parts_of)


OF_GRADIENTS = ("units.parquet", "sets.parquet")
"""What interventions hold of gradients, and of the units that these rank. The last bit of a
gradient through convolutions is not the same in every run; of networks that learnt nothing, as
here, that decides which unit comes first."""


def content(bundle: Path) -> dict[str, Any]:
    """What two small demos must agree in to be the same."""
    return {
        name: (key, {f: sha for f, sha in files.items() if f not in OF_GRADIENTS})
        if name.startswith("intervention:")
        else (key, files)
        for name, (key, files) in toys.content(bundle).items()
    }
