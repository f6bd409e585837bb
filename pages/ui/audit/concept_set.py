"""What should matter to an output and what should not: the list that the address carries."""

from __future__ import annotations

import streamlit as st

from csp_engine.bundle import Bundle
from csp_engine.errors import CspError, InputError
from csp_engine.http.permissions import Permission
from csp_engine.views.audit.concepts import choices, outputs_of, reach
from csp_engine.words.concepts import MOST_BYTES, TAGS, ConceptSet, parse_concept_set
from csp_engine.words.own_concepts import USUAL, as_link, from_link, written
from pages.ui.parts.cards import markdown_text, plain, show
from pages.ui.shell import access, problems
from pages.ui.shell.page import set_params, uncut

TITLES = {
    "valid": "Should matter (valid)",
    "spurious": "Should not matter (spurious)",
    "neutral": "Says nothing either way (neutral)",
}
_REFUSED, _UPLOADED = "concepts_refused", "concepts_uploaded"


def chosen() -> ConceptSet:
    """The concept set of the address; where it cannot be read, the usual one."""
    try:
        return from_link(st.query_params.get("concepts", ""))
    except InputError:
        return from_link(USUAL)


def link() -> str:
    """The same, as links carry it; empty for the usual one."""
    found = as_link(chosen().content)
    return "" if found == USUAL else found


def form(bundle: Bundle, model: str) -> None:
    """The list, to choose from or to take away as a file."""
    concepts = chosen()
    told = _unread()
    if told:
        problems.failure(CspError(told))
    found = reach(bundle, model, concepts)
    is_usual = not link()
    with st.expander(markdown_text(f"What should matter and what should not: “{concepts.title}”")):
        show(
            f"<p class='csp-lead csp-left'>{plain(found.sentence())}</p>"
            "<p class='csp-quiet'>Columns called spurious come first below, and those called valid "
            "or neutral do not count as suspicious; the queue of suspects and the report go by the "
            "same list. What is not listed stays in question.</p>"
        )
        known = choices(bundle, model)
        for tag in TAGS:
            named = found.named.get(tag, ())
            st.multiselect(
                TITLES[tag],
                tuple(dict.fromkeys((*known, *named))),
                default=named,
                key=_key(tag, concepts),
                accept_new_options=True,
                filter_mode="contains",
                select_all=False,  # it would be what Enter takes after some letters
                placeholder="Columns of the images or words",
            )
        outputs = outputs_of(bundle, model)
        at = concepts.output_of(outputs)
        st.selectbox(
            "For the output",
            outputs,
            index=(at or 0) if outputs else None,
            key=_key("output", concepts),
            width=300,
        )
        with st.container(horizontal=True, vertical_alignment="bottom"):
            st.button(
                "Use this list",
                type="primary",
                key="concepts_use",
                on_click=uncut(_use),
                args=(concepts,),
            )
            if not is_usual:
                st.button(
                    "Back to the list for melanoma",
                    key="concepts_usual",
                    on_click=uncut(lambda: set_params(concepts=USUAL)),
                )
            st.download_button(
                "The list in use (TOML)",
                concepts.content,
                file_name="concepts.toml",
                mime="application/toml",
                on_click="ignore",
                key="concepts_file",
                help="For 'csp audit' and 'csp report', by --concepts.",
            )
        if access.may(Permission.ENCODE):
            _upload()


def _upload() -> None:
    file = st.file_uploader("Or a file of one (TOML)", type=["toml"], key="concepts_upload")
    if file is None or st.session_state.get(_UPLOADED) == file.file_id:
        return
    st.session_state[_UPLOADED] = file.file_id
    with problems.caught():
        if file.size > MOST_BYTES:
            raise InputError(
                f"{file.name:.80} has {file.size:,} bytes, and a concept set at most "
                f"{MOST_BYTES:,}."
            )
        content = file.getvalue()
        parse_concept_set(content, f"{file.name:.80}")
        set_params(concepts=as_link(content))
        st.rerun()


def _use(concepts: ConceptSet) -> None:
    """Have the address carry what was chosen."""
    names = {tag: st.session_state[_key(tag, concepts)] for tag in TAGS}
    output = st.session_state[_key("output", concepts)]
    try:
        if not any(names.values()):
            raise InputError("The list names nothing; choose at least one concept.")
        title = f"own list for {output}" if output else "own list"
        set_params(concepts=as_link(written(title, [output] if output else [], names)))
    except InputError as error:
        st.session_state[_REFUSED] = str(error)


def _unread() -> str:
    """Why the list of the address, or the one just chosen, is not the one in use."""
    refused = st.session_state.pop(_REFUSED, "")
    if refused:
        return str(refused)
    try:
        from_link(st.query_params.get("concepts", ""))
    except InputError as error:
        return f"{error} Shown is the list for melanoma."
    return ""


def _key(name: str, concepts: ConceptSet) -> str:
    """Of a widget; another set has widgets of its own, which begin with what it holds."""
    return f"concepts_{name}_{concepts.sha256[:12]}"
