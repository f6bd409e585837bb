"""What every page does first: find the bundle and the view that its URL names; and ways to others.

Whatever is pressed, the browser's history grows by one step, and Back and Forward show exactly what
was there; ``components/navigate.js`` says how.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import streamlit as st
from streamlit.runtime.scriptrunner import RerunException, get_script_run_ctx

from csp_engine.bundle import Bundle
from csp_engine.errors import CspError
from csp_engine.views.address import PARAMETERS, VERSION, View, pick, read_view
from csp_engine.views.images.separation import doubt
from pages.ui.parts.cards import asset, base_url, markdown_text, page_url, plain, show
from pages.ui.shell import problems, store

_LINKS = st.components.v2.component(
    "csp_links",
    html="<span></span>",
    js="".join(map(asset, ("navigate.js", "skips.js", "scroll.js", "links.js"))),
)
_GO = st.components.v2.component(
    "csp_go", html="<span></span>", js=asset("navigate.js") + asset("go.js")
)


def opened() -> tuple[Bundle, View] | None:
    """The bundle and view of the current URL, or None after drawing what is wrong instead."""
    names = list(store.known_bundles())
    if not names:
        problems.no_bundle()
        return None
    asked = st.query_params.get("bundle") or st.session_state.get("last_bundle")
    name, note = pick("bundle", asked, names)
    try:
        bundle = store.open_bundle(name)
        view = read_view(st.query_params, name, bundle)
    except CspError as error:
        problems.unreadable(name, error)
        bundle_picker(name)
        return None
    st.session_state["last_bundle"] = name
    notices(problems.told(bundle.notice), doubt(bundle))
    problems.notes(((note,) if note else ()) + view.notes)
    return bundle, view


LONGEST_BADGE = 60
"""Characters of a notice that still fit one line of a phone."""


def notices(own: str, doubtful: str) -> None:
    """What must always be said of a bundle: one badge above the page, and else a line of it.

    Args:
        own: the bundle's own notice; may be empty.
        doubtful: why its labels may mean nothing; may be empty.
    """
    told = [(doubtful, "csp-note", " warn"), (own, "csp-quiet", "")]
    told = [each for each in told if each[0]]
    if told and len(told[-1][0]) <= LONGEST_BADGE:
        sentence, _, kind = told.pop()
        with st.container(key="notice"):
            show(f"<p class='csp-badge{kind}' role='status'>{plain(sentence)}</p>")
    for sentence, kind, _ in told:
        show(f"<p class='{kind}' role='status'>{plain(sentence)}</p>")


def bundle_picker(name: str) -> None:
    """A choice between the bundles of this server, where there is one."""
    names = list(store.known_bundles())
    if len(names) < 2:
        return

    def chosen() -> None:
        st.session_state["last_bundle"] = st.session_state["_bundle"]
        tell({"bundle": st.session_state["_bundle"]})

    hold("_bundle", name)
    st.selectbox("Bundle", names, key="_bundle", on_change=uncut(chosen), width=280)


def one_step_links() -> None:
    """Have every link to another view be one step of the browser's history."""
    paths = [base_url(page.url_path) for page in st.session_state["pages"].values()]
    with st.container(key="links"):
        _LINKS(key="one_step_links", data={"paths": paths})


def go(page: str, params: Mapping[str, str]) -> NoReturn:
    """Leave for another view; nothing more of this one is drawn."""
    path = st.session_state["pages"][page].url_path
    with st.container(key="go"):
        _GO(key="gone", data={"href": page_url(path, params), "token": uuid.uuid4().hex})
    st.stop()


def link(page: str, label: str, params: Mapping[str, str]) -> None:
    """A link to another page; the label is text."""
    st.page_link(
        st.session_state["pages"][page], label=markdown_text(label), query_params=dict(params)
    )


def hold(key: str, value: object) -> None:
    """Make a widget show a value of the URL; where it does already, it is left alone.

    A value that is set goes back to the browser, over what the user has moved or typed there in
    the meantime: four quick steps of a slider would end at the second or third.
    """
    if key not in st.session_state or st.session_state[key] != value:
        st.session_state[key] = value


