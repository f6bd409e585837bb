"""The layers of a bundle as a table, each a way to its neurons."""

from __future__ import annotations

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.methods import method_title
from csp_engine.views.address import View
from csp_engine.views.overview.layers import FLAGS, LayerState, best_and_poorest, layer_states
from pages.ui.parts.cards import page_url, plain, show
from pages.ui.parts.words import term
from pages.ui.shell import reviewer as reviews


def section(bundle: Bundle, view: View, method: str) -> None:
    """A table of all layers, each a way to the table of its neurons."""
    found = layer_states(bundle, reviews.column(bundle))
    methods = list(dict.fromkeys(name for state in found for name in state.n_reliable))
    flags = [word for word in FLAGS.values() if any(state.flags[word] for state in found)]
    is_flagged = any(state.n_flagged for state in found)
    headings = ["neurons", *flags, *(["flagged"] if is_flagged else [])]
    titles = [term("neuron", "neurons"), *map(term, flags), *(["flagged"] if is_flagged else [])]
    headings += [f"by {method_title(name)}" for name in methods]
    titles += [f"labelled by {plain(method_title(name))}" for name in methods]
    is_reviewed = any(state.n_reviewed for state in found)
    if is_reviewed:
        headings.append("reviewed")
        titles.append(term("verdict", "reviewed"))
    head = "".join(f"<th scope='col'>{title}</th>" for title in titles)
    rows = []
    for state in found:
        cells = [numbers.count(state.n_units)]
        cells += [numbers.count(state.flags[word]) for word in flags]
        cells += [numbers.count(state.n_flagged)] if is_flagged else []
        cells += [_labelled(state, name) for name in methods]
        cells += [numbers.count(state.n_reviewed)] if is_reviewed else []
        row = "".join(
            f"<td data-heading='{plain(heading)}'>{cell}</td>"
            for heading, cell in zip(headings, cells, strict=True)
        )
        here = View(view.bundle, state.model, state.layer, 0, method)
        href = page_url("layer", here.params(unit=""))
        is_only = len(bundle.model_names) == 1
        name = state.layer if is_only else state.name
        rows.append(f"<tr><th scope='row'><a href='{plain(href)}'>{plain(name)}</a></th>{row}")
    of_layers = best_and_poorest(found, method)
    flagged = "dead, dense, constant or never positive"
    show(
        "<h2 class='csp-h'>Layers</h2>"
        f"{f'<p>{plain(of_layers)}</p>' if of_layers else ''}"
        "<table class='csp-table wide'><caption>"
        f"{f'Flagged: {flagged}' if is_flagged else f'No neuron is {flagged}'}. Labelled: with a "
        f"{term('reliable label')} by that {term('method')}. Click a layer for the table "
        "of its neurons.</caption><thead><tr>"
        f"<th scope='col'>{term('layer')}</th>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _labelled(state: LayerState, method: str) -> str:
    n_reliable = state.n_reliable.get(method)
    if n_reliable is None:
        return "–"
    part = numbers.share(n_reliable / max(1, state.n_units))
    return f"{numbers.count(n_reliable)} <span class='csp-quiet'>{part}</span>"
