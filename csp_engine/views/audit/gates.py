"""Whether a pasted artefact may stand for the real one, and why not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from csp_engine import numbers
from csp_engine.bundle import StoredIntervention
from csp_engine.views.audit.figures import Figure, figure


@dataclass(frozen=True, slots=True)
class Gate:
    """What real photographs say about one pasted artefact.

    ``real`` is the AUROC by which a probe tells photographs with the real artefact from those
    without, ``pasted`` the one by which it tells pasted ones from the neutral paste, ``least`` what
    is asked of that; NaN where ``why`` says why the probe was not asked. ``observed`` is the
    difference of the output's log-odds between ``n_with`` real photographs with it and
    ``n_without`` without it, within classes; ``agrees`` says whether it goes the way of the paste's
    effect, None if that cannot be told: both intervals must leave 0 out.
    """

    artefact: str
    real: Figure
    pasted: Figure
    neutral: Figure
    least: float
    why: str
    observed: Figure
    n_with: int
    n_without: int
    agrees: bool | None

    @property
    def why_withheld(self) -> str:
        """Why the effect of the paste is not shown, as a clause; empty if it may be."""
        if self.why:
            return self.why
        if not self.pasted.value >= self.least:
            return (
                f"a probe that tells real ones with an AUROC of {self.real.value:.2f} tells pasted "
                f"ones with {self.pasted.value:.2f}, and {self.least:.2f} is asked"
            )
        if self.agrees is False:
            return (
                "photographs that have it differ the other way: "
                f"{self.observed.signed} within classes"
            )
        return ""

    def sentence(self) -> str:
        """What was asked and what came of it."""
        if self.why_withheld:
            return f"The effect of pasted {self.artefact} is withheld: {self.why_withheld}."
        told = (
            f"Pasted {self.artefact} passes for real: a probe of {numbers.count(self.n_with)} "
            f"photographs with it and {numbers.count(self.n_without)} without tells pasted from "
            f"neutral with an AUROC of {self.pasted.share}; {self.least:.2f} is asked."
        )
        if self.agrees:
            return f"{told} Real ones differ the same way: {self.observed.signed} within classes."
        if self.observed.is_away_from_zero:
            return f"{told} Real ones differ by {self.observed.signed} within classes."
        return f"{told} Which way real ones differ could not be told."

    def as_json(self) -> dict[str, Any]:
        """All of it, as plain data."""
        return {
            "real": self.real.as_json(),
            "pasted": self.pasted.as_json(),
            "neutral": self.neutral.as_json(),
            "observed": self.observed.as_json(),
            "least": None if self.why else self.least,
            "n_with": self.n_with,
            "n_without": self.n_without,
            "withheld": self.why_withheld or None,
        }


def gates(stored: StoredIntervention) -> dict[str, Gate]:
    """The gate of every pasted artefact; empty where nothing was pasted."""
    if stored.gates is None:
        return {}
    of = {str(row["artefact"]): row for row in stored.effects.to_dict("records")}
    return {
        str(row["artefact"]): _gate(row, figure(of[str(row["artefact"])], "effect"))
        for row in stored.gates.to_dict("records")
    }


def same_sign(observed: Figure, effect: Figure) -> bool | None:
    """Whether two figures lie on one side of 0; None unless both intervals leave it out."""
    if not (observed.is_away_from_zero and effect.is_away_from_zero):
        return None
    return (observed.value > 0) == (effect.value > 0)


def _gate(row: Mapping[Any, Any], effect: Figure) -> Gate:
    observed = figure(row, "observed")
    return Gate(
        str(row["artefact"]),
        figure(row, "real"),
        figure(row, "pasted"),
        figure(row, "neutral"),
        float(row["least"]),
        str(row["why"]),
        observed,
        int(row["n_with"]),
        int(row["n_without"]),
        same_sign(observed, effect),
    )
