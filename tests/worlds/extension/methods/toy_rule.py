"""A toy label method: the concept column that an activation is correlated with most."""

import numpy as np

from csp_engine.methods import Method, OwnLabel, Parameter, Stores, Written


def score(evidence, label_td, params):
    columns, activation_un = evidence.columns, evidence.activation_un
    shown_nc = np.nan_to_num(columns.value_nc)
    centred_un = activation_un - activation_un.mean(axis=1, keepdims=True)
    score_uc = centred_un @ (shown_nc - shown_nc.mean(axis=0))
    said = []
    for score_c in score_uc:
        order = np.argsort(-score_c, kind="stable")[: params["n_kept"]]
        said.append([OwnLabel(f"is {columns.names[c]}", float(score_c[c])) for c in order])
    return Written(said, extra={"n_looked_at": np.full(len(said), len(columns.names), np.int32)})


TOY_RULE = Method(
    name="toy_rule",
    title="Toy rule",
    summary="Names a neuron by the column that its activation goes with.",
    version=1,
    parameters=(Parameter("n_kept", 3, "columns kept", low=1, high=9),),
    needs=("activations", "columns"),
    stores=Stores(arrays={"n_looked_at": "columns looked at"}, vectors="none"),
    depth="",
    writes=True,
    score=score,
)
