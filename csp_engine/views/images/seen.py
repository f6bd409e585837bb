"""What the networks see of the probe images, and what they do not."""

from __future__ import annotations

from csp_engine import numbers
from csp_engine.bundle import Bundle

MOST_CUT = 0.1
"""Share of an image that preprocessing may cut away without a word."""


def cut_notices(bundle: Bundle) -> list[str]:
    """A sentence for every model that never sees more than a tenth of a typical image."""
    found = []
    for name, model in bundle.manifest.inputs.get("models", {}).items():
        cut = model.get("share_cut", 0)
        if isinstance(cut, int | float) and cut > MOST_CUT:
            found.append(
                f"{name} does not see {numbers.share(cut)} of a typical image, because its "
                "preprocessing cuts the borders off; --preprocessing whole shows it the whole "
                "image."
            )
    return found
