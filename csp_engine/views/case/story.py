"""A classifier's case in the order in which its evidence stands: from decisions to a fix.

Each chapter is what another page says of the same bundle, in the same words; the story only picks
what belongs together, by rules that are stated.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.reading.tables import singular_key
from csp_engine.stats.intervals import difference_of_shares, share_of
from csp_engine.views.audit.associations import Area, layers_with, look, tags_of, usual_layer
from csp_engine.views.audit.fixes import Tested, kept
from csp_engine.views.audit.interventions import (
    Audited,
    Effect,
    Suspect,
    audited,
    compared_models,
    effects,
)
from csp_engine.views.case.accuracy import Fall
from csp_engine.views.memo import Memo
from csp_engine.words.concepts import ConceptSet


@dataclass(frozen=True, slots=True)
class Clearest:
    """The strongest carrier whose measured truth is the artefact itself.

    ``auroc`` is on photographs that chose nothing, ``n_images`` of them; unknown without a truth.
    ``is_true`` is false where no carrier truly responds to the artefact, so that the strongest one
    stands here.
    """

    suspect: Suspect
    artefact: str
    auroc: Area
    n_images: int
    is_true: bool

    @property
    def sentence(self) -> str:
        """What is known of it."""
        share = numbers.share(self.suspect.share)
        told = (
            f"Of the effect of {self.artefact} that is estimated for its layer, "
            f"{self.suspect.neuron} has {share}."
        )
        if self.is_true:
            return (
                f"{told} On {numbers.count(self.n_images)} other photographs it truly responds to "
                f"{self.suspect.truth}: AUROC {self.auroc.words}."
            )
        if self.suspect.truth == "none":
            return f"{told} By itself it responds to nothing that is known clearly enough."
        if self.suspect.truth:
            return f"{told} By itself it truly responds to {self.suspect.truth}."
        return f"{told} What it truly responds to was not measured: look at its images."


@dataclass(frozen=True, slots=True)
class Story:
    """What holds a case together.

    ``main`` is the artefact with the largest effect that was shown, of those that should not
    matter; ``beside`` its effect on other networks over the same photographs. ``others`` says of
    every further artefact what was shown of it, and what was looked for and not found.
    """

    model: str
    output: str
    main: Audited
    beside: tuple[tuple[str, Effect], ...]
    clearest: Clearest | None
    others: tuple[tuple[str, str], ...]
    fix: Tested | None

    @property
    def compared(self) -> str:
        """The same artefact on other networks, in a sentence for each."""
        told = []
        for name, effect in self.beside:
            if effect.effect.is_away_from_zero:
                told.append(
                    f"On {name}, the same photographs change by {effect.effect.signed}; "
                    f"{numbers.count(effect.n_lost)} of {numbers.count(effect.n_called)} such "
                    "decisions are lost."
                )
            else:
                told.append(
                    f"On {name}, no effect was shown over the same photographs: "
                    f"{effect.effect.signed}."
                )
        return " ".join(told)


def story_of(
    bundle: Bundle, memo: Memo, concepts: ConceptSet, model: str, method: str
) -> Story | None:
    """The story of one network; None without a shown effect of what should not matter."""
    stored = bundle.intervention(model)
    if stored is None:
        return None
    tags = tags_of(concepts)
    found = [e for e in effects(stored) if tags.get(singular_key(e.artefact)) == "spurious"]
    main = next((e for e in found if e.verdict in ("raises", "lowers")), None)
    if main is None:
        return None
    whole = audited(bundle, model, main.artefact, method)
    assert whole is not None
    beside = tuple(
        (name, held[main.artefact])
        for name, held in compared_models(bundle, model, stored).items()
        if main.artefact in held and not held[main.artefact].is_withheld
    )
    others = tuple(
        (e.artefact, _of_other(bundle, memo, concepts, model, method, e, stored.output))
        for e in found
        if e.artefact != main.artefact
    )
    names = bundle.fixes(model)
    return Story(
        model,
        stored.output,
        whole,
        beside,
        _clearest(bundle, whole),
        others,
        kept(bundle, memo, model, names[0]) if names else None,
    )


def _clearest(bundle: Bundle, whole: Audited) -> Clearest | None:
    if not whole.suspects or whole.scope is None:
        return None
    artefact = whole.effect.artefact
    true = next((s for s in whole.suspects if s.truth == artefact), None)
    suspect = true or whole.suspects[0]
    truth = bundle.truth(suspect.neuron.model, suspect.neuron.layer)
    auroc, n_images = Area(float("nan"), float("nan"), float("nan")), 0
    if truth is not None:
        row = truth.units.iloc[suspect.neuron.unit]
        auroc = Area(*(float(row[name]) for name in ("auroc", "auroc_low", "auroc_high")))
        n_images = truth.n_image
    return Clearest(suspect, artefact, auroc, n_images, true is not None)


def _of_other(
    bundle: Bundle,
    memo: Memo,
    concepts: ConceptSet,
    model: str,
    method: str,
    effect: Effect,
    output: str,
) -> str:
    """What pairs of images show of an artefact, and whether any neuron responds to it."""
    told = [effect.sentence(output)]
    if layers_with(bundle, model):
        layer = usual_layer(bundle, model, effect.artefact, method)
        found = look(bundle, memo, model, layer, effect.artefact, method, concepts)
        if found is not None:
            told.append(found.sentence())
    return " ".join(told)


@dataclass(frozen=True, slots=True)
class FoundLess(Fall):
    """How many of the followed class a network finds on two slices, and the difference."""

    @property
    def sentence(self) -> str:
        """As one would say it."""
        fall = f"{100 * self.gap:.0f} points less (95 % interval: {100 * self.least:.0f} to "
        fall = f"{fall}{100 * self.most:.0f})".replace("-", "−")
        return (
            f"“{self.model}” finds {numbers.share(self.high.share)} of the melanomas on "
            f"{self.best} images ({self.high.n_hits} of {self.high.n}) and "
            f"{numbers.share(self.low.share)} on {self.worst} images ({self.low.n_hits} of "
            f"{self.low.n}), {fall}."
        )


def found_less(rows: pd.DataFrame, model: str) -> FoundLess | None:
    """The slices in which most and fewest melanomas are found; None where that is not counted.

    Args:
        rows: test figures of the model, see ``Bundle.performance``.
        model: its name.
    """
    if not {"n_melanoma", "melanoma_found"} <= set(rows.columns):
        return None
    known = rows[(rows["n_melanoma"] > 0) & rows["melanoma_found"].notna()]
    if len(known) < 2:
        return None
    best, worst = (
        known.iloc[int(at)]
        for at in (known["melanoma_found"].argmax(), known["melanoma_found"].argmin())
    )
    high, low = (
        share_of(round(row["melanoma_found"] * row["n_melanoma"]), int(row["n_melanoma"]))
        for row in (best, worst)
    )
    if high.share == low.share:
        return None
    return FoundLess(
        model, str(best["slice"]), str(worst["slice"]), high, low, *difference_of_shares(high, low)
    )
