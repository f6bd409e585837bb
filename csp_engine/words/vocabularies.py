"""Vocabularies: read label lists, clean them, merge them without doubles."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from csp_engine.errors import InputError
from csp_engine.files import ROOT
from csp_engine.reading.names import read_names
from csp_engine.words.hierarchy import require_parents

MAX_LABEL_LENGTH = 200

_FOLDER = ROOT / "assets" / "vocabularies"
SHIPPED = {
    name: _FOLDER / f"{name}.txt" for name in ("general", "textures", "colours", "dermoscopy")
}
"""Vocabularies that come with the project, by name; each file states its source and licence."""

PARENTS = "parents"
"""The column that names what a label is a kind of; not there where no label has any."""

_BULLET = re.compile(r"^(?:[-*+–—>]\s+|[•·‣◦▪●]\s*|\d{1,4}[.)]\s+)+")
_QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”", "‘": "’", "«": "»", "„": "“"}
_ACRONYM = re.compile(r"[^\w]*[A-Z][A-Z0-9&./-]{1,5}s?[^\w]*", re.ASCII)


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Candidate labels in order: columns ``text`` and ``source`` (joined by ';' where several).

    Where some labels are kinds of others, a third column ``parents`` names these (joined by ';').
    """

    name: str
    table: pd.DataFrame

    def __len__(self) -> int:
        return len(self.table)

    @property
    def texts(self) -> list[str]:
        """The labels in order."""
        return self.table["text"].tolist()

    @cached_property
    def sha256(self) -> str:
        """Hash of labels, sources, order, and links between labels where there are any."""
        columns = [name for name in ("text", "source", PARENTS) if name in self.table]
        rows = self.table[columns].to_numpy().tolist()
        return hashlib.sha256(json.dumps(rows, ensure_ascii=True).encode()).hexdigest()


def clean_label(text: str) -> str:
    """Bring one label to its plain form; cleaning twice changes nothing more.

    Underscores become spaces, runs of white space one space; invisible characters, list bullets,
    surrounding quotes and a trailing comma or semicolon go; Unicode is composed (NFC); letters are
    lowered except in acronyms: words of two to six capitals beside words that are not, or alone
    (``TV``, ``LCD screen``, but ``golden retriever`` for ``GOLDEN RETRIEVER``).
    """
    while True:
        cleaned = _clean_once(text)
        if cleaned == text:
            return cleaned
        text = cleaned


def _clean_once(text: str) -> str:
    text = unicodedata.normalize("NFC", text).replace("_", " ")
    # Separators and controls are white space; format characters (marks of direction, zero width,
    # soft hyphen, byte order) are invisible, except the joiners that some scripts and emoji need.
    text = "".join(
        " " if (kind := unicodedata.category(c))[0] == "Z" or kind == "Cc"
        else "" if kind in ("Cf", "Cs") and c not in "\u200c\u200d"
        else c
        for c in text
    )  # fmt: skip
    text = " ".join(text.split()).strip("\u200c\u200d")
    text = _BULLET.sub("", text).rstrip(" ,;")
    if len(text) >= 2 and _QUOTES.get(text[0]) == text[-1]:
        inner = text[1:-1]
        if text[0] not in inner and text[-1] not in inner:
            text = inner.strip()
    words = text.split(" ")
    is_shouting = len(words) > 1 and text.upper() == text
    words = [
        word if _ACRONYM.fullmatch(word) and not is_shouting else word.lower() for word in words
    ]
    return unicodedata.normalize("NFC", " ".join(words))


def read_vocabulary(sources: Sequence[str]) -> Vocabulary:
    """Read and merge label lists.

    Labels equal but for case count once: the first spelling stays, and the sources and parents are
    joined.

    Args:
        sources: names in ``SHIPPED`` or paths of lists as ``csp_engine.reading.names`` reads them:
            one label a line (lines that start with '#' are comments), JSON, a table with a column
            of labels, or lines with numbers or synset ids in front.

    Raises:
        InputError: if a source does not exist or is no list, a label is longer than 200
            characters, a parent is no label or below its own kind, or fewer than two labels remain
            (a margin needs a runner-up).
    """
    if isinstance(sources, str):
        sources = [sources]
    if not sources:
        raise InputError(
            f"No vocabulary was given; name a text file or one of {', '.join(SHIPPED)}."
        )
    spelling: dict[str, str] = {}
    origins: dict[str, list[str]] = {}
    links: dict[str, dict[str, str]] = {}
    names: list[str] = []
    for source in dict.fromkeys(sources):
        path = _find(source)
        origin = (source if source in SHIPPED else path.name).replace(";", ",")
        names.append(source if source in SHIPPED else path.stem)
        for name in read_names(path, what="Vocabulary"):
            label = clean_label(name.text)
            if not label:
                continue
            if len(label) > MAX_LABEL_LENGTH:
                raise InputError(
                    f"{name.place} of {path.name!r} has {len(label)} characters "
                    f"({label[:30]!r}...); a label may have {MAX_LABEL_LENGTH}, one label a line."
                )
            key = same_label(label)
            spelling.setdefault(key, label)
            if origin not in origins.setdefault(key, []):
                origins[key].append(origin)
            for parent in filter(None, map(clean_label, name.parents)):
                where = f"{name.place} of {path.name!r}"
                links.setdefault(key, {}).setdefault(same_label(parent), where)
    if len(spelling) < 2:
        found = f"only the label {next(iter(spelling.values()))!r}" if spelling else "no label"
        raise InputError(
            f"Vocabulary {'+'.join(names)!r} has {found}; it needs at least two, "
            f"because a score is read against its runner-up."
        )
    require_parents(spelling, links)
    table = label_table(
        list(spelling.values()),
        [";".join(own) for own in origins.values()],
        [";".join(spelling[parent] for parent in links.get(key, ())) for key in spelling],
    )
    return Vocabulary("+".join(dict.fromkeys(names)), table)


