"""From what a model wrote to short phrases. It may have written anything, and none of it is obeyed.

Understood are JSON (bare, fenced or within prose), numbered and bulleted lists, one phrase a line,
phrases between commas, and phrases in quotes. Whole sentences are no phrases and are left out.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from csp_engine.captioners.generators.prompts import ECHOES
from csp_engine.printable import lines
from csp_engine.words.vocabularies import clean_label

MOST_CHARACTERS = 20_000
"""Of an answer that are looked at, and kept."""
MOST_OF_A_PHRASE = 40
"""Characters, as in CSP."""
MOST_WORDS = 6
PROPOSED, NOTHING, EMPTY, UNREADABLE = "proposed", "nothing", "empty", "unreadable"
STATUSES = {
    PROPOSED: "it named phrases",
    NOTHING: "it said that there is no such concept",
    EMPTY: "it answered nothing",
    UNREADABLE: "no short phrase was found in its answer",
}

_THOUGHT = re.compile(r"<(think|thinking|reasoning)>.*?(</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_FENCE = re.compile(r"```[\w-]*[ \t]*\n?(.*?)(?:```|\Z)", re.DOTALL)
_ITEM = re.compile(r"^\s*(?:[-*+•·‣–—]\s+|\(?\d{1,3}[.):]\s*|concept\s*\d{0,3}\s*:\s*)(?=\S)", re.I)
_QUOTED = re.compile(r'"([^"\n]{2,80})"|“([^”\n]{2,80})”|`([^`\n]{2,80})`')
_EXPLAINED = re.compile(r"\s+[-–—]\s+|:\s+|\s*[:;]$|\s+\(")
_NOTHING = re.compile(
    r"(there (is|are) )?(none|nothing|no|null|n/?a|not applicable|unknown)"
    r"( (such|shared|common|visual|clear|single|obvious))*"
    r"( (concepts?|features?|elements?|things?))?"
    r"( (in common|found|shared|exists?|is visible))?",
    re.IGNORECASE,
)
_FORBIDDEN = re.compile(r"[<>{}\[\]|\\^~`$=#@*:;!?]|//|www\.", re.IGNORECASE)
_LETTER = re.compile(r"[^\W\d_]")
_MOST_TRIED = 20
"""Brackets from which JSON is looked for: a text of brackets alone would take minutes."""
_SPOKEN = re.compile(
    r"(i|i['’]m|we|you|it|it['’]s|this|these|they|there|here|sure|certainly|sorry|okay|yes)\b",
    re.IGNORECASE,
)
"""How a sentence begins, or a greeting, and no concept."""
_KEYS = ("concepts", "concept", "labels", "label", "phrases", "phrase", "name", "answer", "text")


@dataclass(frozen=True, slots=True)
class Read:
    """What was found in an answer: phrases, best first and all different, or why there are none."""

    phrases: tuple[str, ...]
    status: str


def kept_text(answer: str) -> str:
    """An answer as it is kept: within bounds, and without what a terminal would obey."""
    return lines(answer[:MOST_CHARACTERS].replace("\r\n", "\n")).strip()


def read_answer(answer: str, n_phrases: int) -> Read:
    """The first phrases of an answer."""
    text = _THOUGHT.sub("\n", kept_text(answer)).strip()
    if not text:
        return Read((), EMPTY)
    found, is_list = _items(text)
    phrases: dict[str, str] = {}
    said_nothing = is_list and not found
    for item in found:
        phrase = _phrase(item)
        if _NOTHING.fullmatch(phrase):
            said_nothing = True
        elif _is_phrase(phrase):
            phrases.setdefault(phrase.casefold(), phrase)
    if phrases:
        return Read(tuple(phrases.values())[:n_phrases], PROPOSED)
    return Read((), NOTHING if said_nothing else UNREADABLE)


def _items(text: str) -> tuple[list[str], bool]:
    """What an answer lists, and whether it is a list that says so itself."""
    fenced = [inner for inner in _FENCE.findall(text) if inner.strip()]
    for part in (*fenced, text):
        value = _json_within(part)
        if value is not None:
            return list(_texts(value)), True
    body = fenced[0] if fenced else text
    rows = [row.strip() for row in body.splitlines() if row.strip()]
    listed = [_ITEM.sub("", row) for row in rows if _ITEM.match(row)]
    if listed:
        return listed, False
    split = [list(_between_commas(row)) for row in rows]
    # A sentence that happens to hold a comma is no list: most of what is between must be phrases.
    spread = [item for row in split for item in row if 2 * sum(map(_is_said, row)) > len(row)]
    quoted = [next(filter(None, each)) for each in _QUOTED.findall(body)]
    return spread or quoted, False


def _is_said(item: str) -> bool:
    phrase = _phrase(item)
    return _is_phrase(phrase) or _NOTHING.fullmatch(phrase) is not None


def _between_commas(row: str) -> Iterator[str]:
    """Phrases of one line: what follows an introduction that ends in a colon, at its commas."""
    _, colon, rest = row.partition(":")
    body = rest if colon and rest.strip() else "" if colon else row
    yield from (item for item in re.split(r"[,;|]", body) if item.strip())


def _json_within(text: str) -> Any:
    """The first list or object of JSON in a text, or None."""
    decoder = json.JSONDecoder()
    starts = (found.start() for found in re.finditer(r"[\[{]", text))
    for start in itertools.islice(starts, _MOST_TRIED):
        try:
            value, _ = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        if not value or any(True for _ in _texts(value)):
            return value
    return None


def _texts(value: Any, depth: int = 0) -> Iterator[str]:
    """Texts of a JSON value, wherever models put them."""
    if isinstance(value, str):
        yield value
    elif depth > 4:
        return
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each, depth + 1)
    elif isinstance(value, dict):
        by_name = {str(key).casefold(): each for key, each in value.items()}
        known = [by_name[key] for key in _KEYS if key in by_name]
        for each in known[:1] or by_name.values():
            yield from _texts(each, depth + 1)


def _phrase(item: str) -> str:
    """One item as a plain phrase: marks, quotes and explanations go."""
    text = re.sub(r"\*\*|__|^[#>\s]+", "", item).strip().strip("\"'“”‘’`*_").strip()
    text = re.sub(r"^and\s+", "", _EXPLAINED.split(text, maxsplit=1)[0])
    return clean_label(text.strip("\"'“”‘’`*_ ")).rstrip(" .!?,;:").strip("\"'“”‘’")


def _is_phrase(phrase: str) -> bool:
    """Whether this may become a label: short, of words, and no markup or address."""
    return (
        phrase.isprintable()
        and len(phrase) <= MOST_OF_A_PHRASE
        and len(phrase.split()) <= MOST_WORDS
        and _LETTER.search(phrase) is not None
        and not _FORBIDDEN.search(phrase)
        and not _NOTHING.fullmatch(phrase)
        and not _SPOKEN.match(phrase)
        and phrase not in ECHOES
    )
