"""Whether what a fix or curves hold still, and the decisions that come of it, can be."""

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
    if fault := fault_of_output(classes, output) or _fault_of_classes(rows, classes):
        return fault
    reported = rows[~rows["is_choosing"].astype(bool)]
    if not len(reported):
        return "has no photograph that is reported on"
    if clean not in set(reported["slice"]):
        return f"has no photograph of the slice {clean!r:.80}"
    return _fault_of_groups(rows)


def fault_of_output(classes: list[str], output: str) -> str:
    """Whether the output that is followed is a class, likewise."""
    is_one = output in classes
    return "" if is_one else f"has no class {output!r:.80}, which is the output that is followed"


def fault_of_halves(
    rows: pd.DataFrame, classes: list[str], columns: tuple[str, ...] = ("class",)
) -> str:
    """What is wrong with photographs of two halves, likewise; ``columns`` name classes."""
    choosing = rows["is_choosing"].astype(bool)
    is_one_half = choosing.all() or not choosing.any()
    return (
        _fault_of_classes(rows, classes, columns)
        or ("has photographs of one half alone" if is_one_half else "")
        or _fault_of_groups(rows)
    )


def _fault_of_classes(
    rows: pd.DataFrame, classes: list[str], columns: tuple[str, ...] = ("class",)
) -> str:
    strange = [each for name in columns for each in sorted(set(rows[name]) - set(classes))]
    return f"names class {strange[0]!r:.80}, which there is not" if strange else ""


def _fault_of_groups(rows: pd.DataFrame) -> str:
    choosing = rows["is_choosing"].astype(bool)
    is_split = set(rows["group"][choosing]) & set(rows["group"][~choosing])
    return (
        "has a group of which some photographs choose and others are reported on"
        if is_split
        else ""
    )


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


# ------------------------------------------------------------------ curves

NONE, RANDOM = "none", "random"
"""The run that holds nothing; the order that others are compared with."""
ORDERS = (RANDOM, "influence", "category", "attribute", "relation", "words")


def fault_of_orders(rows: pd.DataFrame, n_units: int | None) -> str:
    """What is wrong with orders, as the end of "orders.parquet of STAGE …"."""
    strange = sorted(set(rows["order"]) - set(ORDERS))
    if strange:
        return f"has an order {strange[0]!r:.80}, which is none"
    if rows.duplicated(["order", "repeat", "unit"]).any():
        return "has an order that names a neuron twice"
    own = rows[rows["order"] == RANDOM]
    if own.empty:
        return "has no random order, with which others are compared"
    if n_units is not None and (own.groupby("repeat").size() != n_units).any():
        return "has a random order that leaves neurons of the layer out"
    if fault := _fault_of_repeats(rows):
        return fault
    sets = rows.groupby(["order", "repeat"])["unit"].agg(frozenset)
    if (sets.groupby(level="order").nunique() > 1).any():
        return "has repeats of one order that are not of the same neurons"
    return ""


def fault_of_held(rows: pd.DataFrame, orders: pd.DataFrame) -> str:
    """What is wrong with runs, as the end of "runs.parquet of STAGE …"."""
    if not len(rows) or rows["order"].iloc[0] != NONE or rows["n_units"].iloc[0] != 0:
        return "does not begin with the network as it is"
    held = rows.iloc[1:]
    if held.duplicated(["order", "repeat", "n_units"]).any():
        return "has the same run twice"
    size = orders.groupby(["order", "repeat"]).size().to_dict()
    for order, repeat, n_units in held[["order", "repeat", "n_units"]].itertuples(index=False):
        if not 0 < n_units <= size.get((order, repeat), 0):
            return (
                f"holds {n_units} neurons of {order!r:.80}, repeat {repeat}, which has not so many"
            )
    sizes = held.groupby(["order", "repeat"])["n_units"].agg(frozenset)
    if (sizes.groupby(level="order").nunique() > 1).any():
        return "holds other numbers of neurons in one repeat of an order than in another"
    of_random = set(held["n_units"][held["order"] == RANDOM])
    if set(held["n_units"]) - of_random:
        return "holds numbers of neurons that no random order was tried with"
    return _fault_of_untried(held, orders)


def _fault_of_untried(held: pd.DataFrame, orders: pd.DataFrame) -> str:
    """Whether of an order that was tried, every repeat was."""
    wanted = orders.groupby("order")["repeat"].nunique()
    tried = held.groupby("order")["repeat"].nunique()
    if (tried != wanted.reindex(tried.index)).any():
        return "leaves out a repeat of an order"
    return ""


def fault_of_called(
    called_vi: np.ndarray, photographs: pd.DataFrame, n_runs: int, n_classes: int
) -> str:
    """What is wrong with decisions, as the end of "called.npy of STAGE …"."""
    wanted = (n_runs, int((~photographs["is_choosing"].astype(bool)).sum()))
    if called_vi.shape != wanted:
        return f"is of shape {called_vi.shape} instead of {wanted}"
    n = max(n_classes, 2)
    top = int(called_vi.max(initial=0))
    return f"decides for class {top}, but there are {n}" if top >= n else ""


def _fault_of_repeats(rows: pd.DataFrame) -> str:
    """Whether repeats of every order are numbered through."""
    for _, own in rows.groupby("order"):
        if sorted(set(own["repeat"])) != list(range(own["repeat"].nunique())):
            return "skips the number of a repeat"
    return ""
