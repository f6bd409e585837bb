"""Image-text encoders behind one protocol: open_clip, transformers, stored vectors, Python objects.

An encoder is never guessed together: weights, preprocessing and tokenizer must all be found, or
loading stops with one sentence. What was found is described in ``description`` and hashed into
``fingerprint``, so that vectors of two encoders cannot be mixed.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from csp_engine.encoders.base import (
    NotCachedError,
    first_line,
    require_part,
    split_spec,
)
from csp_engine.encoders.stored import PrecomputedEncoder, stored_files
from csp_engine.errors import CspError, InputError, MissingModelError
from csp_engine.networks.loading.checkpoints import is_offline
from csp_engine.networks.loading.preprocessing import require_repeatable
from csp_engine.types import Encoder

MOST_APART = 1e-3
"""One less the cosine of two vectors of one image or text, in the arithmetic of any machine."""

__all__ = ["PrecomputedEncoder", "encoder_availability", "load_encoder"]


def load_encoder(
    spec: str,
    *,
    device: str = "cpu",
    offline: bool | None = None,
    expected: Mapping[str, Any] | None = None,
    files: Mapping[str, str] | None = None,
) -> Encoder:
    """Load the encoder that ``spec`` names.

    ``open_clip/ViT-B-32/laion2b_s34b_b79k`` (architecture and tag), ``open_clip/hf-hub:org/name``,
    ``open_clip/FOLDER`` (open_clip_config.json with model_cfg and preprocess_cfg, and weights),
    ``transformers/NAME_OR_FOLDER`` (CLIP, SigLIP, SigLIP 2), ``precomputed/FOLDER`` (see
    ``PrecomputedEncoder``), ``python:module:factory``.

    Every encoder also has ``needs_pixels``: false for stored vectors, which are looked up by name.

    Args:
        spec: what to load.
        device: a torch device.
        offline: never touch the network; by default as ``HF_HUB_OFFLINE`` says.
        expected: the ``description`` of the one encoder that is wanted; loading stops at the first
            part that differs, before what comes after it is read.
        files: the sha256 of the small files in its folder, compared before anything is loaded.

    Raises:
        StaleError: if it is not the one that is wanted.
        InputError: if ``spec`` cannot be understood or what it names contradicts itself.
        MissingModelError: if weights, preprocessing or tokenizer are not on this machine and
            cannot be had.
    """
    if offline is None:
        offline = is_offline()
    kind, rest = split_spec(spec)
    if kind != "python":
        require_part(expected, spec, "kind", kind)
    if kind == "open_clip":
        from csp_engine.encoders.from_open_clip import load_open_clip

        return load_open_clip(spec, rest, device, offline, expected, files)
    if kind == "transformers":
        from csp_engine.encoders.from_transformers import load_transformers

        return load_transformers(spec, rest, device, offline, expected, files)
    if kind == "precomputed":
        return PrecomputedEncoder(spec, Path(rest).expanduser())
    return _load_python(spec, rest)


def encoder_availability(spec: str) -> str:
    """Say, without loading or downloading, whether an encoder could be loaded now.

    Returns:
        ``"ready"``, ``"needs download of …"`` or ``"missing: …"``.
    """
    try:
        kind, rest = split_spec(spec)
        if kind == "open_clip":
            from csp_engine.encoders.from_open_clip import open_clip_source

            open_clip_source(rest, offline=True)
        elif kind == "transformers":
            from csp_engine.encoders.from_transformers import transformers_folder

            transformers_folder(rest, offline=True)
        elif kind == "precomputed":
            stored_files(Path(rest).expanduser())
        else:
            _python_factory(rest)
    except NotCachedError as error:
        return f"needs download of {error.what}"
    except (InputError, MissingModelError) as error:
        return f"missing: {error}"
    return "ready"


def _python_factory(rest: str) -> Callable[[], Any]:
    module_name, _, name = rest.partition(":")
    if not module_name or not name:
        raise InputError(f"python:{rest} names no factory; write python:module:factory.")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # as the python command has it, and console scripts have not
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # importing runs the user's code
        raise MissingModelError(
            f"Module {module_name!r} of encoder python:{rest} cannot be imported in {here} "
            f"({first_line(error)}); run from the folder that holds it, or install it."
        ) from error
    factory = getattr(module, name, None)
    if not callable(factory):
        raise InputError(f"Module {module_name!r} has no function {name!r} to make an encoder.")
    return factory


def _load_python(spec: str, rest: str) -> Encoder:
    factory = _python_factory(rest)
    try:
        encoder = factory()
    except CspError:
        raise
    except Exception as error:  # the user's code
        raise InputError(
            f"{spec} failed ({type(error).__name__}: {first_line(error)}); call it in Python to "
            f"see where."
        ) from error
    needed = ("dim", "fingerprint", "description", "preprocess", "embed_images", "embed_texts")
    lacking = [name for name in needed if not hasattr(encoder, name)]
    if lacking:
        raise InputError(
            f"{spec} made an object without {', '.join(lacking)}; an encoder has them."
        )
    if not isinstance(encoder.fingerprint, str) or not encoder.fingerprint:
        raise InputError(
            f"{spec} has no fingerprint; hash its weights, preprocessing and tokenizer."
        )
    if not hasattr(encoder, "needs_pixels"):
        encoder.needs_pixels = True
    if not hasattr(encoder, "spec"):
        encoder.spec = spec
    if not encoder.needs_pixels and not hasattr(encoder, "lookup_images"):
        raise InputError(f"{spec} needs no pixels but has no lookup_images(files, sha256).")
    if encoder.needs_pixels:
        grey = np.asarray(encoder.preprocess(Image.new("RGB", (64, 48), (90, 120, 150))))
        if grey.dtype != np.float32 or grey.ndim != 3:
            raise InputError(
                f"{spec} preprocesses an image to {grey.dtype} of shape {grey.shape}; it must "
                f"be float32 (channel, height, width)."
            )
        _check_rows(spec, "images", encoder.embed_images(np.stack([grey, grey])), encoder.dim)
        _check_rows(spec, "texts", encoder.embed_texts(["a photo", "red"]), encoder.dim)
        require_repeatable(encoder.preprocess, spec)
        _require_steady(spec, encoder)
    return encoder


def _require_steady(spec: str, encoder: Encoder) -> None:
    """Refuse vectors that are no function of their image or text alone, but for float noise.

    Raises:
        InputError: as above; dropout and batch statistics of training do that.
    """
    noise = np.random.default_rng(0).integers(0, 256, (2, 48, 64, 3), np.uint8)
    one, other = (np.asarray(encoder.preprocess(Image.fromarray(each))) for each in noise)
    texts = ["a photo", "red"]
    both = encoder.embed_images(np.stack([one, other]))
    pairs = {
        "images": (both, encoder.embed_images(np.stack([other, one]))[::-1]),
        "an image": (both[:1], encoder.embed_images(np.stack([one, one]))[:1]),
        "texts": (encoder.embed_texts(texts), encoder.embed_texts(texts[::-1])[::-1]),
    }
    for what, (first, second) in pairs.items():
        cosine = float((np.asarray(first) * np.asarray(second)).sum(1).min())
        if not cosine > 1 - MOST_APART:
            raise InputError(
                f"{spec} gives {what} other vectors in a second run or beside others (cosine "
                f"{cosine:.3f}); put it into evaluation mode (.eval()), or make every vector "
                "independent of its batch."
            )


def _check_rows(spec: str, what: str, rows: Any, dim: int) -> None:
    rows = np.asarray(rows)
    if rows.shape != (2, dim) or rows.dtype != np.float32:
        raise InputError(
            f"{spec} turned two {what} into {rows.dtype} of shape {rows.shape}; it must be "
            f"float32 (2, {dim})."
        )
    length = np.linalg.norm(rows, axis=1)
    if not np.allclose(length, 1.0, atol=1e-3):
        raise InputError(f"{spec} gives {what} rows of length {length[0]:.3g}; they must be 1.")
