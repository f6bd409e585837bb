"""Simulated photographs in slices: clean ones, with artefacts as learnt, and turned round."""

from __future__ import annotations

import numpy as np
import pandas as pd
from PIL import Image

from csp_engine.cells import csv_text
from csp_engine.demo.simulator import render
from csp_engine.demo.simulator.cases import draw_cases
from csp_engine.hashing import sha256_json
from csp_engine.pipeline.added.photographs import Photographs

SLICES = {"clean": "clean", "artefact": "biased", "counter-artefact": "counter"}
"""Name of a test slice → scenario that it is drawn from."""
REPORTED, CHOOSING = 4, 14
"""Where the seeds of both begin among those of the demo's lessons; every slice has its own."""
N_SLICE, N_CHOOSING = 600, 150
"""Photographs of each slice that are reported on, and others that choose."""
SIDE = 128
"""Pixels of a photograph as the classifiers take it."""


def simulated_slices(n_choosing: int, n_reported: int, seed: int = 0) -> Photographs:
    """Photographs of every slice, drawn when they are asked for.

    Those that are reported on are the first of those of which the demo says how often its
    classifiers are right.

    Args:
        n_choosing: of each slice, to choose what is changed.
        n_reported: of each slice, at most ``N_SLICE``.
        seed: of the demo.
    """
    parts, cases = [], []
    for i, (name, scenario) in enumerate(SLICES.items()):
        for first, n, is_choosing in ((CHOOSING, n_choosing, True), (REPORTED, n_reported, False)):
            drawn = draw_cases(scenario, N_SLICE, seed * 1000 + first + i).iloc[:n]
            cases += drawn.to_dict("records")
            kind = "choosing" if is_choosing else "reported"
            parts.append(
                pd.DataFrame(
                    {
                        "file": [f"{name} {kind} {row}" for row in range(n)],
                        "class": drawn["diagnosis"].to_numpy(),
                        "slice": name,
                        "is_choosing": is_choosing,
                    }
                )
            )
    table = pd.concat(parts, ignore_index=True)
    table["group"] = np.arange(len(table), dtype=np.int32)
    table = table.astype({"file": "string", "class": "string", "slice": "string"})
    kept: dict[int, Image.Image] = {}

    def image(row: int) -> Image.Image:
        if row not in kept:  # several networks look at the same
            whole = render.render(cases[row]).image()
            kept[row] = whole.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        return kept[row]

    return Photographs(
        f"{n_reported} simulated photographs of each slice",
        table[["file", "class", "slice", "group", "is_choosing"]],
        sha256_json([render.VERSION, csv_text(table), str(cases)]),
        image,
    )
