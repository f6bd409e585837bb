"""``csp doctor --self-test``: small cases of what this program promises, really run, offline.

A kind is one function in a module of this folder, registered by ``kind``. It gets a ``World`` and
returns what was found, in a few words; whatever it raises is the verdict that it does not hold.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import chdir, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

from csp_engine.errors import BundleError, CspError
from csp_engine.printable import one_line

if TYPE_CHECKING:
    from csp_engine.cli.selftest.world import World


@dataclass(frozen=True, slots=True)
class Kind:
    """One promise: its area, what holds, and the case that tries it."""

    area: str
    title: str
    run: Callable[[World], str]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a case."""

    area: str
    title: str
    holds: bool | None
    """None where it was not tried."""
    found: str


class NotHeldError(Exception):
    """A case came out otherwise than promised."""


class NotTriedError(Exception):
    """Something that a case needs is not installed here; it holds of nothing then."""


MOST = 160
"""Characters of what was found that are shown."""
_KINDS: list[Kind] = []
AREAS = (
    "security", "damaged bundles", "networks", "tables", "image files", "identity", "label tables",
    "own data",
)  # fmt: skip


def kind(area: str, title: str) -> Callable[[Callable[[World], str]], Callable[[World], str]]:
    """Register a case."""

    def register(run: Callable[[World], str]) -> Callable[[World], str]:
        _KINDS.append(Kind(area, title, run))
        return run

    return register


def refused(act: Callable[[], object], about: str = "") -> str:
    """The sentence with which something is refused; it has to name what it is about."""
    try:
        act()
    except CspError as error:
        if about not in str(error):
            raise NotHeldError(f"refused without a word about {about!r}: {error}") from None
        return f"refused: {error}"
    raise NotHeldError("accepted without a word")


def require(holds: object, found: str) -> str:
    """What was found, if it is what was promised."""
    if not holds:
        raise NotHeldError(found)
    return found


def kinds() -> list[Kind]:
    """All cases, by area."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return sorted(_KINDS, key=lambda each: AREAS.index(each.area))


def verdicts(chosen: list[Kind] | None = None) -> Iterator[Verdict]:
    """Run the cases, each in a folder of its own that is gone afterwards."""
    from csp_engine.bundle.checks import later
    from csp_engine.cli.selftest.world import World

    offline = {"HF_HUB_OFFLINE": "1", "CSP_TRUST_PYTHON": "0"}
    with mock.patch.dict(os.environ, offline), tempfile.TemporaryDirectory() as top:
        shared = Path(top) / "shared"
        shared.mkdir()
        for number, each in enumerate(kinds() if chosen is None else chosen):
            folder = Path(top) / f"case{number}"
            folder.mkdir()
            holds: bool | None
            try:
                with chdir(folder):
                    found, holds = each.run(World(folder, shared)), True
            except NotTriedError as error:
                found, holds = str(error), None
            except Exception as error:
                found, holds = f"{type(error).__name__}: {error}", False
            with suppress(BundleError):  # a case alters files: that is no news of the next one
                later.require_unaltered()
            said = one_line(found)
            said = said if len(said) <= MOST else f"{said[: MOST - 1]}…"
            yield Verdict(each.area, each.title, holds, said)
