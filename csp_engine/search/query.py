"""From a text or an image to the vector that neurons are compared with."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from jaxtyping import Float32

from csp_engine.bundle import Bundle
from csp_engine.bundle.folders import specs_to_try
from csp_engine.errors import BundleError, CspError, InputError, MissingModelError, StaleError
from csp_engine.printable import shown_spec
from csp_engine.trust import require_trust
from csp_engine.types import Encoder, TextRecipe
from csp_engine.vectors import normalise_rows
from csp_engine.words.templates import embed_labels, fill_templates
from csp_engine.words.vocabularies import clean_label

_ARTICLE = re.compile(r"^(?:an?|the) (?=\S)", re.IGNORECASE)


def combine(
    positive_qd: Float32[np.ndarray, "q d"], negative_rd: Float32[np.ndarray, "r d"] | None = None
) -> Float32[np.ndarray, " d"]:
    """One query from several: mean of the unit positives minus mean of the unit negatives.

    The result has unit length, except that a single positive without negatives comes back as it
    is, so that its scores equal the label scores of the bundle.

    Raises:
        InputError: if the vectors cancel out.
    """
    if len(positive_qd) == 1 and (negative_rd is None or not len(negative_rd)):
        return positive_qd[0]
    query_d = normalise_rows(positive_qd).mean(axis=0)
    if negative_rd is not None and len(negative_rd):
        query_d = query_d - normalise_rows(negative_rd).mean(axis=0)
    if np.linalg.norm(query_d) < 1e-5:
        raise InputError("These texts cancel each other out; change one of them.")
    return normalise_rows(query_d[None])[0]


def text_recipe(bundle: Bundle) -> TextRecipe:
    """How this bundle turns a text into a vector.

    Raises:
        BundleError: if it does not say, as before its labels are embedded.
    """
    stored = bundle.manifest.inputs.get("vocabulary", {})
    for name in ("templates", "renormalise", "subtract_empty"):
        if name not in stored:
            raise BundleError(
                f"Bundle {bundle.name} does not say how its texts are embedded ({name!r} of its "
                "vocabulary is missing); run 'csp build' again, or restore it from a copy."
            )
    return TextRecipe(
        tuple(stored["templates"]), bool(stored["renormalise"]), bool(stored["subtract_empty"])
    )


def as_label(bundle: Bundle, text: str) -> str:
    """A query written as labels are: cleaned, and without an article before it.

    Templates bring articles of their own, so "a red truck" would become "a photo of a a red truck".
    A label of the vocabulary that begins with one stays as it is.
    """
    cleaned = clean_label(text)
    return cleaned if cleaned in bundle.label_ids else _ARTICLE.sub("", cleaned)


def prompts(bundle: Bundle, text: str) -> list[str]:
    """The exact texts that the encoder sees for a query."""
    return fill_templates([as_label(bundle, text)], text_recipe(bundle).templates)


def stored_label(bundle: Bundle, text: str) -> int | None:
    """The label id of a query that is in the vocabulary, so that no encoder is needed."""
    return bundle.label_ids.get(as_label(bundle, text))


def query_vector(
    bundle: Bundle, text: str, encoder: Encoder | None = None
) -> Float32[np.ndarray, " d"]:
    """The vector of a text, made exactly as the bundle made the vectors of its labels.

    A text that is a label of the vocabulary takes the stored vector; any other needs the encoder.

    Raises:
        InputError: if the text is empty.
        MissingModelError: if the text is not a label and no encoder is given.
        StaleError: if the encoder is not the one that made the bundle.
    """
    asked = as_label(bundle, text)
    if not asked:
        raise InputError("The query is empty; type a word or a short description.")
    label = bundle.label_ids.get(asked)
    if label is not None:
        return np.array(bundle.label_vectors()[label], dtype=np.float32)
    if encoder is None:
        spec = shown_spec(bundle.manifest.inputs["encoder"]["spec"])
        raise MissingModelError(
            f"{asked!r} is not in the vocabulary, so it needs the encoder {spec}; load it, or "
            "search for a label."
        )
    require_same_encoder(bundle, encoder)
    return embed_labels(encoder.embed_texts, [asked], text_recipe(bundle))[0]


def image_query_vector(bundle: Bundle, image: Any, encoder: Encoder) -> Float32[np.ndarray, " d"]:
    """The unit vector of one RGB Pillow image.

    Raises:
        StaleError: if the encoder is not the one that made the bundle.
    """
    from csp_engine.encoders.answering import embedded  # loads torch

    require_same_encoder(bundle, encoder)
    pixels = np.asarray(encoder.preprocess(image), dtype=np.float32)[None]
    return embedded(encoder, pixels, ["that is searched with"])[0]


def bundle_encoder(bundle: Bundle, spec: str | None = None, *, device: str = "cpu") -> Encoder:
    """Load the encoder that made a bundle.

    An encoder that is Python code runs only if the user names it, or trusts all bundles on this
    machine by ``CSP_TRUST_PYTHON=1``: a bundle from elsewhere must not decide what code runs.

    Args:
        bundle: whose encoder is wanted.
        spec: where it is now; by default where the bundle says it was, seen from the bundle or as
            a whole path, ``./`` being beside it.
        device: a torch device.

    Raises:
        MissingModelError: if it is Python code nobody named, or is not on this machine.
        StaleError: if it is not the one that made the bundle.
    """
    from csp_engine.encoders import load_encoder

    held = bundle.manifest.inputs["encoder"]["spec"]
    if spec is None:
        instead = f"name it with --encoder {shown_spec(held)}"
        require_trust(f"The encoder of “{bundle.name}”", held, instead)
    first: CspError | None = None
    for each in [spec] if spec else specs_to_try(bundle, "encoder"):
        try:
            encoder = load_encoder(
                each,
                device=device,
                expected=encoder_description(bundle),
                files=bundle.manifest.inputs["encoder"].get("files"),
            )
            require_same_encoder(bundle, encoder)
        except CspError as error:  # perhaps another folder of that name
            first = first or error
        else:
            return encoder
    assert first is not None, "there is always a spec to try"
    raise first


def encoder_description(bundle: Bundle) -> dict[str, Any] | None:
    """The description behind the fingerprint of a bundle's encoder, or None where it has none.

    Encoders of Python code and of other tools are described in ways of their own.
    """
    from csp_engine.encoders.base import fingerprint

    stored = bundle.manifest.inputs["encoder"]
    described = stored.get("description")
    if not isinstance(described, dict) or fingerprint(described) != stored["fingerprint"]:
        return None
    return described


def require_same_encoder(bundle: Bundle, encoder: Encoder) -> None:
    """Refuse to compare vectors of two encoders.

    Raises:
        StaleError: if the fingerprints differ.
    """
    stored = bundle.manifest.inputs["encoder"]
    if encoder.fingerprint != stored["fingerprint"]:
        raise StaleError(
            f"Encoder {encoder.spec} (fingerprint {encoder.fingerprint[:12]}) did not make "
            f"{bundle.name}; {stored['spec']} ({stored['fingerprint'][:12]}) did: "
            "load that one, or build the bundle again."
        )


def require_same_space(a: Bundle, b: Bundle) -> None:
    """Refuse to compare concept vectors that two encoders made.

    Raises:
        StaleError: if the fingerprints of the bundles' encoders differ.
    """
    one, other = a.manifest.inputs["encoder"], b.manifest.inputs["encoder"]
    if one["fingerprint"] != other["fingerprint"]:
        raise StaleError(
            f"{a.name} was made with the encoder {one['spec']} ({one['fingerprint'][:12]}) and "
            f"{b.name} with {other['spec']} ({other['fingerprint'][:12]}): their concept vectors "
            "lie in different spaces and cannot be compared; build both with one encoder."
        )
