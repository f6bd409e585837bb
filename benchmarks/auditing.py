"""How long do interventions, fixes, factors, changed images and reports take? On the demo.

Everything runs on its biased classifier: attribution of an artefact's effect over 200 pairs, exact
swaps of its strongest twenty neurons and of twenty random sets, a fix on the photographs that the
page Audit tries one on, factors of the same layer, one image changed under a COCOA map, and a
report in each format. Photographs are drawn beforehand, or the time says so. Processor seconds are
those of the first run in this process; the clock counts what else the machine does, which the load
says.
Run: OMP_NUM_THREADS=2 python -m benchmarks auditing [--only network|reports]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from csp_engine.bundle import Bundle
from csp_engine.demo.simulator.pairs import SimulatedPairs
from csp_engine.demo.simulator.slices import simulated_slices
from csp_engine.exports import report
from csp_engine.networks.intervening.pairs import PairRuns
from csp_engine.networks.layers import select_layers
from csp_engine.pipeline import Target
from csp_engine.pipeline.added.fixes import Piece
from csp_engine.pipeline.added.fixing import Trials, try_fix
from csp_engine.pipeline.factoring.finding import find_factors
from csp_engine.pipeline.mapping.changes import CHANGES, versions
from csp_engine.pipeline.mapping.neuron_pixels import pictures
from csp_engine.pipeline.mapping.overlays import NeuronOverlays
from csp_engine.serving.map_process import network_of

DEMO = Path(__file__).resolve().parents[1] / "assets" / "demo" / "dermoscopy.csp"
MODEL, LAYER, OUTPUT, ARTEFACT = "biased", "layer2@max", "melanoma", "colour patch"
N_PAIRS, N_SWAPPED, N_RANDOM, N_SLICE = 200, 40, 20, 60
N_WARM = 5


class Watch:
    """What was measured, written after each part, so that it stays where the rest is stopped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        held = json.loads(path.read_text("utf-8")) if path.is_file() else {}
        self.measured: dict[str, dict[str, Any]] = held.get("measured", {})

    def timed(
        self, name: str, what: str, run: Callable[[], Any], target_s: float | None = None
    ) -> Any:
        """Run, and keep how long it took; ``target_s`` is what it may take on an idle machine.

        What has a target runs five times more: the first run in a process also pays for what torch
        sets up once, so the median of the others stands beside it.
        """
        took: list[tuple[float, float]] = []
        for _ in range(1 + (N_WARM if target_s is not None else 0)):
            start, cpu = time.perf_counter(), time.process_time()
            found = run()
            took.append((time.perf_counter() - start, time.process_time() - cpu))
        first, warm = took[0], took[1:]
        self.measured[name] = {
            "what": what,
            "cpu_s": round(first[1], 2),
            "seconds": round(first[0], 2),
            "warm_seconds": round(statistics.median(s for s, _ in warm), 2) if warm else None,
            "load": round(os.getloadavg()[0], 1),
            "target_s": target_s,
        }
        print(name, json.dumps(self.measured[name]), flush=True)
        result = {
            "model": MODEL,
            "n_cores": len(os.sched_getaffinity(0)),
            "n_threads": torch.get_num_threads(),
            "measured": self.measured,
        }
        self.path.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
        return found


def network(bundle: Bundle, watch: Watch) -> None:
    """What runs the network."""
    model = network_of(bundle, MODEL)
    target = Target(model, tuple(select_layers(model, [LAYER])))
    module = target.taps[0].id.module
    pairs = SimulatedPairs(N_PAIRS, artefacts=(ARTEFACT,))
    shown = [pairs.images(i) for i in range(len(pairs.table))]
    foil, version = (np.stack([model.preprocess(triple[at]) for triple in shown]) for at in (0, 1))
    runs = PairRuns(model, target.taps, OUTPUT)
    attributed = watch.timed(
        "attribution",
        f"{len(version)} pairs, all {bundle.n_units(MODEL, LAYER)} neurons of {LAYER}",
        lambda: runs.attributed(version, foil)[module],
        2,
    )
    best = np.argsort(attributed.effect_nu.mean(axis=0), kind="stable")[:20]
    rng = np.random.default_rng(0)
    sets = [best, *(rng.choice(attributed.effect_nu.shape[1], 20, False) for _ in range(N_RANDOM))]
    watch.timed(
        "swaps",
        f"the strongest 20 and {N_RANDOM} random sets of 20 on {N_SWAPPED} pairs",
        lambda: runs.swapped(module, version[:N_SWAPPED], foil[:N_SWAPPED], sets),
    )
    shots = simulated_slices(-(-N_SLICE // 5), N_SLICE)
    watch.timed(
        "fix",
        f"20 neurons held at 0, {N_RANDOM} random sets, {N_SLICE} photographs of each slice, drawn",
        lambda: try_fix(
            Trials(target, shots, OUTPUT), [Piece(LAYER, np.sort(best))], "zero",
            chosen_on="chosen", n_random=N_RANDOM,
        ),
        30,
    )  # fmt: skip
    watch.timed(
        "factors",
        f"12 factors of {LAYER}, {N_RANDOM} random directions, {N_SLICE} photographs of each "
        "slice, drawn",
        lambda: find_factors(Trials(target, shots, OUTPUT), LAYER, n_random=N_RANDOM),
    )
    unit = int(best[0])
    overlays = NeuronOverlays(bundle, model, target.taps[0], unit)
    (picture,) = pictures(bundle, [int(bundle.exemplars(MODEL, LAYER).image_uk[unit, 0])])
    overlays.over("gradient", [picture])  # the scale of the maps is worked out once
    watch.timed(
        "cocoa", "the map of one image by gradient", lambda: overlays.over("gradient", [picture]), 1
    )
    watch.timed(
        "changes",
        f"one image in {len(CHANGES)} versions, each under its map by gradient",
        lambda: versions(overlays, picture, "gradient"),
    )


def reports(bundle: Bundle, watch: Watch) -> None:
    """What reads the bundle alone."""
    document = watch.timed(
        "report", "the document of a report", lambda: report.document_of(
            bundle, report.options_for(bundle, MODEL), None
        ),
    )  # fmt: skip
    for file_format in report.FORMATS:
        watch.timed(
            f"report_{file_format}",
            f"the same as {file_format.upper()}",
            lambda file_format=file_format: report.as_bytes(document, file_format),
            15,
        )


PARTS = {"network": network, "reports": reports}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=PARTS, help="the other part keeps its last figures")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    watch = Watch(options.out / "auditing.json")
    for part in [options.only] if options.only else PARTS:
        PARTS[part](Bundle.open(DEMO), watch)


if __name__ == "__main__":
    main()
