"""Whether the encoder's texts separate the images of a bundle, in words."""

from __future__ import annotations

from csp_engine import numbers
from csp_engine.bundle import Bundle, kinds

DOUBT = (
    "Labels here are doubtful: the encoder's texts hardly separate these images (see Texts on the "
    "overview)."
)
_REMEDY = "Labels may mean nothing: judge by the images, or choose another --encoder."


def texts_in_words(bundle: Bundle) -> str:
    """What was measured, in a sentence or two; empty for bundles of which nothing was."""
    stage = kinds.SEPARATION.name()
    if not bundle.has(stage):
        return ""
    facts = bundle.stage(stage).facts
    is_separated, auroc = facts.get("is_separated"), facts.get("auroc")
    if is_separated is None:
        return "Nothing can be said of how texts separate these images: all are alike."
    if auroc is not None:
        n_named = numbers.count(facts["n_named"])
        what = "name of 1 column or class" if n_named == "1" else f"names of {n_named} columns and "
        what += "" if n_named == "1" else "classes"
        tell = "tells its images" if n_named == "1" else "tell their images"
        only = "" if is_separated else "only "
        said = (
            f"The {what} {tell} from the others with a mean AUROC of {only}"
            f"{numbers.score(auroc)}, other texts with {numbers.score(facts['shuffled'])}."
        )
        return said if is_separated else f"{said} {_REMEDY}"
    if not is_separated:
        return (
            "Labels spread these images no further than directions that mean nothing: the encoder "
            f"knows nothing of them. {_REMEDY}"
        )
    return (
        f"Labels spread these images {facts['spread']:.1f} times as far as directions that mean "
        "nothing; whether they say what the images show was not tested, for want of concept "
        "columns or classes."
    )


def doubt(bundle: Bundle) -> str:
    """One short notice where texts do not separate the images; else empty."""
    stage = kinds.SEPARATION.name()
    fails = bundle.has(stage) and bundle.stage(stage).facts.get("is_separated") is False
    return DOUBT if fails else ""
