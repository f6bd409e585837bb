"""The report: everything the bundle shows about a network, as one file in one click."""

from __future__ import annotations

import threading

import streamlit as st

from csp_engine.bundle import Bundle
from csp_engine.exports.html.site import slug
from csp_engine.exports.report.headings import ORDERS
from csp_engine.jobs import report_file
from csp_engine.reviews import VARIABLE
from csp_engine.views.address import View, pick
from pages.ui.audit import concept_set
from pages.ui.parts.cards import plain, show
from pages.ui.shell import problems, reviewer
from pages.ui.shell.page import hold, set_params, uncut

FORMATS = {
    "pdf": ("Report (PDF)", "application/pdf"),
    "html": ("Report (HTML)", "text/html"),
    "csv": ("Figures (CSV)", "text/csv"),
    "json": ("All of it (JSON)", "application/json"),
}
TITLES = {
    "audit": "its own",
    "annex-iv": "EU AI Act, Annex IV",
    "model-card": "model card",
}
assert set(TITLES) == set(ORDERS)

_one_at_a_time = threading.Lock()


def section(bundle: Bundle, view: View, model: str) -> None:
    """A button for each format; the file is made when somebody presses it."""
    show(
        "<h2 class='csp-h'>Report</h2><p class='csp-lead csp-left'>All of this as one document: "
        "what was asked, of which network, on which images, what was found by which kind of "
        "evidence, the verdicts, what was not tested. Every figure names the file of the bundle "
        "that it comes from, and its sha256.</p>"
    )
    concepts = concept_set.chosen().content
    headings, note = pick("order of headings", st.query_params.get("headings"), tuple(ORDERS))
    problems.notes((note,) if note else ())
    with st.container(horizontal=True, vertical_alignment="bottom", key="report"):
        hold("_headings", headings)
        st.selectbox(
            "Headings",
            tuple(ORDERS),
            format_func=TITLES.__getitem__,
            key="_headings",
            width=220,
            on_change=uncut(lambda: set_params(headings=st.session_state["_headings"])),
        )
        for file_format, (title, mime) in FORMATS.items():
            st.download_button(
                title,
                lambda file_format=file_format: made(
                    bundle, file_format, model, view.method, headings, concepts
                ),
                file_name=f"{slug(bundle.name)}-report.{file_format}",
                mime=mime,
                on_click="ignore",
                key=f"report-{file_format}",
                help="Made in a few seconds; the same bundle and verdicts give the same bytes.",
            )
    name = plain(bundle.path.name)
    show(
        f"<p class='csp-quiet'><code>csp report {name} --output report</code> writes the same "
        "files, signed if you like; <code>csp report FILE --verify</code> notices any byte that "
        "was altered.</p>"
    )


def made(
    bundle: Bundle, file_format: str, model: str, method: str, headings: str, concepts: bytes
) -> bytes:
    """One file, by a process of its own; who asks while another is made waits."""
    place = reviewer.place()
    where = place.url if place.file is None else str(place.file.resolve())
    labelled = any(method in bundle.methods(model, layer) for layer in bundle.layers(model))
    with _one_at_a_time:
        return report_file(
            bundle.path,
            file_format,
            model=model,
            method=method if labelled else "",
            headings=headings,
            concepts=concepts,
            more={VARIABLE: where},
        )
