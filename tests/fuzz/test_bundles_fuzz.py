"""A small share of the fuzzer; ``python -m tests.fuzz.bundles --n 10000 --seed 0`` is the whole."""

from __future__ import annotations

import pytest

from tests.fuzz.bundles import make_world, one_case

N_CASES = 12


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("fuzz"))


@pytest.mark.parametrize("number", range(N_CASES))
def test_a_mutated_bundle_is_never_silently_wrong(world, number):
    whole, truth = world
    found = one_case(whole, truth, 1, number)
    bad = [each for each in found if each[0] in ("traceback", "hang", "wrong")]
    assert not bad
    assert found
