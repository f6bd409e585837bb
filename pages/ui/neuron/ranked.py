"""One method's labels as a list, which moves with gamma: drawn by the page, or by its slider.

A step of the slider shows its list at once, from the same function, and the page follows
(``components/ranked.js``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

import anyio.to_thread
import streamlit as st
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.errors import CspError
from csp_engine.types import NeuronRef
from csp_engine.views.address import View, pick_share, read_view
from csp_engine.views.memo import Memo
from csp_engine.views.neuron import candidates as relabel
from csp_engine.views.neuron.candidates import CandidateLabels
from pages.ui.parts.cards import asset, bar_table, base_url, plain
from pages.ui.parts.words import term
from pages.ui.shell import store

KEPT = Memo(64)
"""Lists that were seen last: the page asks for what its slider has fetched already."""
_RANKED = st.components.v2.component("csp_ranked", html="<span></span>", js=asset("ranked.js"))


@dataclass(frozen=True, slots=True)
class Ranked:
    """Labels of a neuron at a gamma.

    Args:
        of: neuron, method and gamma, as text.
        body: the list, as HTML.
        texts: the labels, best first.
    """

    of: str
    body: str
    texts: tuple[str, ...]


def at(bundle: Bundle, neuron: NeuronRef, method: str, gamma: float) -> Ranked:
    """The labels at a gamma, worked out once while they are among those seen last."""

    def make() -> Ranked:
        found = relabel.at_gamma(bundle, store.MEMO, neuron, method, gamma)
        of = f"{neuron} {method} {gamma:g}"
        texts = tuple(row.text for row in found.rows)
        body = f"<div class='csp-part' data-ranked-of='{plain(of)}'>{listing(found)}</div>"
        return Ranked(of, body, texts)

    return KEPT.once(("ranked", bundle.digest, base_url(""), neuron, method, gamma), make)


def stays_with_slider(bundle: Bundle, view: View, gamma: float) -> None:
    """Have each step of the slider show its list at once."""
    of = f"{quote(view.bundle, safe='')}/{bundle.digest[:16]}"
    asked = {
        "model": view.model,
        "layer": view.layer,
        "unit": str(view.unit),
        "method": view.method,
    }
    data = {
        "route": base_url(f"csp/ranked/{of}"),
        "asked": asked,
        "gamma": gamma,
        "step": relabel.STEP,
    }
    with st.container(key="ranked_ahead"):
        _RANKED(key="ranked_ahead_of", data=data)


def answer(bundle_name: str, digest: str, params: Mapping[str, str]) -> Response:
    """The list that an address names, as JSON; 404 where it names none."""
    try:
        bundle = store.open_bundle(bundle_name)
        view = read_view(params, bundle_name, bundle)
        is_known = re.fullmatch(r"[0-9a-f]{16}", digest) and bundle.digest.startswith(digest)
        if not is_known or view.notes:
            raise LookupError("no such neuron")
        built = relabel.built_gamma(bundle, view.neuron, view.method)
        if built is None:
            raise LookupError("a method without gamma")
        gamma, note = pick_share("γ", params.get("gamma"), built)
        if note:
            raise LookupError(note)
        found = at(bundle, view.neuron, view.method, gamma)
    except (CspError, LookupError):
        return Response("no such list", 404, media_type="text/plain")
    return JSONResponse({"of": found.of, "body": found.body}, headers={"Cache-Control": "no-cache"})


def route() -> Route:
    """``/csp/ranked/{bundle}/{digest}?...``."""

    async def endpoint(request: Request) -> Response:
        named = request.path_params
        return await anyio.to_thread.run_sync(
            answer, named["bundle"], named["digest"], dict(request.query_params)
        )

    return Route(base_url("csp/ranked/{bundle}/{digest}"), endpoint)


def listing(found: CandidateLabels) -> str:
    """One method's labels, with what contrast images did to each, as HTML."""
    if not found.rows:
        return f"<p>{plain(found.verdict)}</p>"
    has_raw = found.gamma is not None
    has_moved = found.rows[0].raw_place is not None
    shares = found.shares()
    rows = []
    for place, (row, (share, _)) in enumerate(zip(found.rows, shares, strict=True), 1):
        raw = f"{numbers.score(row.raw)} → " if has_raw else ""
        cells = [f"{raw}{numbers.score(row.score)}", numbers.score(row.margin)]
        cells.append(found.percentile(row))
        if row.raw_place is not None:
            cells.insert(1, _moved(row.raw_place, place))
        if found.has_weights:
            cells.insert(0, numbers.signed(row.weight))
        rows.append((f"{row.text} ({row.note})" if row.note else row.text, share, cells))
    score = plain(found.score_name) if found.score_name != "score" else term("score")
    columns = ["label", score, term("margin"), term("percentile")]
    if has_raw:
        columns[1] = f"{term('raw score', 'raw')} → {term('score')}"
    if has_moved:
        columns.insert(2, term("moved"))
    if found.has_weights:
        columns.insert(1, "weight")
    marks = [raw for _, raw in shares if raw is not None] if has_raw else None
    table = bar_table(_verdict(found), columns, rows, marks=marks, is_markup=True)
    proposed = ", ".join(
        f"“{plain(row.text)}”{' (for this neuron)' if row.is_own else ''}"
        for row in found.rows
        if row.is_proposed
    )
    if proposed:
        table += (
            f"<p class='csp-quiet'>Proposed by the {term('captioner')}, not on any list: "
            f"{proposed}</p>"
        )
    return f"<div class='csp-stack'>{table}</div>"


def _verdict(found: CandidateLabels) -> str:
    """How far the first label can be trusted, as HTML."""
    said = found.verdict
    if not said.name:
        return plain(said)
    return (
        f"{plain(said.before)}<b dir='auto'>{plain(said.name)}</b>{plain(said.after)}"
        f"{term('reliable label', said.word)}{said.end} Percentiles below compare the scores of "
        "the same label."
    )


def _moved(before: int, now: int) -> str:
    """How many places a label rose or fell when the look-alikes were taken away."""
    if before == now:
        return "="
    return f"▲ {before - now}" if before > now else f"▼ {now - before}"
