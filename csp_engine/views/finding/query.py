"""What is searched for: texts, a neuron or an image, as a vector and in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float32
from rapidfuzz import fuzz, process

from csp_engine.bundle import Bundle
from csp_engine.errors import InputError
from csp_engine.search import combine, prompts, query_vector, stored_label
from csp_engine.types import NeuronRef
from csp_engine.views.address import View, split_texts, vectors
from csp_engine.views.finding.unread import is_known, reads_every_word, unread_words, words_of
from csp_engine.views.memo import Memo

TextEncoder = Callable[[Bundle, Sequence[str]], np.ndarray]
"""Gives the vectors, one a row, of texts that are no labels; may take seconds, or raise."""

CLOSE_AT = 75
"""How alike two spellings are, of 100, for one to be offered in place of the other."""


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """What neurons or images are compared with: a vector, and in words where it comes from.

    ``kind`` is ``text``, ``neuron`` or ``image``. The prompts are exactly what the encoder saw.
    ``neuron`` is the one that others are to be like, which is no match of itself. A difference
    ("this but not that") shares nothing with all labels any more. ``unread`` are words that the
    encoder cannot read; the query ``is_unread`` where it has no others.
    """

    kind: str
    title: str
    vector_d: np.ndarray
    prompts: tuple[str, ...] = ()
    negative_prompts: tuple[str, ...] = ()
    neuron: NeuronRef | None = None
    is_difference: bool = False
    unread: tuple[str, ...] = ()
    is_unread: bool = False


def text_vectors(
    bundle: Bundle, memo: Memo, texts: Sequence[str], encode: TextEncoder
) -> Float32[np.ndarray, "t d"]:
    """The query vectors of texts; the encoder is asked at most once, for those that are no labels.

    Each question to it waits for another process, longer than that one works.
    """
    new = [text for text in dict.fromkeys(texts) if not is_at_hand(bundle, memo, [text])]
    found = dict(zip(new, encode(bundle, new), strict=True)) if new else {}

    def make(text: str) -> np.ndarray:
        if text in found:
            return np.array(found[text], np.float32)
        if stored_label(bundle, text) is not None:
            return query_vector(bundle, text)
        return encode(bundle, [text])[0]  # it was kept a moment ago

    return np.stack([memo.once(_key(bundle, text), partial(make, text)) for text in texts])


def _key(bundle: Bundle, text: str) -> tuple[str, ...]:
    return "query", bundle.digest, text


def rehearse_texts(bundle: Bundle, memo: Memo, encode: TextEncoder) -> None:
    """Ask the encoder what every query of words has to know of it."""
    reads_every_word(bundle, memo, lambda words: text_vectors(bundle, memo, words, encode))


def is_at_hand(bundle: Bundle, memo: Memo, texts: Sequence[str]) -> bool:
    """Whether the vectors of these texts need no encoder now."""
    return all(
        _key(bundle, text) in memo or stored_label(bundle, text) is not None for text in texts
    )


def texts_of(bundle: Bundle, query: str) -> list[str]:
    """The concepts in a query: one if the whole is a label, else split at commas."""
    whole = query.strip()
    if not whole:
        return []
    return [whole] if stored_label(bundle, whole) is not None else split_texts(whole)


def texts_in(bundle: Bundle, view: View) -> list[str]:
    """All the texts that a query would have the encoder read."""
    return texts_of(bundle, view.q) + texts_of(bundle, view.but_not)


def spelt_like(bundle: Bundle, texts: Sequence[str], n: int = 3) -> list[str]:
    """Labels spelt nearly like one of the texts that is no label itself."""
    odd = [text for text in texts if stored_label(bundle, text) is None]
    found: dict[str, None] = {}
    for text in odd:
        near = process.extract(
            text, bundle.label_ids.keys(), scorer=fuzz.ratio, score_cutoff=CLOSE_AT, limit=n
        )
        found.update(dict.fromkeys(label for label, *_ in near))
    return list(found)[:n]


def title_of(view: View) -> str:
    """A query in words, for the middle of a sentence."""
    if view.q:
        title = f"“{view.q}”"
    elif view.like:
        title = f"likeness to {view.like}"
    else:
        title = "your image" if view.image is None else f"probe image {view.image}"
    return less(title, view.but_not)


def less(title: str, but_not: str) -> str:
    """A query in words with what it is to stay away from."""
    return f"{title} but not “{but_not}”" if but_not else title


def query_of(bundle: Bundle, memo: Memo, view: View, encode: TextEncoder) -> Query:
    """The query of a view: texts, a neuron or an image, minus the texts to stay away from.

    Raises:
        InputError: if there is nothing to search for, or the neuron asked for has no vector.
        CspError: what loading an encoder can raise.
    """
    texts, negative = texts_of(bundle, view.q), texts_of(bundle, view.but_not)
    if texts:
        return text_query(bundle, memo, texts, negative, encode, title=title_of(view))
    if view.like:
        neuron = NeuronRef.parse(view.like)
        vector_d, kind = neuron_vector(bundle, neuron, view.method), "neuron"
    elif view.image is not None:
        neuron, kind = None, "image"
        vector_d = np.asarray(bundle.image_vectors()[view.image], np.float32)
    else:
        neuron, kind = None, "image"
        decoded = vectors.decode(view.vec, bundle) if view.vec else None
        if decoded is None:
            raise InputError("Type what to look for; “but not” alone describes nothing.")
        vector_d = decoded
    return vector_query(
        bundle, memo, vector_d, kind, negative, encode, title=title_of(view), neuron=neuron
    )


def text_query(
    bundle: Bundle,
    memo: Memo,
    texts: Sequence[str],
    but_not: Sequence[str],
    encode: TextEncoder,
    *,
    title: str,
) -> Query:
    """A query by texts, the mean of their vectors, less the mean of those to stay away from.

    Raises:
        CspError: what loading an encoder can raise.
    """
    odd = [text for text in (*texts, *but_not) if stored_label(bundle, text) is None]

    def embed(words: Sequence[str]) -> np.ndarray:
        return text_vectors(bundle, memo, words, encode)

    words: list[str] = []
    if odd and not is_known(bundle, memo):
        embed([*texts, *but_not])  # first, so that a refusal names what was asked and no nonsense
    if odd and not reads_every_word(bundle, memo, embed):
        words = [word for text in odd for word in words_of(text)]
    every_td = embed([*texts, *but_not, *words])
    n, n_all = len(texts), len(texts) + len(but_not)
    unread = unread_words(bundle, memo, words, every_td[n_all:], embed)
    return Query(
        "text",
        title,
        combine(every_td[:n], every_td[n:n_all] if but_not else None),
        tuple(p for text in texts for p in prompts(bundle, text)),
        tuple(p for text in but_not for p in prompts(bundle, text)),
        is_difference=bool(but_not),
        unread=tuple(dict.fromkeys(unread)),
        is_unread=all(
            text in odd and set(words_of(text)) and set(words_of(text)) <= set(unread)
            for text in texts
        ),
    )


def vector_query(
    bundle: Bundle,
    memo: Memo,
    vector_d: np.ndarray,
    kind: str,
    but_not: Sequence[str],
    encode: TextEncoder,
    *,
    title: str,
    neuron: NeuronRef | None = None,
) -> Query:
    """A query by the vector of an image or of a neuron, less texts to stay away from.

    Raises:
        CspError: what loading an encoder can raise.
    """
    return Query(
        kind,
        title,
        combine(vector_d[None], _negative(bundle, memo, but_not, encode)),
        (),
        tuple(p for text in but_not for p in prompts(bundle, text)),
        neuron,
        bool(but_not),
    )


def neuron_vector(bundle: Bundle, neuron: NeuronRef, method: str) -> np.ndarray:
    """The concept vector of a neuron by a method.

    Raises:
        InputError: if it has none.
    """
    if method not in bundle.methods(neuron.model, neuron.layer):
        raise InputError(f"Neuron {neuron} was not labelled by the method {method}.")
    scores = bundle.scores(neuron.model, neuron.layer, method)
    vector_d = np.asarray(scores.vector_ud[neuron.unit], np.float32)
    if not vector_d.any():
        raise InputError(f"Neuron {neuron} has no evidence, so nothing can be like it.")
    return vector_d


def _negative(
    bundle: Bundle, memo: Memo, texts: Sequence[str], encode: TextEncoder
) -> np.ndarray | None:
    return text_vectors(bundle, memo, texts, encode) if texts else None
