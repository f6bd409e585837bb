"""How the networks of a bundle were run, where that was not as they are given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.views.sentence import listed


def pass_sentences(bundle: Bundle) -> list[str]:
    """A sentence for each model and each way in which some of its layers were measured."""
    found = []
    for name, model in bundle.manifest.inputs.get("models", {}).items():
        ways: dict[str, list[str]] = {}
        for layer, trial in model.get("passes", {}).items():
            ways.setdefault(_sentence(trial), []).append(layer)
        for sentence, layers in ways.items():
            is_all = len(layers) == len(model.get("layers", ()))
            found.append(f"{name}{'' if is_all else f' ({listed(layers)})'} {sentence}")
    return found


def _sentence(trial: Mapping[str, Any]) -> str:
    on = f"on {numbers.count(trial['n_images'])} images"
    off, largest = trial.get("off"), trial.get("largest")
    differed = "its activations differed"
    if off is not None and largest is not None:
        differed += (
            f" by {_millionths(off)} millionths of their spread, {_millionths(largest)} at most"
        )
    if trial.get("reason"):
        why = differed if off is not None else trial["reason"].rstrip(".")
        return f"ran as it is given, because {on}, run faster, {why}."
    n = trial["n_folded"]
    folded = f"{numbers.count(n)} batch normalisations folded into convolutions and " if n else ""
    beside = "the channels of each pixel side by side, which is faster"
    return f"ran with {folded}{beside}; {on}, {differed}."


def _millionths(off: float) -> str:
    return f"{off * 1e6:.2g}" if off < 1e-4 else numbers.count(round(off * 1e6))
