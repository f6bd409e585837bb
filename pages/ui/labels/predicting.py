"""Which labels predict their neurons, and which figure to believe where nobody knows the truth."""

from __future__ import annotations

import math
from typing import Any

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.evaluation.faithfulness.label_checks import FALLS_BY, FALLS_FOR
from csp_engine.methods import method_title
from csp_engine.views.address import View
from csp_engine.views.benchmark.faithfulness import (
    kept_faithfulness,
    trusted,
    which_to_believe,
)
from pages.ui.parts.cards import bar_table, plain, show
from pages.ui.parts.words import term
from pages.ui.shell import store
from pages.ui.shell.page import link


def section(bundle: Bundle, view: View) -> None:
    """Faithfulness of every method, and the trial of the figures."""
    found = kept_faithfulness(bundle, store.MEMO)
    show("<h2 class='csp-h'>Which labels predict their neurons</h2>")
    if found is None:
        show(
            "<p class='csp-quiet'>Nobody has measured that here. Build again with --judge and an "
            f"encoder that does not choose the labels ({term('faithfulness')}).</p>"
        )
    else:
        judge = f"The {term('judge')}: {plain(found['judge'])}."
        show(f"<p class='csp-quiet'>{plain(found['about'])} {judge}</p>")
        show(methods_table(found))
        if found["differences"]:
            show(f"<ul class='csp-limits'>{''.join(differences(found))}</ul>")
        params = view.params(unit="", sort="-label_pearson")
        link("layer", "Neurons by how well their label predicts them", params)
    tried(bundle)


def methods_table(found: dict[str, Any]) -> str:
    """Mean figures of each method's best labels."""
    rows = []
    for method, own in found["methods"].items():
        predicts = own["predicts"]
        cells = [
            numbers.score(own["pearson"]["mean"]),
            ends(own["pearson"]),
            numbers.score(own["auprc"]["mean"]),
            ends(own["auprc"]),
            numbers.share(predicts["share"]),
            numbers.count(own["n"]),
        ]
        rows.append((method_title(method), own["pearson"]["mean"], cells))
    caption = (
        f"Means over neurons with a label; intervals from neurons drawn anew. {term('AUPRC')}: how "
        "well activation finds the images that the label is said of. Predicts: the share of "
        "neurons whose own interval of the correlation is above 0."
    )
    columns = ["method", term("Pearson correlation", "Pearson"), "95 % interval", term("AUPRC"),
               "95 % interval", "predicts", "n"]  # fmt: skip
    return bar_table(caption, columns, rows, is_markup=True)


def ends(figure: dict[str, Any]) -> str:
    """The bounds of an interval."""
    if math.isnan(figure["low"]):
        return numbers.UNKNOWN
    return f"{numbers.score(figure['low'])} to {numbers.score(figure['high'])}"


def differences(found: dict[str, Any]) -> list[str]:
    """Each two methods in a sentence, paired over neurons."""
    told = []
    for pair in found["differences"]:
        one, two = plain(method_title(pair["first"])), plain(method_title(pair["second"]))
        figures = [pair[name] for name in ("difference", "low", "high")]
        difference, low, high = numbers.signed_alike(figures)
        between = "no interval" if math.isnan(pair["low"]) else f"{low} to {high}"
        is_clear = pair["p_holm"] <= 0.05
        ahead = one if pair["difference"] > 0 else two
        told.append(
            f"<li>{one} minus {two}: {difference} ({between}), p "
            f"{numbers.chance(pair['p_holm'])} after Holm, {numbers.count(pair['n'])} neurons: "
            f"{f'{ahead} is ahead' if is_clear else 'a tie'}.</li>"
        )
    return told


def tried(bundle: Bundle) -> None:
    """Which figure to believe where the truth is not known."""
    found = trusted(bundle)
    if not found:
        return
    show("<h2 class='csp-h'>Which number to believe</h2>")
    sentence = which_to_believe(bundle)
    if sentence:
        show(f"<p class='csp-quiet'>{plain(sentence)}</p>")
    rows = [
        (
            each.title,
            each.auroc.value,
            [
                numbers.score(each.auroc.value),
                f"{numbers.score(each.auroc.low)} to {numbers.score(each.auroc.high)}",
                _fall(*each.missing),
                _fall(*each.extra),
                "yes" if each.is_passed else "no",
            ],
        )
        for each in found
    ]
    caption = (
        f"{term('AUROC')}: how often a figure prefers a right label to a wrong one, on planted "
        "units. Missing and extra: the share of units for which it falls where half of the "
        "images lose the label, or as many others get it, and how far for the typical one, of the "
        "way to a label without relation. A figure that falls for fewer than "
        f"{numbers.share(FALLS_FOR)}, or by less than {numbers.share(FALLS_BY)}, cannot tell a "
        "label that says too little, or too much."
    )
    columns = ["figure", term("AUROC"), "95 % interval", "missing", "extra", "notices both"]
    show(bar_table(caption, columns, rows, is_markup=True))


def _fall(share: float, by: float) -> str:
    """For how many units a figure falls, and by how much."""
    return f"{numbers.share(share)}, by {numbers.share(by)}".replace("-", "−")
