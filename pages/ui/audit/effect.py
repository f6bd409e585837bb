"""The effect of every artefact on the output, of one network beside the others."""

from __future__ import annotations

from csp_engine import numbers
from csp_engine.bundle import Bundle, StoredIntervention
from csp_engine.views.audit.interventions import Effect, compared_models, effects
from pages.ui.parts.cards import bar_table, plain, show
from pages.ui.parts.words import term


def section(bundle: Bundle, model: str, stored: StoredIntervention) -> None:
    """A bar for each artefact, its interval in numbers, and the other networks beside it."""
    found = effects(stored)
    shown = [abs(each.effect.value) for each in found if not each.is_withheld]
    largest = max(shown, default=0.0) or 1.0
    others = compared_models(bundle, model, stored)
    has_neutral = any(each.has_neutral for each in found)
    columns = ["added to the photograph", "effect (95 % interval)"]
    columns += ["neutral paste"] if has_neutral else []
    columns += ["decisions", *(f"effect on {name}" for name in others)]
    rows = []
    for each in found:
        if each.is_withheld:
            nothing = [numbers.UNKNOWN] * (len(columns) - 2)
            rows.append((each.artefact, 0.0, ["withheld", *nothing]))
            continue
        cells = [each.effect.signed]
        cells += [each.neutral.signed] if has_neutral else []
        cells.append(turned(each))
        for held in others.values():
            other = held.get(each.artefact)
            cells.append(
                numbers.UNKNOWN if other is None or other.is_withheld else other.effect.signed
            )
        rows.append((each.artefact, each.effect.value / largest, cells))
    show("<h2 class='csp-h'>The same photograph, with and without</h2>")
    show(bar_table(f"Change of the log-odds of {stored.output} in {model}", columns, rows))
    other = "those with the same paste of neutral texture" if has_neutral else "those without"
    show(
        f"<p class='csp-quiet'>{plain(stored.images)}. Each pair differs in one thing alone; the "
        f"{term('effect')} is the log-odds with it less {other}, averaged over pairs; the interval "
        "comes from drawing photographs anew. An amber bar lowers the score.</p>"
    )


def turned(effect: Effect) -> str:
    """How many decisions turn, in the direction of the effect."""
    if effect.effect.value < 0:
        return f"{numbers.count(effect.n_lost)} of {numbers.count(effect.n_called)} lost"
    n_others = effect.n_pairs - effect.n_called
    return f"{numbers.count(effect.n_gained)} of {numbers.count(n_others)} gained"
