"""Captioners: from embeddings of several images to short phrases that name what they share."""

from __future__ import annotations

from pathlib import Path

from csp_engine.captioners.captions import (
    MODES,
    Caption,
    Captioner,
    Captions,
    ImageSet,
    pmi,
    require_encoder,
)

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


def load_captioner(folder: Path | str, *, device: str = "cpu") -> Captioner:
    """Load a captioner from its folder: ``config.json``, ``model.safetensors``, ``tokenizer.json``.

    Raises:
        MissingModelError: if there is no such folder, or a file is not in it.
        InputError: if a file is damaged, or the files do not belong together.
    """
    from csp_engine.captioners.set_captioner import load_set_captioner

    return load_set_captioner(Path(folder), device=device)
