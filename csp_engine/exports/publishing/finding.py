"""The index that a published site's search box reads: labels by how their words begin, in shards.

Shards are scripts, since pages that open from disk may not fetch files. Each calls ``cspShard``
with its number and labels; ``search/index.js`` calls ``cspIndex`` with how the words of each begin.
"""

from __future__ import annotations

import json
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from csp_engine.exports.html.site import one_way
from csp_engine.exports.html.tables import NamedLabel
from csp_engine.types import NeuronRef

SHARD_BYTES = 48_000
LONGEST_WORD = 40
MOST_NEURONS = 2000
"""Neurons that a label leads to; the others are counted."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """Labels with a word that begins so; ``is_word``: one that is just this."""

    start: str
    is_word: bool
    labels: tuple[int, ...]


def words_of(text: str) -> list[str]:
    """The words of a text in small letters; ``search.js`` takes texts apart in the same way."""
    kept = "".join(c if unicodedata.category(c)[0] in "LNM" else " " for c in text.lower())
    return list(dict.fromkeys(word[:LONGEST_WORD] for word in kept.split()))


def shards_of(
    labels: Sequence[NamedLabel],
    reliable: Mapping[str, Mapping[NeuronRef, bool]],
    paths: Mapping[NeuronRef, str],
) -> Iterator[tuple[str, bytes]]:
    """The files of the index.

    Args:
        labels: all labels.
        reliable: by label and neuron, whether the label is reliable for it.
        paths: where the page of each neuron lies.
    """
    ordered = sorted(labels, key=lambda label: (-label.n_reliable, label.text))
    folders: dict[str, int] = {}
    names: list[str] = []
    entries = []
    for label in ordered:
        held: dict[int, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
        for neuron in label.neurons[:MOST_NEURONS]:
            folder = paths[neuron].rpartition("/")[0]
            if folder not in folders:
                folders[folder] = len(folders)
                names.append(one_way(f"{neuron.model}/{neuron.layer}"))
            held[folders[folder]][not reliable[label.text][neuron]].append(neuron.unit)
        where = [[folder, *units] for folder, units in held.items()]
        entries.append(_ascii([one_way(label.text), label.n_reliable, len(label.neurons), where]))
    numbers_of: dict[str, list[int]] = defaultdict(list)
    for number, label in enumerate(ordered):
        for word in words_of(one_way(label.text)):
            numbers_of[word].append(number)
    listed = []
    n_shards = 0
    sizes = [len(entry) for entry in entries]
    for bucket in _buckets("", numbers_of, sizes):
        first = n_shards
        for chunk in _chunks(bucket.labels, sizes):
            inside = ",\n".join(entries[number] for number in chunk)
            yield f"search/{n_shards}.js", f"cspShard({n_shards}, [\n{inside}\n])\n".encode()
            n_shards += 1
        listed.append(
            [bucket.start, int(bucket.is_word), len(bucket.labels), first, n_shards - first]
        )
    index = {
        "nLabels": len(ordered),
        "folders": [[path, name] for path, name in zip(folders, names, strict=True)],
        "buckets": listed,
    }
    yield "search/index.js", f"cspIndex({_ascii(index)})\n".encode()


def _buckets(start: str, numbers_of: Mapping[str, list[int]], sizes: list[int]) -> Iterator[Bucket]:
    """Words that begin alike, together where their labels fit into one shard."""
    if not numbers_of:
        return
    found = sorted({number for numbers in numbers_of.values() for number in numbers})
    is_word = list(numbers_of) == [start]
    fits = sum(sizes[number] for number in found) <= SHARD_BYTES
    if start and (fits or is_word):
        yield Bucket(start, is_word, tuple(found))
        return
    if start in numbers_of:
        yield from _buckets(start, {start: numbers_of[start]}, sizes)
    longer: dict[str, dict[str, list[int]]] = defaultdict(dict)
    for word in sorted(numbers_of):
        if word != start:
            longer[word[: len(start) + 1]][word] = numbers_of[word]
    for next_start, inside in longer.items():
        yield from _buckets(next_start, inside, sizes)


def _chunks(numbers: Sequence[int], sizes: list[int]) -> Iterator[list[int]]:
    chunk: list[int] = []
    n_bytes = 0
    for number in numbers:
        if chunk and n_bytes + sizes[number] > SHARD_BYTES:
            yield chunk
            chunk, n_bytes = [], 0
        chunk.append(number)
        n_bytes += sizes[number]
    yield chunk


def _ascii(value: Any) -> str:
    """JSON in signs that mean the same in every script and encoding."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True).replace("<", "\\u003c")
