"""What a trial of an encoder says, in words: whether its labels would mean anything."""

from __future__ import annotations

from dataclasses import dataclass

from csp_engine import numbers
from csp_engine.pipeline.trying.left import EncoderTrial
from csp_engine.views.images.separation import in_words

NOISE, KNOWS, UNSURE = "noise", "knows", "unsure"
HEADINGS = {
    NOISE: "Labels from this encoder will be noise on these photographs.",
    KNOWS: "This encoder tells these photographs apart by words.",
    UNSURE: "This trial cannot tell whether the encoder knows these photographs.",
}
UNREAD = "This encoder cannot read most of these words, so labels from it will be noise."
MOST_UNREAD = 0.5
"""Above this share of unread words most labels could not be found, whatever the others do."""
N_NAMED = 5


@dataclass(frozen=True, slots=True)
class Verdict:
    """One of ``NOISE``, ``KNOWS`` and ``UNSURE``, its heading, and what was measured."""

    kind: str
    heading: str
    sentences: tuple[str, ...]


def verdict(found: EncoderTrial) -> Verdict:
    """Whether the words tell the images apart, and which words the encoder cannot read."""
    n_unread = len(found.unread)
    is_separated = found.facts.get("is_separated")
    is_unread = n_unread > MOST_UNREAD * found.n_words
    kind = KNOWS if is_separated else UNSURE
    if is_separated is False or is_unread:
        kind = NOISE
    told = [in_words(found.facts, "")]
    if n_unread:
        some = ", ".join(f"“{word}”" for word in found.unread[:N_NAMED])
        more = " and others" if n_unread > N_NAMED else ""
        told.append(
            f"It cannot read {numbers.count(n_unread)} of {numbers.count(found.n_words)} words: "
            f"{some}{more} mean no more to it than made-up ones."
        )
    told.append(_on_what(found))
    heading = HEADINGS[kind]
    if is_separated is False:
        told.append("Choose another encoder, or judge neurons by their images alone.")
    elif is_unread:
        heading = UNREAD
        told.append("Choose words that it knows, or another encoder.")
    return Verdict(kind, heading, tuple(each.strip() for each in told))


def _on_what(found: EncoderTrial) -> str:
    """How many images and words it was tried on."""
    images = f"{numbers.count(found.n_images)} image{'' if found.n_images == 1 else 's'}"
    words = f"{numbers.count(found.n_words)} words"
    if found.n_words < found.n_vocabulary:
        words = f"{numbers.count(found.n_words)} of {numbers.count(found.n_vocabulary)} words"
    left_out = f"; {numbers.count(found.n_unreadable)} cannot be read" if found.n_unreadable else ""
    return f"Tried on {images} and {words}{left_out}."
