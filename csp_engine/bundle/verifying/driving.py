"""Whether the neurons of circuits are those that the stages of influence name."""

from __future__ import annotations

import numpy as np

from csp_engine.bundle import kinds
from csp_engine.bundle.reader import Bundle
from csp_engine.bundle.verifying.sampling import Found


def circuit(bundle: Bundle, model: str) -> Found:
    """Of every output and layer the strongest neurons, with the effects that influence holds.

    What feeds what follows from gradients, which no stage keeps.
    """
    stage = kinds.CIRCUIT.name(model)
    held = bundle.circuit(model)
    if held is None:
        return
    names = tuple(held.outputs["name"])
    n_most = bundle.stage(stage).params.get("n_neurons", len(held.nodes))
    for layer, of_layer in held.nodes.groupby("layer", sort=False):
        influence = bundle.influence(model, str(layer))
        if influence is None or influence.output_names != names:
            yield stage, f"Layer {layer} of {stage} has no influence on its outputs."
            continue
        effect_cu = np.asarray(influence.gradient_activation_cu)
        for output, own in of_layer.groupby("output", sort=False):
            row = int(str(output))
            effect_u = effect_cu[row]
            order = np.argsort(-np.abs(effect_u), kind="stable")[:n_most]
            order = order[effect_u[order] != 0]
            if own["unit"].tolist() != order.tolist() or not np.array_equal(
                own["effect"].to_numpy(np.float32), effect_u[order]
            ):
                yield (
                    stage,
                    f"Neurons of {layer} in {stage} are not those that drive {names[row]} most.",
                )
                break