CAPTIONER = "captioner: "
"""What the source of a label starts with that a captioner proposed; its mode follows."""


def with_candidates(
    vocabulary: Vocabulary, candidates: Mapping[str, Iterable[str]]
) -> tuple[Vocabulary, int]:
    """Add the phrases a captioner proposed to the labels it did not know.

    Phrases are cleaned, and "a and a" becomes "a"; those that are empty or too long are left out.
    One that is a label already, but for case, adds its source to it. New labels follow in
    alphabetical order, so the result does not depend on the order of neurons.

    Args:
        vocabulary: without candidates.
        candidates: phrases by mode of the captioner.

    Returns:
        The larger vocabulary, and how many labels are new.
    """
    origins: dict[str, list[str]] = {}
    spelling: dict[str, str] = {}
    for mode, phrases in candidates.items():
        for label in sorted({as_label(phrase) for phrase in phrases}):
            if not 0 < len(label) <= MAX_LABEL_LENGTH:
                continue
            key = same_label(label)
            spelling[key] = min(label, spelling.get(key, label))
            if CAPTIONER + mode not in origins.setdefault(key, []):
                origins[key].append(CAPTIONER + mode)
    texts, sources = list(vocabulary.table["text"]), list(vocabulary.table["source"])
    for place, text in enumerate(texts):
        found = origins.pop(same_label(text), [])
        sources[place] = ";".join([sources[place], *found])
    new = sorted(origins, key=lambda key: spelling[key])
    texts += [spelling[key] for key in new]
    sources += [";".join(origins[key]) for key in new]
    parents = parents_in(vocabulary.table) + [""] * len(new)
    return Vocabulary(vocabulary.name, label_table(texts, sources, parents)), len(new)


def as_label(phrase: str) -> str:
    """The label that a captioner's phrase becomes: "a and a" is "a", for a network may say so."""
    label = clean_label(phrase)
    parts = set(label.split(" and "))
    return parts.pop() if len(parts) == 1 else label


def is_proposed(source: str) -> bool:
    """Whether a label with this source comes from a captioner and from nowhere else."""
    return all(part.startswith(CAPTIONER) for part in source.split(";"))


def same_label(label: str) -> str:
    """Equal for labels that count as one."""
    return unicodedata.normalize("NFC", label.casefold())


def label_table(
    texts: Sequence[str], sources: Sequence[str], parents: Sequence[str] = ()
) -> pd.DataFrame:
    """The table of a vocabulary; equal labels give equal bytes when it is written."""
    columns = {"text": texts, "source": sources}
    if any(parents):
        columns[PARENTS] = parents
    return pd.DataFrame({name: pd.Series(own, dtype=object) for name, own in columns.items()})


def parents_in(table: pd.DataFrame) -> list[str]:
    """What the labels of a vocabulary's table are kinds of; empty texts where nobody says."""
    return table[PARENTS].tolist() if PARENTS in table else [""] * len(table)


def _find(source: str) -> Path:
    if source in SHIPPED:
        if not SHIPPED[source].is_file():
            raise InputError(
                f"The shipped vocabulary {source!r} is not at {str(SHIPPED[source])!r}; "
                "install csp-neuron-browser again, or give the path of a text file."
            )
        return SHIPPED[source]
    path = Path(source)
    if path.is_file():
        return path
    near = difflib.get_close_matches(source, SHIPPED, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise InputError(
        f"There is no vocabulary {source!r}: it is not a text file, and the shipped ones are "
        f"{', '.join(SHIPPED)}.{hint}"
    )
