"""Put into a finished bundle how often its classifiers are right: stages ``performance:MODEL``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from csp_engine.bundle import Bundle, BundleWriter, kinds, stage_key
from csp_engine.errors import InputError
from csp_engine.hashing import sha256_json

COLUMNS = ("slice", "n", "n_correct", "accuracy", "low", "high")
"""What a table of slices must say: name, counts, and the share that is right with its interval."""


def add_performance(path: Path, slices: Mapping[str, pd.DataFrame]) -> Bundle:
    """Store, for some target models, how often each is right on named test slices.

    Args:
        path: a finished bundle, changed in place.
        slices: name of a model of the bundle → table with at least ``COLUMNS``, one row per slice;
            further columns are kept.

    Raises:
        InputError: if a model is not in the bundle, or a table lacks a column.
        BundleError: if another process is writing the bundle.
    """
    with BundleWriter(path) as writer:
        described = writer.manifest.inputs.get("models", {})
        for model, table in slices.items():
            if model not in described:
                raise InputError(
                    f"There is no model {model!r} in {path.name}; it has {', '.join(described)}."
                )
            lacking = [name for name in COLUMNS if name not in table]
            if lacking or not len(table):
                raise InputError(
                    f"The slices of {model} have no {lacking[0] if lacking else 'row'}; they need "
                    f"{', '.join(COLUMNS)}."
                )
            stage = kinds.PERFORMANCE.name(model)
            identity: dict[str, Any] = {
                "version": kinds.PERFORMANCE.version,
                "params": {},
                "needs": {},
                "inputs": {
                    "model": described[model]["fingerprint"],
                    "slices": sha256_json(table.to_dict("records")),
                },
            }
            if writer.is_fresh(stage, stage_key(stage, **identity)):
                continue
            with writer.stage(stage, **identity) as folder:
                folder.table("slices", table.reset_index(drop=True))
                folder.facts["n_slices"] = len(table)
    return Bundle.open(path)
