"""Does it help to take, of several methods' labels, the one that is most likely right?

Each method's best label of every neuron gets the probability that the other layers' known neurons
teach (``views.confidence``), and the neuron is given the label with the highest one. Judged by the
strict rule of ``csp evaluate``, beside each method alone and the best that any choice could do.

    python -m studies combined_methods [BUNDLE ...]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from csp_engine.bundle import Bundle
from csp_engine.evaluation.confidence import left_out
from csp_engine.stats.intervals import share_of
from csp_engine.views.accuracy import kept_judged_labels
from csp_engine.views.confidence import LIKELY, PLAUSIBLE, features
from csp_engine.views.memo import Memo
from studies.real_dermoscopy import rounded
from studies.vocabulary_gap import DEMO

METHOD = "csp_plus"
RESULT = Path(__file__).parent / "results" / "combined_methods.json"


def judged(bundle: Bundle) -> dict[str, pd.DataFrame]:
    """By method, every neuron with a verdict: ``p``, ``best``, and whether a concept is true."""
    memo, found = Memo(), {}
    for method, table in kept_judged_labels(bundle, memo).items():
        parts = []
        for (model, layer), own in table.groupby(["model", "layer"], sort=False):
            rows = features(bundle, memo, model, layer, method)[own["unit"].to_numpy()]
            parts.append(own.assign(features=list(rows)))
        whole = pd.concat(parts)
        right_u = whole["best"].to_numpy(bool)
        place_u = (whole["model"] + "/" + whole["layer"]).tolist()
        whole["p"] = left_out(np.stack(whole["features"].to_list()), right_u, place_u)
        whole["has_truth"] = whole["concepts"].map(len) > 0
        found[method] = whole.set_index(["model", "layer", "unit"])[["p", "best", "has_truth"]]
    return found


def figures(found: dict[str, pd.DataFrame]) -> dict[str, Any]:
    """Shares right of every way to choose, and pairs in which the choice and CSP+ differ."""
    names = list(found)
    p_um = pd.DataFrame({name: found[name]["p"] for name in names}).fillna(-1).to_numpy()
    right_um = pd.DataFrame({name: found[name]["best"] for name in names}).to_numpy(bool)
    has_u = found[METHOD]["has_truth"].to_numpy(bool)
    chosen_u = p_um.argmax(axis=1)
    combined_u = right_um[np.arange(len(right_um)), chosen_u]
    own = names.index(METHOD)

    def told(right_u: np.ndarray) -> list[float]:
        share = share_of(int(right_u.sum()), len(right_u))
        return [share.share, share.low, share.high, share.n]

    gained = int((combined_u & ~right_um[:, own])[has_u].sum())
    lost = int((~combined_u & right_um[:, own])[has_u].sum())
    return {
        "right": {name: told(right_um[has_u, at]) for at, name in enumerate(names)}
        | {"combined": told(combined_u[has_u]), "any": told(right_um[has_u].any(axis=1))},
        "taken from": {name: int((chosen_u[has_u] == at).sum()) for at, name in enumerate(names)},
        "gained, lost, p": [gained, lost, binomtest(gained, max(gained + lost, 1)).pvalue],
        "right of those with a probability of at least": {
            f"{least:g}": {
                METHOD: told(right_um[p_um[:, own] >= least, own]),
                "combined": told(combined_u[p_um.max(axis=1) >= least]),
            }
            for least in (LIKELY, PLAUSIBLE)
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundles", nargs="*", type=Path, default=[DEMO])
    result = {
        path.name.removesuffix(".csp"): figures(judged(Bundle.open(path)))
        for path in parser.parse_args().bundles
    }
    for name, value in result.items():
        print(name, *(f"  {key}: {each}" for key, each in value.items()), sep="\n")
    RESULT.write_text(json.dumps(rounded(result), indent=1) + "\n")


if __name__ == "__main__":
    main()
