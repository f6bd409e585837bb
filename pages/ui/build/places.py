"""Where builds run and land, and what a person may choose from when starting one."""

from __future__ import annotations

import os
import time
from pathlib import Path

import streamlit as st

from csp_engine import jobs
from csp_engine.errors import CspError
from csp_engine.files import allowed_folders
from csp_engine.probe.decoding.formats import is_image_name
from csp_engine.probe.listing import TABLE_EXTENSIONS
from csp_engine.trust import may_run
from pages.ui.shell import store

MODELS = (
    "torchvision/resnet50",
    "torchvision/resnet18",
    "torchvision/mobilenet_v2",
    "torchvision/vit_b_16",
    "timm/convnext_tiny.fb_in1k",
    "timm/vit_small_patch14_dinov2.lvd142m",
)
LAYERS = {
    "torchvision/resnet": "layer4",
    "torchvision/mobilenet_v2": "features.18",
    "torchvision/vit_b_16": "encoder.layers.encoder_layer_11",
    "timm/convnext_tiny": "stages.3",
    "timm/vit_small": "blocks.11",
}
"""The last layer before the head, for the models that are proposed here."""
ENCODERS = (
    "open_clip/ViT-B-32/laion2b_s34b_b79k",
    "open_clip/ViT-L-14/laion2b_s32b_b82k",
    "transformers/google/siglip-base-patch16-224",
)
MOST_FOLDERS, MOST_SCANNED, DEEPEST, SCAN_S = 200, 2_000, 4, 0.5
SKIPPED = ("node_modules", "__pycache__", "site-packages")


def allowed() -> jobs.Allowed:
    """What builds from here may read: folders named at the start, and what our bundles name."""
    folders = allowed_folders() or (store.start_folder().resolve(),)
    models, encoders = bundle_specs()
    return jobs.Allowed(folders, frozenset([*models, *encoders]))


def places_to_read() -> list[str]:
    """Folders of images and tables that may be read, as paths from where builds run."""
    start = store.start_folder()
    found: list[str] = []
    for folder in allowed().folders:
        is_here = folder == start.resolve()
        near = image_sources(str(start if is_here else folder))
        found += near if is_here else [shown_path(folder / each) for each in near]
    return found


def shown_path(path: Path) -> str:
    """A path as one would type it in the folder of the start."""
    start = store.start_folder()
    return str(path.relative_to(start)) if path.is_relative_to(start) else str(path)


@st.cache_data(ttl=20, show_spinner=False)
def image_sources(start: str) -> list[str]:
    """Folders of images and tables below a folder, as paths from there.

    A folder whose images lie in subfolders is named once, by itself; hidden folders, bundles and
    what lies deep are left out. What is not found in half a second can still be typed.
    """
    found: list[str] = []
    waiting = [(Path(start), 0)]
    end, n_scanned = time.monotonic() + SCAN_S, 0
    while waiting and n_scanned < MOST_SCANNED and time.monotonic() < end:
        folder, depth = waiting.pop(0)
        n_scanned += 1
        below, has_images = [], False
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            name = entry.name.lower()
            if name.startswith((".", "_")) or name in SKIPPED or ".csp" in name:
                continue
            if entry.is_dir(follow_symlinks=False):
                below.append(Path(entry.path))
            elif is_image_name(name):
                has_images = True
            elif name.endswith(TABLE_EXTENSIONS):
                found.append(os.path.relpath(entry.path, start))
        inner = [each for each in below if _holds_images(each)]
        if (has_images or len(inner) > 1) and folder != Path(start):
            found.append(os.path.relpath(folder, start))
            continue
        if depth < DEEPEST:
            waiting += [(each, depth + 1) for each in below]
    return sorted(found)[:MOST_FOLDERS]


def _holds_images(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(is_image_name(entry.name) for entry in entries)
    except OSError:
        return False


def bundle_specs() -> tuple[dict[str, None], dict[str, None]]:
    """Models and encoders of the bundles that are here."""
    models: dict[str, None] = {}
    encoders: dict[str, None] = {}
    for name in store.known_bundles():
        try:
            bundle = store.open_bundle(name)
            inputs = bundle.manifest.inputs
            encoders[bundle.beside(inputs.get("encoder", {}).get("spec", ""))] = None
            for model in inputs.get("models", {}).values():
                models[bundle.beside(model.get("spec", ""))] = None
        except CspError:
            continue
    return models, encoders


def bundle_of(encoder: str) -> str:
    """The bundle here whose own encoder this is, which nobody else may know; else empty."""
    if encoder in ENCODERS:
        return ""
    for name in store.known_bundles():
        try:
            bundle = store.open_bundle(name)
        except CspError:
            continue
        if encoder == bundle.beside(bundle.manifest.inputs.get("encoder", {}).get("spec", "")):
            return name
    return ""


def known_specs() -> tuple[list[str], list[str]]:
    """Models and encoders to propose: those of the bundles that are here, then common ones."""
    models, encoders = bundle_specs()

    def usable(specs: dict[str, None], common: tuple[str, ...]) -> list[str]:
        specs.update(dict.fromkeys(common))
        return [spec for spec in specs if spec and may_run(spec)]

    return usable(models, MODELS), usable(encoders, ENCODERS)


def usual_layer(model: str) -> str:
    """The layer that most people look at first, or nothing."""
    return next((layer for start, layer in LAYERS.items() if model.startswith(start)), "")


@st.cache_data(ttl=20, show_spinner=False)
def problems(order: jobs.BuildOrder, folder: str) -> dict[str, str]:
    """A sentence for each field that cannot be right; kept for a while, folders may be large."""
    return order.problems(Path(folder), allowed())


@st.cache_data(ttl=20, show_spinner=False)
def seen(source: str) -> jobs.ImagesSeen | None:
    """What lies in a folder or table of images, or None where it cannot be told."""
    try:
        allowed().require(Path(source), source)
        return jobs.look_at_images(Path(source))
    except CspError:
        return None
