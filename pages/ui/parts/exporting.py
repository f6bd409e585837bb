"""What a page offers to download, made when somebody asks for it: a table, or pages as a zip."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable

import pandas as pd
import streamlit as st

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.exports.html import (
    Selection,
    estimated_bytes,
    of_neurons,
    size_text,
    write_zip,
    zip_name,
)
from csp_engine.types import NeuronRef
from pages.ui.parts.cards import plain, show

MAX_BYTES = 250_000_000
"""A zip is held in memory until it is fetched; what is larger is for the command line."""

_one_at_a_time = threading.Lock()


def pages_button(
    bundle: Bundle, n_neurons: int, selection: Callable[[], Selection], *, what: str, key: str
) -> None:
    """A button for the zip of some neurons, or what to do where it would be too large.

    Args:
        bundle: where they are.
        n_neurons: how many.
        selection: makes the selection once the button was pressed.
        what: the neurons in words, for the middle of the label.
        key: of the widget.
    """
    size = estimated_bytes(bundle, n_neurons)
    if size > MAX_BYTES:
        show(
            f"<p class='csp-quiet'>As pages that open from disk, {plain(what)} would take "
            f"about {plain(size_text(size))}, too much for a download. On the machine with "
            f"the bundle, run: <code>csp export {plain(bundle.path.name)} pages --format "
            "html</code></p>"
        )
        return
    st.download_button(
        f"Download {what} as pages (ZIP)",
        lambda: zipped(bundle, selection()),
        file_name=zip_name(bundle),
        mime="application/zip",
        on_click="ignore",
        key=key,
        help=f"{numbers.count(n_neurons)} neurons as plain HTML with images, to unpack and open "
        f"from disk: no server, no network. About {size_text(size)} unpacked; making it takes "
        f"about {max(1, round(n_neurons / 100))} s.",
    )


def csv_button(what: str, make: Callable[[], bytes], *, file_name: str, key: str) -> None:
    """A button for a table as CSV.

    Args:
        what: the rows in words, for the middle of the label.
        make: writes the file once the button was pressed, by ``csp_engine.cells``.
        file_name: that the browser saves it under.
        key: of the widget.
    """
    st.download_button(
        f"Download {what} (CSV)",
        make,
        file_name=file_name,
        mime="text/csv",
        on_click="ignore",
        key=key,
    )


def rows_button(bundle: Bundle, rows: pd.DataFrame, title: str, *, what: str, key: str) -> None:
    """The same for the rows of a table, in their order.

    Args:
        bundle: where they are.
        rows: model, layer and unit of each, and how well it matches a query.
        title: what the list is, in words.
        what: as for ``pages_button``.
        key: of the widget.
    """

    def selection() -> Selection:
        places = zip(rows["model"], rows["layer"], rows["unit"], strict=True)
        neurons = [NeuronRef(str(model), str(layer), int(unit)) for model, layer, unit in places]
        match = rows["match"].tolist() if "match" in rows else None
        about = f"Chosen in the browser: {title}."
        return of_neurons(bundle, neurons, title=title, about=about, match=match)

    pages_button(bundle, len(rows), selection, what=what, key=key)


def zipped(bundle: Bundle, selection: Selection) -> bytes:
    """The zip; who asks while another is made waits, so that pages stay quick."""
    packed = io.BytesIO()
    with _one_at_a_time:
        write_zip(bundle, selection, packed)
    return packed.getvalue()
