"""The vector of an uploaded image as text, so that a link can carry a search by it."""

from __future__ import annotations

import base64
import binascii
import re

import numpy as np

from csp_engine.bundle import Bundle

N_DIGITS = 8
MAX_TEXT = 12_000
_STEPS = 32767


def encode(vector_d: np.ndarray, bundle: Bundle) -> str:
    """``ENCODER.VECTOR``: 8 digits of its fingerprint, then 16 bits a number in base64url."""
    scaled = np.round(vector_d / np.abs(vector_d).max() * _STEPS).astype("<i2")
    text = base64.urlsafe_b64encode(scaled.tobytes()).decode().rstrip("=")
    return f"{_encoder(bundle)}.{text}"


def decode(text: str, bundle: Bundle) -> np.ndarray | None:
    """The unit vector, or None where it is damaged or of another encoder than the bundle's."""
    encoder, _, body = text.partition(".")
    if len(text) > MAX_TEXT or encoder != _encoder(bundle):
        return None
    if not re.fullmatch(r"[A-Za-z0-9_-]+", body) or not bundle.has("embeddings"):
        return None
    try:
        content = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
    except binascii.Error:
        return None
    if len(content) != 2 * bundle.image_vectors().shape[1]:
        return None
    vector_d = np.frombuffer(content, "<i2").astype(np.float32)
    length = float(np.linalg.norm(vector_d))
    return vector_d / np.float32(length) if length else None


def _encoder(bundle: Bundle) -> str:
    return str(bundle.manifest.inputs["encoder"]["fingerprint"])[:N_DIGITS]
