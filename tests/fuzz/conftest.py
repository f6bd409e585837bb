"""The bundle that is mutated, made once."""

from __future__ import annotations

import pytest

from tests.fuzz.bundles import World, make_world


@pytest.fixture(scope="package")
def fuzz_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """It, and what every reading gives of it."""
    return make_world(tmp_path_factory.mktemp("fuzz"))
