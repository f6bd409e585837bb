"""Photographs on disk with all that is known of them: controls, concepts, visible shares."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from csp_engine.cells import csv_text
from csp_engine.demo.simulator import render
from csp_engine.demo.simulator.cases import CONCEPTS, PATCH_COLOURS, concept_table
from csp_engine.demo.workers import workers
from csp_engine.types import Progress, silent

CONTROL_COLUMNS = ("skin_tone", "size", "asymmetry", "irregularity", "n_colours", "pigment")

STRENGTHS: dict[str, str] = {
    "asymmetric lesion": "asymmetry",
    "irregular border": "irregularity",
    "many colours": "n_colours",
    "large lesion": "size",
    "light skin": "lightness",
    "dark skin": "skin_tone",
    "small lesion": "smallness",
    "typical pigment network": "share_typical_network",
    "atypical pigment network": "share_atypical_network",
    "dots": "share_dots",
    "globules": "share_globules",
    "streaks": "share_streaks",
    "blue-white veil": "share_blue_white_veil",
    "regression": "share_regression",
    "vessels": "share_vessels",
    "milia-like cysts": "share_milia_cysts",
    "reddish skin": "share_red_skin",
    "ruler": "share_ruler",
    "colour patch": "share_patch",
    **{f"{colour} patch": "share_patch" for colour in PATCH_COLOURS},
    "ink marks": "share_ink",
    "hair": "share_hair",
    "thick hair": "share_hair",
    "light hair": "share_hair",
    "dense hair": "share_hair",
    "gel bubbles": "share_gel_bubbles",
    "gel border": "share_gel_border",
    "dark corners": "share_dark_corners",
}
"""Concept → what says how much of it a photograph shows: a control, or the share of its mask."""


def strengths(cases: pd.DataFrame, shares: pd.DataFrame) -> pd.DataFrame:
    """How much of each concept every case shows, at least 0; diagnoses have no grade."""
    known = pd.concat(
        [cases.reset_index(drop=True), shares.reset_index(drop=True).add_prefix("share_")], axis=1
    )
    known["lightness"] = 7 - known["skin_tone"]
    known["smallness"] = 1 - known["size"]
    return pd.DataFrame({name: known[source].astype(float) for name, source in STRENGTHS.items()})


def probe_table(cases: pd.DataFrame, shares: pd.DataFrame) -> pd.DataFrame:
    """The table a bundle is built from: file, class, 0/1 concepts, controls, visible shares.

    Args:
        cases: of the probe set.
        shares: share of each picture that every mask covers.
    """
    files = [f"images/{i:05d}.png" for i in range(len(cases))]
    table = pd.DataFrame({"file": files, "class": cases["diagnosis"].to_numpy()})
    concepts = concept_table(cases).astype(np.int8)
    concepts = concepts[[name for name in concepts if CONCEPTS[name][0] != "diagnosis"]]
    controls = cases[list(CONTROL_COLUMNS)].add_prefix("control_")
    seen = shares.round(5).add_prefix("share_")
    parts = [table, *(p.reset_index(drop=True) for p in (concepts, controls, seen))]
    return pd.concat(parts, axis=1)


def write_tables(target: Path, cases: pd.DataFrame, shares: pd.DataFrame) -> None:
    """``cases.csv`` with every control, and ``probe.csv`` with what a bundle is built from."""
    for name, table in (("probe.csv", probe_table(cases, shares)), ("cases.csv", cases)):
        (target / name).write_text(csv_text(table), encoding="utf-8", newline="")


def _shares_of_one(case: Mapping[str, Any]) -> dict[str, float]:
    return render.render(case).shares()


def shares_of(cases: pd.DataFrame, progress: Progress = silent) -> pd.DataFrame:
    """Share of each picture that every mask covers, without writing anything."""
    rows = []
    with workers(len(cases)) as run:
        for share in run(_shares_of_one, cases.to_dict("records")):
            rows.append(share)
            progress("masks", len(rows), len(cases))
    return pd.DataFrame(rows)
