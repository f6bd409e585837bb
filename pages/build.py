"""Build: make a bundle from images, a model and an encoder, and watch it being made."""

import streamlit as st

from csp_engine import jobs
from csp_engine.errors import NO_NETWORKS, has_networks
from csp_engine.http.permissions import Permission
from pages.ui.build import form as build_form
from pages.ui.build import job as build_job
from pages.ui.parts.cards import plain, show
from pages.ui.shell import access, problems, store
from pages.ui.shell.page import link

N_LISTED = 8


def main() -> None:
    """Draw the page."""
    if access.is_read_only():
        problems.read_only()
        return
    if not access.may(Permission.BUILD):
        problems.not_allowed("Build a bundle", Permission.BUILD)
        return
    name = st.query_params.get("job")
    with st.container(key="build", width=860 if name else "stretch"):
        if name:
            build_job.draw(name)
            return
        show(
            "<h1 class='csp-title'>Build a bundle</h1><p class='csp-lead'>A build takes your "
            "images and a model and shows what excites each neuron, which look-alikes do not, and "
            "which labels fit. It keeps running when this page is closed, and a stopped build can "
            "continue where it left off.</p>"
        )
        earlier()
        if has_networks():
            build_form.draw()
        else:
            show(f"<p class='csp-problem' role='alert'>{plain(NO_NETWORKS.format('torch'))}</p>")


def earlier() -> None:
    """Builds that were started from here."""
    found = jobs.jobs_in(store.build_folder())[:N_LISTED]
    if found:
        with st.container(horizontal=True, vertical_alignment="center", key="examples"):
            st.caption("Builds", width="content")
            for job in found:
                word = build_job.STATES[job.state][0].lower()
                link("build", f"{job.name}, {word}", {"job": job.name})


main()
