"""What to build: a field for each thing, with its error beside it and the command below."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import streamlit as st

from csp_engine import jobs
from csp_engine.errors import CspError
from csp_engine.http.permissions import Permission
from csp_engine.jobs.allowed import listed
from csp_engine.jobs.options import BY_FIELD, OPTIONS
from csp_engine.trust import may_run
from csp_engine.words.vocabularies import SHIPPED
from pages.ui.build import places as builds
from pages.ui.build import trying
from pages.ui.parts.cards import one_way, plain, show
from pages.ui.shell import access, problems, store
from pages.ui.shell.page import set_params, uncut

MAX_TYPED = 500
MOST = 10_000_000
COLUMNS = ("path_column", "class_column", "group_column")
KEEP: dict[str, Any] = {"persist_state": "session"}


def key(name: str) -> str:
    """The key of the widget of a field."""
    return f"build_{name}"


def fill(order: jobs.BuildOrder) -> None:
    """Put an order into the fields, to change it."""
    for name, value in order.to_json().items():
        st.session_state[key(name)] = value if value != "" else None
    st.session_state[key("out")] = Path(order.out).name.removesuffix(".csp")
    for name in ("name", "pooling", "device"):
        st.session_state[key(name)] = getattr(order, name)
    st.session_state["build_listed"] = {"model": order.model, "layers": list(order.layers)}


PARTS = {
    "images": ("Your images", "Each neuron is described by those that excite it."),
    "network": ("The network", "What to look into, and at which depth."),
    "words": ("The words", "What neurons may be called; the encoder judges what fits."),
}
"""The parts of the form, in order: a heading, and what is asked there in one line."""


def draw() -> None:
    """Draw the form, below it a trial of the encoder; starting leaves for the job's page."""
    images, network, vocabulary = st.columns(len(PARTS), gap="small")
    models, encoders = builds.known_specs()
    with images, st.container(border=True, height="stretch", key="build_step_images"):
        heading("images")
        source = of_images()
    with network, st.container(border=True, height="stretch", key="build_step_network"):
        heading("network")
        model = choice("model", models)
        with st.container(key="build_layers_slot"):
            layers(model)
    with vocabulary, st.container(border=True, height="stretch", key="build_step_words"):
        heading("words")
        of_words(encoders)
    suggested = suggestion(source, model)
    with st.expander("More options"):
        more(source)
    trial = st.container(border=True, key="build_trial_slot")
    last = st.container(horizontal=True, vertical_alignment="bottom", key="build_last")
    with last:
        named(suggested)
    with st.container(key="build_out_problem"):
        problem("out")
    order = ordered(suggested)
    with trial:
        trying.draw(order)
    finish(order, last)


def heading(part: str) -> None:
    """The number, the name and the purpose of a part."""
    title, purpose = PARTS[part]
    number = list(PARTS).index(part) + 1
    show(
        f"<h2 class='csp-h csp-numbered'><span>{number}</span> {title}</h2>"
        f"<p class='csp-quiet'>{purpose}</p>"
    )


def of_images() -> str:
    """The field of images, with what lies there; the place."""
    start = store.start_folder()
    return choice(
        "images",
        builds.places_to_read(),
        meaning=f"{OPTIONS['images'].hint} Paths are relative to {one_way(str(start))}. What is "
        f"below {one_way(listed(builds.allowed().folders))} may be read.",
    )


def of_words(encoders: list[str]) -> None:
    """The fields of encoder and vocabulary."""
    # Never that of a bundle which is here: it may know nothing but the images of that one.
    encoder = choice("encoder", encoders, first=builds.ENCODERS[0])
    own = builds.bundle_of(encoder)
    with st.container(key="build_encoder_doubt"):
        if own:
            show(
                "<p class='csp-note' role='status'>This is the encoder of the bundle "
                f"{plain(own)}. If it was made for images like those, it may know no others: "
                "labels from it would be noise on yours.</p>"
            )
    words = OPTIONS["vocabulary"]
    st.multiselect(
        words.label,
        list(SHIPPED),
        default=list(words.default) if key("vocabulary") not in st.session_state else None,
        accept_new_options=True,
        placeholder=words.example,
        help=words.hint,
        key=key("vocabulary"),
        **KEEP,
    )
    with st.container(key="build_vocabulary_problem"):
        problem("vocabulary")


def named(suggested: str) -> None:
    """The field of the bundle's name."""
    st.text_input(
        OPTIONS["out"].label,
        key=key("out"),
        max_chars=80,
        placeholder=suggested,
        help=f"It is written to {one_way(builds.shown_path(store.build_folder()))}.",
        width=420,
        **KEEP,
    )


