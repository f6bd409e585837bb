"""Why a label scores what it scores: what each pair of images adds to it."""

from __future__ import annotations

import numpy as np
import streamlit as st

from csp_engine import numbers
from csp_engine.bundle import Bundle, KeptScores
from csp_engine.evidence.evidence import Evidence
from csp_engine.methods import ScoreParts, resolve_params
from csp_engine.search import stored_label
from csp_engine.views.address import MAX_QUERY, View, shorten
from csp_engine.views.images.tiles import ShownImage, Tile
from pages.ui.parts.cards import Packs, one_way, plain, show, tile_grid
from pages.ui.parts.words import term
from pages.ui.shell.page import go, set_params

N_FOR, N_AGAINST = 4, 2


def section(bundle: Bundle, view: View, texts: list[str], gamma: float) -> None:
    """A label to choose, and the pairs that speak most for it and least.

    Args:
        bundle: where the neuron lies.
        view: of the neuron, by a method that has a gamma.
        texts: labels to choose from; the URL may name any other of the bundle.
        gamma: of the scores.
    """
    asked = st.query_params.get("why", "").strip()[:MAX_QUERY]
    label = stored_label(bundle, asked) if asked else None
    if asked and label is None:
        show(f"<p class='csp-quiet'>“{plain(shorten(asked))}” is no label of this bundle.</p>")
    text = None if label is None else str(bundle.labels()["text"].iloc[label])
    options = [*texts, *([text] if text and text not in texts else [])]
    st.session_state["_why"] = text
    st.selectbox(
        "Why this label?",
        options,
        index=None,
        format_func=one_way,
        placeholder="choose one to see what each pair adds",
        key="_why",
        on_change=lambda: set_params(why=st.session_state["_why"] or ""),
    )
    if text is not None and label is not None:
        kept = KeptScores(bundle, view.model, view.layer, view.method)
        if kept.method is not None and kept.method.parts is not None:
            params = resolve_params(kept.method, {**kept.method_params, "gamma": gamma})
            parts = kept.method.parts(
                _evidence(bundle, view), bundle.label_vectors()[label], params
            )
            _pairs(bundle, view, text, parts)


def _evidence(bundle: Bundle, view: View) -> Evidence:
    """The images that this neuron's scores rest on."""
    one = slice(view.unit, view.unit + 1)
    return Evidence(
        bundle.exemplars(view.model, view.layer).block(one),
        bundle.contrast(view.model, view.layer).block(one),
        bundle.image_vectors(),
    )


def _pairs(bundle: Bundle, view: View, text: str, parts: ScoreParts) -> None:
    """The pairs that add most, then those that add least."""
    n_pairs = len(parts.part_k)
    order = np.argsort(-parts.part_k, kind="stable")
    first = order[:N_FOR]
    last = order[max(N_FOR, n_pairs - N_AGAINST) :]
    n_for = int(np.count_nonzero(parts.part_k > 0))
    show(
        f"<p class='csp-quiet csp-left'>{numbers.score(float(parts.part_k.sum()))} for "
        f"<b dir='auto'>{plain(text)}</b> is the sum of what {n_pairs} pairs add, and {n_for} of "
        f"them speak for it. Under each image: its cosine with the {term('label')}. First the "
        f"pairs that add most{', then those that add least' if len(last) else ''}.</p>"
    )
    tiles = [_tile(bundle, view, parts, int(rank)) for rank in (*first, *last)]
    picked = tile_grid(
        tiles, Packs(view.bundle, bundle), label=f"What pairs add to {text}", key="why", tile_px=170
    )
    if picked is not None:
        go("search", view.search_params("", image=picked))


def _tile(bundle: Bundle, view: View, parts: ScoreParts, rank: int) -> Tile:
    exemplars = bundle.exemplars(view.model, view.layer)
    contrast = bundle.contrast(view.model, view.layer)
    image = int(exemplars.image_uk[view.unit, rank])
    added = numbers.signed(float(parts.part_k[rank]))
    fits = numbers.score(float(parts.exemplar_k[rank]))
    name = f"Exemplar {rank + 1}"
    words = f"{name}: image {image}, cosine with the label {fits}"
    shots = [ShownImage(image, words, fits, name, "exemplar", (("cosine with the label", fits),))]
    has_rank = rank < contrast.n_partner_uk.shape[1]
    n_partners = int(contrast.n_partner_uk[view.unit, rank]) if has_rank else 0
    if n_partners:
        other = int(contrast.image_ukj[view.unit, rank, 0])
        fits = numbers.score(float(parts.contrast_k[rank]))
        of = "" if n_partners == 1 else f", mean of {n_partners} contrast images"
        words = f"Contrast image of exemplar {rank + 1}: image {other}, cosine {fits}{of}"
        known = (("cosine with the label", f"{fits}{of}"),)
        shots.append(ShownImage(other, words, fits, "Contrast image", "contrast", known))
    return Tile(name, tuple(shots), f"#{rank + 1} adds {added}")
