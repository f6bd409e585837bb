"""Whether the encoder's texts separate the images of a bundle, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from csp_engine import numbers
from csp_engine.bundle import Bundle, kinds
from csp_engine.evaluation.lean import LEAST_IMAGES, LEAST_TEXTS

DOUBT = "Labels are doubtful: texts hardly separate these images."
_REMEDY = "Labels may mean nothing: judge by the images, or choose another --encoder."


def texts_in_words(bundle: Bundle) -> str:
    """What was measured, in a sentence or two, or why nothing was."""
    facts = _measured(bundle)
    if facts is None:
        return (
            "Whether texts separate these images was not measured: there was no encoder when this "
            "bundle was labelled, or an earlier version labelled it. To measure it, run csp build "
            "with the same options again."
        )
    return in_words(facts, _REMEDY)


def in_words(facts: Mapping[str, Any], remedy: str) -> str:
    """What facts of the stage say; ``remedy`` is what to do where texts separate nothing."""
    if facts.get("auroc") is not None:
        return _by_names(facts, remedy)
    if facts["lean_p"] is None:
        return (
            "Whether texts separate these images was not measured: the vectors of all images, or "
            "of all labels, are alike."
        )
    how = f"p = {numbers.chance(facts['lean_p'])}, without names of columns or classes"
    if facts["is_separated"] is None:
        there = f"{_several(facts['n_images'], 'image')}, {_several(facts['n_texts'], 'label')}"
        return (
            f"Whether texts separate these images was not measured: there are {there}, and no "
            "concept columns or classes whose names are words; it takes such names, or "
            f"{LEAST_IMAGES} images and {LEAST_TEXTS} labels."
        )
    if facts["is_separated"]:
        return (
            "Labels pick out some of these images more sharply than directions that mean nothing "
            f"({how})."
        )
    return (
        "Labels pick out images no more sharply than directions that mean nothing "
        f"({how}): the encoder seems to know nothing of these images. {remedy}"
    )


def _by_names(facts: Mapping[str, Any], remedy: str) -> str:
    n_named, is_separated = numbers.count(facts["n_named"]), facts["is_separated"]
    what = "name of 1 column or class" if n_named == "1" else f"names of {n_named} columns and "
    what += "" if n_named == "1" else "classes"
    tell = "tells its images" if n_named == "1" else "tell their images"
    only = "only " if is_separated is False else ""
    said = (
        f"The {what} {tell} from the others with a mean AUROC of {only}"
        f"{numbers.score(facts['auroc'])}, other texts with {numbers.score(facts['shuffled'])}."
    )
    if is_separated is None:
        return (
            f"{said} That shows nothing: images here are of so few kinds that texts which mean "
            "nothing often tell all of them apart as well."
        )
    return said if is_separated else f"{said} {remedy}"


def doubt(bundle: Bundle) -> str:
    """One short notice where texts do not separate the images; else empty."""
    facts = _measured(bundle)
    return DOUBT if facts is not None and facts.get("is_separated") is False else ""


def _measured(bundle: Bundle) -> dict[str, Any] | None:
    """The facts of the stage; None where there are none.

    Its first version, without ``lean``, also measured how far texts spread images. It took good
    encoders for bad ones, so nothing of it is shown; what it says of names holds.
    """
    stage = kinds.SEPARATION.name()
    facts = dict(bundle.stage(stage).facts) if bundle.has(stage) else {}
    return facts if "lean_p" in facts or facts.get("auroc") is not None else None


def _several(n: int, what: str) -> str:
    return f"{numbers.count(n)} {what}{'' if n == 1 else 's'}"
