"""A small share of the fuzzer; ``python -m tests.fuzz.bundles --n 10000 --seed 0`` is the whole."""

from __future__ import annotations

import pytest

from tests.fuzz.bundles import one_case

N_CASES = 12


@pytest.mark.slow
@pytest.mark.parametrize("number", range(N_CASES))
def test_a_mutated_bundle_is_never_silently_wrong(fuzz_world, number):
    found = one_case(fuzz_world, 1, number)
    bad = [each for each in found if each[0] in ("traceback", "hang", "wrong")]
    assert not bad
    assert found
