"""Numbers the way people read them; one that is not known is a dash, whoever asks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, SupportsFloat

UNKNOWN = "–"

BARE = "no interval"
"""What stands for an interval that would be drawn from too few things."""


def count(n: SupportsFloat) -> str:
    """A count with thousands separators."""
    return f"{int(float(n)):,}" if math.isfinite(float(n)) else UNKNOWN


def activation(value: SupportsFloat) -> str:
    """Three significant digits, without exponents in the range people compare."""
    value = float(value)
    if math.isnan(value):
        return UNKNOWN
    if not math.isfinite(value) or value == 0:
        return _minus(f"{value:g}")
    if 0.00001 <= abs(value) < 100_000:
        digits = max(0, 2 - math.floor(math.log10(abs(value))))
        return _minus(f"{value:,.{digits}f}")
    return _minus(f"{value:.2e}")


def signed(value: SupportsFloat) -> str:
    """An effect: three significant digits and always a sign."""
    text = activation(value)
    return text if text[0] in f"−{UNKNOWN}" or float(value) == 0 else f"+{text}"


def signed_alike(values: Iterable[SupportsFloat]) -> list[str]:
    """Effects that stand in one column: as many decimals as the largest needs for three digits."""
    floats = [float(value) for value in values]
    largest = max((abs(value) for value in floats if math.isfinite(value)), default=0.0)
    if not 1e-6 <= largest < 100_000:
        return [signed(value) for value in floats]
    n_decimals = max(0, 2 - math.floor(math.log10(largest)))
    return [
        UNKNOWN if math.isnan(value) else _minus(f"{value:+,.{n_decimals}f}") for value in floats
    ]


def score(value: SupportsFloat) -> str:
    """A cosine or similar score."""
    value = float(value)
    if math.isnan(value):
        return UNKNOWN
    return _minus(f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}")


def share(value: SupportsFloat) -> str:
    """A share in [0, 1] as a percentage."""
    percent = 100 * float(value)
    if math.isnan(percent):
        return UNKNOWN
    return f"{percent:.0f} %" if percent >= 10 or percent == 0 else f"{percent:.1f} %"


def share_range(low: SupportsFloat, high: SupportsFloat) -> str:
    """An interval of shares in [0, 1] as percentages, the unit said once."""
    ends = [share(low), share(high)]
    return f"{ends[0].removesuffix(' %')} to {ends[1]}" if UNKNOWN not in ends else UNKNOWN


def chance(value: SupportsFloat) -> str:
    """A p- or q-value."""
    value = float(value)
    if math.isnan(value):
        return UNKNOWN
    if value < 0.001:
        return "< .001"
    return f"{value:.3f}".removeprefix("0") if value < 0.1 else f"{value:.2f}".removeprefix("0")


def percentile(value: SupportsFloat, n_draws: int) -> str:
    """A percentile no finer than the draws behind it allow."""
    finest = 100 / max(1, n_draws)
    percent = 100 * float(value)
    if math.isnan(percent):
        return UNKNOWN
    if percent > 100 - finest + 1e-3:
        return f"> {100 - finest:.1f} %"
    return f"{percent:.1f} %"


def beats(value: SupportsFloat, n_draws: int) -> str:
    """The random image sets that a score lies above, in words."""
    share = percentile(value, n_draws)
    if share == UNKNOWN:
        return f"an unknown share of {count(n_draws)} random image sets"
    if round(float(value) * n_draws) >= n_draws or share.startswith(">"):
        return f"all {count(n_draws)} random image sets"
    return f"{share} of {count(n_draws)} random image sets"


def _minus(text: str) -> str:
    return text.replace("-", "−")


def short_float(value: Any) -> float | None:
    """A number as JSON has it: a float32 keeps its short spelling, and what is not finite is None.

    As a double, a float32 would show digits that nobody measured.
    """
    return float(str(value)) if math.isfinite(value) else None


def plain_json(value: Any) -> Any:
    """JSON-ready: numbers of numpy become Python's, and NaN becomes None."""
    if isinstance(value, Mapping):
        return {str(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(item) for item in value]
    if hasattr(value, "dtype"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
