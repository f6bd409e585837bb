"""One image flipped, cropped, recoloured and blurred: what the neuron and the decision do."""

from __future__ import annotations

import base64

import streamlit as st

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.http.permissions import Permission
from csp_engine.views.address import LOOKS, View, pick_number
from csp_engine.views.images.changes import Changed, Shown, changed, usual_image
from csp_engine.views.neuron.looking import why_no_map
from pages.ui.parts.cards import plain, show
from pages.ui.shell import access, problems, store
from pages.ui.shell.page import set_params, uncut

NOT_HERE = "The network is asked for this, which you may not do on this server."


def section(bundle: Bundle, view: View) -> None:
    """The choice of an image and, once one is chosen, its versions side by side."""
    usual = usual_image(bundle, view.neuron)
    if usual is None:
        return
    asked = st.query_params.get("changed", "")
    with st.expander("One image, changed", expanded=bool(asked)):
        show(
            "<p class='csp-quiet csp-left'>The same image flipped, cropped, recoloured, darkened "
            "and blurred: does the neuron stay active, and the decision the same?</p>"
        )
        last = bundle.n_images - 1
        image, note = pick_number("image", asked or str(usual), 0, last)
        problems.notes((note,) if note else ())
        key = f"_changed {view.neuron} {image}"
        with st.container(horizontal=True, vertical_alignment="bottom"):
            st.number_input(
                f"Probe image (0 to {numbers.count(last)})", 0, last, value=image, key=key,
                width=220,
            )  # fmt: skip
            st.button(
                "Change it",
                key="change_image",
                on_click=uncut(lambda: set_params(changed=st.session_state[key])),
            )
        if not asked:
            return
        if not access.may(Permission.ENCODE):
            show(f"<p class='csp-note' role='status'>{plain(NOT_HERE)}</p>")
            return
        with problems.caught(), st.spinner("Asking the network…"):
            has_map = view.look != LOOKS[0] and not why_no_map(bundle, view.neuron, view.look)
            name = view.look if has_map else ""
            found = changed(
                bundle,
                view.model,
                image,
                store.MEMO.once(
                    ("changed", bundle.digest, view.neuron, image, name),
                    lambda: store.MAPS.versions(bundle, view.neuron, name, image, access.visitor()),
                ),
            )
            show(f"<p class='csp-left'>{plain(found.sentence)}</p>{strip(found)}")
            show(f"<p class='csp-quiet csp-left'>{about(found, name)}</p>")


def strip(found: Changed) -> str:
    """The versions in a row, each with its activation and what is decided."""
    return (
        "<div class='csp-pairs csp-changes' role='list'>"
        + "".join(figure(each) for each in found.versions)
        + "</div>"
    )


def figure(each: Shown) -> str:
    """One version; marked where the decision is another."""
    content = base64.b64encode(each.picture).decode()
    decided = f"<br>{plain(each.decided)}" if each.decided else ""
    marked = " class=other" if each.is_turned else ""
    return (
        f"<div class='pair turned' role='listitem'><figure{marked}>"
        f"<img alt='{plain(each.name)}' src='data:image/webp;base64,{content}'><figcaption>"
        f"<b>{plain(each.name)}</b><br>{plain(each.words)}{decided}</figcaption></figure></div>"
    )


def about(found: Changed, name: str) -> str:
    """What the figures are."""
    told = "Activation, and its share of that of the image as it is; worked out on the thumbnail."
    if name:
        told += " Bright is where the neuron's map is, dark elsewhere, on one scale for all."
    else:
        told += " A map that is chosen under “Where it looks” is drawn over them."
    if found.versions[0].decided:
        odds = ", ".join(f"{each.name} {numbers.signed(each.log_odds)}" for each in found.versions)
        told += (
            f" Below it, the decision; framed where it is another. Log-odds of "
            f"{found.versions[0].decided}: {odds}."
        )
    return plain(told)
