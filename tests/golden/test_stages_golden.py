"""What stages are known by and hold must not change: a bundle of every stage, as first written.

``stages.json`` was written by the engine before its modules were divided into rooms (5548205). One
thing was changed since, on purpose: the file name of an imported table is a fact now, and no longer
part of the key.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from csp_engine.bundle import Bundle, kinds, stage_key, verify
from tests.worlds.everything import described, everything

LATER = {
    "association",
    "circuit",
    "columns",
    "curves",
    "factors",
    "fix",
    "intervention",
    "maps",
    "separation",
    "seen",
}
"""Kinds of stages that came later, of which older bundles know nothing."""

GOLDEN = json.loads(Path(__file__).with_name("stages.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    return everything(tmp_path_factory.mktemp("golden"))


def known_then(bundle: Bundle) -> dict[str, Any]:
    found = described(bundle)
    return {name: stage for name, stage in found.items() if kinds.stage_kind(name) not in LATER}


def test_a_key_is_still_made_from_the_same_parts():
    keys = {name: stage["key"] for name, stage in GOLDEN.items()}
    for name, stage in GOLDEN.items():
        needs = {need: keys[need] for need in stage["needs"]}
        made = stage_key(name, stage["version"], stage["params"], needs, stage["inputs"])
        assert made == stage["key"], name


@pytest.mark.slow
def test_every_stage_is_known_by_the_same_parts(bundle):
    found = known_then(bundle)
    assert list(found) == list(GOLDEN)
    for name, stage in found.items():
        params = {k: v for k, v in GOLDEN[name]["params"].items() if k != "table"}
        assert stage["params"] == params, name
        for part in ("version", "needs"):
            assert stage[part] == GOLDEN[name][part], (name, part)
        assert list(stage["inputs"]) == list(GOLDEN[name]["inputs"]), name
    assert verify(bundle) == []


def test_every_stage_holds_the_same_files(bundle):
    for name, stage in known_then(bundle).items():
        shapes = {file: entry[:2] for file, entry in stage["files"].items()}
        assert shapes == {file: entry[:2] for file, entry in GOLDEN[name]["files"].items()}, name
        facts = [fact for fact in stage["facts"] if fact != "table"]
        assert sorted(facts) == sorted(GOLDEN[name]["facts"]), name


def test_equal_inputs_have_equal_keys_and_whole_numbers(bundle):
    """Content keys hang on the bytes of the drawn images, which libraries may encode otherwise."""
    found = known_then(bundle)
    if found["images"]["inputs"] != GOLDEN["images"]["inputs"]:
        pytest.skip("this Pillow writes other PNG files than the one the golden keys are from")
    for name, stage in found.items():
        if name.partition(":")[0] not in ("candidates", "vocabulary"):  # a captioner was trained
            assert stage["inputs"] == GOLDEN[name]["inputs"], name
    for name, stage in found.items():
        if stage["key"] == GOLDEN[name]["key"]:
            hashes = {file: entry[2] for file, entry in stage["files"].items()}
            assert hashes == {f: entry[2] for f, entry in GOLDEN[name]["files"].items()}, name
