"""A build that runs or ran: how far it is, what it wrote, and what can be done about it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import streamlit as st

from csp_engine import jobs
from csp_engine.errors import CspError
from csp_engine.http.permissions import Permission
from csp_engine.jobs import Job, StageProgress
from csp_engine.methods import method_title
from pages.ui.build import form as build_form
from pages.ui.build import places as builds
from pages.ui.parts.cards import badge, facts, markdown_text, page_url, plain, show
from pages.ui.shell import access, problems, store
from pages.ui.shell.page import set_params, uncut, uncut_once

STATES = {
    "running": ("Running", ""),
    "done": ("Finished", "good"),
    "cancelled": ("Cancelled", "warn"),
    "failed": ("Failed", "warn"),
    "killed": ("Stopped", "warn"),
}
STEPS = {
    "hash images": "Listing images",
    "load model": "Loading the model",
    "load encoder": "Loading the encoder",
    "images": "Running model and encoder on the images",
    "labels": "Embedding the words",
    "random image sets": "Random image sets, to compare with",
    "map": "Drawing the map",
    "exemplars": "Strongest images",
    "neighbours": "Look-alikes",
    "contrast images": "Contrast images",
    "audit": "Measuring exemplars",
    "candidates": "Captions",
    "influence": "Influence on the outputs",
}
N_LINES = 40


def draw(name: str) -> None:
    """Draw a job by the name of its bundle."""
    try:
        job = find(name)
    except CspError as error:
        problems.failure(error)
        st.button("Build a bundle", on_click=uncut(lambda: set_params(job="")))
        return
    word, kind = STATES[job.state]
    layers = ", ".join(job.order.layers)
    show(
        f"<h1 class='csp-title'>{plain(job.name)} {badge(word, kind)}</h1><p class='csp-lead'>"
        f"{plain(layers)} of {plain(job.order.model)}, "
        f"with the images in {plain(job.order.images)}</p>"
    )
    refused = st.session_state.pop("build_refused", "")
    if refused:
        problems.failure(CspError(refused))
    ending(job)
    is_running = job.state == "running"
    st.fragment(live, run_every=1.0 if is_running else None)(job.name, job.state)
    with st.expander("The command"):
        st.code(job.order.shown(), language=None, wrap_lines=True)
    st.button("Build another", key="another", on_click=uncut(lambda: set_params(job="")))


def find(name: str) -> Job:
    """The job of a bundle in the folder of builds; only a name that is listed is looked at.

    Raises:
        InputError: if there is none.
    """
    folder = store.build_folder()
    known = {path.name: path for path in folder.glob("*.csp.job")}
    return jobs.read_job(known.get(f"{name}.csp.job", jobs.job_folder(folder / "?.csp")))


def live(name: str, state: str) -> None:
    """What changes while a build runs; drawn every second by itself."""
    try:
        job = find(name)
    except CspError as error:
        problems.failure(error)
        return
    if job.state != state:
        st.rerun()
    if job.state == "running":
        now(job)
        st.button("Cancel", key="cancel", on_click=uncut(cancel), args=(name,))
    over = [stage for stage in job.stages if stage.is_over or job.state != "running"]
    if over:
        with st.expander(f"Steps ({len(over)})", key="steps", expanded=True):
            show(facts([(step(s.name), told(s)) for s in over]))
    with st.expander("Log", key="log", expanded=job.state in ("failed", "killed")):
        st.code("\n".join(job.log(N_LINES)) or "Nothing yet.", language=None, wrap_lines=True)


def now(job: Job) -> None:
    """The step a build is at, with the time it will take."""
    stage = job.stages[-1] if job.stages else None
    seconds = time.time() - job.started
    if stage is None or stage.is_over:
        st.progress(0.0, text="Starting" if stage is None else "Next step")
        left = ""
    else:
        st.progress(
            min(1.0, stage.done / max(1, stage.total)),
            text=markdown_text(f"{step(stage.name)}: {told(stage)}"),
        )
        rest = stage.seconds_left
        left = "" if rest is None else f" · about {duration(rest)} left in this step"
    show(f"<p class='csp-quiet'>{duration(seconds)} so far{left}</p>")


def told(stage: StageProgress) -> str:
    """How far a step is, or how long it took."""
    took = duration(stage.updated - stage.started)
    if stage.is_over:
        return took if stage.total == 1 else f"{stage.total:,} · {took}"
    return f"{stage.done:,} of {stage.total:,}"


def step(name: str) -> str:
    """The name of a step as people read it."""
    for start, title in STEPS.items():
        rest = name.removeprefix(start)
        if rest != name and (not rest or rest.startswith((" of ", " in "))):
            return title + rest
    method, of, layer = name.partition(" of ")
    return f"Labels by {method_title(method)} of {layer}" if of else name


def duration(seconds: float) -> str:
    """A time span as people say it."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def ending(job: Job) -> None:
    """What came of a build that does not run, and what to do next."""
    if job.state == "running":
        return
    if job.state == "done":
        opened = next((n for n, p in store.known_bundles().items() if p == job.bundle), job.name)
        # Not a page link: those of Streamlit have no path where they mean the start page.
        href = page_url("", {"bundle": opened, "v": "1"})
        show(
            f"<p class='csp-quiet'>It took {duration(job.updated - job.started)}.</p>"
            f"<p class='csp-lead'><a href='{plain(href)}'>Open {plain(job.name)}</a></p>"
        )
        return
    if job.sentence:
        show(f"<p class='csp-problem' role='alert'>{plain(job.sentence)}</p>")
    else:
        show("<p class='csp-lead'>Finished steps are kept; resume to continue from there.</p>")
    with st.container(horizontal=True):
        again: dict[str, Any] = {"key": "resume", "on_click": uncut(resume), "args": (job.name,)}
        other: dict[str, Any] = {"key": "change", "on_click": uncut(change), "args": (job.name,)}
        if job.state == "failed":
            # The same would mostly fail the same way.
            st.button("Change and start again", type="primary", **other)
            st.button("Try again", **again)
        else:
            st.button("Resume", type="primary", **again)
            st.button("Change and start again", **other)
        st.button("Forget this build", key="forget", on_click=forget, args=(job.name,))


def cancel(name: str) -> None:
    """End it; the page then offers to resume."""
    act(lambda: jobs.cancel(find(name)))


def resume(name: str) -> None:
    """Go on where it stopped."""
    act(lambda: jobs.resume(find(name), builds.allowed()))


def change(name: str) -> None:
    """Take its order back into the form."""
    act(lambda: build_form.fill(find(name).order))
    set_params(job="")


def forget(name: str) -> None:
    """Drop its record, log and progress; what it wrote of the bundle stays."""
    uncut_once(lambda: act(lambda: jobs.forget(find(name))), lambda _: set_params(job=""))()


def act(work: Callable[[], object]) -> None:
    """Do what a button says, where its visitor may."""
    if not access.may(Permission.BUILD):
        return
    try:
        work()
    except CspError as error:
        st.session_state["build_refused"] = str(error)
