"""A toy bundle that holds every kind of stage, and what of it can be compared between versions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from csp_engine.bundle import Bundle
from csp_engine.exchange import import_labels
from csp_engine.pipeline import (
    add_curves,
    add_fix,
    add_interventions,
    add_map_checks,
    add_performance,
    build,
)
from csp_engine.pipeline.added.deleting import random_orders, try_orders
from csp_engine.pipeline.added.fixing import Trials
from csp_engine.pipeline.added.photographs import listed_photographs
from csp_engine.pipeline.factoring.finding import find_factors
from csp_engine.pipeline.factoring.keeping import add_factors
from csp_engine.pipeline.intervening.measuring import Given
from tests.worlds import toys
from tests.worlds.small_captioner import small_captioner

IMPORTED = "layer,unit,description,score\nfirst,1,blue,0.5\nfirst,1,not a word,0.25\nlast,3,red,1\n"


def everything(folder: Path, **changes: Any) -> Bundle:
    """Two models, a captioner, circuits, truth, performance, imported labels, pairs, maps."""
    targets = (toys.target(["first", "last"]), toys.target(["second"], name="other"))
    captioner = small_captioner(
        folder / "captioner", encoder_fingerprint=toys.ColourEncoder().fingerprint
    )
    asked = {"targets": targets, "captioner": captioner, "n_circuit_images": 8, **changes}
    bundle = build(toys.request(folder, folder / "everything.csp", **asked))
    add_performance(bundle.path, {"small": toys.slices()})
    toys.with_truth(bundle, planted_layer="last@mean")
    table = folder / "mine.csv"
    table.write_text(IMPORTED, "utf-8")
    import_labels(table, bundle.path, model="small", encoder=toys.ColourEncoder())
    given = [
        Given("0, 5", "last@mean", np.array([0, 5])),
        Given("all of it", "first@mean", np.eye(8, dtype=np.float32)),
    ]
    add_interventions(
        bundle.path, targets[0], toys.CornerPairs(), "red", gates=toys.open_gate(), given=given,
        n_random=2,
    )  # fmt: skip
    add_fix(bundle.path, "small", "two neurons", toys.tried_fix(folder, targets[0]))
    add_map_checks(bundle.path, targets[0], toys.CornerPairs(), maps=["activation"])
    shots = listed_photographs(toys.photographs(folder / "decided", 200))
    found = find_factors(Trials(targets[0], shots, "red"), "last@mean", 3, n_random=2)
    add_factors(bundle.path, "small", "last@mean", found, 0)
    trials = Trials(targets[0], shots, "red")
    orders = {"random": random_orders(range(12), 2), "influence": [np.arange(12)]}
    curves = try_orders(trials, "last@mean", orders, [1, 3], "zero")
    add_curves(bundle.path, "small", "last@mean", curves)
    return Bundle.open(bundle.path)


def described(bundle: Bundle) -> dict[str, Any]:
    """The identity, files and facts of every stage, JSON-ready.

    Hashes are of arrays of whole numbers only: the last bit of a float differs between processors.
    """
    return {
        name: {
            "key": record.key,
            "version": record.version,
            "params": dict(record.params),
            "needs": sorted(record.needs),
            "inputs": dict(record.inputs),
            "facts": dict(record.facts),
            "files": {
                file: [
                    entry.dtype,
                    list(entry.shape or ()),
                    entry.sha256 if entry.dtype in ("int8", "int32", "int64", "bool") else None,
                ]
                for file, entry in record.files.items()
            },
        }
        for name, record in sorted(bundle.manifest.stages.items())
    }
