"""One audit as one document: HTML, PDF, JSON and CSV, each with a seal that shows alterations."""

from csp_engine.exports.report.assembling import document_of, options_for, verdicts_beside
from csp_engine.exports.report.document import Document, Options
from csp_engine.exports.report.headings import ORDERS
from csp_engine.exports.report.verifying import Verified, verify
from csp_engine.exports.report.writing import FORMATS, as_bytes, targets, write

__all__ = [
    "FORMATS",
    "ORDERS",
    "Document",
    "Options",
    "Verified",
    "as_bytes",
    "document_of",
    "options_for",
    "targets",
    "verdicts_beside",
    "verify",
    "write",
]
