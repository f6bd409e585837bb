"""From what a model wrote to short phrases. It may have written anything, and none of it is obeyed.

Understood are JSON and Python's lists (bare, fenced or within prose), numbered and bulleted lists,
Markdown tables, one phrase a line, phrases between commas, and phrases in quotes. Left out are
whole sentences, and what an answer names as absent: of the second grid, or with a "no" before it.
"""

from __future__ import annotations

import ast
import itertools
import json
import re
from collections.abc import Iterator, Sequence
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
_THOUGHT_END = re.compile(r"\A.*</(think|thinking|reasoning)>", re.DOTALL | re.IGNORECASE)
"""Chat templates may open the thought themselves, so that only its end is in the answer."""
_FENCE = re.compile(r"```[\w-]*[ \t]*\n?(.*?)(?:```|\Z)", re.DOTALL)
_AROUND = re.compile(
    r"<\|[^<>|]{1,40}\|>|</?(answer|final|concepts?|output|result|ul|ol|li|p|br|s)\s*/?>"
    r"|\\(boxed|text)\{|\}$",
    re.IGNORECASE | re.MULTILINE,
)
"""Marks that models put around an answer or its parts; other markup makes no phrase."""
_NUMBER = r"\(?\d{1,3}[.)]|\[\d{1,3}\]|[①-⑳]"
_ITEM = re.compile(
    rf"^\s*(?:[-*+•·‣–—]\s+|(?:{_NUMBER}|\d{{1,3}}:)\s*|\(?(?:[a-h]|[ivx]{{1,4}})[.)]\s+"
    r"|concept\s*\d{0,3}\s*:\s*|(?:first|second|third|fourth|fifth)\s*:\s*)(?=\S)",
    re.IGNORECASE,
)
_BESIDE = re.compile(rf"(?<!\S)(?:{_NUMBER}|\(?[A-Ha-h][.)]|[*•])\s+(?=\S)")
"""Where the next item of a list begins whose items stand in one line."""
_QUOTED = re.compile(r'(?:"([^"\n]{2,80})"|“([^”\n]{2,80})”|`([^`\n]{2,80})`)(\s*:)?')
_BETWEEN = re.compile(r"[,;|、，；،]|\s[/·•]\s")
_SENTENCES = re.compile(r"(?<=[.;])\s+")
_SURE = re.compile(r"\s*[:=(–—-]\s*\d+([.,]\d+)?\s*%?\s*\)?(?=\s*([,;]|$))", re.MULTILINE)
"""How sure a model is, behind a phrase."""
_EXPLAINED = re.compile(r"\s+[-–—]\s+|:\s+|\s*[:;]$|\s+\(")
_NOTHING = re.compile(
    r"(there (is|are) )?(none|nothing|no|null|n/?a|not applicable|unknown)"
    r"( (such|shared|common|visual|clear|single|obvious))*"
    r"( (concepts?|features?|elements?|things?))?"
    r"( (in common|found|shared|exists?|is visible))?",
    re.IGNORECASE,
)
_NOTHING_SAID = re.compile(
    r"(there (is|are) )?(none of|nothing|no)\b[^.,]*"
    r"\b(above|them|common|concepts?|features?|elements?|shared?)\b",
    re.IGNORECASE,
)
"""How a sentence begins that says so at greater length."""
_FORBIDDEN = re.compile(r'[<>{}\[\]|\\^~`$=#@*:;!?"“”„«»]|//|www\.', re.IGNORECASE)
_LETTER = re.compile(r"[^\W\d_]")
_MOST_TRIED = 20
"""Brackets from which JSON is looked for: a text of brackets alone would take minutes."""
_BRACKETED = re.compile(r"\{.*\}|\[.*\]|\[[^\[\]]*\]", re.DOTALL)
_PICTURES = r"(images?|pictures?|photos?|photographs?)"
_SPOKEN = re.compile(
    r"(i|i['’]m|we|you|it|it['’]s|this|these|they|there|here|sure|certainly|sorry|okay|yes|none of"
    rf"|based on|in (the|all|each|both)|(the|all|all of|each|both)( the| these)? {_PICTURES}"
    r"|(the|both) (first|second|common|concepts?|neuron|answer|grids?))\b",
    re.IGNORECASE,
)
"""How a sentence begins, or a greeting, and no concept."""
_NEGATED = re.compile(r"(no|not|without|lacks?|lack of|lacking|absence of|never)\b", re.I)
_BEFORE = re.compile(
    rf"\A(?:(an? |the )?({_PICTURES}|close-?ups?) (of|with|showing|containing) |(an?|the) (?=\S))+",
    re.I,
)
"""What may stand before a concept and is none of it; templates bring an article of their own."""
_KEYS = ("concepts", "concept", "labels", "label", "phrases", "phrase", "name", "answer", "text")
_KEYS += ("final answer", "final", "results", "present", "shared", "first grid")
_GRIDS = r"(grid|set|group|row|images?)"
_ASIDE = re.compile(
    rf"absent|negative|quiet|contrast|exclu|missing|without|\b(not|no|non|why|notes?)\b"
    rf"|second {_GRIDS}|{_GRIDS} (2|b|two)\b|explan|reason|thought|thinking|analys|descri|justif"
    r"|rationale|confiden|score",
    re.IGNORECASE,
)
"""Of names in an answer: what they hold is not what the first grid shows."""
_NAMED = re.compile(
    rf"\b(concepts?|labels?|phrases?|answers?|present|shared|common|first {_GRIDS}|{_GRIDS}"
    r" (1|a|one))\b",
    re.IGNORECASE,
)
"""Of names in an answer: they announce phrases."""


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
    text = _THOUGHT_END.sub("\n", _THOUGHT.sub("\n", kept_text(answer))).strip()
    if not text:
        return Read((), EMPTY)
    found, is_list = _items(text)
    phrases: dict[str, str] = {}
    said_nothing = (is_list and not found) or _NOTHING_SAID.match(text) is not None
    for item in found:
        phrase = _phrase(item)
        if _NOTHING.fullmatch(phrase):
            said_nothing = True
        elif _is_phrase(phrase) and not _NEGATED.match(phrase):
            phrases.setdefault(phrase.casefold(), phrase)
    if phrases:
        return Read(tuple(phrases.values())[:n_phrases], PROPOSED)
    return Read((), NOTHING if said_nothing else UNREADABLE)


