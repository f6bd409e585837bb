"""Asking a generator about every unit of a layer, and what becomes of its answers.

Whatever answers is asked the same way: what was answered before is taken from what is kept, the
rest is asked a few at a time, and every answer is kept as soon as it is there.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import pandas as pd
from PIL import Image

from csp_engine.captioners.captions import MODES
from csp_engine.captioners.generators.kept import Answer, KeptAnswers
from csp_engine.captioners.generators.parsing import (
    EMPTY,
    PROPOSED,
    STATUSES,
    kept_text,
    read_answer,
)
from csp_engine.captioners.generators.prompts import N_SHOWN, grid, prompt
from csp_engine.errors import MissingModelError
from csp_engine.hashing import sha256_json

USUAL_MODES = (MODES[1],)
"""What a generator is asked unless the recipe says otherwise: with contrast images."""
UNANSWERED, NO_EXEMPLARS, NO_CONTRAST = "unanswered", "no exemplars", "no contrast images"
ALL_STATUSES = {
    **STATUSES,
    UNANSWERED: "no answer came; the next build asks again",
    NO_EXEMPLARS: "the neuron has no exemplars to show",
    NO_CONTRAST: "the neuron has no contrast images to show",
}
"""What may have become of a neuron, and what that means."""


@dataclass(frozen=True, eq=False)
class Question:
    """One question: a grid of exemplars, perhaps one of contrast images, and words."""

    grids: tuple[Image.Image, ...]
    prompt: str
    seed: int

    @cached_property
    def sha256(self) -> str:
        """Hash of the words, the seed and every pixel."""
        pixels = [
            hashlib.sha256(repr(each.size).encode() + each.tobytes()).hexdigest()
            for each in self.grids
        ]
        return sha256_json([self.prompt, self.seed, pixels])


@runtime_checkable
class Generator(Protocol):
    """A model that is shown pictures and answers in words.

    ``fingerprint`` is a hash over what decides its answers, as far as that is known from here;
    ``n_images`` the most images in a grid; ``n_at_once`` the questions it is given together.
    """

    spec: str
    fingerprint: str
    description: dict[str, Any]
    n_images: int
    n_at_once: int

    def answer(self, questions: Sequence[Question], keep: Callable[[int, Answer], None]) -> None:
        """Answer questions in any order; ``keep`` is called for each as soon as it is answered.

        Raises:
            CspError: if there is no point in asking more, such as where a server is down.
        """
        ...


@dataclass(frozen=True, slots=True)
class Shown:
    """What a generator is shown of one unit in one mode; ``status``: why it is shown nothing."""

    unit: int
    mode: str
    activating: tuple[int, ...] = ()
    quiet: tuple[int, ...] = ()
    status: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Proposals:
    """What became of all questions about a layer.

    Attributes:
        candidates: unit, mode, rank, text, and probabilities that are not known.
        sets: unit, mode, n_exemplar, n_contrast, and a probability that is not known.
        answers: unit, mode, status, note, answer, n_tokens_in, n_tokens_out, for every unit.
        facts: how many of each, tokens and cost.
    """

    candidates: pd.DataFrame
    sets: pd.DataFrame
    answers: pd.DataFrame
    facts: dict[str, Any]


def with_reasons(
    shown: Sequence[Shown], n_units: int, modes: Sequence[str], has_exemplars: Container[int]
) -> list[Shown]:
    """All units in all modes, with why the missing ones cannot be asked about."""
    by_place = {(each.unit, each.mode): each for each in shown}
    return [
        by_place.get(
            (unit, mode),
            Shown(unit, mode, status=NO_CONTRAST if unit in has_exemplars else NO_EXEMPLARS),
        )
        for unit in range(n_units)
        for mode in modes
    ]


def propose(
    generator: Generator,
    shown: Sequence[Shown],
    picture: Callable[[int], Image.Image],
    kept: KeptAnswers,
    *,
    n_phrases: int,
    seed: int,
    progress: Callable[[int, int], None],
    crops: Callable[[int, Sequence[int]], list[Image.Image]] | None = None,
) -> Proposals:
    """Ask about every unit that has something to show.

    Args:
        generator: who is asked.
        shown: from ``with_reasons``.
        picture: a probe image.
        kept: answers from before, and where new ones go.
        n_phrases: asked for and taken from each answer.
        seed: handed on to the model.
        progress: called with how many questions are done, and of how many.
        crops: what a unit looks at in some of its exemplars, to be shown instead of them.

    Raises:
        MissingModelError: if not one question is answered.
    """
    kept.require_writable()
    asked = [place for place, each in enumerate(shown) if not each.status]
    answers: dict[int, Answer] = {}
    progress(0, len(asked))
    for start in range(0, len(asked), generator.n_at_once):
        places = asked[start : start + generator.n_at_once]
        questions = [_question(shown[place], picture, n_phrases, seed, crops) for place in places]
        for place, answer in _answered(generator, questions, kept):
            answers[places[place]] = answer
        progress(len(answers), len(asked))
    failures = [answer.failure for answer in answers.values()]
    if failures and all(failures):
        raise MissingModelError(
            f"The captioner {generator.spec} answered none of {len(asked)} questions "
            f"({failures[-1]}); see that it runs and takes images, then run the same command again."
        )
    return _tables(shown, answers, n_phrases)


def _question(
    shown: Shown,
    picture: Callable[[int], Image.Image],
    n_phrases: int,
    seed: int,
    crops: Callable[[int, Sequence[int]], list[Image.Image]] | None,
) -> Question:
    activating, quiet = shown.activating[:N_SHOWN], shown.quiet[:N_SHOWN]
    first = crops(shown.unit, activating) if crops else [picture(image) for image in activating]
    sets = [first, [picture(image) for image in quiet]]
    grids = tuple(grid(each) for each in sets if each)
    return Question(grids, prompt(shown.mode, n_phrases, crops is not None), seed)


def _answered(
    generator: Generator, questions: Sequence[Question], kept: KeptAnswers
) -> Iterator[tuple[int, Answer]]:
    keys = [sha256_json([generator.fingerprint, question.sha256]) for question in questions]
    found = {key: answer for key in keys if (answer := kept.of(key)) is not None}
    # Two units with the same images are one question.
    open_keys = list(dict.fromkeys(key for key in keys if key not in found))
    asked = [questions[keys.index(key)] for key in open_keys]

    def keep(place: int, answer: Answer) -> None:
        kept.keep(open_keys[place], answer)
        found[open_keys[place]] = answer

    if asked:
        generator.answer(asked, keep)
    yield from ((place, found[key]) for place, key in enumerate(keys))


def _tables(shown: Sequence[Shown], answers: dict[int, Answer], n_phrases: int) -> Proposals:
    phrases, sets, said = [], [], []
    for place, each in enumerate(shown):
        answer = answers.get(place, Answer())
        status, found = each.status, ()
        if not status and answer.failure:
            status = UNANSWERED
        elif not status:
            read = read_answer(answer.text, n_phrases)
            status, found = read.status, read.phrases
        text = kept_text(answer.text)
        note = kept_text(answer.failure)
        said.append(
            (each.unit, each.mode, status, note, text, answer.n_tokens_in, answer.n_tokens_out)
        )
        if not each.status:
            sets.append((each.unit, each.mode, len(each.activating), len(each.quiet)))
        phrases += [(each.unit, each.mode, rank, text) for rank, text in enumerate(found)]
    candidates = pd.DataFrame(phrases, columns=["unit", "mode", "rank", "text"])
    table = pd.DataFrame(sets, columns=["unit", "mode", "n_exemplar", "n_contrast"])
    counts = ["n_tokens_in", "n_tokens_out"]
    rows = pd.DataFrame(said, columns=["unit", "mode", "status", "note", "answer", *counts])
    status = Counter(rows["status"])
    by_text = Counter(rows["answer"][rows["status"].isin([PROPOSED])])
    facts = {
        "n_units": int(table["unit"].nunique()),
        "n_candidates": len(candidates),
        "n_distinct": int(candidates["text"].nunique()),
        "n_unanswered": status[UNANSWERED],
        "n_without_phrase": sum(status[each] for each in STATUSES if each != PROPOSED),
        "n_blank": status[EMPTY],
        "n_same_answer": max(by_text.values(), default=0),
        "n_tokens_in": int(rows["n_tokens_in"].sum()),
        "n_tokens_out": int(rows["n_tokens_out"].sum()),
        "cost": round(sum(answer.cost for answer in answers.values()), 6),
    }
    unknown = dict.fromkeys(("log_p", "log_prior", "pmi"), float("nan"))
    whole = {"unit": "int32", "mode": "string"}
    return Proposals(
        candidates.assign(**unknown).astype(
            {**whole, "rank": "int32", "text": "string", **dict.fromkeys(unknown, "float32")}
        ),
        table.assign(p_nothing=float("nan")).astype(
            {**whole, "n_exemplar": "int32", "n_contrast": "int32", "p_nothing": "float32"}
        ),
        rows.astype(
            {
                **whole,
                **dict.fromkeys(("status", "note", "answer"), "string"),
                **dict.fromkeys(counts, "int64"),
            }
        ),
        facts,
    )
