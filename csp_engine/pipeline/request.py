"""What a build is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from csp_engine.captioners import Captioner
from csp_engine.captioners.generators import Generator
from csp_engine.errors import InputError
from csp_engine.evidence.evidence import NEEDS
from csp_engine.methods import METHODS
from csp_engine.pipeline.passing.image_pass import Target
from csp_engine.pipeline.recipe import Recipe
from csp_engine.probe.listing import ProbeSet
from csp_engine.types import Encoder
from csp_engine.words.vocabularies import Vocabulary


@dataclass(frozen=True, slots=True, eq=False)
class BuildRequest:
    """Everything a build needs, already loaded.

    Attributes:
        out: the bundle's folder.
        targets: models with their layers; other models already in the bundle stay.
        batch_size: images per forward pass; activations may differ in the last bit between sizes.
        devices: where the passes run that take in every image: first the device that the networks
            were loaded to, then those that get copies of them; () for where they are. Gradients,
            texts and candidates stay with the first.
        thumbnail_side: longest side of thumbnails, in pixels.
        notice: what everyone who looks at the images must know, in one line on every page.
        near_duplicate_distance: differing bits (of 64) up to which two images are near copies.
        stop_on_unreadable: stop instead of skipping images that cannot be read.
        n_influence_images: images that gradients are taken for, at most; 0 leaves influence out.
        n_circuit_images: images of which it is measured which neurons feed which, at most; 0 leaves
            circuits out.
        outputs: numbers or names of the outputs to look at; all of a network whose outputs have
            names, if none is given. A network without names and without chosen outputs is taken
            for no classifier.
        dense_at: share of images from which a neuron counts as dense.
        captioner: proposes labels for each neuron, which join the vocabulary.
        is_quick: run convolutional networks faster where a trial finds the same activations up to
            their last digits; else the digits are those of the network as it is given.
        gradient_threads: threads of the processor that influence and circuits are measured on, and
            on which their last digits hang; as many as torch has by default. A merge takes those
            that its shards had.
    """

    out: Path
    probe: ProbeSet
    targets: tuple[Target, ...]
    encoder: Encoder
    vocabulary: Vocabulary
    recipe: Recipe
    batch_size: int = 32
    thumbnail_side: int = 160
    notice: str = ""
    near_duplicate_distance: int = 4
    stop_on_unreadable: bool = False
    n_influence_images: int = 512
    n_circuit_images: int = 0
    outputs: tuple[int | str, ...] = ()
    dense_at: float = 0.99
    captioner: Captioner | Generator | None = None
    devices: tuple[str, ...] = ()
    is_quick: bool = True
    gradient_threads: int | None = None


def require_enough_images(n_images: int, recipe: Recipe, how: str) -> None:
    """Refuse probe sets smaller than the exemplars asked for."""
    if n_images < recipe.n_exemplars:
        raise InputError(
            f"The probe set {how} {n_images} images, fewer than the {recipe.n_exemplars} exemplars "
            f"asked for per neuron; add images, or ask for fewer, such as "
            f"--exemplars {max(1, n_images // 4)}."
        )


def require_columns(recipe: Recipe, probe: ProbeSet) -> None:
    """Refuse methods that need columns which the probe set lacks, before anything is measured.

    Raises:
        InputError: naming the method and what it needs.
    """
    held = {"columns": probe.concepts, "masks": probe.masks}
    for method in recipe.methods:
        for need in METHODS[method].needs:
            if need in held and not held[need]:
                raise InputError(
                    f"Method {method!r} needs {NEEDS[need]}, and {probe.name} has none; give a "
                    "table that has them, or leave the method out (--set methods=...)."
                )
