"""Open bundles, indices and encoders, shared by all sessions of this process and by its routes.

Bundles are known by name only: the names come from the folders that the server was started with,
so no URL can open another path.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from csp_engine.bundle import Bundle
from csp_engine.errors import BundleError
from csp_engine.files import ROOT
from csp_engine.jobs import is_unfinished, job_folder
from csp_engine.methods import NullComponents, null_best
from csp_engine.search.query import null_vectors, open_index, query_vector, remainders, stored_label
from csp_engine.serving.encoder_process import EncoderProcess
from pages.ui.shell.access import is_read_only

MANIFEST = "manifest.json"

KEPT = 512
N_CONTROL_IMAGES = 2000
_lock = threading.Lock()
_kept: OrderedDict[Hashable, Any] = OrderedDict()
_making: dict[Hashable, threading.Lock] = {}
ENCODERS = EncoderProcess()
"""Torch lives there, not in the process that answers the pages."""


def once(key: Hashable, make: Callable[[], Any]) -> Any:
    """The kept value of a key, made once even when several sessions ask together.

    Only those who ask for the same key wait for it: an encoder may take seconds to load.
    """
    with _lock:
        if key in _kept:
            _kept.move_to_end(key)
            return _kept[key]
        own = _making.setdefault(key, threading.Lock())
    with own:
        with _lock:
            if key in _kept:
                return _kept[key]
        try:
            value = make()
        finally:
            with _lock:
                _making.pop(key, None)
        with _lock:
            _kept[key] = value
            while len(_kept) > KEPT:
                _kept.popitem(last=False)
        return value


def searched_folders() -> list[Path]:
    """Where bundles are looked for: ``CSP_BUNDLES``, or the project's own folders."""
    named = os.environ.get("CSP_BUNDLES", "")
    if named:
        return [Path(part) for part in named.split(os.pathsep) if part]
    return [ROOT / "bundles", ROOT / "assets" / "demo"]


def is_bundle(folder: Path) -> bool:
    """Whether a place is a bundle itself, and no folder of them."""
    return folder.suffix == ".csp" or (folder / MANIFEST).is_file()


def start_folder() -> Path:
    """Where the app was started: builds run there, and their paths start from it."""
    return Path(os.environ.get("CSP_START_FOLDER") or Path.cwd())


def build_folder() -> Path:
    """Where new bundles go: the first folder searched for some that does not ship with the app."""
    shipped = ROOT / "assets"
    for folder in searched_folders():
        if not is_bundle(folder) and not folder.resolve().is_relative_to(shipped):
            return folder
    return start_folder() / "bundles"


def known_bundles() -> dict[str, Path]:
    """Bundle names and where they lie, in the order of the folders, then by name.

    Bundles that were built from here come along, wherever they went, and unfinished ones last.
    """
    paths: list[Path] = []
    for folder in searched_folders():
        paths += [folder] if is_bundle(folder) else sorted(folder.glob("*.csp"))
    if not is_read_only():
        built = sorted(build_folder().glob("*.csp"))
        paths += [path for path in built if job_folder(path).is_dir() and path not in paths]
        paths.sort(key=is_unfinished)
    found: dict[str, Path] = {}
    for path in paths:
        stem = path.resolve().name.removesuffix(".csp")
        name, count = stem, 1
        while name in found and found[name] != path:
            count += 1
            name = f"{stem}~{count}"
        found[name] = path
    return found


def open_bundle(name: str) -> Bundle:
    """A known bundle, opened again when its manifest has changed.

    Raises:
        BundleError: if no bundle has this name, or it cannot be read.
    """
    path = known_bundles().get(name)
    if path is None:
        raise BundleError(f"There is no bundle “{name[:60]}” on this server.")
    try:
        stat = (path / MANIFEST).stat()
        version = (stat.st_mtime_ns, stat.st_size)
    except OSError:
        return Bundle.open(path)  # raises the sentence that fits
    return once(("bundle", str(path), version), lambda: Bundle.open(path))


def index_of(bundle: Bundle, method: str) -> tuple[Any, pd.DataFrame]:
    """The search index of a method and its rows."""
    return once(("index", bundle.digest, method), lambda: open_index(bundle, method))


def searchable_methods(bundle: Bundle) -> tuple[str, ...]:
    """Methods with a search index, those of the recipe first."""
    every: dict[str, None] = {}
    for model in bundle.model_names:
        for layer in bundle.layers(model):
            every.update(dict.fromkeys(bundle.methods(model, layer)))
    return tuple(method for method in every if bundle.has(f"index:{method}"))


