"""A toy stage: how many exemplars every unit has."""

import numpy as np

from csp_engine.bundle import kinds
from csp_engine.pipeline.stage import Made, Stage


def make(run, model, layer):
    count_u = np.asarray(run.bundle.exemplars(model, layer).count_u)
    return Made(arrays={"count": count_u}, facts={"n_exemplars": int(count_u.sum())})


TOY_COUNT = Stage(
    kind=kinds.StageKind(
        "toy_count",
        "How many exemplars every unit has.",
        of=("model", "layer"),
        needs=("neurons",),
        files=(kinds.StageFile("count.npy", "int32", "u", "number of exemplars"),),
    ),
    params=lambda run, model, layer: {},
    needs=lambda run, model, layer: [kinds.NEURONS.name(model, layer)],
    make=make,
)
