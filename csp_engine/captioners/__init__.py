"""Captioners: from embeddings of several images to short phrases that name what they share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, overload

from csp_engine.captioners.captions import (
    MODES,
    Caption,
    Captioner,
    Captions,
    ImageSet,
    pmi,
    require_encoder,
)
from csp_engine.captioners.generators.naming import is_generator

if TYPE_CHECKING:
    from csp_engine.captioners.generators.asking import Generator

__all__ = [
    "MODES",
    "Caption",
    "Captioner",
    "Captions",
    "ImageSet",
    "load_captioner",
    "pmi",
    "require_encoder",
]


@overload
def load_captioner(spec: Path, *, device: str = "cpu") -> Captioner: ...
@overload
def load_captioner(spec: str, *, device: str = "cpu") -> Captioner | Generator: ...
def load_captioner(spec: Path | str, *, device: str = "cpu") -> Captioner | Generator:
    """Load a captioner: a folder with ``config.json``, ``model.safetensors``, ``tokenizer.json``.

    Or one that is shown pictures: ``transformers/NAME_OR_FOLDER`` or ``openai/MODEL@URL``.

    Raises:
        MissingModelError: if there is no such folder or model, or a file is not in it.
        InputError: if a file is damaged, or the files do not belong together.
    """
    if isinstance(spec, str) and is_generator(spec):
        from csp_engine.captioners.generators import load_generator

        return load_generator(spec, device=device)
    from csp_engine.captioners.set_captioner import load_set_captioner

    return load_set_captioner(Path(spec), device=device)