def is_quick(bundle: Bundle, texts: list[str]) -> bool:
    """Whether these texts need no encoder to be loaded now."""
    return ENCODERS.has_loaded(bundle) or all(
        ("query", bundle.digest, text) in _kept or stored_label(bundle, text) is not None
        for text in texts
    )


def vector_of(bundle: Bundle, text: str) -> np.ndarray:
    """The query vector of a text; loads the encoder only if the text is no label."""

    def make() -> np.ndarray:
        if stored_label(bundle, text) is not None:
            return query_vector(bundle, text)
        return ENCODERS.text_vector(bundle, text)

    return once(("query", bundle.digest, text), make)


def null_of(bundle: Bundle, model: str, layer: str, method: str) -> np.ndarray | None:
    """Concept vectors of random image sets by a method, or None where it has none."""
    key = ("null", bundle.digest, model, layer, method)
    return once(key, lambda: null_vectors(bundle, model, layer, method))


def live_null(bundle: Bundle, model: str, layer: str, method: str) -> np.ndarray | None:
    """The same without sets of which nothing is left; None where none is."""
    null_rd = null_of(bundle, model, layer, method)
    if null_rd is None or not null_rd.any():
        return None
    return null_rd[np.any(null_rd, axis=1)]


def null_components(bundle: Bundle, model: str, layer: str, method: str) -> NullComponents:
    """The stored halves of the concept vectors of random image sets, still on disk."""
    arrays = [
        bundle.score_array(model, layer, method, name)
        for name in ("null_anchor", "null_projection", "null_size")
    ]
    return NullComponents(arrays[0], arrays[1], np.asarray(arrays[2]))


def best_of_null(
    bundle: Bundle, model: str, layer: str, method: str, size: int, gamma: float
) -> np.ndarray:
    """The best scores of random image sets of a size at a gamma, which all its neurons share."""

    def make() -> np.ndarray:
        null = null_components(bundle, model, layer, method).of_size(size)
        return null_best(null, gamma, bundle.label_vectors())

    return once(("null best", bundle.digest, model, layer, method, size, gamma), make)


def controls(bundle: Bundle, kind: str) -> np.ndarray:
    """What a query is measured against: all labels for a text, some probe images for an image."""
    if kind == "text":
        return bundle.label_vectors()

    def make() -> np.ndarray:
        n_drawn = min(N_CONTROL_IMAGES, bundle.n_images)
        rows = np.random.default_rng(0).choice(bundle.n_images, n_drawn, replace=False)
        return np.asarray(bundle.image_vectors()[np.sort(rows)])

    return once(("controls", bundle.digest), make)


def shared_part(bundle: Bundle, kind: str) -> tuple[np.ndarray, float]:
    """What all controls have in common, their mean; and how far they lie from it on average."""

    def make() -> tuple[np.ndarray, float]:
        controls_cd = controls(bundle, kind)
        mean_d = np.asarray(controls_cd.mean(axis=0), np.float32)
        return mean_d, float(np.linalg.norm(controls_cd - mean_d, axis=1).mean())

    return once(("shared part", bundle.digest, kind), make)


def own_labels(bundle: Bundle, label_m: np.ndarray | list[int]) -> np.ndarray:
    """The vectors of some labels less what all labels share, made unit length."""
    shared_d, _ = shared_part(bundle, "text")
    own_md = np.asarray(bundle.label_vectors()[label_m], np.float32) - shared_d
    return own_md / np.maximum(np.linalg.norm(own_md, axis=1, keepdims=True), 1e-9)


def best_controls(bundle: Bundle, model: str, layer: str, method: str, kind: str) -> np.ndarray:
    """The best score that each random image set gives any control, sorted upwards.

    What all controls share is taken away.
    """

    def make() -> np.ndarray:
        null_rd = live_null(bundle, model, layer, method)
        assert null_rd is not None
        shared_d, _ = shared_part(bundle, kind)
        return np.sort((null_rd @ controls(bundle, kind).T).max(axis=1) - null_rd @ shared_d)

    return once(("best controls", bundle.digest, model, layer, method, kind), make)


def lengths(bundle: Bundle, model: str, layer: str, method: str) -> tuple[np.ndarray, np.ndarray]:
    """How long concept vectors were before they were made unit length: neurons, and the null.

    The null as ``live_null`` gives it.
    """

    def make() -> tuple[np.ndarray, np.ndarray]:
        length_u, length_r = remainders(bundle, model, layer, method)
        null_rd = null_of(bundle, model, layer, method)
        return length_u, length_r if null_rd is None else length_r[np.any(null_rd, axis=1)]

    return once(("lengths", bundle.digest, model, layer, method), make)