def uncut(choice: Callable[..., None]) -> Callable[..., None]:
    """What a widget does when it changes, which the next request does not cut off.

    Where another request waits, Streamlit ends a callback at its first look into the session, and
    takes the widget for dealt with: its choice would be undone by the address, which knows nothing
    of it. ``choice`` may be called twice, and comes to the same.
    """

    def run(*args: Any) -> None:
        try:
            choice(*args)
        except RerunException:
            run(*args)  # the request that waited is in the exception
            raise

    return run


def uncut_once(work: Callable[..., Any], after: Callable[[Any], None]) -> Callable[..., None]:
    """Like ``uncut``, of what must not be done twice.

    Args:
        work: done until it ends, and then not again; it looks into the session before it does
            anything, not after.
        after: what follows, with what ``work`` gave; it may be called twice.
    """

    def run(*args: Any) -> None:
        done: list[Any] = []

        def both() -> None:
            if not done:
                done.append(work(*args))
            after(done[0])

        uncut(both)()

    return run


def set_params(**changes: str | int) -> None:
    """Change the URL of this page, as one step of the browser's history; defaults are left out."""
    keep_up()
    merged = st.query_params.to_dict() | {key: str(value) for key, value in changes.items()}
    defaults = {name: parameter.default for name, parameter in PARAMETERS.items()}
    kept = {key: value for key, value in merged.items() if value not in ("", defaults.get(key))}
    tell({**kept, "v": VERSION})


@dataclass(frozen=True)
class Told:
    """What the browser has been told of the address, and may not have heard yet."""

    page: str
    before: tuple[dict[str, str], ...]
    """Addresses that it may still name, the latest last."""
    after: dict[str, str]
    at: float
    """When, by a clock that only goes on."""


_TOLD, _MOST_BEFORE = "told", 8
UNHEARD_S = 20.0
"""How long a browser may not have heard; whoever names an older address later goes back to it."""


def tell(params: Mapping[str, str]) -> None:
    """Have the browser show an address of this page, whatever it asks for in the meantime."""
    last, page = st.session_state.get(_TOLD), _page()
    before = last.before if last is not None and last.page == page else ()
    before = (*before, st.query_params.to_dict())[-_MOST_BEFORE:]
    st.session_state[_TOLD] = Told(page, before, dict(params), time.monotonic())
    st.query_params.from_dict(params)  # where a request waits, this ends the run unsent


def keep_up() -> None:
    """Bring a request that knows an older address than the server to the newer one.

    Each request of a browser carries the address that it shows. One that left before the answer to
    the last choice arrived would undo that choice; so would one that ended the run which was about
    to answer. Back, Forward, links and other pages mean the address that they name.
    """
    last: Told | None = st.session_state.get(_TOLD)
    if last is None:
        return
    run = get_script_run_ctx()
    is_meant = run is not None and run.is_history_navigation
    if is_meant or last.page != _page() or time.monotonic() - last.at > UNHEARD_S:
        del st.session_state[_TOLD]
        return
    here = st.query_params.to_dict()
    # The browser adds the name of the bundle by itself.
    named = {"bundle": here["bundle"]} if "bundle" in here else {}
    if here not in (last.after, {**last.after, **named}) and any(
        here in (each, {**each, **named}) for each in last.before
    ):
        st.query_params.from_dict({**named, **last.after})


def page_asked() -> str:
    """The end of the address that a browser came by, where that may be no page; else empty."""
    run = get_script_run_ctx()
    pages = None if run is None else run.pages_manager
    if pages is None or pages.intended_page_script_hash:
        return ""
    return pages.intended_page_name or ""


def ask_for_none() -> None:
    """Have the first page drawn for an address of no page, without Streamlit's own dialog."""
    run = get_script_run_ctx()
    if run is not None:
        run.pages_manager.set_script_intent("", "")


def _page() -> str:
    run = get_script_run_ctx()
    return "" if run is None else run.page_script_hash
