"""The best labels of every unit by one label method: stages ``scores:MODEL/LAYER/METHOD``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from csp_engine.bundle import kinds
from csp_engine.methods import METHODS, Method, label_layer
from csp_engine.methods.scoring.asking import Elsewhere
from csp_engine.pipeline.given import (
    MEASURED_NEEDS,
    layer_evidence,
    null_evidence,
    require_given,
    stages_for,
    what_lacks,
)
from csp_engine.pipeline.run import Run
from csp_engine.pipeline.sharing.held import HELD
from csp_engine.pipeline.stage import Made, Stage
from csp_engine.types import LabelScores


def _params(run: Run, model: str, layer: str, method: str) -> dict[str, Any]:
    has_copies = not what_lacks(run, ("copies",), model, layer)
    counts_once = has_copies and "copies" in METHODS[method].uses  # without copies no new key
    return {
        "method": method,
        "method_version": METHODS[method].version,
        "n_labels": run.recipe.n_labels,
        **METHODS[method].recorded(run.recipe.method_params(method)),
        **({"copies": "once"} if counts_once else {}),
    }


def _needs(run: Run, model: str, layer: str, method: str) -> list[str]:
    asked = METHODS[method].needs + METHODS[method].uses
    more = [s for s in stages_for(asked, model, layer) if s in run.keys]
    shared = (kinds.EMBEDDINGS, kinds.VOCABULARY, kinds.NULL)
    own = [kinds.NEURONS.name(model, layer), kinds.CONTRAST.name(model, layer)]
    return [*own, *(kind.name() for kind in shared), *more]


def _require_methods(run: Run) -> None:
    """Refuse at once methods that need what this bundle cannot give.

    Scores that are already there need nothing any more.
    """
    for name in run.recipe.methods:
        for model, layer in run.layers:
            if not run.is_fresh(kinds.SCORES.name(model, layer, name)):
                others = ",".join(m for m in run.recipe.methods if m != name) or "METHOD"
                instead = f"leave the method out (--set methods={others})"
                needs = METHODS[name].needs
                require_given(run, f"Method {name!r}", needs, model, layer, instead)


def methods_without_evidence(run: Run) -> dict[str, str]:
    """Methods that need what this copy of the bundle leaves out, and why, in a sentence.

    No option brings that back, so the others need not wait. Scores that are already there need
    nothing any more.
    """
    found: dict[str, str] = {}
    for name in run.recipe.methods:
        for model, layer in run.layers:
            if not run.is_fresh(kinds.SCORES.name(model, layer, name)):
                needs = [need for need in METHODS[name].needs if need in MEASURED_NEEDS]
                if why := what_lacks(run, needs, model, layer):
                    found.setdefault(name, why)
    return found


def _make(run: Run, model: str, layer: str, method: str) -> Made:
    there = [use for use in METHODS[method].uses if not what_lacks(run, (use,), model, layer)]
    needs = METHODS[method].needs_here(there)
    done = label_layer(
        METHODS[method],
        layer_evidence(run, model, layer, f"Method {method!r}", needs),
        null_evidence(run, f"Method {method!r}", needs),
        np.asarray(run.bundle.label_vectors()),
        run.recipe.method_params(method),
        n_labels=run.recipe.n_labels,
        common=run.common.setdefault(method, {}),
        progress=lambda _, done, total: run.progress(f"{method} of {layer}", done, total),
        elsewhere=_elsewhere(run, model, layer, METHODS[method], there),
    )
    scores = done.scores
    tables = {}
    if done.texts is not None:
        own = pd.DataFrame({"text": list(done.texts), "source": method})
        tables["labels"] = own.astype("string")
    stored = {name: getattr(scores, name) for name in LabelScores.__dataclass_fields__}
    return Made(
        arrays={**stored, **done.arrays},
        tables=tables,
        facts={
            "n_units": len(scores.count_u),
            "n_reliable": int(scores.reliable_u.sum()),
            "n_without_evidence": int((scores.count_u == 0).sum()),
        },
    )


def _elsewhere(
    run: Run, model: str, layer: str, method: Method, uses: Sequence[str]
) -> Elsewhere | None:
    """Other processes that run a method, where there are some, they can, and it pays."""
    can_run = not (method.depth or method.writes) and HELD.issuperset(method.needs + method.uses)
    is_long = method.lists and run.sharing is not None and run.sharing.pays(run.bundle.n_images**2)
    if run.sharing is None or not can_run or not is_long:
        return None
    params = run.recipe.method_params(method.name)
    return run.sharing.scores(run.bundle, model, layer, method, params, uses)


STAGE = Stage(kind=kinds.SCORES, params=_params, needs=_needs, make=_make, require=_require_methods)
