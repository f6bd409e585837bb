"""A share of the sweep; ``python -m tests.fuzz.sweep`` is the whole."""

from __future__ import annotations

import shutil
import zlib
from pathlib import Path

import pytest

from csp_engine.bundle import Bundle, verify
from tests.fuzz.readings import READINGS
from tests.fuzz.sweep import alterations, redo_keys, verdict, why_undetermined
from tests.worlds.damage import redo

pytestmark = pytest.mark.slow

FORGED = (
    "circuit:small/outputs.parquet.n_images: nudged",
    "circuit:small/edges.parquet.source: swapped",
    "circuit:small/edges.parquet.target: nudged",
    "circuit:small/facts.is_predicted_class",
    "faithfulness:small/first@mean/csp/units.parquet.pearson: nudged",
    "faithfulness:small/first@mean/csp/units.parquet.auprc_high: nudged",
    "faithfulness:small/first@mean/csp/units.parquet.n_said: nudged",
    "faithfulness:small/first@mean/csp/facts.is_held_out",
    "faithfulness:small/first@mean/csp/facts.n_images",
    "performance:small/slices.parquet.slice: nudged",
    "truth:small/second@mean/concepts.parquet.name: nudged",
    "truth:small/second@mean/concepts.parquet.wordings: nudged",
    "words/words.parquet.text: nudged",
    "images/images.parquet.sha256: nudged",
    "intervention:small/effects.parquet.change_low: nudged",
    "factors:small/second@mean/push.npy: swapped",
    "factors:small/second@mean/factors.parquet.gap_low: nudged",
    "factors:small/second@mean/factors.parquet.is_called: nudged",
    "factors:small/second@mean/shown.parquet.row: swapped",
    "factors:small/second@mean/called.npy: nudged",
    "trust/metrics.parquet.is_passed: nudged",
    "trust/metrics.parquet.low: nudged",
    "trust/metrics.parquet.auroc: nudged",
    "trust/metrics.parquet.n_wrong: nudged",
    "association:small/second@mean/found.parquet.q_suspect: nudged",
    "association:small/second@mean/columns.parquet.least: nudged",
    "association:small/second@mean/columns.parquet.n_associated: nudged",
    "association:small/second@mean/facts.n_groups",
    "association:small/second@mean/facts.n_tests",
    "association:small/second@mean/params.n_permutations",
    "images/images.parquet.width: nudged",
    "images/images.parquet.duplicate_group: nudged",
    "projection:csp/xy.npy: nudged",
    "projection:csp/rows.parquet.layer: swapped",
    "scores:small/first@mean/csp_plus/percentile_uk.npy: nudged",
    "scores:small/first@mean/falcon/best_percentile_u.npy: nudged",
    "scores:small/second@mean/falcon/labels.parquet.text: nudged",
    "intervention:small/facts.output",
    "intervention:small/sets.parquet.layer: swapped",
    "intervention:small/sets.parquet.n_units: nudged",
    "intervention:small/shown.parquet.pair: nudged",
    "intervention:small/shown.parquet.version: nudged",
    "intervention:small/units.parquet.layer: swapped",
)
"""What was told by nobody once, and stages that are checked by few others."""
ONE_IN = 400


@pytest.fixture(scope="module")
def world(fuzz_world):
    return fuzz_world, {name: alter for name, _, alter in alterations(fuzz_world.path)}


@pytest.mark.parametrize("turn", range(7))
def test_a_forgery_that_nobody_told_of_is_told_of_now(world, tmp_path, turn):
    """One of each stage at a time, so that each is told of by its stage's name."""
    whole, alters = world
    of_stage: dict[str, list[str]] = {}
    for name in FORGED:
        of_stage.setdefault(name.rpartition("/")[0], []).append(name)
    chosen = {stage: names[turn] for stage, names in of_stage.items() if turn < len(names)}
    bundle = Path(shutil.copytree(whole.path, tmp_path / "a.csp"))
    for name in chosen.values():
        assert alters[name](bundle)
    redo(bundle)
    redo_keys(bundle)
    problems = verify(Bundle.open(bundle))
    for stage, name in chosen.items():
        assert any(stage in each for each in problems), name


def test_of_all_alterations_a_share_is_told_of_or_changes_nothing(world):
    whole, alters = world
    chosen = [name for name in alters if zlib.crc32(name.encode()) % ONE_IN == 0]
    assert len(chosen) > 2
    for name in chosen:
        assert "wrong" not in verdict(whole, alters[name], is_redone=False), name
        found = verdict(whole, alters[name], is_redone=True)
        assert found.startswith(("told in", "told by verify", "nothing")) or (
            found.startswith("told by nobody") and why_undetermined(name)
        ), f"{name}: {found}"


def test_every_file_column_and_entry_is_altered(world):
    """Against the files themselves: nothing of a bundle is left out."""
    whole, alters = world
    files = {p.name for p in whole.path.rglob("*") if p.is_file()} - {"manifest.json", ".lock"}
    named = {name.partition(": ")[0].rpartition("/")[2] for name in alters}
    assert all(any(each.startswith(file) for each in named) for file in files)
    assert len(alters) > 1500
    assert set(READINGS) >= {"audit", "figures", "pages", "labels"}


@pytest.mark.parametrize(
    "name",
    [
        "circuit:small/outputs.parquet.n_images: nudged",
        "trust/facts.judge",
        "projection:csp/xy.npy: swapped",
    ],
)
def test_what_is_left_out_of_readings_and_checks_would_find_nothing(world, tmp_path, name):
    """Against all of them: what ``World`` runs of an altered copy tells the same."""
    whole, alters = world
    bundle = Path(shutil.copytree(whole.path, tmp_path / "a.csp"))
    assert alters[name](bundle)
    redo(bundle)
    redo_keys(bundle)
    assert whole.problems(bundle) == verify(Bundle.open(bundle))
    skipped = READINGS.keys() - whole.looking(bundle).keys()
    assert skipped or "facts" in name  # where types are checked, all facts are looked at
    assert all(READINGS[each](bundle) == whole.truth[each] for each in skipped)
