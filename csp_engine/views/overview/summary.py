"""What a start page says of a bundle of one's own: what was found, what to doubt, what is next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from csp_engine import numbers
from csp_engine.bundle import Bundle, kinds
from csp_engine.methods import method_title
from csp_engine.types import NeuronRef
from csp_engine.views.finding.examples import showcase
from csp_engine.views.images.separation import doubt, texts_in_words
from csp_engine.views.memo import Memo
from csp_engine.views.neuron.label import when_reliable
from csp_engine.views.places import concept_names, places

N_COMMON = 6


@dataclass(frozen=True, slots=True)
class Step:
    """Something to do next: a view to open (``page`` and ``params``), or a ``command`` to run."""

    words: str
    page: str = ""
    params: Mapping[str, str] | None = None
    command: str = ""


@dataclass(frozen=True, slots=True)
class Summary:
    """A bundle in a few sentences. ``common`` holds the commonest reliable labels with counts."""

    found: tuple[str, ...]
    common: tuple[tuple[str, int], ...]
    doubtful: tuple[str, ...]
    steps: tuple[Step, ...]


def summary_of(bundle: Bundle, memo: Memo, method: str) -> Summary:
    """What the labels of a method amount to, and what this bundle does not say."""
    return memo.once(("summary", bundle.digest, method), lambda: _summary(bundle, memo, method))


def _summary(bundle: Bundle, memo: Memo, method: str) -> Summary:
    reliable: dict[tuple[str, str], int] = {}
    n_judged = n_labelled = n_units = n_silent = 0
    common: Counter[str] = Counter()
    for model, layer in places(bundle):
        units = bundle.units(model, layer)
        n_units += len(units)
        flags = [units[name].to_numpy(bool) for name in ("is_dead", "is_constant") if name in units]
        n_silent += int(np.logical_or.reduce(flags).sum()) if flags else 0
        if method not in bundle.methods(model, layer):
            continue
        scores = bundle.scores(model, layer, method)
        has_u = np.asarray(scores.count_u) > 0
        good_u = np.asarray(scores.reliable_u) & has_u
        n_labelled += int(has_u.sum())
        n_judged += int((~np.isnan(np.asarray(scores.best_percentile_u)) & has_u).sum())
        reliable[model, layer] = int(good_u.sum())
        common.update(map(str, bundle.best_texts(model, layer, method)[good_u]))
    n_reliable = sum(reliable.values())
    title = method_title(method)
    if n_labelled:
        found = [
            f"{numbers.count(n_reliable)} of {_neurons(n_units)} have a reliable label by {title}."
        ]
    else:
        found = ["No method has labelled these neurons."]
        if reliable:
            found = ["No neuron has a label: no image excites one more than another."]
    return Summary(
        tuple(found),
        tuple(common.most_common(N_COMMON)),
        tuple(_doubts(bundle, method, reliable, n_judged, n_labelled, n_silent)),
        tuple(_steps(bundle, memo, method, n_labelled, n_labelled - n_reliable)),
    )


def _doubts(
    bundle: Bundle,
    method: str,
    reliable: Mapping[tuple[str, str], int],
    n_judged: int,
    n_labelled: int,
    n_silent: int,
) -> list[str]:
    told = [texts_in_words(bundle)] if doubt(bundle) else []
    n_unclear = n_judged - sum(reliable.values())
    if n_unclear > 0:
        told.append(
            f"{_neurons(n_unclear)} {'has' if n_unclear == 1 else 'have'} none: a label is called "
            f"reliable only if it {when_reliable(method)}."
        )
    if n_labelled > n_judged:
        told.append(
            f"The labels of {_neurons(n_labelled - n_judged)} were compared with no random image "
            "sets, so nothing says how reliable they are."
        )
    if len(reliable) > 1 and n_labelled:
        share = {place: n / max(1, bundle.n_units(*place)) for place, n in reliable.items()}
        (model, layer), least = min(share.items(), key=lambda each: each[1])
        where = layer if len(bundle.model_names) == 1 else f"{model} / {layer}"
        told.append(f"Least is known of {where}: {numbers.share(least)} of its neurons have one.")
    if n_silent:
        told.append(
            f"{_neurons(n_silent)} say nothing here: dead or constant on every image."
            if n_silent > 1
            else "1 neuron says nothing here: it is dead or constant on every image."
        )
    if not concept_names(bundle):
        told.append(
            "How often a reliable label is right is not known for these images: no concept columns "
            "say what they show."
        )
    return told


def _steps(bundle: Bundle, memo: Memo, method: str, n_labelled: int, n_unclear: int) -> list[Step]:
    steps = []
    if not any(bundle.methods(*place) for place in places(bundle)):
        return [Step("Label the neurons.", command=f"csp label {bundle.path.name}")]
    if n_labelled == 0:
        steps.append(Step("Build again with more images, which differ from each other."))
    clearest = showcase(bundle, memo, method)
    if clearest is not None:
        steps.append(Step("Look at the clearest neuron", "neuron", _address(clearest)))
    if n_unclear > 0:
        words = f"Go through {_neurons(n_unclear)} without a reliable label"
        steps.append(Step(words, "layer", {"only": "unclear", "sort": "-percentile"}))
    if not concept_names(bundle):
        steps.append(
            Step(
                "Say what the images show: add columns of 0 and 1 to their table and build again; "
                "neurons are then compared with them, and labels are judged."
            )
        )
    if not any(bundle.has(kinds.INFLUENCE.name(*place)) for place in places(bundle)):
        steps.append(
            Step(
                "If the network is a classifier, name its outputs (--class-names FILE) and build "
                "again: pages then say which of them a neuron moves."
            )
        )
    if not any(bundle.has(kinds.INTERVENTION.name(model)) for model in bundle.model_names):
        steps.append(
            Step(
                "Test a suspicion: pairs of photographs with and without one thing show what it "
                "does to a decision, and through which neurons.",
                command=f"csp intervene {bundle.path.name} --pairs pairs.csv --output NAME",
            )
        )
    return steps


def _address(neuron: NeuronRef) -> dict[str, str]:
    return {"model": neuron.model, "layer": neuron.layer, "unit": str(neuron.unit)}


def _neurons(n: int) -> str:
    return f"{numbers.count(n)} neuron{'' if n == 1 else 's'}"
