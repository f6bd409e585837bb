"""Former names of modules: each leads somewhere, and says where once."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys

import pytest

from csp_engine.moved import MOVED, QUIETLY, STUDIES, homes_of

FORMER = [f"csp_engine.{name}" for name in MOVED | QUIETLY] + list(STUDIES)
HOMES = sorted({home for name in FORMER for home in homes_of(name)})


@pytest.mark.parametrize("home", HOMES)
def test_every_home_exists(home):
    assert importlib.util.find_spec(home) is not None


@pytest.mark.slow
@pytest.mark.parametrize("former", ["csp_engine.chance", *STUDIES])
def test_a_former_name_is_the_same_module_and_says_where_it_is(former):
    home = STUDIES.get(former, "csp_engine.stats.query_null")
    code = f"import csp_engine, importlib; print(importlib.import_module({former!r}).__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == home, done.stderr
    assert done.stderr.count(f"{former} is now {home}; import it from there.") == 1


def test_no_former_name_hides_a_module():
    finders = [finder for finder in sys.meta_path if type(finder).__module__ != "csp_engine.moved"]
    for name in FORMER:
        package, _, _leaf = name.rpartition(".")
        if importlib.util.find_spec(package) is None or package in FORMER:
            continue
        where = importlib.import_module(package).__path__
        assert not any(finder.find_spec(name, where) for finder in finders), name


def in_a_process_of_its_own(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_a_module_of_a_former_package_is_not_run_a_second_time():
    code = """
import sys
import csp_engine.scoring.method, csp_engine.scoring.csp
from csp_engine.methods import method, csp
from csp_engine.scoring.csp import exemplar_weights
from csp_engine.scoring import ranking, csp as former_csp
print(sys.modules["csp_engine.scoring.method"] is sys.modules["csp_engine.methods.method"])
print(csp is sys.modules["csp_engine.methods.csp"], former_csp.exemplar_weights is exemplar_weights)
print(ranking.__name__)
"""
    assert in_a_process_of_its_own(code).split() == [
        "True",
        "True",
        "True",
        "csp_engine.methods.scoring.ranking",
    ]


@pytest.mark.slow
def test_contents_that_went_apart_are_found():
    code = """
import csp_engine.audit, csp_engine.demo.dermoscopy.training as training
from csp_engine.static_pages import of_layers, write_folder
from csp_engine.pipeline.truth import add_truth
from csp_engine.layers import first_tensor
from csp_engine.neuron_facts import *
print(csp_engine.audit.clarity.__name__, training.train.__name__, best_label.__name__)
"""
    assert in_a_process_of_its_own(code) == "clarity train best_label"


def test_a_former_name_runs_as_a_program():
    command = [sys.executable, "-m", "csp_engine.encoder_process"]
    done = subprocess.run(command, input="{", capture_output=True, text=True, check=False)
    assert "is now csp_engine.serving.encoder_process" in done.stderr
    assert "JSONDecodeError" in done.stderr  # it has read what is no request


def test_what_never_existed_is_not_found():
    with pytest.raises(ModuleNotFoundError, match="nothing"):
        importlib.import_module("csp_engine.scoring.nothing")
