"""Former names of modules: each leads somewhere, and says where once."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys

import pytest

from csp_engine.moved import MOVED, QUIETLY, STUDIES

HOMES = [f"csp_engine.{home}" for home in (MOVED | QUIETLY).values()] + list(STUDIES.values())


@pytest.mark.parametrize("home", HOMES)
def test_every_home_exists(home):
    assert importlib.util.find_spec(home) is not None


@pytest.mark.parametrize("former", ["csp_engine.chance", *STUDIES])
def test_a_former_name_is_the_same_module_and_says_where_it_is(former):
    home = STUDIES.get(former, "csp_engine.stats.query_null")
    code = f"import csp_engine, importlib; print(importlib.import_module({former!r}).__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == home, done.stderr
    assert done.stderr.count(f"{former} is now {home}; import it from there.") == 1
