"""What a page shows instead: no bundle, a damaged one, a URL that asks for what is not there."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path

import streamlit as st

from csp_engine.errors import CspError, brief
from csp_engine.files import ROOT
from csp_engine.http.permissions import Permission
from csp_engine.registry import blamed
from csp_engine.views.address import shorten
from pages.ui.parts.cards import base_url, plain, show
from pages.ui.shell import access, store

DEMO_EXAMPLE = "python -m csp_engine demo"
BUILD_EXAMPLE = """csp build path/to/images --out bundles/mine.csp \\
  --model torchvision/mobilenet_v2 --layer features.18@mean \\
  --encoder open_clip/ViT-B-32/laion2b_s34b_b79k"""


def no_bundle() -> None:
    """The first thing a person sees who has not built anything yet."""
    st.title("No bundle yet")
    st.text(
        "A bundle holds what is known about the neurons of a model: the images that excite each "
        "one, the look-alikes that do not, and labels with their scores. Open the demo that comes "
        "with the project, or build one from a network and a folder of images; then reload this "
        "page."
    )
    st.code(DEMO_EXAMPLE, language="bash")
    st.code(BUILD_EXAMPLE, language="bash", wrap_lines=True)
    if not access.may(Permission.BUILD):
        return
    folders = [_short(folder) for folder in store.searched_folders()]
    show(f"<p class='csp-quiet'>Looked in: {', '.join(plain(folder) for folder in folders)}</p>")


def read_only() -> None:
    """Where a page would write, on a server that only shows."""
    st.title("Nothing is built here")
    st.text(
        "This server only shows bundles. Build one on your own machine, in a terminal or from the "
        "page there:"
    )
    st.code(BUILD_EXAMPLE, language="bash", wrap_lines=True)


def not_allowed(title: str, permission: Permission) -> None:
    """Where a page would do what its visitor may not: why, and what to do about it."""
    st.title(title)
    show(f"<p class='csp-lead'>{plain(access.refusal(permission))}</p>")


def unreadable(name: str, error: CspError) -> None:
    """A bundle that cannot be opened, in the sentence of its error."""
    show(f"<h1>{plain(name)} cannot be opened</h1>")
    failure(error)


def failure(error: CspError) -> None:
    """One sentence, as text."""
    show(f"<p class='csp-problem' role='alert'>{plain(told(error))}</p>")


def told(sentence: object) -> str:
    """What the visitor is told; where things lie is for those who may read paths."""
    if access.may(Permission.BUILD):
        return brief(str(sentence))
    return without_bundles(sentence)


def without_bundles(sentence: object) -> str:
    """What anybody may be told: no folder of a bundle stands in it."""
    # Whole: the end of a folder cannot be told from what was shortened.
    text = Exception.__str__(sentence) if isinstance(sentence, CspError) else str(sentence)
    return brief(without_folders(text, store.known_bundles().values()))


def without_folders(sentence: str, bundles: Iterable[Path]) -> str:
    """A sentence that names files without saying where on this machine they lie.

    Folders may have spaces in their names, so those that are there are found by looking.
    """
    places = {place for path in bundles for place in (path, path.absolute(), path.resolve())}
    for place in sorted({str(place.parent) for place in places}, key=len, reverse=True):
        sentence = sentence.replace(f"{place}{os.sep}", "")
    sentence = re.sub(r"\b(?:file|sqlite):/{2,3}(?=/)", "", sentence)
    for found in reversed(list(re.finditer(r"(?<![\w.-])/", sentence))):
        start, rest = found.start(), sentence[found.start() :]
        ends = [at.start() for at in re.finditer(r"(?<=[^/])/", rest)]
        ends = [end for end in ends if Path(rest[:end]).is_dir()]
        if ends:
            sentence = sentence[:start] + rest[ends[-1] + 1 :]
    return re.sub(r"(?<![\w.:/-])/(?:[^\s/'\"“”,;()]+/)+", "", sentence)


def no_page(asked: str, titles: Mapping[str, str]) -> None:
    """An address of no page: what it was, what is shown instead, and what may have been meant.

    Args:
        asked: the end of the address.
        titles: of every page that the navigation shows, by the end of its address.
    """
    named = {title.casefold(): name for name, title in titles.items()} | {n: n for n in titles}
    near = difflib.get_close_matches(asked[:60].casefold(), named, 1, cutoff=0.6)
    meant = ", so this is the overview; the menu names all pages."
    if near:
        name = named[near[0]]
        to = f"<a target='_self' href='{base_url(name)}'>{plain(titles[name])}</a>"
        meant = f"; did you mean {to}? This is the overview."
    show(
        "<div class='csp-note csp-left' role='status'>"
        f"There is no page “{plain(shorten(asked))}”{meant}</div>"
    )


def notes(sentences: tuple[str, ...]) -> None:
    """What had to be changed about the URL to show anything."""
    if sentences:
        items = "".join(f"<li>{plain(told(sentence))}</li>" for sentence in sentences)
        show(f"<div class='csp-note' role='status'><ul>{items}</ul></div>")


@contextmanager
def caught() -> Generator[None]:
    """Show the errors that people can act on where the block would have drawn."""
    try:
        yield
    except CspError as error:
        failure(error)
    except Exception as error:
        blame = blamed(error)
        if blame is None:
            raise
        failure(blame)


def _short(folder: Path) -> str:
    return str(folder.relative_to(ROOT)) if folder.is_relative_to(ROOT) else str(folder)
