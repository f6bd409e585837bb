"""Try a fix now: tick neurons or a direction, wait for another process, keep what came of it."""

from __future__ import annotations

import time
from pathlib import Path

import streamlit as st

from csp_engine import jobs
from csp_engine.bundle import Bundle, StoredFix
from csp_engine.bundle.checks.held import MODES
from csp_engine.errors import CspError, InputError
from csp_engine.files import allowed_folders
from csp_engine.http.permissions import Permission
from csp_engine.pipeline.added.fixes import add_fix, read_fix
from csp_engine.trust import OWN_MODELS, may_run
from csp_engine.views.address import View
from csp_engine.views.audit import fixes, interventions
from pages.ui.parts.cards import markdown_text, show
from pages.ui.shell import access, problems, store
from pages.ui.shell.page import set_params

LIMIT = 60
"""Photographs of each slice in a quick trial."""
HELD = {
    "zero": "0",
    "mean": "the mean",
    "conditional": "the mean without artefacts",
}


def is_possible(bundle: Bundle, model: str) -> bool:
    """Whether something can be tried here: by whom, and on which network."""
    described = bundle.manifest.inputs.get("models", {}).get(model, {})
    return access.may(Permission.BUILD) and may_run(str(described.get("spec", "python:")))


def form(bundle: Bundle, view: View, model: str) -> None:
    """What is to be held still, and the trial that runs."""
    if not is_possible(bundle, model):
        return
    trial = _trial(bundle, model)
    with st.expander("Try another", expanded=trial is not None):
        if trial is not None and trial.is_running:
            st.fragment(_live, run_every=1.0)(bundle, model)
            return
        if trial is not None and trial.sentence:
            problems.failure(CspError(trial.sentence))
        refused = st.session_state.pop("fix_refused", "")
        if refused:
            problems.failure(CspError(refused))
        _fields(bundle, model)


def _fields(bundle: Bundle, model: str) -> None:
    own = bundle.manifest.inputs["models"][model]["spec"] in OWN_MODELS
    layers = [layer for layer in bundle.layers(model) if "+" not in layer]
    stored = bundle.intervention(model)
    known = fixes.artefacts(bundle, model)
    first = next((piece for a in known if (piece := fixes.carriers(bundle, model, a))), None)
    usual = layers.index(first.layer) if first is not None and first.layer in layers else 0
    with st.container(horizontal=True, vertical_alignment="bottom"):
        layer = st.selectbox("Layer", layers, index=usual, key="fix_layer", width=200)
        mode = st.selectbox(
            "Held at", MODES, key="fix_mode", format_func=HELD.__getitem__, width=250
        )
    suggested: list[int] = []
    if first is not None and first.layer == layer:
        suggested = first.part.tolist()
    units = st.multiselect(
        "Neurons",
        range(bundle.n_units(model, layer)),
        default=suggested,
        key=f"fix_units_{layer}",
        placeholder="Numbers of neurons",
        help="Type a number. Suggested are those that carry the largest effect of an artefact.",
    )
    directions = st.multiselect(
        "Directions to project out",
        interventions_of(stored),
        key="fix_directions",
        format_func=markdown_text,
        placeholder="None",
        help="Along which an artefact shifts the layer whose direction carries most of its effect.",
    )
    images, output = "", ""
    if not own:
        images = st.text_input(
            "Photographs",
            key="fix_images",
            placeholder="A table with the columns path, class, and slice and group if known",
        )
    if stored is None:
        names = bundle.manifest.inputs["models"][model].get("class_names") or ()
        output = st.selectbox("Output", names, key="fix_output", width=250) or ""
    st.button(
        "Try it",
        type="primary",
        key="fix_start",
        on_click=_start,
        args=(bundle, model, layer, tuple(units), tuple(directions), mode, images, output),
    )
    show(
        f"<p class='csp-quiet'>{LIMIT} photographs of each slice, and 20 random controls, in "
        "a process of its own: about half a minute.</p>"
    )


