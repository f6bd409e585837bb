"""What visitors of a server may do: four permissions, and which of them an address needs."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

OPEN_TO_ALL = ("health", "host-config", "stream", "bidi-components", "script-health-check")
"""What of Streamlit's own addresses a page fetches before anybody can have signed in.

None holds anything of a bundle; what is said over the stream, the page itself decides.
"""


class Permission(StrEnum):
    """One thing that a visitor may do."""

    READ = "read"
    """See pages, and what they fetch: thumbnails, points, cards, exports."""
    ENCODE = "encode"
    """Have an encoder or a network loaded, and ask it about texts and images."""
    BUILD = "build"
    """Start, stop and change builds, which read paths and write bundles."""
    REVIEW = "review"
    """Give verdicts."""


NOTHING: frozenset[Permission] = frozenset()
LOOKING = frozenset({Permission.READ})
SHOWING = frozenset({Permission.READ, Permission.ENCODE})
"""What a server that only shows can grant."""
EVERYTHING = frozenset(Permission)


def needed(parts: Sequence[str]) -> Permission | None:
    """What the address with these parts needs; None for what holds nothing of a bundle."""
    match parts:
        case ["csp", "warm" | "maps", *_] | ["_stcore", "upload_file", *_]:
            return Permission.ENCODE
        case ["csp" | "media", *_] | ["metrics"]:
            return Permission.READ
        case ["_stcore", name, *_] if name not in OPEN_TO_ALL:
            return Permission.READ
        case _:
            return None
