"""Small worlds with known truth, made by scripts, for tests and for a first look."""

from __future__ import annotations

from pathlib import Path

from csp_engine.types import Progress, silent

N_EXEMPLARS = 60
LAYERS = ["layer1", "layer2", "layer3"]


def make_demo(folder: Path, progress: Progress = silent, *, quick: bool = False) -> Path:
    """Draw the world of shapes, train its networks, and build its bundle.

    Everything is made from a seed by this repository; nothing is downloaded. Parts that are done
    are kept, so that an interrupted call continues.

    Args:
        folder: gets ``shapes/`` (images and weights) and ``shapes.csp``.
        progress: called with stage, done and total.
        quick: for tests: fewer images and hardly any training.

    Returns:
        The path of the bundle.
    """
    from csp_engine.demo import shapes
    from csp_engine.encoders import load_encoder
    from csp_engine.labels import read_vocabulary
    from csp_engine.layers import select_layers
    from csp_engine.pipeline import BuildRequest, Target, build
    from csp_engine.probe import read_probe_set
    from csp_engine.recipe import Recipe

    world = shapes.make_world(folder / "shapes", quick=quick, progress=progress)
    model = shapes.target_model(world)
    n_exemplars = 12 if quick else N_EXEMPLARS
    request = BuildRequest(
        out=folder / "shapes.csp",
        probe=read_probe_set(world / "labels.csv"),
        targets=(Target(model, tuple(select_layers(model, LAYERS))),),
        encoder=load_encoder(f"open_clip/{(world / 'encoder').resolve()}"),
        vocabulary=read_vocabulary([str(world / "vocabulary.txt")]),
        recipe=Recipe(n_exemplars=n_exemplars, n_score=min(30, n_exemplars)),
    )
    return build(request, progress).path
