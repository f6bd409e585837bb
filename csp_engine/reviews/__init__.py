"""Verdicts that people give on neurons: an append-only history in a database of its own.

Nothing here is part of a bundle. SQLAlchemy is imported by ``open_reviews``, once there is
something to read or to write, so that pages start without it.
"""

from csp_engine.reviews.importing import Imported, import_reviews
from csp_engine.reviews.latest import STATES, LatestVerdicts
from csp_engine.reviews.opening import open_reviews
from csp_engine.reviews.place import (
    FILE_NAME,
    VARIABLE,
    Place,
    found_place,
    named_place,
    place_for,
)
from csp_engine.reviews.review import (
    CONFIDENCES,
    DISAGREE,
    FIELDS,
    MAX_NAME,
    MAX_NOTE,
    REASONS,
    VERDICTS,
    WITHDRAWN,
    Checked,
    Review,
    Reviews,
    agreed,
    as_rows,
    lasting_id,
    latest_of,
)

__all__ = [
    "CONFIDENCES",
    "DISAGREE",
    "FIELDS",
    "FILE_NAME",
    "MAX_NAME",
    "MAX_NOTE",
    "REASONS",
    "STATES",
    "VARIABLE",
    "VERDICTS",
    "WITHDRAWN",
    "Checked",
    "Imported",
    "LatestVerdicts",
    "Place",
    "Review",
    "Reviews",
    "agreed",
    "as_rows",
    "found_place",
    "import_reviews",
    "lasting_id",
    "latest_of",
    "named_place",
    "open_reviews",
    "place_for",
]