def interventions_of(stored: object) -> list[str]:
    """Artefacts that were added to photographs, the largest effect first."""
    if stored is None:
        return []
    return [each.artefact for each in interventions.effects(stored)]  # ty: ignore


def _start(
    bundle: Bundle,
    model: str,
    layer: str,
    units: tuple[int, ...],
    directions: tuple[str, ...],
    mode: str,
    images: str,
    output: str,
) -> None:
    """Start the process; only whoever may build does so."""
    if not access.may(Permission.BUILD):
        return
    try:
        if not units and not directions:
            raise InputError("Nothing to take out; choose neurons or a direction.")
        arguments = [f"--model={model}", f"--mode={mode}", f"--limit={LIMIT}"]
        if units:
            arguments.append(f"--units={layer}:{','.join(map(str, units))}")
        arguments += [f"--direction={each}" for each in directions]
        arguments += [f"--beside={each}" for each in _alike(bundle, model)]
        if output:
            arguments.append(f"--output={output}")
        allowed = None
        if images:
            folders = allowed_folders() or (store.start_folder().resolve(),)
            allowed = jobs.Allowed(folders)
            allowed.require(store.start_folder() / Path(images).expanduser(), images)
            arguments.append(f"--images={images}")
        _forget(bundle, model)
        command = ["fix", str(bundle.path.absolute()), *arguments]
        trial = jobs.start_trial(command, store.start_folder(), allowed)
        st.session_state[_key(bundle, model)] = trial
    except CspError as error:
        st.session_state["fix_refused"] = str(error)


def _alike(bundle: Bundle, model: str) -> list[str]:
    """Other networks of the bundle with the same classes."""
    held = bundle.manifest.inputs["models"]
    names = held[model].get("class_names")
    return [
        other
        for other, described in held.items()
        if other in interventions.models_with(bundle)
        and other != model
        and names
        and described.get("class_names") == names
        and may_run(str(described.get("spec", "python:")))
    ]


def _live(bundle: Bundle, model: str) -> None:
    """How far the trial is; drawn every second by itself."""
    trial = _trial(bundle, model)
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
    st.button("Cancel", key="fix_cancel", on_click=_forget, args=(bundle, model))


def fresh(bundle: Bundle, model: str) -> StoredFix | None:
    """What came of the trial of this session, if one has ended."""
    trial = _trial(bundle, model)
    if trial is None or not trial.is_done:
        return None
    try:
        return read_fix(trial.result)
    except (OSError, ValueError, KeyError):
        return None


def keep_or_drop(bundle: Bundle, model: str) -> None:
    """Whether the result stays in the bundle."""
    if not access.may(Permission.BUILD):
        return
    refused = st.session_state.pop("fix_not_kept", "")
    if refused:
        problems.failure(CspError(refused))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.text_input("Name", key="fix_name", placeholder="such as patch neurons", width=220)
        st.button("Keep in the bundle", key="fix_keep", on_click=_keep, args=(bundle, model))
        st.button("Drop", key="fix_drop", on_click=_forget, args=(bundle, model))


def _keep(bundle: Bundle, model: str) -> None:
    if not access.may(Permission.BUILD):
        return
    found = fresh(bundle, model)
    try:
        if found is None:
            raise InputError("There is no result to keep; try it again.")
        add_fix(bundle.path, model, st.session_state.get("fix_name", "").strip(), found)
        _forget(bundle, model)
        set_params(fix=st.session_state["fix_name"].strip())
    except CspError as error:
        st.session_state["fix_not_kept"] = str(error)


def _forget(bundle: Bundle, model: str) -> None:
    trial = st.session_state.pop(_key(bundle, model), None)
    if trial is not None:
        jobs.drop_trial(trial)


def _trial(bundle: Bundle, model: str) -> jobs.Trial | None:
    return st.session_state.get(_key(bundle, model))


def _key(bundle: Bundle, model: str) -> str:
    return f"fix_trial/{bundle.path}/{model}"
