"""Where the neuron looks: a map over its images, with what its checks say."""

from __future__ import annotations

from urllib.parse import quote

import streamlit as st

from csp_engine.bundle import Bundle
from csp_engine.http.permissions import Permission
from csp_engine.views.address import LOOKS, View
from csp_engine.views.neuron.looking import MEANING, said_of_map, why_no_map
from csp_engine.views.places import places
from pages.ui.parts.cards import base_url, plain, show
from pages.ui.shell import access
from pages.ui.shell.page import hold, set_params, uncut

NAMES = {"none": "Off", "activation": "Activation", "gradient": "Contrast"}


def section(bundle: Bundle, view: View) -> str:
    """The choice of a map, what the one that is chosen means, and where it is served, if at all."""
    with st.container(key="looking", horizontal=True, vertical_alignment="center"):
        hold("_look", view.look)
        st.segmented_control(
            "Where it looks",
            LOOKS,
            format_func=NAMES.__getitem__,
            key="_look",
            required=True,
            on_change=uncut(lambda: set_params(look=st.session_state["_look"])),
        )
    if view.look == LOOKS[0]:
        return ""
    why_not = why_no_map(bundle, view.neuron, view.look)
    if not access.may(Permission.ENCODE):
        why_not = "Maps are worked out by the network, which you may not ask on this server."
    if why_not:
        show(f"<p class='csp-note' role='status'>{plain(why_not)}</p>")
        return ""
    mark, said = said_of_map(bundle, view.neuron, view.look)
    marked = f"<strong>{plain(mark)}</strong> " if mark else ""
    show(
        f"<p class='csp-quiet csp-left'>{plain(MEANING[view.look])}; dark elsewhere, on one scale "
        f"for all images, worked out on thumbnails and enlarged; the line is at half of the "
        f"scale.</p><p class='csp-quiet csp-left'>{marked}{plain(said)}</p>"
    )
    place = places(bundle).index((view.model, view.layer))
    return base_url(
        f"csp/maps/{quote(view.bundle, safe='')}/{bundle.digest[:16]}/{view.look}/"
        f"{place}-{view.unit}"
    )
