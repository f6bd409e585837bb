"""Whether what a fix holds still, and the decisions that come of it, can be."""

from __future__ import annotations

import numpy as np
import pandas as pd

MODES = ("zero", "mean", "conditional")
"""What a part is held at: 0; its mean over all choosing photographs; its mean over those of the
clean slice, which is to say given that no artefact is there."""
WHATS = ("before", "after", "beside", "random")
NEAR_UNIT = 1e-3


def fault_of_photographs(rows: pd.DataFrame, classes: list[str], clean: str, output: str) -> str:
    """What is wrong with photographs, as the end of "photographs.parquet of STAGE …"."""
    if output not in classes:
        return f"has no class {output!r:.80}, which is the output that is followed"
    strange = sorted(set(rows["class"]) - set(classes))
    if strange:
        return f"names class {strange[0]!r:.80}, which there is not"
    reported = rows[~rows["is_choosing"].astype(bool)]
    if not len(reported):
        return "has no photograph that is reported on"
    if clean not in set(reported["slice"]):
        return f"has no photograph of the slice {clean!r:.80}"
    if set(reported["group"]) & set(rows["group"][rows["is_choosing"].astype(bool)]):
        return "has a group of which some photographs choose and others are reported on"
    return ""


def fault_of_runs(rows: pd.DataFrame) -> str:
    """What is wrong with runs, likewise."""
    what = list(rows["what"])
    strange = [each for each in what if each not in WHATS]
    if strange:
        return f"ran {strange[0]!r:.80}, which is nothing"
    n_random = what.count("random")
    inner = what[2 : len(what) - n_random]
    if what[:2] != ["before", "after"] or any(each != "beside" for each in inner):
        return "does not begin with before and after, or does not end with the random ones"
    return ""


def fault_of_cuts(rows: pd.DataFrame, runs: pd.DataFrame) -> str:
    """What is wrong with the parts that are held still, likewise."""
    what = runs["what"].to_numpy(object)
    if len(rows) and rows["run"].max() >= len(what):
        return f"names run {rows['run'].max()}, but there are {len(what)}"
    if set(what[rows["run"].unique()]) - {"after", "random"}:
        return "holds part of a network that runs as it is"
    if not (rows["run"] == 1).any():
        return "holds nothing still"
    if fault := _fault_of_parts(rows):
        return fault
    directions = rows[rows["is_direction"].astype(bool)]
    length = directions.groupby(["run", "piece"])["weight"].apply(lambda w: float((w**2).sum()))
    if (np.abs(length - 1) > NEAR_UNIT).any():
        return "has a direction that is not of length 1"
    units = rows[~rows["is_direction"].astype(bool)]
    taken = set(zip(*(units.loc[units["run"] == 1, n] for n in ("layer", "unit")), strict=True))
    others = units[units["run"] != 1]
    if taken & set(zip(others["layer"], others["unit"], strict=True)):
        return "has a random set that holds neurons of the fix itself"
    size = units.groupby(["run", "layer"]).size().unstack(fill_value=0)
    if len(size) and (size.nunique() > 1).any():
        return "has random sets of another size than the fix"
    return ""


def _fault_of_parts(rows: pd.DataFrame) -> str:
    """Whether parts are numbered through in each run, and are of one kind and size in all runs."""
    place = rows[["run", "piece"]].apply(tuple, axis=1).tolist()
    if place != sorted(place):
        return "does not list parts in the order of their numbers"
    parts = rows.groupby(["run", "piece"])
    kind = pd.DataFrame({"size": parts.size(), "layer": parts["layer"].first()})
    if (parts[["layer", "is_direction"]].nunique() > 1).to_numpy().any():
        return "has a part of two layers, or of two kinds"
    of_run = {run: own.droplevel("run") for run, own in kind.groupby(level="run")}
    if any(list(own.index) != list(range(len(own))) for own in of_run.values()):
        return "skips the number of a part"
    if any(not own.equals(of_run[1]) for own in of_run.values()):
        return "has random parts of another size or layer than the fix"
    return ""


def fault_of_decisions(
    name: str, values: np.ndarray, photographs: pd.DataFrame, runs: pd.DataFrame, n_classes: int
) -> str:
    """What is wrong with scores or decisions, as the end of "NAME.npy of STAGE …"."""
    n_reported = int((~photographs["is_choosing"].astype(bool)).sum())
    n_runs = len(runs) if name == "called" else int((runs["what"] != "random").sum())
    if values.shape != (n_runs, n_reported):
        return f"is of shape {values.shape} instead of {(n_runs, n_reported)}"
    if name == "score":
        return "" if np.isfinite(values).all() else "holds values that are not numbers"
    if values.max(initial=0) >= max(n_classes, 2):
        return f"decides for class {values.max()}, but there are {n_classes}"
    return ""
