"""``csp audit`` with a concept set of one's own: what it prints is what the formula gives."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from csp_engine.bundle import Bundle
from csp_engine.cli import main
from csp_engine.views.images.separation import DOUBT
from tests.reference import alignment_reference as slow
from tests.worlds import case_world

CONCEPTS = """
title = "naevus"
outputs = ["nevus", "naevus"]

[[valid]]
name = "colours"
source = "a test"
concepts = [["crimson", "red"], ["blue"], ["not in the vocabulary"]]

[[spurious]]
name = "things"
source = "a test"
concepts = [["ruler"], ["streaks"]]

[[neutral]]
name = "borders"
source = "a test"
concepts = [["irregular border"]]
"""
TEXTS = {"valid": ["red", "blue"], "spurious": ["ruler", "streaks"],
         "neutral": ["irregular border"]}  # fmt: skip


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return case_world.make(tmp_path_factory.mktemp("case"))


@pytest.fixture
def concepts(tmp_path: Path) -> Path:
    path = tmp_path / "naevus.toml"
    path.write_text(CONCEPTS, "utf-8")
    return path


def run(capsys, *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(["audit", *map(str, arguments)])
    said = capsys.readouterr()
    return int(stop.value.code or 0), said.out, said.err


def test_every_neuron_is_what_the_formula_says(bundle, concepts, capsys):
    code, out, err = run(capsys, bundle, "--concepts", concepts, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["output"] == "naevus"
    assert {tag: sorted(texts) for tag, texts in found["texts"].items()} == {
        tag: sorted(texts) for tag, texts in TEXTS.items()
    }
    opened = Bundle.open(bundle)
    labels = opened.labels()["text"].tolist()
    vectors = {tag: [opened.label_vectors()[labels.index(text)] for text in texts]
               for tag, texts in found["texts"].items()}  # fmt: skip
    model = found["model"]
    listed = {each["neuron"]: each for each in found["found"]}
    for layer in opened.layers(model):
        stored = opened.influence(model, layer)
        effect = stored.gradient_activation_cu[stored.output_names.index("naevus")]
        chosen = slow.fewest_that_carry(effect.tolist(), 0.5)
        assert chosen == {
            unit for unit in range(len(effect)) if f"{model}/{layer}/{unit}" in listed
        }
        concept_ud = opened.scores(model, layer, "csp").vector_ud
        for unit in chosen:
            each = listed[f"{model}/{layer}/{unit}"]
            aligned = {
                tag: slow.best_alignment(concept_ud[unit : unit + 1], label_td,
                                         opened.empty_text_vector())[0][0]
                for tag, label_td in vectors.items()
            }  # fmt: skip
            for tag, value in aligned.items():
                assert each[tag]["alignment"] == pytest.approx(value, abs=1e-5)
            kind = slow.kind_of_three(*(each[tag]["alignment"] for tag in TEXTS), found["bars"])
            assert each["kind"] == kind
            share = float(effect[unit]) / float(np.abs(effect).sum())
            assert each["influence"] == pytest.approx(share, rel=1e-4)


def test_the_table_names_the_kinds_and_the_most_influential_first(bundle, concepts, capsys):
    _, out, _ = run(capsys, bundle, "--concepts", concepts, "-n", 3)
    _, everything, _ = run(capsys, bundle, "--concepts", concepts, "--json")
    found = json.loads(everything)["found"]
    # The encoder of this bundle knows little of its images, which is said first.
    first, _, *rows = [line for line in out.splitlines() if line != DOUBT]
    for kind in ("valid", "spurious", "unexpected", "neutral"):
        n = sum(each["kind"] == kind for each in found)
        assert f"{n} {kind}" in first
    assert [row.split()[2] for row in rows[-3:]] == [each["neuron"] for each in found[:3]]


def test_the_shipped_set_is_the_default(bundle, capsys):
    _, out, _ = run(capsys, bundle, "--json")
    found = json.loads(out)
    assert found["concepts"]["title"] == "melanoma"
    assert set(found["texts"]) == {"valid", "spurious"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--concepts", "none.toml"], "There is no concept set 'none.toml'"),
        (["--model", "other"], "Model 'other' is not in the bundle; --model can be biased"),
        (["--layer", "none"], "Layer 'none' is not in biased; it has"),
        (["--method", "clip"], "Method 'clip' cannot be used here; --method can be csp"),
    ],
)
def test_what_is_not_there_is_one_sentence(bundle, capsys, arguments, said):
    code, out, err = run(capsys, bundle, *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.splitlines()) == 1


def test_a_vocabulary_without_the_concepts_is_said(bundle, concepts, capsys):
    concepts.write_text(CONCEPTS.replace('["ruler"], ["streaks"]', '["snow"]'), "utf-8")
    code, _, err = run(capsys, bundle, "--concepts", concepts)
    assert code == 2
    assert "names no spurious concept of “naevus”" in err