def _items(text: str) -> tuple[list[str], bool]:
    """What an answer lists, and whether it is a list that says so itself."""
    fenced = [inner for inner in _FENCE.findall(text) if inner.strip()]
    for part in (*fenced, text):
        value = _value_within(part)
        if value is not None:
            return list(_texts(value)), True
    body = _SURE.sub("", _AROUND.sub("\n", fenced[0] if fenced else text))
    rows = [each.strip() for row in _rows(body.splitlines()) for each in _beside(row)]
    listed = [_ITEM.sub("", row) for row in rows if _ITEM.match(row)]
    if listed:
        return [item for row in listed for item in _of_item(row)], False
    split = [list(_of_sentence(each)) for row in rows for each in _SENTENCES.split(row)]
    # A sentence that happens to hold a comma is no list: most of what is between must be phrases.
    spread = [item for row in split for item in row if 2 * sum(map(_is_said, row)) > len(row)]
    quoted = [next(filter(None, each)) for *each, colon in _QUOTED.findall(body) if not colon]
    return spread or quoted, False


def _is_said(item: str) -> bool:
    phrase = _phrase(item)
    return _is_phrase(phrase) or _NOTHING.fullmatch(phrase) is not None


def _rows(lines_: Sequence[str]) -> Iterator[str]:
    """Lines that hold something; of a Markdown table the cells of the column with the phrases."""
    column, width = None, 0
    for place, line in enumerate(lines_):
        if _is_rule(line):
            names = _cells(lines_[place - 1]) if place else []
            width = len(names)
            column = next((i for i, name in enumerate(names) if _NAMED.search(name)), -1)
        elif column is not None and "|" in line:
            cells = _cells(line)
            with_letters = (cell for cell in cells if _LETTER.search(cell))
            is_whole = 0 <= column < len(cells) == width
            yield cells[column] if is_whole else next(with_letters, "")
        elif line.strip() and not _is_rule("".join(lines_[place + 1 : place + 2])):
            column = None
            yield line


