"""A view is a function of its URL: one vocabulary for all pages, checked in one place.

Whatever a URL says, ``read_view`` gives values that exist, and a note for each that had to be
replaced. docs/urls.md lists the parameters.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from csp_engine.bundle import Bundle
from csp_engine.errors import BundleError, CspError
from csp_engine.types import NeuronRef
from csp_engine.views.address import vectors
from csp_engine.views.address.parameters import (
    ALL_LAYERS,
    CARDS,
    CHOSEN_OF_PAGES,
    CHOSEN_OF_VIEW,
    COPIES,
    FINDS,
    LOOKS,
    OF_VIEW,
    PARAMETERS,
    RESULT_COUNTS,
    SCOPES,
    SHOWS,
    VERSION,
    Parameter,
)
from csp_engine.views.address.picking import pick, pick_number, pick_share, shorten
from csp_engine.views.places import concept_names

MAX_QUERY = 300
MAX_PAGE = 10_000
QUERIES = ("q", "not", "like", "image", "vec")
"""The parameters of a query; ``not`` goes with any of the others."""
NO_COLUMNS = "This bundle has no concept columns, so neurons are not compared with one."


@dataclass(frozen=True, slots=True)
class View:
    """What a page shows. ``layer`` is a layer of ``model``; a search may run over all of them.

    A query is one of ``q`` (texts), ``like`` (a neuron), ``image`` (a probe image) and ``vec`` (the
    vector of an uploaded image). ``column`` is a concept column, whose figures are shown beside the
    neurons. ``gamma`` is None for the one the bundle was built with.
    ``scope`` says, on the page of one neuron, whether the list it stands in is that of its layer.
    """

    bundle: str
    model: str
    layer: str
    unit: int
    method: str
    q: str = ""
    but_not: str = ""
    k: int = RESULT_COUNTS[0]
    show: str = SHOWS[0]
    is_all_layers: bool = True
    gamma: float | None = None
    like: str = ""
    image: int | None = None
    vec: str = ""
    column: str = ""
    find: str = FINDS[0]
    page: int = 1
    copies: str = COPIES[0]
    look: str = LOOKS[0]
    scope: str = SCOPES[0]
    card: str = CARDS[0]
    notes: tuple[str, ...] = ()

    @property
    def neuron(self) -> NeuronRef:
        """The neuron of this view."""
        return NeuronRef(self.model, self.layer, self.unit)

    @property
    def has_query(self) -> bool:
        """Whether anything is searched for."""
        return bool(self.q or self.like or self.vec or self.image is not None)

    @property
    def is_asking(self) -> bool:
        """Whether neurons come by a query or by a concept column."""
        return self.has_query or bool(self.column)

    def query_params(self) -> dict[str, str]:
        """The query alone; what is not asked is empty."""
        return {name: self._text(PARAMETERS[name]) for name in QUERIES}

    def params(self, **changes: str | int) -> dict[str, str]:
        """Query parameters of this neuron, with changes; what equals a default is left out."""
        held = {p.name: self._text(p) for p in OF_VIEW}
        whole: dict[str, str | int] = {
            p.name: "" if held[p.name] == p.default else held[p.name] for p in OF_VIEW
        }
        whole.update(changes)
        kept = {key: str(value) for key, value in whole.items() if str(value)}
        return {**kept, "v": VERSION}

    def _text(self, parameter: Parameter) -> str:
        """A value as the address writes it; empty where there is none."""
        value = getattr(self, parameter.field or parameter.name)
        if value is None:
            return ""
        return f"{value:g}" if isinstance(value, float) else str(value)

    def search_params(self, q: str, **changes: str | int) -> dict[str, str]:
        """Query parameters of a search over all layers of this bundle."""
        whole: dict[str, str | int] = {"bundle": self.bundle, "q": q, "method": self.method}
        whole.update(changes)
        kept = {key: str(value) for key, value in whole.items() if str(value)}
        return {**kept, "v": VERSION}


def with_method(view: View, methods: Sequence[str]) -> View:
    """The view with a method that can be searched."""
    return view if view.method in methods else replace(view, method=methods[0])


def pick_neuron(asked: str, bundle: Bundle) -> tuple[str, str | None]:
    """The neuron ``model/layer/unit`` asked for, or the nearest one and a note, or none and a note.

    Nothing is searched for where the text names no neuron at all.
    """
    if not asked:
        return "", None
    try:
        neuron = NeuronRef.parse(asked[:500])
    except CspError:
        return (
            "",
            f"“{shorten(asked)}” is not a neuron (model/layer/unit), so it is not searched for.",
        )
    model, _ = pick("model", neuron.model, bundle.model_names)
    layer, _ = pick("layer", neuron.layer, bundle.layers(model))
    near = NeuronRef(model, layer, min(neuron.unit, bundle.n_units(model, layer) - 1))
    if near == neuron:
        return asked, None
    return str(near), f"There is no neuron “{shorten(asked)}” here; showing what is like {near}."


def pick_vector(asked: str, bundle: Bundle) -> tuple[str, str | None]:
    """The vector of an uploaded image if it fits the bundle, else none and a note."""
    if not asked or vectors.decode(asked, bundle) is not None:
        return asked, None
    return "", (
        "The image in this link was seen by another encoder, or the link is cut off; upload the "
        "image again."
    )


def read_view(params: Mapping[str, str], bundle_name: str, bundle: Bundle) -> View:
    """What a URL asks of a bundle, made valid.

    Raises:
        BundleError: if the bundle has no layer yet.
    """
    if not bundle.model_names:
        raise BundleError(
            f"Bundle {bundle_name} has no neurons yet; run the same 'csp build' again to finish it."
        )
    notes: list[str | None] = []
    version = params.get("v", VERSION)
    if version != VERSION:
        notes.append(f"This link is of version {shorten(version)}; it is read as version 1.")
    model, note = pick("model", params.get("model"), bundle.model_names)
    notes.append(note)
    layers = bundle.layers(model)
    asked_layer = params.get("layer")
    is_all_layers = asked_layer in (None, "", ALL_LAYERS)
    layer, note = pick("layer", None if is_all_layers else asked_layer, layers)
    notes.append(note)
    n_units = bundle.n_units(model, layer)
    unit, note = pick_number("unit", params.get("unit"), 0, n_units - 1)
    notes.append(note)
    method, note = pick("method", params.get("method"), bundle.methods(model, layer) or ("none",))
    notes.append(note)
    chosen: dict[str, str] = {}
    for each in CHOSEN_OF_VIEW:
        chosen[each.name], note = pick(each.noun, params.get(each.name), each.choices)
        notes.append(note)
    gamma, note = pick_share("γ", params.get("gamma"), None)
    notes.append(note)
    page, note = pick_number("page", params.get("page"), 1, MAX_PAGE)
    notes.append(note)
    texts = [_text_of(params.get(key, ""), notes) for key in ("q", "not")]
    like, note = pick_neuron(params.get("like", ""), bundle)
    notes.append(note)
    vec, note = pick_vector(params.get("vec", ""), bundle)
    notes.append(note)
    column = params.get("column", "")
    if column:
        names = concept_names(bundle)
        column, note = pick("concept column", column, names) if names else ("", NO_COLUMNS)
        notes.append(note)
    image = None
    if params.get("image"):
        image, note = pick_number("image", params.get("image"), 0, bundle.n_images - 1)
        notes.append(note)
    asked = {"q": bool(texts[0]), "like": bool(like), "image": image is not None, "vec": bool(vec)}
    if sum(asked.values()) > 1:
        first = next(key for key, is_asked in asked.items() if is_asked)
        texts[0] = texts[0] if first == "q" else ""
        like, vec = like if first == "like" else "", vec if first == "vec" else ""
        image = image if first == "image" else None
        notes.append(f"This link asks for several things at once; only its “{first}” is searched.")
    notes += [left_out(each, params.get(each.name, "")) for each in CHOSEN_OF_PAGES]
    notes += [misspelt(name) for name in params if name not in PARAMETERS]
    return View(
        bundle_name,
        model,
        layer,
        unit,
        method,
        *texts,
        is_all_layers=is_all_layers,
        gamma=gamma,
        like=like,
        image=image,
        vec=vec,
        column=column,
        page=page,
        k=int(chosen.pop("k")),
        notes=tuple(note for note in notes if note),
        **chosen,
    )


def _text_of(asked: str, notes: list[str | None]) -> str:
    """A text to search for, empty for none; what is left of it is noted."""
    text = asked.strip()
    if len(text) > MAX_QUERY:
        notes.append(f"The query was cut to its first {MAX_QUERY} characters.")
    text = text[:MAX_QUERY]
    if asked and not split_texts(text):  # commas alone ask for nothing
        notes.append(f"“{shorten(asked)}” holds no words, so it is not searched for.")
        return ""
    return text


def left_out(parameter: Parameter, asked: str) -> str | None:
    """A note where a page does nothing for a value that is none of the choices."""
    if not asked or asked in parameter.choices:
        return None
    known = ", ".join(parameter.choices)
    return f"There is no {parameter.noun} “{shorten(asked)}”; it is left out. Known here: {known}."


def misspelt(name: str) -> str | None:
    """A note where a parameter that nobody knows is nearly spelt like one that is known."""
    near = difflib.get_close_matches(name[:40].casefold(), PARAMETERS, 1, cutoff=0.75)
    if not near:
        return None
    return f"“{shorten(name)}” in this address is left out; did you mean “{near[0]}”?"


def split_texts(query: str) -> list[str]:
    """Several concepts in one box, separated by commas or semicolons."""
    return [part.strip() for part in re.split(r"[,;]", query) if part.strip()]
