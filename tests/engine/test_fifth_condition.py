from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from csp_engine.bundle import Bundle
from studies.fifth_condition import BAR, figures, neurons
from studies.sure_and_wrong import known
from studies.vocabulary_gap import DEMO


def test_a_bar_takes_claims_away_and_counts_what_is_left():
    table = pd.DataFrame(
        {
            "right": pd.array([True, True, False, True, None, None], "boolean"),
            "claimed": [True, True, True, False, True, False],
            "share": [0.9, 0.6, 0.7, 0.9, 0.6, 0.9],
            "is_none": [False, False, False, False, True, True],
        }
    )
    assert figures(table, 0)["right"][0] == pytest.approx(2 / 4)
    assert figures(table, 0)["none refused"][0] == pytest.approx(1 / 2)
    found = figures(table, 0.65)
    assert found["right"][0] == pytest.approx(1 / 4)
    assert found["wrong"][0] == pytest.approx(1 / 4)
    assert found["none refused"][0] == pytest.approx(1)
    assert (found["n"], found["none"]) == (4, 2)


def test_the_share_is_that_of_what_is_stored_of_the_same_neuron():
    demo = Bundle.open(DEMO)
    table = neurons(demo)
    first = [(m, layer) for m in demo.model_names for layer in demo.layers(m)][1]
    scores = demo.scores(*first, "csp_plus")
    reach_u = demo.score_array(*first, "csp_plus", "reach")
    own = table[table["row"] == first[1]]["share"].to_numpy()[: len(reach_u)]
    assert own[7] == pytest.approx(float(scores.score_uk[7, 0]) / float(reach_u[7]))
    stored = sum(
        int(demo.scores(m, layer, "csp_plus").reliable_u.sum())
        for m in demo.model_names
        for layer in demo.layers(m)
    )
    told = known(demo).reset_index(drop=True)
    later_u = told["two_words"] >= np.float32(0.8) * told["reach"]  # the sixth condition
    five_u = table["claimed"] & (table["share"] >= BAR)
    assert int((five_u & later_u).sum()) == stored < int(five_u.sum())
