"""Numbers the way people read them: those of the engine, which other outputs write too."""

from csp_engine.numbers import (
    activation,
    beats,
    chance,
    count,
    percentile,
    score,
    share,
    signed,
)

__all__ = ["activation", "beats", "chance", "count", "percentile", "score", "share", "signed"]
