"""A command of the page Audit that runs in a process of its own: start, progress, failure, end.

Trials of one session, by ``kind`` (``fix``, ``factors``, ``intervene``), bundle and network.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import streamlit as st

from csp_engine import jobs
from csp_engine.bundle import Bundle
from csp_engine.errors import CspError
from csp_engine.files import allowed_folders
from csp_engine.http.permissions import Permission
from csp_engine.trust import OWN_MODELS, may_run
from pages.ui.parts.cards import markdown_text, show
from pages.ui.shell import access, problems, store
from pages.ui.shell.page import set_params, uncut, uncut_once

Left = TypeVar("Left")
"""What a trial leaves."""


def is_possible(bundle: Bundle, model: str) -> bool:
    """Whether something can be tried here: by whom, and on which network."""
    described = bundle.manifest.inputs.get("models", {}).get(model, {})
    return access.may(Permission.BUILD) and may_run(str(described.get("spec", "python:")))


def layers_of(bundle: Bundle, model: str) -> list[str]:
    """Layers into which something can be swapped, or of which something can be held still."""
    return [layer for layer in bundle.layers(model) if "+" not in layer]


def draws_its_own(bundle: Bundle, model: str) -> bool:
    """Whether photographs need not be named: networks of the demo draw theirs."""
    return bundle.manifest.inputs["models"][model]["spec"] in OWN_MODELS


def images_field(kind: str, bundle: Bundle, model: str, columns: str) -> str:
    """Where the photographs are listed; empty where nobody has to say."""
    if draws_its_own(bundle, model):
        return ""
    return st.text_input(
        "Photographs",
        key=f"{kind}_images",
        placeholder=f"A table with the columns path, class, and {columns} if known",
    )


def why_not(bundle: Bundle, model: str) -> str:
    """Why nothing can be tried here, as a sentence; empty where it can."""
    if is_possible(bundle, model):
        return ""
    if not access.may(Permission.BUILD):
        return "From this page only those may start it who may build here."
    return (
        f"The network {model} is code that this server was not told to run, so it cannot be "
        "started from this page; CSP_TRUST_PYTHON=1 lets it."
    )


def start(
    kind: str,
    bundle: Bundle,
    model: str,
    arguments: Sequence[str],
    reads: Mapping[str, str],
) -> None:
    """Start the process; only whoever may build does so, and only on photographs it may read.

    Args:
        kind: the command.
        bundle: what it is run on.
        model: one of its networks.
        arguments: what else comes after the bundle.
        reads: by the start of an argument, such as ``--images=``, the file or folder that it ends
            with.
    """
    begun: list[jobs.Trial] = []  # one, however often another request cuts this off
    uncut(lambda: _start(begun, kind, bundle, model, arguments, reads))()


def _start(
    begun: list[jobs.Trial],
    kind: str,
    bundle: Bundle,
    model: str,
    arguments: Sequence[str],
    reads: Mapping[str, str],
) -> None:
    if not access.may(Permission.BUILD):
        return
    try:
        command = [kind, str(bundle.path.absolute()), f"--model={model}", *arguments]
        allowed = None
        if reads:
            folders = allowed_folders() or (store.start_folder().resolve(),)
            allowed = jobs.Allowed(folders)
        for option, path in reads.items():
            assert allowed is not None
            allowed.require(store.start_folder() / Path(path).expanduser(), path)
            command.append(f"{option}{path}")
        if not begun:
            forget(kind, bundle, model)
            begun.append(jobs.start_trial(command, store.start_folder(), allowed))
        st.session_state[_key(kind, bundle, model)] = begun[0]
    except CspError as error:
        refuse(kind, str(error))


def refuse(kind: str, sentence: str) -> None:
    """Say in the form why nothing was started or kept."""
    uncut(lambda: st.session_state.update({f"{kind}_refused": sentence}))()


def keep_or_drop(
    kind: str, bundle: Bundle, model: str, *, are_known: bool, keep: Callable[[Bundle, str], None]
) -> None:
    """Whether a result stays in the bundle; ``are_known`` where it would replace others."""
    if not access.may(Permission.BUILD):
        return
    refused = st.session_state.pop(f"{kind}_not_kept", "")
    if refused:
        problems.failure(CspError(refused))
    with st.container(horizontal=True):
        said = "Keep instead of those in the bundle" if are_known else "Keep in the bundle"
        st.button(said, key=f"{kind}_keep", on_click=keep, args=(bundle, model))
        st.button("Drop", key=f"{kind}_drop", on_click=uncut(forget), args=(kind, bundle, model))


def keep(kind: str, bundle: Bundle, model: str, work: Callable[[], Mapping[str, str]]) -> None:
    """Put a result into the bundle, once, and show it there; only whoever may build does so.

    Args:
        kind: the command.
        bundle: where it is put.
        model: one of its networks.
        work: puts it there, and gives what the page's address then says.
    """

    def put() -> Mapping[str, str] | str:
        if not access.may(Permission.BUILD):
            return ""
        try:
            return work()
        except CspError as error:
            return str(error)

    def after(kept: Mapping[str, str] | str) -> None:
        if isinstance(kept, str):
            st.session_state[f"{kind}_not_kept"] = kept
        else:
            forget(kind, bundle, model)
            set_params(**kept)

    uncut_once(put, after)()


def is_awaited(kind: str, bundle: Bundle, model: str) -> bool:
    """Whether a trial runs still: then how far it is is drawn, else why there is no result."""
    trial = held(kind, bundle, model)
    if trial is not None and trial.is_running:
        _hold_form(kind)
        st.fragment(_live, run_every=1.0)(kind, bundle, model)
        return True
    refused = st.session_state.pop(f"{kind}_refused", "")
    for sentence in (trial.sentence if trial is not None else "", refused):
        if sentence:
            problems.failure(CspError(sentence))
    return False


def _hold_form(kind: str) -> None:
    """Keep what is in the form, which is not drawn while the trial runs, for when it is again."""
    buttons = {f"{kind}_{name}" for name in ("start", "cancel", "keep", "drop")}
    for key in st.session_state:
        if str(key).startswith(f"{kind}_") and key not in buttons:
            st.session_state[key] = st.session_state[key]


def _live(kind: str, bundle: Bundle, model: str) -> None:
    """How far the trial is; drawn every second by itself."""
    trial = held(kind, bundle, model)
    if trial is None or not trial.is_running:
        st.rerun()
    assert trial is not None
    stage = trial.stages[-1] if trial.stages else None
    share = 0.0 if stage is None else min(1.0, stage.done / max(1, stage.total))
    text = (
        "Loading the network" if stage is None else f"{stage.name}: {stage.done} of {stage.total}"
    )
    st.progress(share, text=markdown_text(text))
    show(f"<p class='csp-quiet'>{time.time() - trial.started:.0f} s so far</p>")
    st.button("Cancel", key=f"{kind}_cancel", on_click=uncut(forget), args=(kind, bundle, model))


def result(kind: str, bundle: Bundle, model: str) -> Path | None:
    """The folder that a trial of this session left, if it has ended with a result."""
    trial = held(kind, bundle, model)
    return trial.result if trial is not None and trial.is_done else None


def read(kind: str, bundle: Bundle, model: str, reader: Callable[[Path], Left]) -> Left | None:
    """What a reader makes of that folder; None where there is none, or it cannot be read."""
    folder = result(kind, bundle, model)
    try:
        return None if folder is None else reader(folder)
    except (OSError, ValueError, KeyError):
        return None


def forget(kind: str, bundle: Bundle, model: str) -> None:
    """End the trial of this session, and delete what it left."""
    trial = st.session_state.pop(_key(kind, bundle, model), None)
    if trial is not None:
        jobs.drop_trial(trial)


def held(kind: str, bundle: Bundle, model: str) -> jobs.Trial | None:
    """The trial of this session."""
    return st.session_state.get(_key(kind, bundle, model))


def _key(kind: str, bundle: Bundle, model: str) -> str:
    return f"{kind}_trial/{bundle.path}/{model}"
