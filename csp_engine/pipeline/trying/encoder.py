"""What an encoder makes of some images and words: the vectors, what they tell apart, pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float32

from csp_engine.encoders.answering import answered, embedded
from csp_engine.errors import InputError, UnreadableImageError
from csp_engine.evaluation.separating import as_text, named_columns, separating
from csp_engine.pipeline.trying.left import EncoderTrial, Picture
from csp_engine.probe.decoding import decode
from csp_engine.probe.images import thumbnail
from csp_engine.probe.listing import ProbeSet
from csp_engine.types import Encoder, Progress, TextRecipe, silent
from csp_engine.vectors import normalise_rows
from csp_engine.words.templates import TEMPLATES, embed_labels
from csp_engine.words.unread import NONSENSE, unread
from csp_engine.words.vocabularies import Vocabulary

N_IMAGES, N_WORDS = 200, 500
"""Images and words of a trial: enough to tell noise from knowledge in about half a minute."""
N_PICTURES, N_NEAREST, SIDE = 12, 3, 192
"""Images shown, the nearest words said of each, and the longest side of a picture in pixels."""
BATCH = 16
PROMPTS = TextRecipe(TEMPLATES["bare"])
"""Words stand alone: stored vectors have no other prompts, and six templates take six times as
long."""


@dataclass(slots=True, eq=False)
class _Seen:
    """The images that could be read: their rows, thumbnails, hashes, vectors."""

    rows: list[int] = field(default_factory=list)
    thumbs: list[bytes] = field(default_factory=list)
    sha256: list[str] = field(default_factory=list)
    vectors: list[np.ndarray] = field(default_factory=list)


def try_encoder(
    encoder: Encoder, probe: ProbeSet, words: Vocabulary, progress: Progress = silent
) -> EncoderTrial:
    """Show an encoder some images and words, and measure whether the words tell the images apart.

    The measure is that of a build (``evaluation.separating``), on fewer images, and on the words
    that the encoder can read. The nearest words of an image are those of the highest cosine, names
    of classes and concept columns among them; unread words are near to nothing.

    Args:
        encoder: what to try.
        probe: the images to try it on; ``N_IMAGES`` or fewer.
        words: of which at most ``N_WORDS``, at equal steps, are used.
        progress: called while images are read and words embedded.

    Raises:
        InputError: if no image can be read, or a vector is not finite.
    """
    seen = _look(encoder, probe, progress)
    image_nd = np.concatenate(seen.vectors)
    table = probe.table.iloc[seen.rows].reset_index(drop=True)
    named = named_columns(table, probe.concepts)
    steps = np.unique(np.linspace(0, len(words) - 1, min(N_WORDS, len(words))).round().astype(int))
    tried = [words.texts[at] for at in steps]
    named = named.some(_known(encoder, named.texts))
    texts = list(dict.fromkeys([*named.texts, *tried]))
    text_td = _embedded(encoder, texts, progress)
    at = {text: place for place, text in enumerate(texts)}
    is_unread_t = _unread(encoder, text_td)
    read = [text for text in tried if not is_unread_t[at[text]]] or tried
    read_at, named_at = ([at[text] for text in some] for some in (read, named.texts))
    found = separating(image_nd, read, text_td[read_at], named, text_td[named_at])
    of_n = table.get("class")
    shown = np.unique(np.linspace(0, len(table) - 1, N_PICTURES).round().astype(int))
    return EncoderTrial(
        encoder=encoder.spec,
        n_images=len(table),
        n_unreadable=len(probe.table) - len(table),
        n_words=len(tried),
        n_vocabulary=len(words),
        unread=tuple(text for text in tried if is_unread_t[at[text]]),
        facts=found.facts,
        pictures=tuple(
            Picture(
                file=str(table["file"].iloc[row]),
                of="" if of_n is None or of_n.isna().iloc[row] else as_text(str(of_n.iloc[row])),
                nearest=_nearest(image_nd[row] @ text_td.T, texts, is_unread_t),
                content=seen.thumbs[row],
            )
            for row in shown.tolist()
        ),
    )


def _look(encoder: Encoder, probe: ProbeSet, progress: Progress) -> _Seen:
    """Read the images, batch by batch; what cannot be read is left out."""
    seen, n = _Seen(), len(probe.table)
    needs_pixels = getattr(encoder, "needs_pixels", True)
    for start in range(0, n, BATCH):
        progress("images", start, n)
        pixels = []
        for row in range(start, min(start + BATCH, n)):
            try:
                content = probe.read(row)
                picture = decode(content)
            except (UnreadableImageError, OSError):
                continue
            seen.rows.append(row)
            seen.thumbs.append(thumbnail(picture, SIDE))
            seen.sha256.append(hashlib.sha256(content).hexdigest())
            if needs_pixels:
                pixels.append(encoder.preprocess(picture))
        if pixels:
            named = probe.table["file"].iloc[seen.rows[-len(pixels) :]].tolist()
            seen.vectors.append(embedded(encoder, np.stack(pixels), named))
    progress("images", n, n)
    if not seen.rows:
        raise InputError(
            f"None of {n} images of {probe.name!r} can be read; check that they are pictures."
        )
    if not needs_pixels:
        files = probe.table["file"].iloc[seen.rows].tolist()
        look_up = encoder.lookup_images  # ty: ignore[missing-attribute]
        seen.vectors.append(answered(encoder, look_up(files, seen.sha256, files), files))
    return seen


def _known(encoder: Encoder, texts: Sequence[str]) -> list[int]:
    """Which texts have a vector: all, unless vectors are stored and looked up by name."""
    if getattr(encoder, "needs_pixels", True):
        return list(range(len(texts)))
    known = []
    for at, text in enumerate(texts):
        try:
            encoder.embed_texts([text])
        except InputError:
            continue
        known.append(at)
    return known


def _embedded(
    encoder: Encoder, texts: Sequence[str], progress: Progress
) -> Float32[np.ndarray, "t d"]:
    label_td = embed_labels(encoder.embed_texts, texts, PROMPTS, 64, progress)
    return np.asarray(label_td, np.float32)


def _unread(encoder: Encoder, text_td: Float32[np.ndarray, "t d"]) -> Bool[np.ndarray, " t"]:
    """Which words the encoder takes for nonsense; none where vectors are stored."""
    if not getattr(encoder, "needs_pixels", True):
        return np.zeros(len(text_td), bool)
    nonsense_wd = embed_labels(encoder.embed_texts, NONSENSE, PROMPTS)
    # Unread words share one vector, and count once: else most of them would be the mean themselves.
    shared_d = np.unique(text_td.round(2), axis=0).mean(axis=0)
    return unread(normalise_rows(text_td - shared_d), normalise_rows(nonsense_wd - shared_d))


def _nearest(
    score_t: Float32[np.ndarray, " t"], texts: Sequence[str], is_unread_t: Bool[np.ndarray, " t"]
) -> tuple[tuple[str, float], ...]:
    order = [t for t in np.argsort(-score_t, kind="stable").tolist() if not is_unread_t[t]]
    return tuple((texts[t], round(float(score_t[t]), 4)) for t in order[:N_NEAREST])
