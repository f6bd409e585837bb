"""The layers of a bundle: how many neurons each has, and for how many something can be said."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.methods import method_title
from csp_engine.views.address import View
from csp_engine.views.places import places
from pages.ui.parts.cards import page_url, plain, show
from pages.ui.parts.words import term
from pages.ui.shell import reviewer as reviews

FLAGS = {"is_dead": "dead", "is_dense": "dense", "is_constant": "constant"}


@dataclass(frozen=True, slots=True)
class LayerState:
    """Counts of neurons of one layer.

    ``flags`` counts by the words of ``FLAGS``; ``n_flagged`` counts each neuron once, those that
    are never positive too; ``n_reliable`` counts reliable labels by method; ``n_reviewed`` counts
    neurons that somebody gave a verdict on.
    """

    model: str
    layer: str
    n_units: int
    flags: dict[str, int]
    n_flagged: int
    n_reliable: dict[str, int]
    n_reviewed: int = 0


def states(bundle: Bundle) -> list[LayerState]:
    """Every layer in the bundle's order."""
    found = []
    said = reviews.column(bundle)
    n_above = 0
    for model, layer in places(bundle):
        units = bundle.units(model, layer)
        flags: dict[str, int] = {}
        is_flagged_u = np.zeros(len(units), bool)
        for key in (*FLAGS, "never_positive"):
            has_u = units[key].to_numpy(bool) if key in units else np.zeros(len(units), bool)
            is_flagged_u |= has_u
            if key in FLAGS:
                flags[FLAGS[key]] = int(has_u.sum())
        reliable = {
            method: int(bundle.scores(model, layer, method).reliable_u.sum())
            for method in bundle.methods(model, layer)
        }
        n_flagged = int(is_flagged_u.sum())
        here = slice(n_above, n_above + len(units))
        n_above = here.stop
        n_reviewed = 0 if said is None else int(said[here].notna().sum())
        found.append(LayerState(model, layer, len(units), flags, n_flagged, reliable, n_reviewed))
    return found


def section(bundle: Bundle, view: View, method: str) -> None:
    """A table of all layers, each a way to the table of its neurons."""
    found = states(bundle)
    methods = list(dict.fromkeys(name for state in found for name in state.n_reliable))
    headings = ["neurons", *FLAGS.values(), "flagged"]
    headings += [f"by {method_title(name)}" for name in methods]
    titles = [term("neuron", "neurons"), *map(term, FLAGS.values()), "flagged"]
    titles += [f"labelled by {plain(method_title(name))}" for name in methods]
    is_reviewed = any(state.n_reviewed for state in found)
    if is_reviewed:
        headings.append("reviewed")
        titles.append(term("verdict", "reviewed"))
    head = "".join(f"<th scope='col'>{title}</th>" for title in titles)
    rows = []
    for state in found:
        counts: list[int | None] = [state.n_units, *state.flags.values(), state.n_flagged]
        counts += [state.n_reliable.get(name) for name in methods]
        counts += [state.n_reviewed] if is_reviewed else []
        cells = "".join(
            f"<td data-heading='{plain(heading)}'>"
            f"{'–' if count is None else numbers.count(count)}</td>"
            for heading, count in zip(headings, counts, strict=True)
        )
        here = View(view.bundle, state.model, state.layer, 0, method)
        href = page_url("layer", here.params(unit=""))
        is_only = len(bundle.model_names) == 1
        name = state.layer if is_only else f"{state.model} / {state.layer}"
        rows.append(f"<tr><th scope='row'><a href='{plain(href)}'>{plain(name)}</a></th>{cells}")
    show(
        "<h2 class='csp-h'>Layers</h2>"
        "<table class='csp-table wide'><caption>Flagged: dead, dense, constant or never positive. "
        f"Labelled: with a {term('reliable label')} by that {term('method')}. A layer opens the "
        "table of its neurons.</caption>"
        f"<thead><tr><th scope='col'>{term('layer')}</th>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
    )
