"""The options of a build, each declared once: command line, form and job orders read them here."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from csp_engine.errors import InputError
from csp_engine.pipeline.recipe import PRESETS
from csp_engine.types import POOLINGS

PROBE = "Probe set"
MODEL = "Target model"
LABELS = "Labels and contrast"
RUN = "Running"


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOption:
    """One thing a build can be told.

    Attributes:
        name: of the command's parameter.
        help: one sentence for the command line.
        kind: what is typed: ``str``, ``Path``, ``int`` or ``float``.
        flags: on the command line; by default ``--`` and the name. Empty for what stands alone.
        panel: heading it is listed under in the command's help.
        default: what it is when nothing is said; None where that depends.
        is_needed: whether there is no build without it.
        is_many: whether it may be given several times.
        least: smallest number.
        most: largest number.
        choices: the only values.
        may_be_path: whether text may name a file, which may start with ``~``.
        parameter: of the recipe, where the command line takes it by ``--set PARAMETER=VALUE``.
        order: field of ``BuildOrder``; None where only the command line takes it.
        label: what the form calls it; empty where the form does not offer it.
        hint: what the form says of it.
        example: what the form shows in the empty field, where that is not the default.
    """

    name: str
    help: str
    kind: type = str
    flags: tuple[str, ...] | None = None
    panel: str | None = None
    default: Any = None
    is_needed: bool = False
    is_many: bool = False
    least: int | float | None = None
    most: int | float | None = None
    choices: tuple[str, ...] = ()
    may_be_path: bool = False
    parameter: str = ""
    order: str | None = None
    label: str = ""
    hint: str | None = None
    example: str = ""

    @property
    def spelled(self) -> tuple[str, ...]:
        """How it is written on the command line."""
        return (f"--{self.name.replace('_', '-')}",) if self.flags is None else self.flags

    @property
    def usual(self) -> str:
        """What the form shows in the empty field."""
        return self.example or ("" if self.default is None else str(self.default))

    def written(self, value: Any) -> list[str]:
        """A value as arguments of the command; none where it is what nobody has to say."""
        if value is None or value in ("", self.default):
            return []
        arguments: list[str] = []
        for each in value if self.is_many else (value,):
            text = expanded(each) if self.kind is Path or self.may_be_path else str(each)
            text = f"{self.parameter}={each:g}" if self.parameter else text
            arguments += [*self.spelled[:1], text]
        return arguments

    def check(self, value: Any) -> None:
        """Raise unless a value is one of the choices and within the bounds.

        Raises:
            InputError: naming the value and what may be given.
        """
        if value is None or value == "":
            return
        if self.choices and value not in self.choices:
            allowed = f"{', '.join(self.choices[:-1])} or {self.choices[-1]}"
            raise InputError(f"{self.spelled[0]} is {value!r}; choose {allowed}.")
        if self.most is not None and not (self.least or 0) <= value <= self.most:
            raise InputError(
                f"{self.name} is {value}; it must lie between {self.least or 0} and {self.most}."
            )
        if self.least is not None and value < self.least:
            raise InputError(f"{self.name} is {value}; it must be at least {self.least}.")


def expanded(path: str) -> str:
    """A path with the home folder in place of ``~``."""
    return os.path.expanduser(path) if path.startswith("~") else path  # noqa: PTH111


_DECLARED = (
    BuildOption(
        name="images",
        may_be_path=True,
        help="Folder of images (class folders or flat), table or list of paths, Parquet or tar "
        "files that hold images, or an address such as s3://bucket/folder.",
        flags=(),
        is_needed=True,
        order="images",
        label="Images",
        hint="A folder of images or of class folders, a table or list of paths, or Parquet or tar "
        "files that hold images.",
        example="choose or type a folder",
    ),
    BuildOption(
        name="model",
        help="torchvision/NAME[:WEIGHTS], timm/NAME[.TAG], hf-hub:ORG/NAME, "
        "transformers/NAME_OR_FOLDER, open_clip/ARCH/PRETRAINED, open_clip/FOLDER or "
        "python:package.module:factory.",
        flags=("--model", "-m"),
        panel=MODEL,
        is_needed=True,
        order="model",
        label="Model",
        hint="The network to study: torchvision/NAME, timm/NAME, hf-hub:ORG/NAME, or "
        "transformers/NAME_OR_FOLDER. For a checkpoint of your own, name its "
        "architecture here and the file under More options.",
        example="torchvision/resnet50",
    ),
    BuildOption(
        name="layer",
        help="Module path or glob, optionally @pooling; may be given several times.",
        flags=("--layer", "-l"),
        panel=MODEL,
        is_needed=True,
        is_many=True,
        order="layers",
        label="Layers",
        hint="Where the neurons are. A pattern such as blocks.* takes several layers; "
        "layer@max pools by the maximum.",
        example="choose or type, such as layer4",
    ),
    BuildOption(
        name="encoder",
        help="open_clip/ARCH/PRETRAINED, open_clip/FOLDER, transformers/NAME_OR_FOLDER, "
        "precomputed/FOLDER or python:package.module:factory.",
        flags=("--encoder", "-e"),
        panel=LABELS,
        is_needed=True,
        order="encoder",
        label="Encoder",
        hint="Compares images with words: any open_clip or transformers CLIP or SigLIP model, "
        "by name or from a folder, or vectors that you already have. A name may have to "
        "be downloaded first.",
        example="open_clip/ViT-B-32/laion2b_s34b_b79k",
    ),
    BuildOption(
        name="out",
        may_be_path=True,
        help="The bundle to write, NAME.csp; for 'csp build' also an address such as "
        "s3://lab/NAME.csp.",
        flags=("--out", "-o"),
        is_needed=True,
        order="out",
        label="Name of the bundle",
    ),
    BuildOption(
        name="vocabulary",
        help="general, textures, colours, dermoscopy, or a file of labels: one per line, JSON or a "
        "table (docs/tables.md); may be given several times.",
        flags=("--vocabulary", "-v"),
        panel=LABELS,
        default=("general",),
        is_many=True,
        may_be_path=True,
        order="vocabulary",
        label="Words to try as labels",
        hint="Lists that come with the project, or files of your own: one label per line, JSON or "
        "a table with a column of labels.",
        example="choose a list or type the path of a file",
    ),
    BuildOption(
        name="captioner",
        may_be_path=True,
        help="What proposes labels for every neuron: folder of a captioner made for the encoder, "
        "transformers/NAME_OR_FOLDER, or openai/MODEL@URL, which is sent the images.",
        panel=LABELS,
        order="captioner",
        label="Captioner",
        hint="Folder of a captioner that proposes labels. A model that is shown the images "
        "themselves is named in a terminal.",
    ),
    BuildOption(
        name="weights",
        kind=Path,
        help="Local checkpoint (.safetensors, .pt, .pth, .bin or .ckpt).",
        panel=MODEL,
        order="weights",
        label="Checkpoint",
        hint="A file of weights for the architecture above.",
    ),
    BuildOption(
        name="weights_key",
        help="Which network to take from a checkpoint with several, such as state_dict_ema.",
        panel=MODEL,
    ),
    BuildOption(
        name="name",
        help="Short name for the model, with which the ids of its neurons begin.",
        panel=MODEL,
        order="name",
        label="Short name of the model",
        hint="The ids of its neurons begin with it.",
    ),
    BuildOption(
        name="pooling",
        help=f"Pooling of layers given without one: {', '.join(POOLINGS[:-1])} or {POOLINGS[-1]}.",
        panel=MODEL,
        choices=POOLINGS,
        order="pooling",
        label="Pooling",
    ),
    BuildOption(
        name="sae",
        help="LAYER=FILE (or folder): a sparse autoencoder on top of a layer, whose latents become "
        "neurons, as saved by saev, SAELens, Prisma, dictionary_learning, sparsify, Overcomplete, "
        "MSAE or OpenAI.",
        panel=MODEL,
        is_many=True,
    ),
    BuildOption(
        name="preprocessing",
        kind=Path,
        help="JSON file that replaces the model's own preprocessing, or 'whole', which squeezes "
        "the whole image in instead of cropping it.",
        panel=MODEL,
        order="preprocessing",
        label="Preprocessing",
        hint="JSON file that replaces the model's own preprocessing, or the word whole, which "
        "squeezes the whole image in instead of cropping it.",
    ),
    BuildOption(
        name="class_names",
        kind=Path,
        help="File with the names of the outputs, in their order or with their numbers: one per "
        "line, JSON or a table (docs/tables.md).",
        panel=MODEL,
        order="class_names",
        label="Names of the outputs",
        hint="File with the names in the order of the outputs: one per line, JSON or a table.",
    ),
    BuildOption(
        name="output",
        help="Output to measure influence on, by name or number; may be given several times.",
        panel=MODEL,
        is_many=True,
    ),
    BuildOption(
        name="layout",
        help="Order of a layer's axes, if it cannot be inferred: nchw, nhwc, ntc, nct or tnc "
        "(n images, c channels, h and w positions, t tokens).",
        panel=MODEL,
    ),
    BuildOption(
        name="prefix_tokens",
        kind=int,
        help="How many class and register tokens come before the patches, if they cannot be "
        "counted.",
        panel=MODEL,
        least=0,
    ),
    BuildOption(
        name="path_column",
        help="Column of image paths.",
        panel=PROBE,
        order="path_column",
        label="Path column",
        hint="Found by its name if it has a usual one.",
        example="by its name",
    ),
    BuildOption(
        name="class_column",
        help="Column of classes.",
        panel=PROBE,
        order="class_column",
        label="Class column",
        hint="Found by its name if it has a usual one.",
        example="by its name",
    ),
    BuildOption(
        name="group_column",
        help="Column of group ids, such as lesion_id.",
        panel=PROBE,
        order="group_column",
        label="Group column",
        hint="Found by its name if it has a usual one.",
        example="by its name",
    ),
    BuildOption(name="split_column", help="Column of splits.", panel=PROBE),
    BuildOption(
        name="image_root",
        kind=Path,
        help="Folder that the paths in a table are relative to.",
        panel=PROBE,
        order="image_root",
        label="Folder that its paths are relative to",
        hint="By default the folder of the table.",
    ),
    BuildOption(
        name="limit",
        kind=int,
        help="Use only this many images, evenly spaced.",
        panel=PROBE,
        least=1,
        order="limit",
        label="How many images to use",
        example="all",
    ),
    BuildOption(
        name="on_unreadable",
        help="What to do when an image cannot be read: skip it or stop.",
        panel=PROBE,
        default="skip",
        choices=("skip", "stop"),
    ),
    BuildOption(
        name="preset",
        help="Parameters to start from: default (CSP+ first), or paper for CSP as published.",
        panel=LABELS,
        default="default",
        choices=tuple(PRESETS),
        order="preset",
        label="Preset",
        hint="paper: Contrastive Semantic Projection as published.",
    ),
    BuildOption(
        name="exemplars",
        kind=int,
        help="Exemplars per neuron.",
        panel=LABELS,
        least=1,
        order="exemplars",
        label="Exemplars per neuron",
        example=str(PRESETS["default"].n_exemplars),
    ),
    BuildOption(
        name="set_",
        help="PARAMETER=VALUE of the recipe, such as gamma=0.5; 'csp info' lists them.",
        flags=("--set",),
        panel=LABELS,
        is_many=True,
    ),
    BuildOption(
        name="control",
        help="random-weights: also measure and label the same network before any training, to "
        "compare with.",
        panel=MODEL,
        choices=("random-weights",),
    ),
    BuildOption(
        name="judge",
        help="Encoder that does not choose the labels, named as --encoder is: measures how well "
        "labels predict neurons.",
        panel=LABELS,
    ),
    BuildOption(
        name="held_out",
        may_be_path=True,
        help="Images for the judge that are not in the probe set, a folder or a table; without "
        "them it judges on the probe set, which chose the labels.",
        panel=LABELS,
    ),
    BuildOption(
        name="gamma",
        kind=float,
        help="How much of what an exemplar shares with its contrast images CSP takes away.",
        flags=("--set",),
        parameter="gamma",
        least=0,
        most=1,
        order="gamma",
        label="γ",
        hint="How much of what an exemplar shares with its contrast images is taken away.",
        example=f"{PRESETS['default'].gamma:g}",
    ),
    BuildOption(
        name="batch_size",
        kind=int,
        help="Images per forward pass.",
        panel=RUN,
        default=32,
        least=1,
        order="batch_size",
        label="Images per forward pass",
    ),
    BuildOption(
        name="influence_images",
        kind=int,
        help="How many images to compute gradients for, which give influence; 0 for none.",
        panel=RUN,
        default=512,
        least=0,
        order="influence_images",
        label="Images to compute gradients for",
    ),
    BuildOption(
        name="circuit_images",
        kind=int,
        help="How many images to measure which neurons feed which, for the circuit of each "
        "output; 0 for none.",
        panel=RUN,
        default=64,
        least=0,
    ),
    BuildOption(
        name="precision",
        help="Precision of the model's matrix products: float32, bfloat16 or float16.",
        panel=RUN,
        default="float32",
        choices=("float32", "bfloat16", "float16"),
    ),
    BuildOption(
        name="device",
        help="cpu, cuda, cuda:1 or mps; several of one kind, such as cuda:0,cuda:1, take turns "
        "with the batches.",
        panel=RUN,
        default="cpu",
        order="device",
        label="Device",
        hint="cpu, cuda, cuda:1 or mps; or several of one kind, such as cuda:0,cuda:1.",
    ),
    BuildOption(
        name="shard",
        help="I/N: be the I-th of N processes that measure a share of the images each, for 'csp "
        "merge' to make the bundle of, or that merge together (docs/scale.md).",
        panel=RUN,
    ),
    BuildOption(
        name="workers",
        kind=int,
        help="Share the images among this many processes.",
        panel=RUN,
        least=1,
        most=1024,
    ),
    BuildOption(
        name="engine",
        help="What runs the --workers: local, or ray for a Ray cluster.",
        panel=RUN,
        default="local",
        choices=("local", "ray"),
    ),
    BuildOption(
        name="address",
        help="Address of the Ray cluster, such as 10.0.0.1:6379; without it, that of RAY_ADDRESS, "
        "or a Ray of this machine alone.",
        panel=RUN,
    ),
)

OPTIONS = {option.name: option for option in _DECLARED}
"""By name, in the order in which the command's help lists them."""

BY_FIELD = {option.order: option for option in _DECLARED if option.order is not None}
"""By the field of ``BuildOrder`` that holds it."""
