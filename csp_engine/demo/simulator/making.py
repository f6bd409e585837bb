"""Photographs of a named concept, drawn by the simulator: CoSy without any generator."""

from __future__ import annotations

import numpy as np
from PIL import Image

from csp_engine.demo.simulator import render
from csp_engine.demo.simulator.captions import HELD_OUT, WORDINGS
from csp_engine.demo.simulator.cases import concept_table, draw_cases

DRAWN = 400
"""Cases that are looked through for those that show a concept."""


class SimulatorMaker:
    """Knows the concepts of the demo by all their wordings, and joined ones by ``and``."""

    name = "simulator"

    def __init__(self) -> None:
        self.concept_of = {
            wording.casefold(): concept
            for table in (HELD_OUT, WORDINGS)
            for concept, wordings in table.items()
            for wording in (concept, *wordings)
        }

    def concepts(self, text: str) -> tuple[str, ...]:
        """The concepts that a text names; none where a part of it is unknown."""
        whole = text.strip().casefold()
        parts = [whole] if whole in self.concept_of else whole.split(" and ")
        found = [self.concept_of.get(part.strip()) for part in parts]
        return tuple(name for name in found if name) if all(found) else ()

    def images(self, text: str, n: int, seed: int) -> list[Image.Image]:
        """``n`` photographs that show everything the text names, fewer where it is rare."""
        names = self.concepts(text)
        if not names:
            return []
        # The scenario in which structures do not depend on the diagnosis.
        cases = draw_cases("words", DRAWN, seed)
        shows_n = concept_table(cases)[list(names)].to_numpy(bool).all(axis=1)
        rows = cases.iloc[np.flatnonzero(shows_n)[:n]].to_dict("records")
        return [render.render(row).image() for row in rows]
