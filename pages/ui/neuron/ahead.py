"""What the page of a neuron begins with, as data: drawn by the page, or ahead of it in a step.

A step to the next neuron shows these pieces at once, from a browser that has fetched them already,
and the page follows (``components/walk.js``). Both have them from here, so they cannot differ.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from csp_engine.bundle import Bundle
from csp_engine.errors import CspError
from csp_engine.views.address import LOOKS, View, read_view
from csp_engine.views.conclusion.echoes import beside_one_another
from csp_engine.views.confidence import trust_of
from csp_engine.views.images import choices
from csp_engine.views.memo import Memo
from csp_engine.views.neuron.candidates import stored
from pages.ui.neuron import candidates, heading, sections
from pages.ui.parts.cards import Packs, base_url, packed_tiles
from pages.ui.shell import store

KEPT = Memo(96)
"""Pieces of the neurons that were seen last; apart from what is costly to make again."""
PAIR_PX = 205


@dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """The beginning of a neuron's page.

    Args:
        of: the neuron, as text.
        said: what a step announces.
        parts: HTML by the name of its place on the page.
        tiles: pairs as ``cards.packed_tiles`` gives them; None where there are none.
        n_hidden: near-duplicates that were left out.
    """

    of: str
    said: str
    parts: dict[str, str]
    tiles: dict[str, Any] | None
    n_hidden: int


def pieces(bundle: Bundle, view: View, *, is_blind: bool) -> Pieces:
    """The pieces of a view of a neuron, made once while they are among those seen last.

    Where a file is damaged that none of its images needs (of another method, say), they are its
    images and that sentence, and are not kept.
    """
    seen = replace(view, gamma=None, page=1, notes=())
    key = ("pieces", bundle.digest, base_url(""), seen, is_blind)
    try:
        return KEPT.once(key, lambda: _make(bundle, seen, is_blind))
    except CspError as error:
        return _images_alone(bundle, seen, error, is_blind)


def can_walk(view: View) -> bool:
    """Whether a step may show the pieces ahead of the page: they hold pairs, and no maps."""
    return view.show == "contrast" and view.look == LOOKS[0]


def _tiles(bundle: Bundle, view: View) -> tuple[dict[str, Any] | None, int]:
    """The pairs, and how many near-duplicates were left out."""
    found = choices.chosen_images(
        bundle,
        store.MEMO,
        view.neuron,
        "contrast",
        limit=view.k,
        is_hiding=view.copies == "hide",
    )
    tiles = None
    if found.parts:
        label = f"{choices.TITLES['contrast']} of {view.neuron}"
        shown = found.parts[0].tiles
        packs = Packs(view.bundle, bundle)
        tiles = packed_tiles(shown, packs, label=label, tile_px=PAIR_PX, of=str(view.neuron))
    return tiles, found.n_hidden


def _images_alone(bundle: Bundle, view: View, error: CspError, is_blind: bool) -> Pieces:
    """The images of a neuron of which something else cannot be read, and the sentence of that.

    Raises:
        CspError: if its images cannot be read either.
    """
    of = str(view.neuron)
    tiles, n_hidden = _tiles(bundle, view)
    said, head = heading.without_conclusion(bundle, view, error, is_blind=is_blind)
    parts = {"head": head, "methods": "", "facts": ""}
    parts = {name: heading.part(name, of, body) for name, body in parts.items()}
    return Pieces(of, f"{of}: {said}", parts, tiles, n_hidden)


def _make(bundle: Bundle, view: View, is_blind: bool) -> Pieces:
    of = str(view.neuron)
    tiles, n_hidden = _tiles(bundle, view)
    methods = bundle.methods(view.model, view.layer)
    labels = [stored(bundle, view.neuron, name) for name in methods]
    trusted = [trust_of(bundle, store.MEMO, view.neuron, each) for each in labels]
    trust = dict(zip(methods, trusted, strict=True)).get(view.method)
    said, head = heading.heading(bundle, view, trust, is_blind=is_blind)
    parts = {"head": head}
    if not is_blind:
        parts["methods"] = candidates.every_method(
            bundle, labels, beside_one_another(bundle, store.MEMO, labels, trusted)
        )
        parts["facts"] = sections.activations(bundle, view)
    return Pieces(
        of,
        f"{of}: {said}",
        {name: heading.part(name, of, body) for name, body in parts.items()},
        tiles,
        n_hidden,
    )


def answer(bundle_name: str, digest: str, params: Mapping[str, str]) -> Response:
    """The pieces of the neuron that an address names, as JSON; 404 where it names none."""
    try:
        bundle = store.open_bundle(bundle_name)
        view = read_view(params, bundle_name, bundle)
        is_known = re.fullmatch(r"[0-9a-f]{16}", digest) and bundle.digest.startswith(digest)
        if not is_known or view.notes or not can_walk(view):
            raise LookupError("no such neuron")
        found = pieces(bundle, view, is_blind=params.get("blind") == "yes")
    except (CspError, LookupError):
        return Response("no such neuron", 404, media_type="text/plain")
    body = {"of": found.of, "said": found.said, "parts": found.parts, "tiles": found.tiles}
    return JSONResponse(body, headers={"Cache-Control": "no-cache"})


def first(params: Mapping[str, str]) -> list[str]:
    """Where the pairs are served that the page of an address will show, where it shows any.

    Whoever opens that page asks for them before it can be drawn; its beginning is made meanwhile.
    """
    names = list(store.known_bundles())
    name = params.get("bundle", names[0] if len(names) == 1 else "")
    try:
        bundle = store.open_bundle(name)
        view = read_view(params, name, bundle)
        if view.notes or view.card == "yes" or not can_walk(view):
            return []
        found = pieces(bundle, view, is_blind=params.get("blind") == "yes")
    except CspError:
        return []  # the page itself says why
    return found.tiles["packs"] if found.tiles else []


def address(bundle_name: str, bundle: Bundle) -> str:
    """Where pieces are served; the address of a neuron's page follows as its query."""
    return base_url(f"csp/ahead/{quote(bundle_name, safe='')}/{bundle.digest[:16]}")


def routes() -> list[Route]:
    """``/csp/ahead/{bundle}/{digest}?...``, and ``/csp/first?...`` with the same query."""

    async def endpoint(request: Request) -> Response:
        named = request.path_params
        return await anyio.to_thread.run_sync(
            answer, named["bundle"], named["digest"], dict(request.query_params)
        )

    async def of_page(request: Request) -> Response:
        packs = await anyio.to_thread.run_sync(first, dict(request.query_params))
        return JSONResponse(packs, headers={"Cache-Control": "no-cache"})

    return [
        Route(base_url("csp/ahead/{bundle}/{digest}"), endpoint),
        Route(base_url("csp/first"), of_page),
    ]
