"""Opening the database of a place."""

from __future__ import annotations

from csp_engine.reviews.place import Place
from csp_engine.reviews.review import Reviews


def open_reviews(place: Place) -> Reviews:
    """The database of a place; nothing is created or read yet.

    Raises:
        ReviewError: if the address is none, or the driver of its database is not installed.
    """
    from csp_engine.reviews.database import Database  # brings SQLAlchemy in

    return Database(place)
