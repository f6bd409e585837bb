"""What to build: a field for each thing, with its error beside it and the command below."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import streamlit as st

from csp_engine import jobs
from csp_engine.errors import CspError
from csp_engine.pipeline.recipe import PRESETS
from csp_engine.words.vocabularies import SHIPPED
from pages.ui.build import places as builds
from pages.ui.parts.cards import one_way, plain, show
from pages.ui.shell import problems, store
from pages.ui.shell.page import set_params

MAX_TYPED = 500
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


def draw() -> None:
    """Draw the form; starting leaves for the page of the job."""
    models, encoders = builds.known_specs()
    start = str(store.start_folder())
    images = choice(
        "Images",
        "images",
        builds.image_sources(start),
        "A folder of images, of class folders, or a table with a column of paths (CSV or Parquet). "
        f"Paths start from {one_way(start)}; pick one found there, or type any.",
        "choose or type a folder",
    )
    model = choice(
        "Model",
        "model",
        models,
        "The network to look into: torchvision/NAME, timm/NAME, hf-hub:ORG/NAME, or "
        "transformers/NAME_OR_FOLDER. For a checkpoint of your own, name its architecture here "
        "and the file under More options.",
        "torchvision/resnet50",
    )
    with st.container(key="build_layers_slot"):
        layers(model)
    choice(
        "Encoder",
        "encoder",
        encoders,
        "Compares images with words: any open_clip or transformers CLIP or SigLIP model, by name "
        "or from a folder, or vectors you have already. A name may have to be downloaded first.",
        "open_clip/ViT-B-32/laion2b_s34b_b79k",
        is_first=True,
    )
    st.multiselect(
        "Words to try as labels",
        list(SHIPPED),
        default=["general"] if key("vocabulary") not in st.session_state else None,
        accept_new_options=True,
        placeholder="choose a list or type the path of a text file",
        help="Lists that come with the project, or text files of your own with a label a line.",
        key=key("vocabulary"),
        **KEEP,
    )
    with st.container(key="build_vocabulary_problem"):
        problem("vocabulary")
    suggested = suggestion(images, model)
    st.text_input(
        "Name of the bundle",
        key=key("out"),
        max_chars=80,
        placeholder=suggested,
        help=f"It is written to {one_way(builds.shown_path(store.build_folder()))}.",
        **KEEP,
    )
    with st.container(key="build_out_problem"):
        problem("out")
    with st.expander("More options"):
        more(images)
    order = ordered(suggested)
    finish(order)


def choice(
    label: str, name: str, options: list[str], meaning: str, example: str, *, is_first: bool = False
) -> str:
    """A field to choose or type in; what it holds."""
    held = st.session_state.get(key(name))
    options = list(dict.fromkeys([*options, *([held] if held else [])]))
    st.selectbox(
        label,
        options,
        index=0 if is_first and options and key(name) not in st.session_state else None,
        accept_new_options=True,
        placeholder=example,
        help=meaning,
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
    seen = builds.seen(str(store.start_folder() / images)) if images else None
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
            "Layers",
            list(dict.fromkeys([*known, usual, *held]))[:500] if usual else [*known, *held],
            accept_new_options=True,
            placeholder="choose or type, such as layer4",
            help="Where the neurons are that are described. A pattern such as blocks.* takes "
            "several; layer@max pools by the maximum.",
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
    if not jobs.may_run(model):
        problems.failure(CspError(f"{model} is Python code, which is not run from here."))
        return
    with st.status("Loading the model to list its layers…") as status:

        def waiting() -> None:
            status.update(state="running")  # where the visitor has left, this ends the wait

        try:
            found = jobs.ask_for_layers(
                model,
                store.start_folder(),
                weights=field("weights"),
                preprocessing=field("preprocessing"),
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
        typed("Checkpoint", "weights", "A file of weights for the architecture above.")
        typed("Preprocessing", "preprocessing", "JSON file that replaces the model's own.")
        typed("Names of the outputs", "class_names", "Text file, one name a line.")
        typed("Captioner", "captioner", "Folder of a captioner that proposes labels.")
        typed("Short name of the model", "name", "How ids of neurons begin.")
        options = ["", "mean", "max", "absmax", "cls", "token_mean", "none"]
        st.selectbox("Pooling", options, key=key("pooling"), format_func=or_usual, **KEEP)
    with right:
        whole("Exemplars per neuron", "exemplars", 1, PRESETS["default"].n_exemplars)
        whole("Use so many images", "limit", 1, "all")
        whole("Images per forward pass", "batch_size", 1, 32)
        whole("Images to take gradients for", "influence_images", 0, 512)
        presets = list(PRESETS)
        st.selectbox(
            "Preset",
            presets,
            key=key("preset"),
            help="paper: Contrastive Semantic Projection as published.",
            **KEEP,
        )
        st.number_input(
            "γ", 0.0, 1.0, None, 0.1, key=key("gamma"), placeholder="1", help="Share of what an "
            "exemplar has in common with its contrast images that is taken away.", **KEEP,
        )  # fmt: skip
        typed("Device", "device", "cpu, cuda, cuda:1 or mps.", "cpu")
    problem("exemplars")
    if seen is not None and seen.columns:
        st.caption("Columns of the table")
        for column, place in zip(("path", "class", "group"), st.columns(3), strict=True):
            with place:
                choice(
                    f"{column.capitalize()} column",
                    f"{column}_column",
                    list(seen.columns),
                    "Found by its name if it has a usual one.",
                    "by its name",
                )
        typed("Folder that its paths start from", "image_root", "Else that of the table.")


def or_usual(value: str) -> str:
    """A choice, where none is the usual one."""
    return value or "as the layer is usually pooled"


def typed(label: str, name: str, meaning: str, example: str = "") -> None:
    """A field for a line of text."""
    st.text_input(
        label, key=key(name), help=meaning, placeholder=example, max_chars=MAX_TYPED, **KEEP
    )
    problem(name)


def whole(label: str, name: str, least: int, usual: int | str) -> None:
    """A field for a whole number; empty for the usual one."""
    st.number_input(
        label, least, 10_000_000, None, 1, key=key(name), placeholder=str(usual), **KEEP
    )


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
    columns = ("path_column", "class_column", "group_column", "image_root")
    texts = ("model", "encoder", "images", "weights", "preprocessing", "class_names", "captioner")
    texts += ("name", "pooling", "device")
    return jobs.BuildOrder(
        **{name: field(name) for name in texts},
        **{name: field(name) if has_columns else "" for name in columns},
        layers=tuple(each.strip() for each in state.get(key("layers")) or () if each.strip()),
        vocabulary=tuple(state.get(key("vocabulary")) or ()),
        out=out,
        preset=state.get(key("preset")) or "default",
        **{
            name: state.get(key(name))
            for name in ("limit", "exemplars", "gamma", "batch_size", "influence_images")
        },
    )


def problem(name: str) -> None:
    """The sentence about a field as it was last checked."""
    sentence = st.session_state.get("build_problems", {}).get(name)
    if sentence:
        show(f"<p class='csp-problem' role='alert'>{plain(sentence)}</p>")


def finish(order: jobs.BuildOrder) -> None:
    """The command, and the button that starts it; errors are shown beside their fields."""
    folder = str(store.start_folder())
    found = builds.problems(order, folder)
    is_asked = st.session_state.get("build_asked", False)
    filled = {name for name, value in order.to_json().items() if value not in ("", None, [])}
    shown = {name: told for name, told in found.items() if is_asked or name in filled}
    if shown != st.session_state.get("build_problems", {}):
        st.session_state["build_problems"] = shown
        st.rerun()
    st.caption("The same in a terminal, in the folder the app was started in:")
    st.code(order.shown(), language=None, wrap_lines=True)

    def start() -> None:
        builds.problems.clear()
        st.session_state["build_asked"] = True
        wrong = builds.problems(order, folder)
        st.session_state["build_problems"] = wrong
        st.session_state["build_refused"] = ""
        if wrong:
            return
        try:
            job = jobs.start(order, store.start_folder())
        except CspError as error:
            st.session_state["build_refused"] = str(error)
            return
        st.session_state["build_asked"] = False
        set_params(job=job.name)

    st.button("Start build", type="primary", key="start_build", on_click=start)
    refused = st.session_state.pop("build_refused", "")
    if refused:
        problems.failure(CspError(refused))
    elif is_asked and found:
        n_wrong = len(found)
        fields = "1 field needs" if n_wrong == 1 else f"{n_wrong} fields need"
        show(f"<p class='csp-problem' role='alert'>{fields} another look, see above.</p>")
