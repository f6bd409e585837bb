"""How finely each method tells neurons apart."""

from __future__ import annotations

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.methods import method_title
from csp_engine.views.table.granularity import granularity
from pages.ui.parts.cards import bar_table, show
from pages.ui.parts.words import term
from pages.ui.shell import store


def section(bundle: Bundle) -> None:
    """Distinct meanings of each method's labels, and their utility where it is known."""
    found = [each for each in granularity(bundle, store.MEMO) if each.spread.n_labels]
    if not found:
        return
    has_utility = any(each.utility is not None for each in found)
    rows = []
    for each in found:
        cells = [
            numbers.count(each.spread.n_distinct),
            numbers.count(each.spread.n_effective),
            numbers.count(each.spread.n_labels),
        ]
        if has_utility:
            own = each.utility
            ends = "" if own is None else numbers.share_range(own.low, own.high)
            cells += [numbers.UNKNOWN if own is None else numbers.share(own.share), ends]
        share = each.spread.share if not has_utility or each.utility is None else each.utility.share
        rows.append((method_title(each.method), share, cells))
    caption = (
        "Meanings among the best labels of all neurons; labels that the encoder can hardly tell "
        "apart count as one. Effective: how many equally frequent ones would be as varied."
    )
    columns = ["method", "meanings", "effective", "labels"]
    if has_utility:
        caption += (
            f" Utility: {term('Pearson correlation')} of neuron and concept that the label names, "
            "as a share of that of the best concept; 0 where a label names none."
        )
        columns += ["utility", "95 % interval"]
    show("<h2 class='csp-h'>How finely labels tell neurons apart</h2>")
    show(bar_table(caption, columns, rows, is_markup=True))
