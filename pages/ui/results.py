"""What stands around the results of a search: what they are worth, and what was asked."""

from __future__ import annotations

import streamlit as st

from pages.ui import numbers
from pages.ui.cards import plain, show
from pages.ui.finding import Found
from pages.ui.neurons import method_title
from pages.ui.state import View


def summary(view: View, found: Found) -> None:
    """How many, and whether any of it means anything."""
    count = f"{len(found.hits)} of {numbers.count(found.n_searched)} neurons, best first"
    if found.bar is None:
        show(
            f"<p class='csp-quiet'>{plain(count)}. {plain(method_title(view.method))} has no "
            "random image sets to compare with.</p>"
        )
        return
    bar = (
        f"the best of {numbers.count(found.n_searched)} random image sets would reach "
        f"{numbers.score(found.bar)} (95 % level, from {numbers.count(found.n_draws)} draws)"
    )
    if found.n_above_chance == 0:
        show(
            "<p class='csp-note' role='status'>"
            "<b>No neuron stands out for this query.</b> The nearest are shown, but "
            f"{plain(bar)}, as much or more. Either no neuron here stands for it, or it lies "
            "outside what the probe images and the encoder cover.</p>"
        )
    else:
        beat = f"{found.n_above_chance} of these {len(found.hits)} beat chance: {bar}"
        show(f"<p class='csp-quiet'>{plain(count)}. {plain(beat)}.</p>")


def asked(view: View, found: Found) -> None:
    """The exact texts that were embedded."""
    with st.expander("What the encoder was asked", icon=None):
        lines = "".join(f"<li dir='auto'>{plain(text)}</li>" for text in found.prompts)
        minus = "".join(f"<li dir='auto'>{plain(text)}</li>" for text in found.negative_prompts)
        show(
            f"<p class='csp-quiet'>Averaged, then compared by cosine with the concept vectors of "
            f"{plain(method_title(view.method))}:</p><ul>{lines}</ul>"
            + (f"<p class='csp-quiet'>Taken away:</p><ul>{minus}</ul>" if minus else "")
        )
