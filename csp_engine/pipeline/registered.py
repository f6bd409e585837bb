"""All stages that follow from measurements: those of the project, and those of extensions."""

from __future__ import annotations

from collections.abc import Iterable

from csp_engine.errors import InputError
from csp_engine.pipeline import stages
from csp_engine.pipeline.stage import Stage
from csp_engine.registry import discover


def in_order(found: Iterable[Stage]) -> list[Stage]:
    """Stages, each after those that it may be made from, else as they come.

    Raises:
        InputError: if some need one another.
    """
    waiting, ordered = list(found), []
    while waiting:
        names = {stage.name for stage in waiting}
        ready = [s for s in waiting if not names & (set(s.kind.needs) - {s.name})]
        if not ready:
            raise InputError(f"The stages {', '.join(sorted(names))} need one another; mend one.")
        ordered.append(ready[0])
        waiting.remove(ready[0])
    return ordered


STAGES = in_order(discover(stages.__name__, Stage, "stage").values())