def choice(name: str, options: list[str], *, meaning: str | None = None, first: str = "") -> str:
    """A field to choose or type in; what it holds: at the beginning ``first``, where it is one."""
    declared = BY_FIELD[name]
    held = st.session_state.get(key(name))
    options = list(dict.fromkeys([*options, *([held] if held else [])]))
    st.selectbox(
        declared.label,
        options,
        index=options.index(first)
        if first in options and key(name) not in st.session_state
        else None,
        accept_new_options=True,
        placeholder=declared.usual,
        help=meaning or declared.hint,
        key=key(name),
        **KEEP,
    )
    with st.container(key=f"build_{name}_told"):
        if name == "images":
            told(field(name))
        problem(name)
    return field(name)


def told(images: str) -> None:
    """What lies at the place that was chosen."""
    if not images:
        show("<p class='csp-quiet'>Class folders, tables of paths, Parquet and tar files, too.</p>")
        return
    seen = builds.seen(str(store.start_folder() / images))
    if seen is None:
        return
    count = f"{seen.n_images:,}"
    more_than = "at least " if seen.n_images >= jobs.MOST_COUNTED else ""
    classes = f" in {seen.n_classes:,} class folders" if seen.n_classes > 1 else ""
    what = "rows" if seen.columns else "images"
    show(f"<p class='csp-quiet'>{more_than}{count} {what}{plain(classes)}</p>")


def layers(model: str) -> None:
    """Which layers: typed, or chosen from those the model has once they were asked for."""
    listed = st.session_state.get("build_listed", {})
    known = listed.get("layers", []) if listed.get("model") == model else []
    usual = builds.usual_layer(model)
    held = st.session_state.get(key("layers")) or []
    if st.session_state.get("build_layers_of") != model:
        # Layers of another model would be wrong here.
        held = [each for each in held if each in known] or ([usual] if usual else [])
        st.session_state[key("layers")] = held
        st.session_state["build_layers_of"] = model
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.multiselect(
            BY_FIELD["layers"].label,
            list(dict.fromkeys([*known, usual, *held]))[:500] if usual else [*known, *held],
            accept_new_options=True,
            placeholder=BY_FIELD["layers"].usual,
            help=BY_FIELD["layers"].hint,
            key=key("layers"),
            **KEEP,
        )
        asked = st.button(
            "List layers", key="list_layers", disabled=not model, help="Loads the model once."
        )
    problem("layers")
    if asked:
        ask_for_layers(model)


def ask_for_layers(model: str) -> None:
    """Load the model in a process of its own and take over the names of its layers."""
    if not may_run(model):
        problems.failure(CspError(f"{model} is Python code, which is not run from here."))
        return
    weights, preprocessing = field("weights"), field("preprocessing")
    asked = jobs.BuildOrder(model=model, weights=weights, preprocessing=preprocessing)
    wrong = builds.problems(asked, str(store.start_folder()))
    for name in ("model", "weights", "preprocessing"):
        if name in wrong:
            problems.failure(CspError(wrong[name]))
            return
    with st.status("Loading the model to list its layers…") as status:

        def waiting() -> None:
            status.update(state="running")  # where the visitor has left, this ends the wait

        try:
            found = jobs.ask_for_layers(
                model,
                store.start_folder(),
                weights=weights,
                preprocessing=preprocessing,
                waiting=waiting,
            )
        except CspError as error:
            status.update(label="The layers could not be listed.", state="error", expanded=True)
            problems.failure(error)
            return
    st.session_state["build_listed"] = {"model": model, "layers": [row["layer"] for row in found]}
    st.rerun()


def more(images: str) -> None:
    """Everything that has a good default."""
    seen = builds.seen(str(store.start_folder() / images)) if images else None
    left, right = st.columns(2)
    with left:
        for name in ("weights", "preprocessing", "class_names", "captioner", "name"):
            typed(name)
        pooling = OPTIONS["pooling"]
        options = ["", *pooling.choices]
        st.selectbox(pooling.label, options, key=key("pooling"), format_func=or_usual, **KEEP)
    with right:
        for name in ("exemplars", "limit", "batch_size", "influence_images"):
            number(name, step=1)
        preset = OPTIONS["preset"]
        st.selectbox(preset.label, preset.choices, key=key("preset"), help=preset.hint, **KEEP)
        number("gamma", step=0.1)
        typed("device")
    if seen is not None and seen.columns:
        st.caption("Columns of the table")
        for name, place in zip(COLUMNS, st.columns(3), strict=True):
            with place:
                choice(name, list(seen.columns))
        typed("image_root")


def or_usual(value: str) -> str:
    """A choice, where none is the usual one."""
    return value or "the layer's usual pooling"


