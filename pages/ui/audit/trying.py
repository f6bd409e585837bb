"""Try a fix now: tick neurons or a direction, wait for another process, keep what came of it."""

from __future__ import annotations

import re
import shlex

import streamlit as st

from csp_engine.bundle import Bundle, StoredFix
from csp_engine.bundle.checks.held import MODES
from csp_engine.errors import CspError, InputError
from csp_engine.http.permissions import Permission
from csp_engine.pipeline.added.fixes import add_fix, read_fix
from csp_engine.trust import may_run
from csp_engine.views.audit import fixes, groups, interventions
from pages.ui.audit import running
from pages.ui.parts.cards import markdown_text, plain, show
from pages.ui.shell import access, problems
from pages.ui.shell.page import uncut

KIND = "fix"
LIMIT = 60
"""Photographs of each slice in a quick trial."""
HELD = {
    "zero": "0",
    "mean": "the mean",
    "conditional": "the mean without artefacts",
}


def form(bundle: Bundle, model: str) -> None:
    """What is to be held still, and the trial that runs."""
    asked = asked_for()
    if not running.is_possible(bundle, model):
        if asked:
            known = [each for each in groups.parts(asked) if _is_plausible(bundle, model, each)]
            units = " ".join(f"--units {shlex.quote(each)}" for each in known)
            told = (
                f"<code>csp fix BUNDLE --model {plain(shlex.quote(model))} {plain(units)}</code> "
                "holds them still."
                if known
                else f"What the address asks to hold names no layer of {plain(model)}."
            )
            show(f"<p class='csp-left'>{told} {plain(running.why_not(bundle, model))}</p>")
        return
    if not running.layers_of(bundle, model):
        show(
            f"<p class='csp-quiet'>Nothing can be held still: every layer of {plain(model)} is "
            "read through an autoencoder.</p>"
        )
        return
    is_open = bool(asked) or running.held(KIND, bundle, model) is not None
    with st.expander("Try another" if bundle.fixes(model) else "Try one", expanded=is_open):
        if not running.is_awaited(KIND, bundle, model):
            _fields(bundle, model, asked)


def asked_for() -> str:
    """Neurons that the address asks to hold still; empty where it asks for none."""
    return st.query_params.get("hold", "")


def _is_plausible(bundle: Bundle, model: str, part: str) -> bool:
    """Whether a part of an address begins with a layer, so that a command may be made of it."""
    layer, _, units = part.rpartition(":")
    return layer in bundle.layers(model) and bool(re.fullmatch(r"[\d, ]+|.{1,160}", units))


def _fields(bundle: Bundle, model: str, asked: str) -> None:
    layers = running.layers_of(bundle, model)
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
    if first is not None and first.layer == layer and not asked:
        suggested = first.part.tolist()
    units = st.multiselect(
        "Neurons",
        range(bundle.n_units(model, layer)),
        default=suggested,
        key=f"fix_units_{layer}{'_' if asked else ''}",
        placeholder="Numbers of neurons",
        help="Type a number. Suggested are those that carry the largest effect of an artefact.",
    )
    named = st.text_input(
        "Neurons of any layer, or groups of them",
        asked,
        key=f"fix_named_{asked}",
        placeholder=f"{layer}:3,14; {layer}:firing with 14",
        help="Numbers, a family of the table, or what fires together with a neuron; several with "
        "semicolons between them.",
    )
    directions = st.multiselect(
        "Directions to project out",
        interventions_of(stored),
        key="fix_directions",
        format_func=markdown_text,
        placeholder="None",
        help="Along which an artefact shifts the layer whose direction carries most of its effect.",
    )
    file = st.text_input(
        f"Directions of {layer} from a file",
        key="fix_file",
        placeholder="One that 'csp directions --output' wrote",
    )
    images, output = running.images_field(KIND, bundle, model, "slice and group"), ""
    if stored is None:
        names = bundle.manifest.inputs["models"][model].get("class_names") or ()
        output = st.selectbox("Output", names, key="fix_output", width=250) or ""
    st.button(
        "Try it",
        type="primary",
        key="fix_start",
        on_click=_start,
        args=(
            bundle,
            model,
            layer,
            tuple(units),
            named,
            tuple(directions),
            file.strip(),
            mode,
            images,
            output,
        ),
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
    named: str,
    directions: tuple[str, ...],
    file: str,
    mode: str,
    images: str,
    output: str,
) -> None:
    """Start the process."""
    if not (units or groups.parts(named) or directions or file):
        running.refuse(KIND, "Nothing to take out; choose neurons or a direction.")
        return
    arguments = [f"--mode={mode}", f"--limit={LIMIT}"]
    if units:
        arguments.append(f"--units={layer}:{','.join(map(str, units))}")
    arguments += [f"--units={each}" for each in groups.parts(named)]
    arguments += [f"--direction={each}" for each in directions]
    arguments += [f"--beside={each}" for each in _alike(bundle, model)]
    if output:
        arguments.append(f"--output={output}")
    reads = {"--images=": images} if images else {}
    if file:
        reads[f"--project={layer}="] = file
    running.start(KIND, bundle, model, arguments, reads)


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


def fresh(bundle: Bundle, model: str) -> StoredFix | None:
    """What came of the trial of this session, if one has ended."""
    return running.read(KIND, bundle, model, read_fix)


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
        st.button(
            "Drop", key="fix_drop", on_click=uncut(running.forget), args=(KIND, bundle, model)
        )


def _keep(bundle: Bundle, model: str) -> None:
    def work() -> dict[str, str]:
        found = fresh(bundle, model)
        name = st.session_state.get("fix_name", "").strip()
        if found is None:
            raise InputError("There is no result to keep; try it again.")
        add_fix(bundle.path, model, name, found)
        return {"fix": name, "hold": ""}

    running.keep(KIND, bundle, model, work)
