"""Pictures of many neurons at once: the strip of strongest exemplars in each row of a table."""

from __future__ import annotations

from urllib.parse import quote

import pandas as pd

from csp_engine.bundle import Bundle
from pages.ui.parts.cards import base_url


def strip_urls(bundle_name: str, bundle: Bundle, rows: pd.DataFrame) -> pd.Series:
    """Where the picture of each row's strongest exemplars is served."""
    root = base_url(f"csp/strip/{quote(bundle_name, safe='')}/{bundle.digest[:16]}/")
    neuron = rows["place"].astype("string") + "-" + rows["unit"].astype("string")
    return (root + neuron).astype("string")
