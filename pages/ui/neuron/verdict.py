"""The verdict on a neuron: a choice and a note, saved at once, and what others said before."""

from __future__ import annotations

from datetime import datetime

import streamlit as st

from csp_engine.bundle import Bundle
from csp_engine.errors import CspError
from csp_engine.http.permissions import Permission
from csp_engine.reviews import (
    MAX_NOTE,
    VERDICTS,
    WITHDRAWN,
    Place,
    Review,
    lasting_id,
    latest_of,
)
from csp_engine.types import NeuronRef
from csp_engine.views.address import View
from csp_engine.views.neuron.label import best_label
from pages.ui.parts.cards import badge, plain, show
from pages.ui.parts.words import term
from pages.ui.shell import access, problems
from pages.ui.shell import reviewer as reviews
from pages.ui.shell.page import hold

CHOICE, NOTE = "_verdict", "_verdict_note"
_FAILED, _DRAWN = "_verdict_failed", "_verdict_drawn"


def refusal(where: Place) -> str:
    """Why no verdict can be given here, as a sentence; empty where one can."""
    if access.is_read_only():
        return "This server only shows verdicts."
    return where.refusal if access.may(Permission.REVIEW) else access.refusal(Permission.REVIEW)


def can_record() -> bool:
    """Whether the page of a neuron asks for a verdict."""
    try:
        return not refusal(reviews.place())
    except CspError:
        return False


@st.fragment
def section(bundle: Bundle, view: View) -> None:
    """Draw the section; only this part of the page runs again when a verdict is given."""
    with problems.caught():
        where = reviews.place()
        neuron = lasting_id(bundle, view.neuron)
        history = reviews.database(where).history(neuron) if where.is_there else []
        why_not = refusal(where)
        if why_not:
            only_shown(bundle, history, why_not)
        else:
            asked(bundle, view, where, neuron, history)


def only_shown(bundle: Bundle, history: list[Review], why_not: str) -> None:
    """What was said, where nothing can be added; on a server that only shows, nothing at all."""
    said = latest_of(history)
    if access.is_read_only() and not history:
        return
    show(f"<h2 class='csp-h'>{term('verdict', 'Verdicts')}</h2>")
    show(
        listed(bundle, said)
        + f"<div class='csp-verdict'>{earlier(bundle, history, why_not, len(said))}</div>"
    )


def asked(
    bundle: Bundle, view: View, where: Place, neuron: NeuronRef, history: list[Review]
) -> None:
    """The choice, the note, and what was said before."""
    reviews.get_ready()
    reviewer = access.reviewer()
    said = latest_of(history)
    mine = next((each for each in said if each.reviewer == reviewer), None)
    label = best_label(bundle, view.neuron, view.method)

    last = [None if mine is None or mine.bundle != bundle.digest else (mine.verdict, mine.note)]

    def record() -> None:
        if not access.may(Permission.REVIEW):
            return
        # A click that also ends the typing of a note changes both, and is one row all the same.
        verdict = st.session_state[CHOICE] or WITHDRAWN
        row = (verdict, st.session_state[NOTE].strip() if verdict != WITHDRAWN else "")
        if row == last[0] or (verdict == WITHDRAWN and mine is None):
            return
        try:
            reviews.database(where).add(
                neuron,
                reviewer=reviewer,
                verdict=row[0],
                note=row[1],
                method=view.method,
                label=label.text if label.is_reliable else "",
                bundle=bundle.digest,
            )
        except CspError as error:
            st.session_state[_FAILED] = problems.told(error)
        else:
            last[0] = row

    show(f"<h2 class='csp-h'>{term('verdict', 'Your verdict')}</h2>")
    # What is in the database, but a note that waits for its verdict stays as it was typed.
    drawn = (neuron, None if mine is None else mine.revision)
    if st.session_state.get(_DRAWN) != drawn or NOTE not in st.session_state:
        hold(NOTE, "" if mine is None else mine.note)
    st.session_state[_DRAWN] = drawn
    hold(CHOICE, None if mine is None else mine.verdict)
    with st.container(gap="xsmall", key="verdict"):
        st.segmented_control(
            "Your verdict",
            VERDICTS,
            format_func=str.capitalize,
            key=CHOICE,
            label_visibility="collapsed",
            width="stretch",
            on_change=record,
        )
        st.text_input(
            "Note on your verdict",
            key=NOTE,
            max_chars=MAX_NOTE,
            placeholder="Note, if you like; kept with the verdict",
            label_visibility="collapsed",
            on_change=record,
        )
        others = [each for each in said if each is not mine]
        status = standing(bundle, reviewer, mine)
        show(
            f"<div class='csp-verdict'>{earlier(bundle, history, status, len(said))}</div>"
            + listed(bundle, others)
        )
    failed = st.session_state.pop(_FAILED, "")
    if failed:
        show(f"<p class='csp-problem' role='alert'>Not saved. {plain(failed)}</p>")


def standing(bundle: Bundle, reviewer: str, mine: Review | None) -> str:
    """One line on the reviewer's own verdict; as tall as any other, so that nothing moves."""
    if mine is None:
        return f"Will be saved as {reviewer}."
    return f"Saved as {reviewer}, {moment(mine.given_at)}{_build(bundle, mine)}"


def earlier(bundle: Bundle, history: list[Review], line: str, n_latest: int) -> str:
    """A line that unfolds to the whole history, where there is more of it than is shown."""
    if len(history) <= n_latest:
        return f"<p dir='auto'>{plain(line)}</p>"
    rows = "".join(f"<li>{told(bundle, each)}</li>" for each in history)
    return f"<details><summary dir='auto'>{plain(line)}</summary><ul>{rows}</ul></details>"


def listed(bundle: Bundle, said: list[Review]) -> str:
    """The last words of some reviewers as HTML."""
    rows = "".join(f"<li>{told(bundle, each)}</li>" for each in said)
    return f"<ul class='csp-said'>{rows}</ul>" if rows else ""


def told(bundle: Bundle, each: Review) -> str:
    """One row of the history as HTML."""
    note = f"<q dir='auto'>{plain(each.note)}</q>" if each.note else ""
    return (
        f"{badge(each.verdict)}<bdi>{plain(each.reviewer)}</bdi> "
        f"<span>{moment(each.given_at)}{_build(bundle, each)}</span>{note}"
    )


def moment(at: datetime) -> str:
    """A time as people write it."""
    return f"{at.day} {at:%b %Y, %H:%M} UTC"


def _build(bundle: Bundle, each: Review) -> str:
    """That the reviewer looked at another build, where it was one."""
    if each.bundle == bundle.digest:
        return ""
    built = datetime.fromisoformat(bundle.manifest.updated)
    return ", on an earlier build" if each.given_at < built else ", on another build"
