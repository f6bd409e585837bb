"""Try the encoder before a build: what it makes of some of the images, as pictures."""

from __future__ import annotations

import base64
import time

import streamlit as st

from csp_engine import jobs
from csp_engine.errors import CspError, InputError
from csp_engine.http.permissions import Permission
from csp_engine.jobs.order import TRIED
from csp_engine.pipeline.trying.left import EncoderTrial, Picture, read_trial
from csp_engine.views.images.trial import KNOWS, NOISE, verdict
from pages.ui.build import places as builds
from pages.ui.parts.cards import markdown_text, plain, show
from pages.ui.shell import access, problems, store
from pages.ui.shell.page import uncut

_HELD = "build_trial"
STEPS = {
    "load encoder": "Loading the encoder",
    "images": "Looking at images",
    "labels": "Reading words",
}


def draw(order: jobs.BuildOrder) -> None:
    """The panel beside the form: an invitation, a trial that runs, or what one found."""
    line = st.container(horizontal=True, vertical_alignment="center", key="build_trial_line")
    with line:
        show(
            "<h2 class='csp-h'>Does this encoder know your images?</h2><p class='csp-quiet'>Labels "
            "are worth what the encoder knows. A trial shows it 200 of your images and 500 of the "
            "words, and measures whether the words tell the images apart.</p>"
        )
    trial = _trial(order)
    if trial is not None and trial.is_running:
        st.fragment(_live, run_every=1.0)(order)
        return
    refused = st.session_state.pop("build_trial_refused", "")
    sentence = refused or ("" if trial is None else trial.sentence)
    if sentence:
        problems.failure(CspError(sentence))
    found = result(order)
    is_ready = bool(order.images and order.encoder)
    with line:
        st.button(
            "Try the encoder" if found is None else "Try again",
            key="try_encoder",
            disabled=not is_ready,
            on_click=_start,
            args=(order,),
            help=None if is_ready else "Choose images first.",
        )
    if found is not None:
        said = verdict(found)
        kind = {KNOWS: "good", NOISE: "bad"}.get(said.kind, "")
        details = "".join(f"<p>{plain(each)}</p>" for each in said.sentences)
        show(
            f"<div class='csp-trial {kind}' role='status'><p><b>{plain(said.heading)}</b></p>"
            f"{details}</div>{pictures(found)}"
        )


def doubt(order: jobs.BuildOrder) -> str:
    """What a trial of these very images, encoder and words found against a build; else empty."""
    found = result(order)
    said = None if found is None else verdict(found)
    return said.heading if said is not None and said.kind == NOISE else ""


def result(order: jobs.BuildOrder) -> EncoderTrial | None:
    """What the trial of this order found, once it has ended."""
    trial = _trial(order)
    if trial is None or not trial.is_done:
        return None
    try:
        return read_trial(trial.result)
    except InputError:
        return None


def pictures(found: EncoderTrial) -> str:
    """The images of a trial, each above its nearest words, as HTML."""
    cells = "".join(_picture(each) for each in found.pictures)
    return (
        f"<ul class='csp-tried'>{cells}</ul><p class='csp-quiet'>Images at equal steps through "
        "your list, so none is picked by hand; below each, the words that the encoder finds "
        "nearest.</p>"
    )


def _picture(each: Picture) -> str:
    content = base64.b64encode(each.content).decode()
    words = [text for text, _ in each.nearest]
    of = f"<span class='of'>{plain(each.of)}</span>" if each.of else ""
    first = f"<b>{plain(words[0])}</b>" if words else "<b>no word</b>"
    rest = "".join(f", {plain(word)}" for word in words[1:])
    return (
        f"<li><figure><img alt='{plain(each.file)}' title='{plain(each.file)}' "
        f"src='data:image/webp;base64,{content}'><figcaption>{first}{rest}{of}"
        "</figcaption></figure></li>"
    )


def _start(order: jobs.BuildOrder) -> None:
    """Start the process; only whoever may build does so, and only on what a build may read."""
    begun: list[jobs.Trial] = []  # one, however often another request cuts this off
    uncut(lambda: _begin(order, begun))()


def _begin(order: jobs.BuildOrder, begun: list[jobs.Trial]) -> None:
    if not access.may(Permission.BUILD):
        return
    try:
        # One exemplar: for a trial, any number of images is enough.
        asked = jobs.BuildOrder(**{name: getattr(order, name) for name in TRIED}, exemplars=1)
        wrong = asked.problems(store.start_folder(), builds.allowed())
        for name in TRIED:
            if name in wrong:
                raise InputError(wrong[name])
        if not begun:
            _forget()
            begun.append(jobs.start_trial(order.trial(), store.start_folder(), builds.allowed()))
        st.session_state[_HELD] = (order.trial(), begun[0])
    except CspError as error:
        st.session_state["build_trial_refused"] = str(error)


def _live(order: jobs.BuildOrder) -> None:
    """How far the trial is; drawn every second by itself."""
    trial = _trial(order)
    if trial is None or not trial.is_running:
        st.rerun()
    assert trial is not None
    stage = trial.stages[-1] if trial.stages else None
    share, text = 0.0, "Starting"
    if stage is not None:
        share = min(1.0, stage.done / max(1, stage.total))
        text = STEPS.get(stage.name, stage.name)
        if stage.total > 1:
            text = f"{text}: {stage.done:,} of {stage.total:,}"
    st.progress(share, text=markdown_text(text))
    show(f"<p class='csp-quiet'>{time.time() - trial.started:.0f} s so far</p>")
    st.button("Cancel", key="cancel_trial", on_click=uncut(_forget))


def _forget() -> None:
    held = st.session_state.pop(_HELD, None)
    if held is not None:
        jobs.drop_trial(held[1])


def _trial(order: jobs.BuildOrder) -> jobs.Trial | None:
    """The trial of this session, if it is of these images, this encoder and these words."""
    command, trial = st.session_state.get(_HELD, (None, None))
    return trial if order.images and command == order.trial() else None
