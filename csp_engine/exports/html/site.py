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
from csp_engine.exports.html.tables import NeuronTable, first_method, labels_in, table_of
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
    """Every file of an export; the same bundle and selection give the same bytes."""

    def __init__(self, bundle: Bundle, selection: Selection) -> None:
        self.bundle = bundle
        self.selection = selection
        self.memo = Memo()
        self.method = first_method(bundle, selection)
        self._paths = self._neuron_paths()
        self._circuits = self._circuit_paths()
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
        yield "index.html", self._overview(tables, n_files, n_bytes)

    def _all_but_overview(
        self, tables: list[NeuronTable], progress: Progress
    ) -> Iterator[tuple[str, bytes]]:
        for name in ("style.css", "all-rows.css", "table.js"):
            yield name, (TEMPLATES / name).read_bytes()
        yield from self._neuron_pages(progress)
        for number, table in enumerate(tables):
            self._images.update(image for row in table.rows for image in row.images)
            yield (
                self.table_path(number),
                self._page("table.html", self.table_path(number), table=table),
            )
        yield "labels.html", self._page("labels.html", "labels.html", labels=labels_in(tables))
        yield from self._circuit_pages()
        images = sorted(self._images)
        for done, image in enumerate(images, 1):
            yield image_path(image), self.bundle.thumbnail(image)
            progress("images", done, len(images))

    def _neuron_pages(self, progress: Progress) -> Iterator[tuple[str, bytes]]:
        total, done = self.selection.n_neurons, 0
        for number, chosen in enumerate(self.selection.lists):
            neurons = chosen.neurons
            for at, neuron in enumerate(neurons):
                portrait = portrait_of(self.bundle, self.memo, neuron, self.method)
                self._images |= portrait.images
                path = self._paths[neuron]
                yield (
                    path,
                    self._page(
                        "neuron.html",
                        path,
                        portrait=portrait,
                        no_exemplars=NO_EXEMPLARS,
                        n_shared=N_SHOWN,
                        by_chance=by_chance,
                        list_title=chosen.title,
                        list_path=self.table_path(number),
                        at=at + 1,
                        n_list=len(neurons),
                        before=neurons[at - 1] if len(neurons) > 1 else None,
                        after=neurons[(at + 1) % len(neurons)] if len(neurons) > 1 else None,
                    ),
                )
                done += 1
                progress("pages", done, total)

    def _circuit_pages(self) -> Iterator[tuple[str, bytes]]:
        """A page for every output whose circuit is known, and their list; none without any."""
        for (model, output), path in self._circuits.items():
            found = circuit(self.bundle, model, output, self.method)
            assert found is not None
            yield path, self._page("circuit.html", path, model=model, found=found)
        if self._circuits:
            yield (
                "circuits.html",
                self._page("circuits.html", "circuits.html", circuits=self._circuits),
            )

    def _overview(self, tables: list[NeuronTable], n_files: int, n_bytes: int) -> bytes:
        shown = next((r for t in tables for r in t.rows if r.label.is_reliable), None)
        example = None
        if shown is not None:
            example = (shown, pairs_in_brief(self.bundle, self.memo, shown.neuron, 4))
        return self._page(
            "overview.html",
            "index.html",
            tables=list(enumerate(tables)),
            example=example,
            about=self.selection.about,
            models=list(dict.fromkeys(n.model for n in self._paths)),
            n_neurons=self.selection.n_neurons,
            n_images=len(self._images),
            n_files=n_files + 1,
            size=size_text(n_bytes),
            n_pairs=N_PAIRS,
            made_from=provenance(self.bundle),
        )

    def _page(self, template: str, path: str, **values: Any) -> bytes:
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
                has_circuits=bool(self._circuits),
                image_url=lambda image: up + image_path(image),
                neuron_url=lambda neuron: up + self._paths[neuron] if neuron in self._paths else "",
                circuit_url=lambda model, output: self._circuit_url(up, model, output),
                table_url=lambda number: up + self.table_path(number),
            )
        )
        # A lone surrogate, which JSON can smuggle in, has no UTF-8.
        return markup.encode("utf-8", "replace")

    def _circuit_url(self, up: str, model: str, output: str) -> str:
        """Where the circuit of an output lies; empty where it is not known."""
        path = self._circuits.get((model, output))
        return up + path if path else ""

    def table_path(self, number: int) -> str:
        """Where the table of a list lies."""
        return f"tables/{number + 1}-{slug(self.selection.lists[number].title)}.html"

    def _circuit_paths(self) -> dict[tuple[str, str], str]:
        """Where the circuits of the models lie, by model and output."""
        models = dict.fromkeys(neuron.model for neuron in self._paths)
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
        finalize=_one_way,
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


def _one_way(value: Any) -> Any:
    """Text that cannot turn the line around it; escaping comes after this."""
    is_markup = hasattr(value, "__html__") or value is None
    return value if is_markup else _UNSAFE.sub("", str(value))


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_TITLE else f"{text[: MAX_TITLE - 1]}…"
