"""What a published site is made of: parts that can be written in any order, by any process."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from csp_engine.bundle import Bundle
from csp_engine.exports.html.selection import NeuronList, Selection
from csp_engine.exports.html.site import TEMPLATES, Site, slug
from csp_engine.exports.html.tables import (
    Example,
    NamedLabel,
    Summary,
    carriers_in,
    summary_of,
    table_of,
)
from csp_engine.types import NeuronRef

PER_LIST = 100
"""Neurons of one page of a list, which are written as one part with that page."""
PER_LABEL_LIST = 200
NEAR = 2
"""Pages of a list before and after the one that is shown, which it links to by number."""


@dataclass(frozen=True, slots=True)
class Pager:
    """One page of a list. ``links`` are numbers with addresses.

    The address is empty for the page itself, and number 0 stands for pages that are left out.
    """

    number: int
    first: int
    last: int
    n_rows: int
    links: tuple[tuple[int, str], ...]
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Part:
    """Places from ``first`` to before ``last`` of a list, or of all circuits where that is None."""

    number: int | None
    first: int
    last: int

    @property
    def name(self) -> str:
        """What its record is called."""
        return f"{'circuits' if self.number is None else self.number + 1}-{self.first}"


@dataclass(frozen=True, slots=True)
class Told:
    """What a part says to the pages that are written last.

    ``labels`` are the labels of its neurons, each with the places of those that carry it in the
    list of the part, and whether it is reliable for them.
    """

    summary: Summary | None
    labels: dict[str, list[tuple[int, bool]]]


class PublishedSite(Site):
    """A site whose lists come in pages, and whose thumbnails are named by what they hold."""

    labels_path = "labels/1.html"
    overview_template = "start.html"

    def __init__(self, bundle: Bundle, selection: Selection) -> None:
        super().__init__(bundle, selection)
        self._image_paths: dict[int, str] = {}

    def fixed_files(self) -> Iterator[tuple[str, bytes]]:
        """Styles and scripts, that of the search box among them."""
        yield from super().fixed_files()
        yield "search.js", (TEMPLATES / "search.js").read_bytes()

    def image_path(self, image: int) -> str:
        """Where a thumbnail lies: images that look the same share one."""
        if image not in self._image_paths:
            name = hashlib.sha256(self.bundle.thumbnail(image)).hexdigest()[:32]
            self._image_paths[image] = f"images/{name[:2]}/{name}.webp"
        return self._image_paths[image]

    def list_path(self, number: int, at: int) -> str:
        """Where the page of a list lies that holds one place of it."""
        title = slug(self.selection.lists[number].title)
        return f"lists/{number + 1}-{title}/{at // PER_LIST + 1}.html"

    def parts(self) -> list[Part]:
        """All parts, in order."""
        found = [
            Part(number, first, min(first + PER_LIST, len(each.neurons)))
            for number, each in enumerate(self.selection.lists)
            for first in range(0, len(each.neurons), PER_LIST)
        ]
        n = len(self.circuits)
        return found + [Part(None, k, min(k + PER_LIST, n)) for k in range(0, n, PER_LIST)]

    def files_of(self, part: Part) -> Iterator[tuple[str, bytes] | Told]:
        """The files of a part, then what it tells; thumbnails may be of other parts too.

        Raises:
            BundleError: if a file of the bundle is missing or damaged.
        """
        if part.number is None:
            for model, output in list(self.circuits)[part.first : part.last]:
                yield self.circuit_page(model, output)
            yield Told(None, {})
            return
        images: set[int] = set()
        for at in range(part.first, part.last):
            path, content, shown = self.neuron_page(part.number, at)
            images |= shown
            yield path, content
        whole = self.selection.lists[part.number]
        held = slice(part.first, part.last)
        chosen = NeuronList(whole.title, whole.neurons[held], whole.match[held])
        table = table_of(self.bundle, chosen, self.method)
        images.update(image for row in table.rows for image in row.images)
        path = self.list_path(part.number, part.first)
        pager = pager_of(part.first // PER_LIST + 1, PER_LIST, len(whole.neurons))
        yield path, self.page("table.html", path, table=table, pager=pager)
        for image in sorted(images):
            yield self.image_path(image), self.bundle.thumbnail(image)
        place = {neuron: at for at, neuron in enumerate(chosen.neurons, part.first)}
        labels = {
            text: [(place[neuron], is_reliable) for neuron, is_reliable in carriers.items()]
            for text, carriers in carriers_in([table]).items()
        }
        yield Told(summary_of(table), labels)

    def label_lists(self, labels: list[NamedLabel]) -> Iterator[tuple[str, bytes]]:
        """The pages that list all labels by name."""
        for first in range(0, max(1, len(labels)), PER_LABEL_LIST):
            number = first // PER_LABEL_LIST + 1
            path = f"labels/{number}.html"
            pager = pager_of(number, PER_LABEL_LIST, len(labels))
            shown = labels[first : first + PER_LABEL_LIST]
            yield path, self.page("labels.html", path, labels=shown, pager=pager)


def joined(summaries: list[Summary]) -> Summary:
    """What the overview says of a list whose parts were written one by one, in their order."""
    first = summaries[0]
    return Summary(
        first.title,
        sum(each.n_neurons for each in summaries),
        sum(each.n_reliable for each in summaries),
        {state: sum(each.n_in_state[state] for each in summaries) for state in first.n_in_state},
        next((each.example for each in summaries if each.example is not None), None),
    )


def pager_of(number: int, per_page: int, n_rows: int) -> Pager:
    """Where a page of a list stands among its pages, which lie beside it as ``NUMBER.html``."""
    n_pages = max(1, -(-n_rows // per_page))
    near = range(max(1, number - NEAR), min(n_pages, number + NEAR) + 1)
    far = (number + step for step in (-100, -10, 10, 100))
    shown = sorted({1, n_pages, *near, *(each for each in far if 1 <= each <= n_pages)})
    links: list[tuple[int, str]] = []
    for each in shown:
        if links and each > links[-1][0] + 1:
            links.append((0, ""))
        links.append((each, "" if each == number else f"{each}.html"))
    return Pager(
        number,
        (number - 1) * per_page + 1,
        min(number * per_page, n_rows),
        n_rows,
        tuple(links),
        f"{number - 1}.html" if number > 1 else "",
        f"{number + 1}.html" if number < n_pages else "",
    )


def as_record(told: Told, neurons: Sequence[NeuronRef]) -> dict[str, Any]:
    """What a part tells, for JSON; neurons by their places in the list of the part."""
    summary = told.summary
    if summary is None:
        return {}
    shown = summary.example
    return {
        "title": summary.title,
        "n_neurons": summary.n_neurons,
        "n_reliable": summary.n_reliable,
        "n_in_state": summary.n_in_state,
        "example": None if shown is None else [neurons.index(shown.neuron), shown.label],
        "labels": told.labels,
    }


def from_record(record: dict[str, Any], neurons: Sequence[NeuronRef]) -> Told:
    """What ``as_record`` wrote."""
    if not record:
        return Told(None, {})
    shown = record["example"]
    example = None if shown is None else Example(neurons[shown[0]], shown[1])
    summary = Summary(
        record["title"], record["n_neurons"], record["n_reliable"], record["n_in_state"], example
    )
    labels = {text: [(at, ok) for at, ok in held] for text, held in record["labels"].items()}
    return Told(summary, labels)
