"""Units planted into a bundle's own photographs, altered by known means: a truth without columns.

Copies of the thumbnails get artefacts and colour casts, the bundle's encoder embeds them, and units
are made up that answer to what was done. Every method labels them from the bundle's vocabulary;
beside whether a label is right stands what is known of it without the truth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float32, Float64
from PIL import Image

from csp_engine.bundle import Bundle
from csp_engine.errors import InputError
from csp_engine.evaluation.confidence import label_features
from csp_engine.evaluation.label_accuracy import wording_key
from csp_engine.evaluation.planted_units import Plan, Unit, plant
from csp_engine.methods import METHODS
from csp_engine.pasting.paste import ARTEFACTS, NoPlaceError, as_rgb, paste
from csp_engine.pipeline.recipe import Recipe
from csp_engine.types import Encoder, Progress, silent
from csp_engine.vectors import normalise_rows
from csp_engine.views.benchmark.planted import World, judged_units, labelled, methods_at_hand
from csp_engine.views.controls import SAME_AT
from csp_engine.words.templates import embed_labels

CASTS: Mapping[str, tuple[float, float, float]] = {
    "red cast": (1.15, 0.72, 0.72),
    "green cast": (0.75, 1.12, 0.75),
    "blue cast": (0.72, 0.8, 1.2),
    "yellow cast": (1.08, 1.05, 0.6),
    "purple cast": (1.02, 0.7, 1.1),
}
"""Colour casts: what red, green and blue of every pixel are multiplied by."""

WORDINGS: Mapping[str, tuple[str, ...]] = {
    "ruler": (
        "ruler", "rulers", "ruler marks", "scale bar", "measuring scale", "measuring tape",
        "measuring ruler", "millimetre scale", "millimetre marks", "black tick marks",
    ),
    "colour patch": (
        "colour patch", "color patch", "coloured patch", "colored patch", "sticker", "stickers",
        "coloured sticker", "round sticker", "calibration patch", "colour chart", "plaster",
        "round coloured plaster", "band-aid", "plaster on the skin",
    ),
    "ink marks": (
        "ink marks", "ink", "ink mark", "pen marks", "pen mark", "skin marker", "surgical ink",
        "surgical pen marks", "marker lines on the skin", "gentian violet", "scribble",
    ),
    "hair": (
        "hair", "hairs", "body hair", "strands of hair", "many hairs", "hairy skin",
        "hairs across the lesion", "dark hair", "black hairs", "crossing hairs",
    ),
    "gel bubbles": (
        "gel bubbles", "gel bubble", "bubbles", "bubble", "air bubbles", "small air bubbles",
        "large air bubble", "immersion bubbles", "bubbles in immersion fluid",
    ),
    "dark corners": (
        "dark corners", "dark corner", "vignette", "vignetting", "black corners", "dark border",
        "black border", "round black border", "black frame", "round dark frame",
        "circular field of view", "dermatoscope rim",
    ),
    **{
        f"{colour} cast": (
            f"{colour} cast", f"{colour} tint", f"{colour} colour cast", f"{colour} color cast",
            f"{colour} photograph", f"{colour} picture", f"{colour} light", more, colour,
        )
        for colour, more in (
            ("red", "reddish"), ("green", "greenish"), ("blue", "bluish"), ("yellow", "yellowish"),
            ("purple", "purplish"),
        )
    },
}  # fmt: skip
"""What names each alteration, the usual words first."""

SHARE_PASTED = 0.12
"""Of the photographs, for each artefact."""
SHARE_CAST = 0.3
"""Of the photographs, for all casts together; no photograph has two."""


N_IMAGES = 600
"""Photographs that are altered, unless the caller says otherwise."""
LEAST_IMAGES = 300
"""Fewer leave too few of each alteration to plant by."""
N_UNITS = 40
"""Of each row of units."""
NOISES = (0.0, 0.5, 1.0, 2.0)
"""Noise added to units in turn, in deviations of their activation: half independent, half along a
direction of the embeddings, which images share and no word names."""
UNNAMED = "no word"
"""The row of units whose alteration no word of the vocabulary names."""
LEAST_WORDS = 10
"""Other words of a vocabulary, below which there is no such row."""
_BATCH = 32


@dataclass(frozen=True, slots=True, eq=False)
class Plot:
    """Which photograph gets what: ``is_shown_nc``, with ``names`` of the columns."""

    names: tuple[str, ...]
    is_shown_nc: Bool[np.ndarray, "n c"]


def plot_alterations(n: int, seed: int) -> Plot:
    """Draw for each of ``n`` photographs what is done to it; independent, but for one cast each.

    Each photograph occurs once, altered or as it is: beside its own original, an altered one would
    be told apart too easily.
    """
    rng = np.random.default_rng(seed)
    artefacts = tuple(ARTEFACTS)
    is_pasted_na = rng.random((n, len(artefacts))) < SHARE_PASTED
    cast_n = np.where(rng.random(n) < SHARE_CAST, rng.integers(len(CASTS), size=n), -1)
    is_cast_nc = cast_n[:, None] == np.arange(len(CASTS))
    return Plot((*artefacts, *CASTS), np.column_stack([is_pasted_na, is_cast_nc]))


def alter(image: Image.Image, name: str, seed: int) -> Image.Image:
    """One photograph with one alteration; an artefact may lie anywhere.

    Raises:
        NoPlaceError: if the artefact would not be seen in it.
        InputError: if the name is unknown, or the image too small.
    """
    if name in CASTS:
        return cast(image, name)
    anywhere_hw = np.zeros(image.size[::-1], bool)
    return paste(image, name, seed, lesion_hw=anywhere_hw).with_it


def cast(image: Image.Image, name: str) -> Image.Image:
    """A photograph in coloured light: ``min(255, factor_c × value)`` for each of its colours."""
    lit_hwc = np.asarray(as_rgb(image), np.float32) * np.asarray(CASTS[name], np.float32)
    return Image.fromarray(np.floor(lit_hwc.clip(0, 255) + np.float32(0.5)).astype(np.uint8))


@dataclass(frozen=True, slots=True, eq=False)
class PlantedLabels:
    """What every method said of the units, one row each.

    Attributes:
        labels: ``method``, ``row``, ``alteration`` (the first that the unit answers to; empty for
            noise), ``is_right`` and ``is_reliable``.
        feature_qf: of every row ``label_features``; NaN beyond those that its method has.
        alterations: names of all that was done.
        params: method → the parameters that it labelled with.
        n_images: photographs, each altered or as it was.
        seed: what decided everything.
    """

    labels: pd.DataFrame
    feature_qf: Float64[np.ndarray, "q f"]
    alterations: tuple[str, ...]
    params: dict[str, dict[str, Any]]
    n_images: int
    seed: int


def planted_labels(
    bundle: Bundle,
    encoder: Encoder,
    *,
    n_images: int = N_IMAGES,
    seed: int = 0,
    progress: Progress = silent,
) -> PlantedLabels:
    """Plant units into altered copies of a bundle's thumbnails and label them by its methods.

    Raises:
        InputError: if there are too few photographs, or too small ones, the encoder takes no
            images, or the bundle has no method that can be run again.
    """
    world, names = altered_world(bundle, encoder, n_images=n_images, seed=seed, progress=progress)
    n = len(world.image_nd)
    plan = Plan(n_units=N_UNITS, n_strong=max(5, n // 100), n_least=n // 40, seed=seed)
    units = _noisier(plant(world.is_shown_nc, world.image_nd, plan), world.image_nd, seed)
    n_labels = world.recipe.n_labels
    parts = [_labelled(world, units, names, n_labels, progress)]
    wordless = _without_words(world)
    if len(wordless.texts) >= LEAST_WORDS:
        unnamed = [replace(unit, row=UNNAMED) for unit in units if unit.row == "single"]
        parts.append(_labelled(wordless, unnamed, names, n_labels, progress))
    width = max(each.shape[1] for _, each in parts)
    feature_qf = np.concatenate([_padded(each, width) for _, each in parts])
    labels = pd.concat([table for table, _ in parts], ignore_index=True)
    params = {name: dict(own) for name, own in world.params.items()}
    return PlantedLabels(labels, feature_qf, names, params, n, seed)


def altered_world(
    bundle: Bundle,
    encoder: Encoder,
    *,
    n_images: int = N_IMAGES,
    seed: int = 0,
    progress: Progress = silent,
) -> tuple[World, tuple[str, ...]]:
    """Some photographs of a bundle, altered, as a world to plant in; and what was done to them.

    The vocabulary is the bundle's with the alterations' own words. A word that means the same as
    one of these by the encoder's texts, but is none, leaves it: nobody could say if it is right.

    Raises:
        InputError: as ``planted_labels``.
    """
    if bundle.n_images < LEAST_IMAGES:
        raise InputError(
            f"{bundle.name} has {bundle.n_images} images, and units are planted into "
            f"{LEAST_IMAGES} at least; build it on more, or give its table concept columns."
        )
    if not getattr(encoder, "needs_pixels", True):
        raise InputError(
            f"{encoder.spec} holds stored vectors and cannot look at altered images; build the "
            "bundle with an encoder that can, or give its table concept columns."
        )
    params = methods_at_hand(bundle)
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(bundle.n_images)[: max(n_images, LEAST_IMAGES)])
    plot = plot_alterations(len(rows), seed)
    is_shown_nc, image_nd = plot.is_shown_nc.copy(), []
    for start in range(0, len(rows), _BATCH):
        shown = []
        for at in range(start, min(start + _BATCH, len(rows))):
            with Image.open(BytesIO(bundle.thumbnail(int(rows[at])))) as thumbnail:
                image = thumbnail.convert("RGB")
            for c in np.flatnonzero(is_shown_nc[at]):
                try:
                    image = alter(image, plot.names[c], seed)
                except NoPlaceError:
                    is_shown_nc[at, c] = False
            shown.append(image)
        image_nd.append(encoder.embed_images(np.stack([encoder.preprocess(i) for i in shown])))
        progress("alter images", start + len(shown), len(rows))
    wordings = [WORDINGS.get(name, (name,)) for name in plot.names]
    texts, label_td = _words(bundle, encoder, [word for own in wordings for word in own])
    accepted = [{wording_key(word) for word in own} for own in wordings]
    recipe = Recipe.from_json(bundle.manifest.recipe)
    return World(
        np.concatenate(image_nd), is_shown_nc, accepted, label_td, texts,
        [""] * len(texts), params, recipe,
    ), plot.names  # fmt: skip


def _words(
    bundle: Bundle, encoder: Encoder, words: Sequence[str]
) -> tuple[list[str], Float32[np.ndarray, "t d"]]:
    texts = bundle.labels()["text"].tolist()
    known = {wording_key(text) for text in texts}
    new = list(dict.fromkeys(word for word in words if wording_key(word) not in known))
    recipe = Recipe.from_json(bundle.manifest.recipe).text_recipe()
    label_td = np.asarray(bundle.label_vectors(), np.float32)
    if new:
        label_td = np.concatenate([label_td, embed_labels(encoder.embed_texts, new, recipe)])
    keys = {wording_key(word) for word in words}
    is_own_t = np.array([wording_key(text) in keys for text in (*texts, *new)])
    own_td = normalise_rows(label_td - label_td.mean(axis=0))
    is_kept_t = is_own_t | ((own_td @ own_td[is_own_t].T).max(axis=1) < SAME_AT)
    return [t for t, is_kept in zip((*texts, *new), is_kept_t, strict=True) if is_kept], label_td[
        is_kept_t
    ]


def _without_words(world: World) -> World:
    """The same with no word for any alteration."""
    keys = set().union(*world.accepted_c)
    kept = [at for at, text in enumerate(world.texts) if wording_key(text) not in keys]
    texts = [world.texts[at] for at in kept]
    return replace(world, texts=texts, sources=[""] * len(kept), label_td=world.label_td[kept])


def _noisier(units: Sequence[Unit], image_nd: np.ndarray, seed: int) -> list[Unit]:
    """Units with more noise on their activations, those that answer to something."""
    rng = np.random.default_rng([seed, 1])
    centred_nd = image_nd - image_nd.mean(axis=0)
    noisy = []
    for at, unit in enumerate(units):
        if unit.concepts:
            along_n = centred_nd @ rng.standard_normal(image_nd.shape[1])
            noise_n = rng.standard_normal(len(image_nd)) + along_n / along_n.std()
            size = NOISES[at % len(NOISES)] * unit.activation_n.std() / np.sqrt(2)
            unit = replace(
                unit, activation_n=(unit.activation_n + size * noise_n).astype(np.float32)
            )
        noisy.append(unit)
    return noisy


def _labelled(
    world: World, units: Sequence[Unit], names: Sequence[str], n_labels: int, progress: Progress
) -> tuple[pd.DataFrame, np.ndarray]:
    found = labelled(world, units, world.recipe.n_null, n_labels, progress)
    own_td = normalise_rows(world.label_td - world.label_td.mean(axis=0))

    def alike(one_a: np.ndarray, other_a: np.ndarray) -> np.ndarray:
        cosine_a = np.einsum("ad,ad->a", own_td[one_a], own_td[other_a])
        return (cosine_a >= SAME_AT) | (one_a == other_a)

    ids = {}
    for name, done in found.items():
        label_uk = np.asarray(done.scores.label_uk)
        is_said_uk = np.arange(label_uk.shape[1]) < np.asarray(done.scores.count_u)[:, None]
        ids[name] = np.where(is_said_uk, label_uk, -1)
    tables, features = [], []
    for name, done in found.items():
        features.append(
            label_features(
                np.asarray(done.scores.best_percentile_u, float),
                np.asarray(done.scores.score_uk, float),
                ids[name],
                [other_uk[:, 0] for other, other_uk in ids.items() if other != name],
                [done.arrays[signal] for signal in METHODS[name].stores.signals],
                alike,
            )
        )
        told = judged_units(world, units, name, done)[["row", "is_right", "is_reliable"]]
        of = [names[unit.concepts[0]] if unit.concepts else "" for unit in units]
        tables.append(told.assign(method=name, alteration=of))
    width = max(each.shape[1] for each in features)
    return pd.concat(tables, ignore_index=True)[
        ["method", "row", "alteration", "is_right", "is_reliable"]
    ], np.concatenate([_padded(each, width) for each in features])


def _padded(x_qf: np.ndarray, width: int) -> np.ndarray:
    return np.pad(x_qf, ((0, 0), (0, width - x_qf.shape[1])), constant_values=np.nan)
