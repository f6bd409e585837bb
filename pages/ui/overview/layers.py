"""The layers of a bundle as a table, each a way to its neurons."""

from __future__ import annotations

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.methods import method_title
from csp_engine.views.address import View
from csp_engine.views.overview.layers import FLAGS, layer_states
from pages.ui.parts.cards import page_url, plain, show
from pages.ui.parts.words import term
from pages.ui.shell import reviewer as reviews


def section(bundle: Bundle, view: View, method: str) -> None:
    """A table of all layers, each a way to the table of its neurons."""
    found = layer_states(bundle, reviews.column(bundle))
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
        "<h2 class='csp-h'>Layers</h2><table class='csp-table wide'><caption>Flagged: "
        "dead, dense, constant or never positive. Labelled: with a "
        f"{term('reliable label')} by that {term('method')}. Click a layer for the table "
        "of its neurons.</caption><thead><tr>"
        f"<th scope='col'>{term('layer')}</th>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
    )
