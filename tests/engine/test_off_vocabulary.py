"""Studies of directions at random, of regions and of a random network: their own figures."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from studies import random_network
from studies.off_vocabulary import CONDITIONS, Words, figures
from studies.regions import KINDS, WAYS, labelled, without
from tests.worlds import small_layers


def test_conditions_are_shares_of_what_can_be_read():
    rng = np.random.default_rng(0)
    image_nd, label_td = small_layers.unit_rows(rng, 200, 9), small_layers.unit_rows(rng, 7, 9)
    texts = [f"word {t}" for t in range(6)] + ["word 0 and word 1"]
    activation_un = rng.standard_normal((3, 200))
    activation_un[0] += 4 * image_nd @ label_td[2]
    told = pd.DataFrame(
        {"label": ["word 2", "word 3", "word 4"], "claimed": [True, True, False], "fit": 0.6,
         "reach": [0.8, 0.5, 0.9]}
    )  # fmt: skip
    found = Words(image_nd, label_td, texts).measured(activation_un, told)
    similarity_nt = image_nd @ label_td.T
    for u, label in ((0, 2), (1, 3)):
        two = max(
            np.corrcoef(activation_un[u], best_of(similarity_nt[:, [label, t]], activation_un[u]))[
                0, 1
            ]
            for t in range(6)
            if t != label
        )
        assert found.loc[u, "two words"] == pytest.approx(two / told.loc[u, "reach"], rel=1e-5)
        assert found.loc[u, "explained"] == pytest.approx(0.6 / told.loc[u, "reach"])
    assert found.loc[0, "shown"] > 2 * abs(found.loc[1, "shown"])
    assert found.loc[2, list(CONDITIONS)].isna().all()


def best_of(column_nk, activation_n):
    """What least squares makes of columns."""
    design = np.column_stack([column_nk, np.ones(len(column_nk))])
    return design @ np.linalg.lstsq(design, activation_n, rcond=None)[0]


def test_claims_are_counted_by_whether_something_is_true():
    table = pd.DataFrame({"right": pd.array([True, True, False, None, None], "boolean")})
    found = figures(table, pd.Series([True, False, True, True, False]))
    assert {name: (own["n_hits"], own["n"]) for name, own in found.items()} == {
        "right": (1, 3), "wrong": (1, 3), "none refused": (1, 2),
    }  # fmt: skip


def test_claims_of_a_random_network_are_wrong_where_something_else_is_true():
    table = pd.DataFrame(
        {
            "claimed": [True, True, False, True, False],
            "answers": [True, True, True, False, False],
            "right": [True, False, True, False, False],
        }
    )
    found = random_network.figures(table)
    assert {name: (own["n_hits"], own["n"]) for name, own in found.items()} == {
        "claimed": (3, 5),
        "answer to a concept": (3, 5),
        "right, where one is true": (2, 3),
        "claims wrong, where one is true": (1, 2),
        "refused, where none is": (1, 2),
    }


def test_regions_are_labelled_as_whole_images_are():
    """The first unit's images show label 0 whole and label 1 cut; contrast takes label 0 away."""
    label_td = np.eye(4, dtype=np.float32)[:3]
    rng = np.random.default_rng(1)

    def near(axis):
        noise = 0.05 * rng.standard_normal((5, 4))
        return (np.eye(4)[axis] + noise).astype(np.float32)

    quiet = np.tile(np.eye(4, dtype=np.float32)[0], (5, 1))
    rows = [
        {"whole": near(0), "region": near(1), "quiet": quiet},
        {"whole": near(2), "region": near(2), "quiet": 0 * quiet},
    ]
    assert np.abs(without(rows[0], "whole")[:, 0]).max() < 1e-6
    np.testing.assert_array_equal(without(rows[1], "whole"), rows[1]["whole"])
    said = labelled(rows, label_td)
    assert list(said.columns) == [(way, kind) for kind in KINDS for way in WAYS]
    for way in WAYS[:2]:
        assert said[way, "whole"].tolist() == [0, 2]
        assert said[way, "region"].tolist() == [1, 2]
    assert said[WAYS[2], "whole"].tolist()[1] == 2