def typed(name: str) -> None:
    """A field for a line of text."""
    declared = BY_FIELD[name]
    st.text_input(
        declared.label,
        key=key(name),
        help=declared.hint,
        placeholder=declared.usual,
        max_chars=MAX_TYPED,
        **KEEP,
    )
    problem(name)


def number(name: str, *, step: float) -> None:
    """A field for a number; empty for the usual one."""
    declared = BY_FIELD[name]
    of = declared.kind
    st.number_input(
        declared.label,
        of(declared.least or 0),
        MOST if declared.most is None else of(declared.most),
        None,
        of(step),
        key=key(name),
        help=declared.hint,
        placeholder=declared.usual,
        **KEEP,
    )
    problem(name)


def field(name: str) -> str:
    """What a text field holds."""
    return str(st.session_state.get(key(name)) or "").strip()


def suggestion(images: str, model: str) -> str:
    """A name for the bundle that nobody has to type."""
    parts = [Path(images).stem, re.split(r"[/:]", model)[-1]] if images and model else []
    return re.sub(r"[^\w.-]+", "-", "-".join(parts)).strip("-.")[:60] if parts else ""


def ordered(suggested: str) -> jobs.BuildOrder:
    """The order that the fields make."""
    name = re.sub(r"\.csp$", "", field("out")) or suggested
    is_name = bool(re.fullmatch(r"[\w][\w .~+-]{0,79}", name))
    out = builds.shown_path(store.build_folder() / f"{name}.csp") if is_name else ""
    state = st.session_state
    has_columns = bool(re.search(r"\.(csv|parquet)$", field("images"), re.IGNORECASE))
    of_tables = (*COLUMNS, "image_root")
    filled: dict[str, Any] = {}
    for name, option in BY_FIELD.items():
        if option.is_many:
            held = state.get(key(name)) or ()
            filled[name] = tuple(each.strip() for each in held if each.strip())
        elif option.kind in (int, float):
            filled[name] = state.get(key(name))
        else:
            filled[name] = field(name) if has_columns or name not in of_tables else ""
    filled["preset"] = filled["preset"] or OPTIONS["preset"].default
    filled["out"] = out
    return jobs.BuildOrder(**filled)


def problem(name: str) -> None:
    """The sentence about a field as it was last checked."""
    sentence = st.session_state.get("build_problems", {}).get(name)
    if sentence:
        show(f"<p class='csp-problem' role='alert'>{plain(sentence)}</p>")


def finish(order: jobs.BuildOrder, line: Any) -> None:
    """The button that starts it, in ``line``, and the command; errors stand beside their fields."""
    folder = str(store.start_folder())
    found = builds.problems(order, folder)
    is_asked = st.session_state.get("build_asked", False)
    filled = {name for name, value in order.to_json().items() if value not in ("", None, [])}
    shown = {name: told for name, told in found.items() if is_asked or name in filled}
    if shown != st.session_state.get("build_problems", {}):
        st.session_state["build_problems"] = shown
        st.rerun()

    def start() -> None:
        begun: list[jobs.Job] = []  # one, however often another request cuts this off
        uncut(lambda: begin(begun))()

    def begin(begun: list[jobs.Job]) -> None:
        if not access.may(Permission.BUILD):
            return
        # As the fields are now: the click may come with a value that no run has seen yet.
        order = ordered(suggestion(field("images"), field("model")))
        builds.problems.clear()
        st.session_state["build_asked"] = True
        wrong = {} if begun else builds.problems(order, folder)
        st.session_state["build_problems"] = wrong
        st.session_state["build_refused"] = ""
        if wrong:
            return
        try:
            if not begun:
                begun.append(jobs.start(order, store.start_folder(), builds.allowed()))
        except CspError as error:
            st.session_state["build_refused"] = str(error)
            return
        st.session_state["build_asked"] = False
        set_params(job=begun[0].name)

    doubt = trying.doubt(order)
    word = "Start anyway" if doubt else "Start build"
    with line:
        st.button(word, type="primary", key="start_build", on_click=start)
    if doubt:
        show(f"<p class='csp-problem' role='alert'>{plain(doubt)}</p>")
    refused = st.session_state.pop("build_refused", "")
    if refused:
        problems.failure(CspError(refused))
    elif is_asked and found:
        n_wrong = len(found)
        fields = "1 field needs" if n_wrong == 1 else f"{n_wrong} fields need"
        show(f"<p class='csp-problem' role='alert'>{fields} another look, see above.</p>")
    st.caption("The same in a terminal, in the folder the app was started in:")
    st.code(order.shown(), language=None, wrap_lines=True)
