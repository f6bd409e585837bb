"""What all sessions of this process share: its bundles, what is kept of them, the encoders."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from csp_engine.bundle import Bundle
from csp_engine.files import IS_CHECKOUT, ROOT
from csp_engine.http.permissions import Permission
from csp_engine.serving.encoder_process import EncoderProcess
from csp_engine.serving.map_process import MapProcess
from csp_engine.serving.store import Store, is_bundle
from csp_engine.views.address import View
from csp_engine.views.finding import query
from csp_engine.views.finding.query import Query
from csp_engine.views.memo import Memo
from pages.ui.shell import access
from pages.ui.shell.access import is_read_only

MEMO = Memo()
ENCODERS = EncoderProcess()
"""Torch lives there, not in the process that answers the pages."""
MAPS = MapProcess()
"""Likewise, apart from searches: a map may take long, and brings more libraries."""


def searched_folders() -> list[Path]:
    """Where bundles are looked for: ``CSP_BUNDLES``, or our own folders and the demo.

    A checkout keeps its bundles with it; nothing is written into an installed package.
    """
    named = os.environ.get("CSP_BUNDLES", "")
    if named:
        return [Path(part) for part in named.split(os.pathsep) if part]
    return [(ROOT if IS_CHECKOUT else start_folder()) / "bundles", ROOT / "assets" / "demo"]


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
    """Bundle names and where they lie, see ``Store.known``."""
    return _store().known()


def open_bundle(name: str) -> Bundle:
    """A known bundle, see ``Store.open``.

    Raises:
        BundleError: if no bundle has this name, or it cannot be read.
    """
    return _store().open(name)


def query_of(bundle: Bundle, view: View) -> Query | None:
    """What a view searches for, or None where it asks for nothing; may wait for the encoder.

    Raises:
        CspError: as ``views.finding.query.query_of``.
    """
    return query.query_of(bundle, MEMO, view, text_vectors) if view.has_query else None


def text_vectors(bundle: Bundle, texts: Sequence[str]) -> Float32[np.ndarray, "t d"]:
    """The encoder's vectors of texts, for the visitor of this page.

    Raises:
        NotAllowedError: if the visitor may not ask the encoder.
        CspError: as ``EncoderProcess.text_vectors``.
    """
    access.require(Permission.ENCODE)
    return ENCODERS.text_vectors(bundle, texts, access.visitor())


def image_vector(bundle: Bundle, content: bytes) -> Float32[np.ndarray, " d"]:
    """The encoder's vector of an image file, for the visitor of this page.

    Raises:
        NotAllowedError: if the visitor may not ask the encoder.
        CspError: as ``EncoderProcess.image_vector``.
    """
    access.require(Permission.ENCODE)
    return ENCODERS.image_vector(bundle, content, access.visitor())


def is_quick(bundle: Bundle, view: View) -> bool:
    """Whether the query of a view needs no encoder to be loaded now."""
    texts = query.texts_in(bundle, view)
    return ENCODERS.has_loaded(bundle) or query.is_at_hand(bundle, MEMO, texts)


def _store() -> Store:
    """As the environment says now."""
    return Store(searched_folders(), MEMO, None if is_read_only() else build_folder())
