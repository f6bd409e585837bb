"""The sections of a report, in their order; each is one module."""

from csp_engine.exports.report.asked import Chapter
from csp_engine.exports.report.sections import (
    association,
    carriers,
    curves,
    effects,
    examined,
    factors,
    fixes,
    limits,
    maps,
    resemblance,
    subject,
    verdicts,
)

CHAPTERS: tuple[Chapter, ...] = (
    subject.QUESTION,
    subject.MODEL,
    subject.DATA,
    effects.EFFECTS,
    carriers.CARRIERS,
    factors.FACTORS_,
    association.ASSOCIATION_,
    maps.MAPS,
    fixes.FIXES,
    curves.CURVES_,
    resemblance.RESEMBLANCE_,
    verdicts.VERDICTS_,
    limits.LIMITS,
    examined.CHECKLIST,
)
