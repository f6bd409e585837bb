"""What can be read in a network that learnt nothing."""

from __future__ import annotations

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.views.address import View
from csp_engine.views.benchmark.control import beside_control, in_a_sentence
from pages.ui.labels.figures import points
from pages.ui.parts import words
from pages.ui.parts.cards import bar_table, plain, show
from pages.ui.parts.words import term


def section(bundle: Bundle, view: View) -> None:
    """The trained network beside the same one with random weights, layer by layer."""
    rows = beside_control(bundle, view.method)
    if not rows:
        return
    show("<h2 class='csp-h'>Readable is not learned</h2>")
    show(f"<p class='csp-quiet'>{plain(in_a_sentence(rows))}</p>")
    is_measured = any(row.trained_pearson == row.trained_pearson for row in rows)
    body = []
    for row in rows:
        gap, low, high = row.gap
        cells = [
            numbers.share(row.trained.share),
            numbers.share(row.control.share),
            f"{points(gap)} ({points(low)} to {points(high)})",
        ]
        if is_measured:
            cells += [numbers.score(row.trained_pearson), numbers.score(row.control_pearson)]
        cells.append(numbers.count(row.trained.n))
        body.append((f"{row.model} / {row.layer}", row.trained.share, cells))
    caption = (
        f"Neurons with a {term('reliable label')} by {words.method(view.method)}; the tick is the "
        "network with random weights. The difference is in percentage points, with its 95 % "
        "interval."
    )
    columns = ["layer", "trained", "random", "difference"]
    if is_measured:
        caption += f" Predicts: mean {term('faithfulness')} (Pearson)."
        columns += ["predicts, trained", "predicts, random"]
    marks = [row.control.share for row in rows]
    show(bar_table(caption, [*columns, "n"], body, marks=marks, is_markup=True))
