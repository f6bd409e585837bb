"""Families of wordings, against pairs of vectors compared one by one, and in the shipped demo."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csp_engine.bundle import Bundle
from csp_engine.views.memo import Memo
from csp_engine.views.table import families as of_wordings
from csp_engine.views.table.families import families, families_of, family_of, founders
from csp_engine.views.table.rows import neuron_table

SAME = 0.7


def slow(own_td: np.ndarray) -> list[int]:
    """The same by loops over what founded a family before."""
    found: list[int] = []
    for at, mine in enumerate(own_td.astype(np.float64)):
        before = [other for other in range(at) if found[other] == other]
        alike = [other for other in before if mine @ own_td[other].astype(np.float64) >= SAME]
        found.append(alike[0] if alike else at)
    return found


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 14), st.sampled_from([1, 2, 3, 14]))
def test_a_wording_joins_the_first_founder_that_means_the_same(seed, n_texts, width):
    vector_td = np.random.default_rng(seed).normal(size=(n_texts, width)).astype(np.float32)
    own_td = vector_td / np.linalg.norm(vector_td, axis=1, keepdims=True)
    found = founders(own_td)
    assert found.tolist() == slow(own_td)
    with patch.object(of_wordings, "BLOCK", 4):  # many blocks, the last one not full
        assert founders(own_td).tolist() == found.tolist()
    assert (found[found] == found).all()
    assert (found <= np.arange(n_texts)).all()


@pytest.fixture(scope="module")
def bundle(shipped_bundle) -> Bundle:
    return Bundle.open(shipped_bundle)


def test_names_follow_numbers_and_then_the_alphabet_whatever_the_order(bundle):
    n_of = {"nevus": 2, "naevus": 5, "ruler": 5, "nobody's words": 7}
    expected = {"nevus": "naevus", "naevus": "naevus", "ruler": "ruler"}
    expected["nobody's words"] = "nobody's words"  # no label of the vocabulary
    assert families(bundle, Memo(), n_of) == expected
    assert families(bundle, Memo(), dict(reversed(n_of.items()))) == expected
    assert families(bundle, Memo(), {"nevus": 1, "naevus": 1})["nevus"] == "naevus"


def test_what_is_not_reliable_is_in_no_family_and_the_largest_come_first(bundle):
    label = pd.Series(["ruler", "nevus", "nobody's", "nevus", "", "naevus"])
    reliable = pd.Series([True, True, True, False, False, True])
    family = family_of(bundle, Memo(), label, reliable)
    named = family.astype(object).where(family.notna(), "-")
    assert named.tolist() == ["ruler", "naevus", "nobody's", "-", "-", "naevus"]
    assert families_of(pd.DataFrame({"family": family})) == ["naevus", "nobody's", "ruler"]


def test_nothing_at_all_has_no_families(bundle):
    family = family_of(bundle, Memo(), pd.Series(["", ""]), pd.Series([False, False]))
    assert family.isna().all()
    assert families_of(pd.DataFrame({"family": family})) == []


@pytest.mark.slow
def test_a_family_of_the_demo_is_one_concept_in_several_wordings(bundle):
    rows = neuron_table(bundle, Memo(), "csp_plus")
    patches = rows[rows["family"] == "coloured plaster"]
    assert {"coloured plaster", "coloured disc", "coloured sticker"} <= set(patches["label"])
    assert (patches["truth"] == "colour patch").mean() >= 0.9
    reliable = rows[rows["reliable"]]
    assert reliable["family"].notna().all()
    assert rows.loc[~rows["reliable"], "family"].isna().all()
    assert reliable["family"].nunique() < 0.6 * reliable["label"].nunique()
