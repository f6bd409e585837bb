"""How finely each method tells neurons apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.methods import method_title
from csp_engine.views.table.granularity import Grain, granularity
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
    _specificity(found)


def _specificity(grains: Sequence[Grain]) -> None:
    """How special the words are, where the vocabulary says which are kinds of others."""
    rows = []
    for each in grains:
        own = each.specificity
        if own is None or not own.n:
            continue
        cells = [
            numbers.activation(own.depth),
            _ends(numbers.activation, own.depth_low, own.depth_high),
            numbers.count(own.n),
            numbers.score(own.margin),
            _ends(numbers.score, own.margin_low, own.margin_high),
            numbers.share(own.broad),
            numbers.count(own.n_below),
        ]
        special = 1 - own.broad if own.n_below else 0.0
        rows.append((method_title(each.method), special, cells))
    if rows:
        caption = (
            "Depth: links between a label and a word of the vocabulary that is a kind of nothing "
            "(poodle, dog, animal: 2). Margin: how much more like the exemplars the label is than "
            "the best word that it is a kind of, in cosine. Broader fits: labels for which such a "
            "word is as like or more, so that nothing speaks for the special one."
        )
        columns = ["method", "depth", "95 % interval", "labels", "margin", "95 % interval"]
        show(bar_table(caption, [*columns, "broader fits", "of labels"], rows))


def _ends(spelled: Callable[[float], str], low: float, high: float) -> str:
    """An interval, or nothing where there are too few for one."""
    return f"{spelled(low)} to {spelled(high)}" if np.isfinite(low) else numbers.UNKNOWN
