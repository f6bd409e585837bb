"""The sections of a report, in their order; each is one module."""

from csp_engine.exports.report.asked import Chapter
from csp_engine.exports.report.sections import (
    association,
    carriers,
    effects,
    examined,
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
    association.ASSOCIATION_,
    maps.MAPS,
    fixes.FIXES,
    resemblance.RESEMBLANCE_,
    verdicts.VERDICTS_,
    limits.LIMITS,
    examined.CHECKLIST,
)
