"""Making the document of a report from a bundle and the verdicts on its neurons."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from csp_engine.bundle import ENGINE_VERSION, Bundle
from csp_engine.errors import InputError, ReviewError
from csp_engine.exports.report.asked import EVIDENCE, Asked, Said
from csp_engine.exports.report.document import (
    Document,
    Options,
    Points,
    Section,
)
from csp_engine.exports.report.headings import ORDERS, TITLES, ordered
from csp_engine.exports.report.sections import CHAPTERS
from csp_engine.exports.report.sections.limits import untested
from csp_engine.reviews import Reviews, as_rows, found_place, open_reviews
from csp_engine.views.audit.interventions import models_with
from csp_engine.views.memo import Memo
from csp_engine.views.places import scoring_methods
from csp_engine.words.concepts import ConceptSet
from csp_engine.words.own_concepts import USUAL, as_link, from_link

BEFORE_LIMITS = "limitations"


def options_for(
    bundle: Bundle,
    model: str | None = None,
    method: str | None = None,
    headings: str = "audit",
    concepts: ConceptSet | None = None,
) -> Options:
    """What to report where somebody chose only part of it: models with pairs of images first.

    Raises:
        InputError: if a name is not in the bundle, or it has no network.
    """
    names = (*models_with(bundle), *bundle.model_names)
    if not names:
        raise InputError(
            f"Bundle {bundle.name} has no neurons yet; run the same 'csp build' again to finish it."
        )
    if model is not None and model not in names:
        known = ", ".join(bundle.model_names)
        raise InputError(f"Model {model!r} is not in the bundle; --model can be {known}.")
    chosen = model or names[0]
    methods = [m for m in scoring_methods(bundle) if any(
        m in bundle.methods(chosen, layer) for layer in bundle.layers(chosen))]  # fmt: skip
    if method is not None and method not in methods:
        known = ", ".join(methods) or "none"
        raise InputError(f"Method {method!r} has no labels of {chosen}; it has {known}.")
    if headings not in ORDERS:
        raise InputError(
            f"There are no headings {headings!r}; --headings can be {', '.join(ORDERS)}."
        )
    link = USUAL if concepts is None else as_link(concepts.content)
    return Options(chosen, method or next(iter(methods), ""), headings, concepts=link)


def verdicts_beside(bundle: Path) -> Reviews | None:
    """The database of verdicts that belongs to a bundle; None where nobody has recorded any.

    Raises:
        InputError: if there are several.
    """
    place = found_place(bundle)
    return None if place is None else open_reviews(place)


def document_of(
    bundle: Bundle, options: Options, reviews: Reviews | None, memo: Memo | None = None
) -> Document:
    """The report of a bundle; the same bundle, options and verdicts give the same document.

    Args:
        bundle: an open bundle.
        options: see ``options_for``; ``until`` None takes all verdicts that there are.
        reviews: where verdicts are; None for none.
        memo: kept values of earlier work on the bundle.

    Raises:
        BundleError: if a file of the bundle is missing or damaged.
        ReviewError: if the verdicts cannot be read.
        InputError: if the concept set of the options cannot be.
    """
    said = None if reviews is None else said_in(bundle, reviews, options.until)
    concepts = from_link(options.concepts)
    asked = Asked(bundle, memo or Memo(), options.model, options.method, said, concepts)
    sections: list[Section] = []
    lacking: list[str] = []
    for chapter in CHAPTERS:
        made = chapter.section(asked)
        if made is not None:
            sections.append(made)
        elif chapter.lacking:
            lacking.append(chapter.lacking)
    covered = {each.evidence for each in sections} | {c.evidence for c in CHAPTERS}
    lacking += [f"Nothing was tested by {kind}." for kind in EVIDENCE if kind not in covered]
    open_ = (Points(tuple(lacking), (asked.manifest,)),) if lacking else ()
    missing = Section("untested", "What was not tested", "", (*open_, *untested(asked)))
    at = next(i for i, each in enumerate(sections) if each.name == BEFORE_LIMITS)
    sections.insert(at, missing)
    until = 0 if said is None else said.last
    return Document(
        title=f"{TITLES[options.headings]}: {options.model}",
        lead=f"Of bundle {bundle.name}. For research; not a medical device.",
        notice=bundle.notice,
        bundle=bundle.name,
        digest=bundle.digest,
        concepts=concepts.sha256,
        engine=ENGINE_VERSION,
        built=bundle.manifest.updated,
        options=replace(options, until=until),
        parts=ordered(sections, options.headings),
    )


def said_in(bundle: Bundle, reviews: Reviews, until: int | None = None) -> Said | None:
    """The verdicts on a bundle's neurons up to an entry of the history; None where there are none.

    Args:
        bundle: whose neurons.
        reviews: the database.
        until: number of the last entry to know; all without it.

    Raises:
        ReviewError: if the database cannot be read.
    """
    if until is None:
        until = max((row[0] for row in reviews.since(0)), default=0)
    rows = tuple(as_rows(bundle, reviews, until))
    if not rows:
        return None
    try:
        checked = reviews.check(until=until)
    except ReviewError:  # of a version that did not chain them
        return Said(rows, until, "", ())
    return Said(rows, until, checked.head, checked.problems)
