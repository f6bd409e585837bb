"""The verdict on a neuron: a choice and a note, saved at once, and what others said before."""

from __future__ import annotations

from datetime import datetime

import streamlit as st

from csp_engine.bundle import Bundle
from csp_engine.errors import CspError
from csp_engine.http.permissions import Permission
from csp_engine.reviews import (
    CONFIDENCES,
    MAX_NAME,
    MAX_NOTE,
    REASONS,
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
from pages.ui.shell.page import hold, keep_up, uncut

CHOICE, NOTE, NAME = "_verdict", "_verdict_note", "_verdict_name"
CONFIDENCE, REASON = "_verdict_confidence", "_verdict_reason"
_FAILED, _DRAWN = "_verdict_failed", "_verdict_drawn"


def key_of(name: str, neuron: NeuronRef) -> str:
    """The key of a widget that is one neuron's alone.

    What is pressed may reach the server after it has begun to draw another neuron; by its key it
    can only ever be of the neuron that was on the screen.
    """
    return f"{name} {neuron}"


def refusal(where: Place) -> str:
    """Why no verdict can be given here, as a sentence; empty where one can."""
    if access.is_read_only():
        return "This server only shows verdicts."
    return where.refusal if access.may(Permission.REVIEW) else access.refusal(Permission.REVIEW)


def is_blind() -> bool:
    """Whether labels, scores and the verdicts of others are not shown."""
    return st.query_params.get("blind") == "yes"


def can_record() -> bool:
    """Whether the page of a neuron asks for a verdict."""
    try:
        return not refusal(reviews.place())
    except CspError:
        return False


@st.fragment
def section(bundle: Bundle, view: View) -> None:
    """Draw the section; only this part of the page runs again when a verdict is given."""
    keep_up()
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
    if is_blind() or (access.is_read_only() and not history):
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
    shown = label.text if label.is_reliable and not is_blind() else ""

    choice, note_key, confidence, reason_key = (
        key_of(name, view.neuron) for name in (CHOICE, NOTE, CONFIDENCE, REASON)
    )
    last = [None if mine is None or mine.bundle != bundle.digest else _row_of(mine)]

    def record() -> None:
        if not reviewer or not access.may(Permission.REVIEW):
            return
        # A click that also ends the typing of a note changes both, and is one row all the same.
        # What another run has taken off the page in the meantime is empty.
        held = st.session_state.get
        verdict = held(choice) or WITHDRAWN
        note, sure, reason = (held(key) or "" for key in (note_key, confidence, reason_key))
        row = (verdict, note.strip(), sure, reason)
        if verdict == WITHDRAWN:
            row = (verdict, "", "", "")
        if row == last[0] or (verdict == WITHDRAWN and mine is None):
            return
        try:
            reviews.database(where).add(
                neuron,
                reviewer=reviewer,
                verdict=row[0],
                note=row[1],
                confidence=row[2],
                reason=row[3],
                method="" if is_blind() else view.method,
                label=shown,
                bundle=bundle.digest,
            )
        except CspError as error:
            st.session_state[_FAILED] = problems.told(error)
        else:
            last[0] = row

    show(f"<h2 class='csp-h'>{term('verdict', 'Your verdict')}</h2>")
    # What is in the database, but a note that waits for its verdict stays as it was typed.
    drawn = (neuron, None if mine is None else mine.revision)
    if st.session_state.get(_DRAWN) != drawn or note_key not in st.session_state:
        hold(note_key, "" if mine is None else mine.note)
        hold(confidence, (mine.confidence or None) if mine is not None else None)
        hold(reason_key, (mine.reason or None) if mine is not None else None)
    st.session_state[_DRAWN] = drawn
    hold(choice, None if mine is None else mine.verdict)
    if access.asks_for_name():
        name_field()
        reviewer = access.reviewer()
    with st.container(gap="xsmall", key="verdict"):
        st.segmented_control(
            "Your verdict",
            VERDICTS,
            format_func=str.capitalize,
            key=choice,
            label_visibility="collapsed",
            width="stretch",
            on_change=uncut(record),
            disabled=not reviewer,
        )
        with st.container(horizontal=True, gap="xsmall", key="verdict_more"):
            for key, title, options in (
                (confidence, "How sure", CONFIDENCES),
                (reason_key, "Because of", REASONS),
            ):
                st.selectbox(
                    title,
                    options,
                    format_func=str.capitalize,
                    key=key,
                    placeholder=title,
                    label_visibility="collapsed",
                    on_change=uncut(record),
                )
        st.text_input(
            "Note on your verdict",
            key=note_key,
            max_chars=MAX_NOTE,
            placeholder="Note, if you like; kept with the verdict",
            label_visibility="collapsed",
            on_change=uncut(record),
        )
        if is_blind():
            history, said = [x for x in history if x.reviewer == reviewer], [mine] if mine else []
        others = [each for each in said if each is not mine]
        status = standing(bundle, reviewer, mine)
        show(
            f"<div class='csp-verdict' role='status' data-judged-of='{plain(view.neuron)}' "
            f"data-revision='{0 if mine is None else mine.revision}'>"
            f"{earlier(bundle, history, status, len(said))}</div>" + listed(bundle, others)
        )
    failed = st.session_state.pop(_FAILED, "")
    if failed:
        show(f"<p class='csp-problem' role='alert'>Not saved. {plain(failed)}</p>")


def name_field() -> None:
    """Who gives verdicts, where nobody signs in; kept as long as the page is open."""

    def typed() -> None:
        st.session_state[access.TYPED] = st.session_state[NAME]

    hold(NAME, access.reviewer())
    st.text_input(
        "Your name, for your verdicts",
        key=NAME,
        max_chars=MAX_NAME,
        placeholder="Your name, for your verdicts",
        label_visibility="collapsed",
        on_change=uncut(typed),
    )


def _row_of(review: Review) -> tuple[str, str, str, str]:
    """What of a verdict its reviewer can change."""
    return review.verdict, review.note, review.confidence, review.reason


def standing(bundle: Bundle, reviewer: str, mine: Review | None) -> str:
    """One line on the reviewer's own verdict; as tall as any other, so that nothing moves."""
    if not reviewer:
        return "Write your name first; verdicts are kept under it."
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
    more = [f"{each.confidence} confidence"] if each.confidence else []
    more += [f"because of {each.reason}"] if each.reason else []
    sure = f" <span>{plain(', '.join(more))}</span>" if more else ""
    return (
        f"{badge(each.verdict)}{sure} <bdi>{plain(each.reviewer)}</bdi> "
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
