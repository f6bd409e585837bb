"""A view is a function of its URL: one vocabulary for all pages, checked in one place.

Whatever a URL says, ``read_view`` gives values that exist, and a note for each that had to be
replaced. docs/urls.md lists the parameters.
"""

from csp_engine.views.address.narrowing import (
    MAP_GRID,
    MAX_CORNERS,
    Narrowing,
    Range,
    area_text,
    read_area,
    read_narrowing,
    where_text,
)
from csp_engine.views.address.parameters import (
    ALL_LAYERS,
    CARDS,
    COPIES,
    FINDS,
    FIRST,
    LOOKS,
    ONLY,
    PARAMETERS,
    RESULT_COUNTS,
    REVIEWS,
    SCOPES,
    SHOWS,
    VERSION,
    Parameter,
)
from csp_engine.views.address.picking import pick, pick_number, pick_share, shorten
from csp_engine.views.address.view import (
    MAX_PAGE,
    MAX_QUERY,
    View,
    pick_neuron,
    pick_vector,
    read_view,
    split_texts,
    with_method,
)

__all__ = [
    "ALL_LAYERS",
    "CARDS",
    "COPIES",
    "FINDS",
    "FIRST",
    "LOOKS",
    "MAP_GRID",
    "MAX_CORNERS",
    "MAX_PAGE",
    "MAX_QUERY",
    "ONLY",
    "PARAMETERS",
    "RESULT_COUNTS",
    "REVIEWS",
    "SCOPES",
    "SHOWS",
    "VERSION",
    "Narrowing",
    "Parameter",
    "Range",
    "View",
    "area_text",
    "pick",
    "pick_neuron",
    "pick_number",
    "pick_share",
    "pick_vector",
    "read_area",
    "read_narrowing",
    "read_view",
    "shorten",
    "split_texts",
    "where_text",
    "with_method",
]
