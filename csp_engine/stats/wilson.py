"""Wilson's score interval for a share, without a library that takes half a second to import."""

from __future__ import annotations

from typing import Any

Z_95 = 1.959963984540054


def wilson(share: Any, n: Any, z: float = Z_95) -> tuple[Any, Any]:
    """Lower and upper bound of a share among ``n``, in [0, 1] but for rounding (Wilson, 1927).

    Args:
        share: a number, or an array of any shape.
        n: how many cases are behind it, at least 1; shaped to fit.
        z: the normal quantile of the confidence.
    """
    scale = 1 + z**2 / n
    centre = (share + z**2 / (2 * n)) / scale
    reach = z / scale * (share * (1 - share) / n + z**2 / (4 * n**2)) ** 0.5
    return centre - reach, centre + reach
