"""The files of a static export, one after the other: pages from templates, and thumbnails."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.errors import InputError
from csp_engine.exports.html.portrait import N_PAIRS, pairs_in_brief, portrait_of
from csp_engine.exports.html.selection import Selection
from csp_engine.exports.html.tables import (
    NeuronTable,
    Summary,
    first_method,
    labels_in,
    summary_of,
    table_of,
)
from csp_engine.methods import method_title
from csp_engine.types import NeuronRef, Progress, silent
from csp_engine.views.images.choices import NO_EXEMPLARS
from csp_engine.views.images.separation import doubt
from csp_engine.views.memo import Memo
from csp_engine.views.neuron.circuit import circuit, outputs_of
from csp_engine.views.neuron.label import when_reliable
from csp_engine.views.neuron.shared import N_SHOWN, by_chance
from csp_engine.views.overview.provenance import provenance

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).resolve().parent / "templates"
POLICY = (
    "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; "
    "base-uri 'none'; form-action 'none'"
)
"""What the pages may load: their own pictures, style and script, also from disk; nothing else."""

PER_FOLDER = 1000
ROWS_AT_ONCE = 300
"""Rows of a table that are laid out before somebody asks for more: thousands take seconds."""
MAX_TITLE = 80
_UNSAFE = re.compile("[\u202a-\u202e\u2066-\u2069\u0000-\u0008\u000b-\u001f\u007f-\u009f]")


class Site:
    """Every file of an export; the same bundle and selection give the same bytes.

    Attributes:
        method: the label method that names neurons.
        paths: where the page of each neuron lies.
        circuits: where the page of each circuit lies, by model and output.
        labels_path: where the labels are listed.
        overview_template: what the first page is made from.
        scripts: files that pages run.
    """

    labels_path = "labels.html"
    overview_template = "overview.html"
    scripts: tuple[str, ...] = ("table.js",)

    def __init__(self, bundle: Bundle, selection: Selection) -> None:
        self.bundle = bundle
        self.selection = selection
        self.memo = Memo()
        self.method = first_method(bundle, selection)
        self.paths = self._neuron_paths()
        self.circuits = self._circuit_paths()
        self._images: set[int] = set()

    def files(self, progress: Progress = silent) -> Iterator[tuple[str, bytes]]:
        """Path inside the export, with ``/``, and content; the overview comes last.

        Raises:
            BundleError: if a file of the bundle is missing or damaged.
        """
        tables = [table_of(self.bundle, each, self.method) for each in self.selection.lists]
        n_bytes = n_files = 0
        for path, content in self._all_but_overview(tables, progress):
            n_bytes, n_files = n_bytes + len(content), n_files + 1
            yield path, content
        summaries = [summary_of(table) for table in tables]
        yield "index.html", self.overview(summaries, len(self._images), n_files, n_bytes)

    def _all_but_overview(
        self, tables: list[NeuronTable], progress: Progress
    ) -> Iterator[tuple[str, bytes]]:
        yield from self.fixed_files()
        yield from self._neuron_pages(progress)
        for number, table in enumerate(tables):
            self._images.update(image for row in table.rows for image in row.images)
            path = self.list_path(number, 0)
            yield path, self.page("table.html", path, table=table, pager=None)
        labels = labels_in(tables)
        yield "labels.html", self.page("labels.html", "labels.html", labels=labels, pager=None)
        for model, output in self.circuits:
            yield self.circuit_page(model, output)
        if self.circuits:
            yield self.circuit_list()
        images = sorted(self._images)
        for done, image in enumerate(images, 1):
            yield self.image_path(image), self.bundle.thumbnail(image)
            progress("images", done, len(images))

    def fixed_files(self) -> Iterator[tuple[str, bytes]]:
        """Styles and scripts, which are the same in every export."""
        for name in ("style.css", "all-rows.css", *self.scripts):
            yield name, (TEMPLATES / name).read_bytes()

    def _neuron_pages(self, progress: Progress) -> Iterator[tuple[str, bytes]]:
        total, done = self.selection.n_neurons, 0
        for number, chosen in enumerate(self.selection.lists):
            for at in range(len(chosen.neurons)):
                path, content, images = self.neuron_page(number, at)
                self._images |= images
                yield path, content
                done += 1
                progress("pages", done, total)

    def neuron_page(self, number: int, at: int) -> tuple[str, bytes, set[int]]:
        """The page of one neuron: where it lies, what it holds, and the images that it shows.

        Args:
            number: of the list that the neuron is in.
            at: its place there.

        Raises:
            BundleError: if a file of the bundle is missing or damaged.
        """
        chosen = self.selection.lists[number]
        neurons = chosen.neurons
        portrait = portrait_of(self.bundle, self.memo, neurons[at], self.method)
        path = self.paths[neurons[at]]
        content = self.page(
            "neuron.html",
            path,
            portrait=portrait,
            no_exemplars=NO_EXEMPLARS,
            n_shared=N_SHOWN,
            by_chance=by_chance,
            list_title=chosen.title,
            list_path=self.list_path(number, at),
            at=at + 1,
            n_list=len(neurons),
            before=neurons[at - 1] if len(neurons) > 1 else None,
            after=neurons[(at + 1) % len(neurons)] if len(neurons) > 1 else None,
        )
        return path, content, portrait.images

    def circuit_page(self, model: str, output: str) -> tuple[str, bytes]:
        """The page of an output whose circuit is known."""
        found = circuit(self.bundle, model, output, self.method)
        assert found is not None
        path = self.circuits[model, output]
        return path, self.page("circuit.html", path, model=model, found=found)

    def circuit_list(self) -> tuple[str, bytes]:
        """The page that lists all circuits."""
        path = "circuits.html"
        return path, self.page("circuits.html", path, circuits=self.circuits)

    def overview(
        self, summaries: list[Summary], n_images: int, n_files: int, n_bytes: int
    ) -> bytes:
        """The first page.

        Args:
            summaries: of each list of the selection.
            n_images: thumbnails of the export.
            n_files: all other files.
            n_bytes: what these take.
        """
        example = next((each.example for each in summaries if each.example is not None), None)
        shown = example and pairs_in_brief(self.bundle, self.memo, example.neuron, 4)
        return self.page(
            self.overview_template,
            "index.html",
            summaries=list(enumerate(summaries)),
            example=example,
            pairs=shown,
            about=self.selection.about,
            models=list(dict.fromkeys(n.model for n in self.paths)),
            n_neurons=self.selection.n_neurons,
            n_images=n_images,
            n_files=n_files + 1,
            size=size_text(n_bytes),
            n_pairs=N_PAIRS,
            made_from=provenance(self.bundle),
        )

    def page(self, template: str, path: str, **values: Any) -> bytes:
        """A page from its template, as bytes.

        Args:
            template: name of a file in ``templates/``.
            path: where the page lies.
            values: what only this template takes.
        """
        up = "../" * path.count("/")
        markup = (
            _environment()
            .get_template(template)
            .render(
                **values,
                up=up,
                policy=POLICY,
                rows_at_once=ROWS_AT_ONCE,
                bundle=self.bundle,
                doubt=doubt(self.bundle),
                method=method_title(self.method),
                when_reliable=when_reliable(self.method),
                has_circuits=bool(self.circuits),
                labels_path=self.labels_path,
                scripts=self.scripts,
                image_url=lambda image: up + self.image_path(image),
                neuron_url=lambda neuron: up + self.paths[neuron] if neuron in self.paths else "",
                circuit_url=lambda model, output: self._circuit_url(up, model, output),
                list_url=lambda number: up + self.list_path(number, 0),
            )
        )
        # A lone surrogate, which JSON can smuggle in, has no UTF-8.
        return markup.encode("utf-8", "replace")

    def _circuit_url(self, up: str, model: str, output: str) -> str:
        """Where the circuit of an output lies; empty where it is not known."""
        path = self.circuits.get((model, output))
        return up + path if path else ""

    def image_path(self, image: int) -> str:
        """Where the thumbnail of a probe image lies."""
        return image_path(image)

    def list_path(self, number: int, at: int) -> str:
        """Where the table lies that holds one place of a list."""
        return f"tables/{number + 1}-{slug(self.selection.lists[number].title)}.html"

    def _circuit_paths(self) -> dict[tuple[str, str], str]:
        """Where the circuits of the models lie, by model and output."""
        models = dict.fromkeys(neuron.model for neuron in self.paths)
        return {
            (model, output): f"circuits/{at}-{slug(model)}/{number}-{slug(output)}.html"
            for at, model in enumerate(models, 1)
            for number, output in enumerate(dict.fromkeys(outputs_of(self.bundle, model)), 1)
        }

    def _neuron_paths(self) -> dict[NeuronRef, str]:
        folders: dict[tuple[str, str], str] = {}
        paths: dict[NeuronRef, str] = {}
        for chosen in self.selection.lists:
            for neuron in chosen.neurons:
                place = (neuron.model, neuron.layer)
                name = f"{len(folders) + 1}-{slug(f'{neuron.model} {neuron.layer}')}"
                folder = folders.setdefault(place, name)
                if neuron in paths:
                    raise InputError(f"Neuron {neuron} is in two lists; name it once.")
                paths[neuron] = f"neurons/{folder}/{neuron.unit}.html"
        return paths


def image_path(image: int) -> str:
    """Where the thumbnail of a probe image lies."""
    return f"images/{image // PER_FOLDER}/{image}.webp"


def slug(text: str) -> str:
    """A name as part of a file's name on any system: small letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower())[:40].strip("-") or "unnamed"


def size_text(n_bytes: int) -> str:
    """A size in the unit people use."""
    if n_bytes < 1_000_000:
        return f"{max(1, round(n_bytes / 1000)):,} kB"
    return f"{n_bytes / 1_000_000:,.1f} MB" if n_bytes < 1e9 else f"{n_bytes / 1e9:,.1f} GB"


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # only where pages are made

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_sound,
        auto_reload=False,
    )
    environment.filters["count"] = numbers.count
    environment.filters["shorten"] = _shorten
    environment.filters["share"] = numbers.share
    environment.filters["score"] = numbers.score
    environment.filters["signed"] = numbers.signed
    environment.filters["activation"] = numbers.activation
    environment.filters["title"] = method_title
    environment.filters["chance"] = numbers.chance
    environment.filters["place"] = lambda value: f"{value:.4g}"
    return environment


def _sound(value: Any) -> Any:
    is_markup = hasattr(value, "__html__") or value is None
    return value if is_markup else one_way(str(value))


def one_way(text: str) -> str:
    """Text that cannot turn the line around it, without control characters; escape it after."""
    return _UNSAFE.sub("", text)


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_TITLE else f"{text[: MAX_TITLE - 1]}…"
