"""From texts to label vectors: fill the templates, embed, average, normalise."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Float32

from csp_engine.errors import InputError
from csp_engine.types import Progress, TextRecipe, silent
from csp_engine.vectors import fault, is_unit, normalise_rows

TEMPLATES: dict[str, tuple[str, ...]] = {
    "bare": ("{}",),
    "plain": ("a photo of a {}.",),
    # The six of the CSP authors' code (NeuroLens, DatasetConfig.templates), spelling included.
    "paper": (
        "{}",
        "{}-like",
        "a {}",
        "an image of a {}",
        "a closeup of a {}",
        "an image of a closeup of {}",
    ),
    # The seven that Radford et al. 2021 picked greedily from their eighty for ImageNet.
    "imagenet": (
        "itap of a {}.",
        "a bad photo of the {}.",
        "a origami {}.",
        "a photo of the large {}.",
        "a {} in a video game.",
        "art of the {}.",
        "a photo of the small {}.",
    ),
    "texture": (
        "a photo of a {} texture.",
        "a photo of a {} pattern.",
        "a photo of a {} thing.",
        "a photo of a {} object.",
    ),
    "dermoscopy": ("{}", "a dermoscopy image showing {}.", "a skin lesion with {}."),
}
"""Named sets of templates; each template holds one ``{}`` for the text."""


def fill_templates(texts: Sequence[str], templates: Sequence[str]) -> list[str]:
    """Every text in every template, text by text: all prompts of one text stand together."""
    return [template.replace("{}", text) for text in texts for template in templates]


def embed_labels(
    embed_texts: Callable[[Sequence[str]], np.ndarray],
    texts: Sequence[str],
    recipe: TextRecipe,
    batch: int = 256,
    progress: Progress = silent,
) -> Float32[np.ndarray, "t d"]:
    """Turn each text into one vector: embed it in every template and average.

    v(text) = mean over templates p of [ e(p(text)) − s·e(p("")) ], with s = 1 if
    ``recipe.subtract_empty`` (SemanticLens, Dreyer et al. 2025) and 0 otherwise; then divided by
    its length if ``recipe.renormalise``. CSP as published does neither, so its text vectors are
    shorter than one, by an amount that differs from text to text.

    Args:
        embed_texts: an encoder's ``embed_texts``; gives one unit row per prompt.
        texts: used exactly as given.
        recipe: templates and what to do with their average.
        batch: texts per call of ``embed_texts``, which gets ``batch`` × templates prompts.
        progress: called with stage ``"labels"``.

    Raises:
        InputError: if there are no texts, ``batch`` is below 1, or a prompt gets no unit vector.
    """
    if not texts:
        raise InputError("There is no label to embed; give at least one text.")
    if batch < 1:
        raise InputError(f"A batch of {batch} texts is impossible; use at least 1.")
    n_templates = len(recipe.templates)
    empty_d: np.ndarray | float = 0.0
    if recipe.subtract_empty:
        prompts = fill_templates([""], recipe.templates)
        empty_d = _answered(prompts, embed_texts(prompts)).mean(axis=0)
    blocks = []
    for start in range(0, len(texts), batch):
        block = texts[start : start + batch]
        prompts = fill_templates(block, recipe.templates)
        prompt_pd = _answered(prompts, embed_texts(prompts))
        # Rows of one text are adjacent (see fill_templates), so the template axis is the inner one.
        mean_td = prompt_pd.reshape(len(block), n_templates, -1).mean(axis=1)
        blocks.append((mean_td - empty_d).astype(np.float32))
        progress("labels", start + len(block), len(texts))
    label_td = np.concatenate(blocks)
    return normalise_rows(label_td) if recipe.renormalise else label_td


def empty_vector(
    embed_texts: Callable[[Sequence[str]], np.ndarray], recipe: TextRecipe
) -> Float32[np.ndarray, " d"] | None:
    """What the templates say with no text in them: the mean of e(p("")), brought to unit length.

    How near a concept vector lies to it is the part of every cosine that says nothing about the
    text. None for vectors made elsewhere, which have none for an empty text, for an encoder that
    gives it zeros, and where the mean vanishes.

    Raises:
        InputError: if a prompt has a vector that is neither zeros nor of length 1.
    """
    prompts = fill_templates([""], recipe.templates)
    try:
        prompt_pd = embed_texts(prompts)
    except InputError:
        return None
    # Nobody asked for the empty text, so that an encoder with nothing to say of it is no fault.
    if not np.any(prompt_pd, axis=1).all():
        return None
    mean_d = _answered(prompts, prompt_pd).mean(axis=0)
    return normalise_rows(mean_d[None])[0] if np.any(mean_d) else None


def _answered(prompts: Sequence[str], prompt_pd: np.ndarray) -> Float[np.ndarray, "p d"]:
    """The vectors of prompts, if each has length 1.

    Raises:
        InputError: naming the first prompt whose vector has not, or is not finite.
    """
    is_unit_p = is_unit(prompt_pd)
    if not is_unit_p.all():
        bad = int(is_unit_p.argmin())
        raise InputError(
            f"The encoder gives the text {prompts[bad]!r} a vector {fault(prompt_pd[bad])}; check "
            "the encoder, or leave that word out."
        )
    return prompt_pd
