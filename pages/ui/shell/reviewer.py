"""Where the verdicts of this server are kept, and what its neurons are said to be."""

from __future__ import annotations

import importlib
import logging
import threading
from pathlib import Path

import numpy as np
import pandas as pd

from csp_engine.bundle import Bundle
from csp_engine.errors import CspError
from csp_engine.reviews import (
    FILE_NAME,
    STATES,
    LatestVerdicts,
    Place,
    Reviews,
    lasting_id,
    named_place,
    open_reviews,
)
from csp_engine.types import NeuronRef
from pages.ui.shell import store

READY_AFTER_S = 1.0
NEEDED = "csp_engine.reviews.database"
log = logging.getLogger(__name__)


def place() -> Place:
    """The database that the environment names, else a file where new bundles go.

    Raises:
        InputError: if the environment names one that keeps nothing.
    """
    folder = Path.cwd() / store.build_folder()
    return named_place() or Place(file=folder / FILE_NAME)


def database(where: Place) -> Reviews:
    """The open database of a place.

    Raises:
        ReviewError: if it cannot be opened.
    """
    key = ("reviews", *where.identity, where.refusal)
    return store.MEMO.once(key, lambda: open_reviews(where))


def get_ready() -> None:
    """Import what a first verdict needs, once the page that asks for it has been drawn.

    Not what makes a new database: it takes 20 MB for good, and a tenth of a second once.
    """

    def start() -> threading.Timer:
        timer = threading.Timer(READY_AFTER_S, importlib.import_module, [NEEDED])
        timer.daemon = True
        timer.start()
        return timer

    store.MEMO.once(("reviews ready",), start)


def trouble() -> str:
    """Why the verdicts that there are cannot be read, as a sentence; empty where they can."""
    try:
        _latest()
    except CspError as error:
        return str(error)
    return ""


def column(bundle: Bundle, reviewer: str = "") -> pd.Categorical | None:
    """What each neuron is said to be, in the order of the bundle's table.

    With ``reviewer``, by that person alone. None where nobody has said anything, or the verdicts
    cannot be read: tables go on without.
    """
    try:
        latest = _latest()
    except CspError as error:
        log.warning("%s", error)
        return None
    if latest is None:
        return None
    codes = []
    for model in bundle.model_names:
        for layer in bundle.layers(model):
            known = lasting_id(bundle, NeuronRef(model, layer, 0))
            at = (known.model, layer, bundle.n_units(model, layer))
            codes.append(latest.of_reviewer(reviewer, *at) if reviewer else latest.of_layer(*at))
    code_u = np.concatenate(codes)
    return pd.Categorical.from_codes(code_u, categories=STATES) if (code_u >= 0).any() else None


def _latest() -> LatestVerdicts | None:
    where = place()
    if not where.is_there:
        return None
    latest = store.MEMO.once(("verdicts", *where.identity), LatestVerdicts)
    latest.refresh(database(where))
    return latest