def _is_rule(line: str) -> bool:
    """Whether a line parts the head of a table from its body."""
    return "|" in line and "--" in line and not line.strip("|-: \t")


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _beside(row: str) -> list[str]:
    """The items of a list in one line, each with a mark of its own; other lines as they are."""
    starts = [found.start() for found in _BESIDE.finditer(row.strip())]
    if len(starts) < 2 or starts[0] > 0:
        return [row]
    return [row.strip()[i:j] for i, j in itertools.zip_longest(starts, starts[1:])]


def _of_item(item: str) -> Iterator[str]:
    """An item of a list, or what it names."""
    name, colon, rest = item.partition(":")
    if colon and _ASIDE.search(name):
        return
    if colon and rest.strip() and _NAMED.search(name):
        yield from _between(rest)
    else:
        yield item


def _of_sentence(sentence: str) -> Iterator[str]:
    """What is between commas; what ends in a colon introduces it."""
    name, colon, rest = sentence.partition(":")
    if not (colon and _ASIDE.search(name)):
        yield from _between(rest if colon else name)


def _between(text: str) -> Iterator[str]:
    yield from (item for item in _BETWEEN.split(text) if item.strip())


def _value_within(text: str) -> Any:
    """The first list or object in a text, as JSON or as Python writes them, or None."""
    decoder = json.JSONDecoder(strict=False)
    starts = (found.start() for found in re.finditer(r"[\[{]", text))
    for start in itertools.islice(starts, _MOST_TRIED):
        try:
            value, _ = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        if _is_answer(value):
            return value
    for found in itertools.islice(_BRACKETED.finditer(text), _MOST_TRIED):
        try:
            value = ast.literal_eval(found.group())
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
        if _is_answer(value):
            return value
    return None


def _is_answer(value: Any) -> bool:
    """Whether a value names phrases, or says that there are none."""
    if not value or any(True for _ in _texts(value)):
        return True
    return isinstance(value, dict) and any(_plain(key) in _KEYS for key in value)


def _texts(value: Any, depth: int = 0) -> Iterator[str]:
    """Texts of a value, wherever models put them."""
    if isinstance(value, str):
        yield value
    elif depth > 4:
        return
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each, depth + 1)
    elif isinstance(value, dict):
        by_name = {_plain(key): each for key, each in value.items()}
        known = [by_name[key] for key in _KEYS if key in by_name]
        if known:
            yield from _texts_of(known[0], depth)
        elif all(isinstance(each, int | float) for each in value.values()):
            yield from (str(key) for key in value)  # how sure it is of each
        else:
            for name, each in by_name.items():
                if not _ASIDE.search(name):
                    yield from _texts_of(each, depth)


def _texts_of(value: Any, depth: int) -> Iterator[str]:
    """Texts of what has a name: phrases between commas where a list was not written as one."""
    yield from _between(value) if isinstance(value, str) else _texts(value, depth + 1)


def _plain(name: object) -> str:
    """The name of a value, in one of the ways to write it."""
    return re.sub(r"[\s_-]+", " ", str(name)).strip().casefold()


def _phrase(item: str) -> str:
    """One item as a plain phrase: marks, quotes, articles and explanations go."""
    text = re.sub(r"\*\*|__|^[#>\s]+", "", item).strip().strip("\"'“”‘’`*_").strip()
    text = re.sub(r"^and\s+", "", _EXPLAINED.split(text, maxsplit=1)[0])
    text = clean_label(text.strip("\"'“”‘’`*_ ")).rstrip(" .!?,;:").strip("\"'“”‘’")
    return text if _SPOKEN.match(text) else _BEFORE.sub("", text, count=1)


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
