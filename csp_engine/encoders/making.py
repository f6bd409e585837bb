"""Images made from a text, by any text-to-image pipeline of ``diffusers``."""

from __future__ import annotations

import importlib
from typing import Any, Protocol, runtime_checkable

from PIL import Image

from csp_engine.errors import InputError, MissingModelError

PROMPT = "realistic photo of a close up of {}"
"""As in CoSy."""
STEPS, SIDE = 30, 512


@runtime_checkable
class Maker(Protocol):
    """Makes images of a text; the same seed gives the same images."""

    name: str

    def images(self, text: str, n: int, seed: int) -> list[Image.Image]:
        """``n`` images of what the text says; none where the maker cannot show it."""
        ...


class DiffusersMaker:
    """A pipeline of ``diffusers`` by name or folder."""

    def __init__(self, source: str, device: str = "cpu") -> None:
        """Load the pipeline.

        Raises:
            MissingModelError: if ``diffusers`` is not installed, or its files are not at hand.
        """
        try:
            diffusers: Any = importlib.import_module("diffusers")
        except ImportError:
            raise MissingModelError(
                f"diffusers/{source} needs the package diffusers, which is not installed; run: "
                "pip install 'csp-neuron-browser[diffusers]'"
            ) from None
        self.name = f"diffusers/{source}"
        self.device = device
        try:
            pipeline: Any = diffusers.AutoPipelineForText2Image.from_pretrained(source)
        except (OSError, ValueError, ImportError) as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise MissingModelError(
                f"diffusers/{source} cannot be loaded ({first.rstrip('.')}); give the name or the "
                "folder of a text-to-image pipeline."
            ) from None
        self.pipeline = pipeline.to(device)
        self.pipeline.set_progress_bar_config(disable=True)

    def images(self, text: str, n: int, seed: int) -> list[Image.Image]:
        """``n`` images, each from a seed of its own."""
        import torch

        found = []
        for number in range(n):
            generator = torch.Generator(self.device).manual_seed(seed + number)
            made = self.pipeline(
                PROMPT.format(text),
                num_inference_steps=STEPS,
                height=SIDE,
                width=SIDE,
                generator=generator,
            )
            found.append(made.images[0].convert("RGB"))
        return found


def load_maker(spec: str, device: str = "cpu") -> Maker:
    """The maker that ``spec`` names, ``diffusers/NAME_OR_FOLDER``.

    Raises:
        InputError: if it names none.
        MissingModelError: if it cannot be loaded.
    """
    kind, slash, source = spec.partition("/")
    if kind != "diffusers" or not slash or not source:
        raise InputError(f"{spec!r} makes no images; name simulator, or diffusers/NAME_OR_FOLDER.")
    return DiffusersMaker(source, device)
