"""The file of valid and spurious concepts: what it must name, and what a bad one says."""

from __future__ import annotations

import hashlib
import re

import pytest

from csp_engine.demo.simulator.cases import BIASED_RATES, CONCEPTS, SCENARIOS
from csp_engine.errors import InputError
from csp_engine.files import ROOT
from csp_engine.words.concepts import SHIPPED, Tag, find_concept_set, read_concept_set
from csp_engine.words.vocabularies import SHIPPED as VOCABULARIES
from csp_engine.words.vocabularies import clean_label, read_vocabulary

MELANOMA = read_concept_set(SHIPPED["melanoma"])


def first_names(tag: Tag) -> list[str]:
    return [c[0] for g in MELANOMA.groups if g.tag == tag for c in g.concepts]


def test_it_names_every_clinical_concept_and_every_artefact_of_the_simulator():
    by_kind = {kind: {n for n, (k, _) in CONCEPTS.items() if k == kind}
               for kind in ("clinical", "artefact", "skin")}  # fmt: skip
    assert set(first_names("valid")) == by_kind["clinical"]
    assert set(first_names("spurious")) - by_kind["skin"] == by_kind["artefact"]


def test_no_text_names_two_concepts_and_all_are_labels_as_the_vocabulary_keeps_them():
    texts = [t for g in MELANOMA.groups for names in g.concepts for t in names]
    assert len(set(texts)) == len(texts)
    assert [clean_label(text) for text in texts] == texts


def test_every_group_says_who_says_so():
    assert all(len(group.source) > 20 for group in MELANOMA.groups)


def test_the_dermoscopy_vocabulary_names_most_of_them():
    texts = read_vocabulary([str(VOCABULARIES["dermoscopy"])]).texts
    row = {text: at for at, text in enumerate(texts)}
    assert len(MELANOMA.texts("valid", row.get)) >= 10
    found = MELANOMA.texts("spurious", row.get)
    assert len(found) >= 12
    assert all(texts[at] == text for text, at in found.items())
    assert all(search in row for search in MELANOMA.searches)


def test_what_it_says_of_the_demo_is_what_the_simulator_draws():
    ruler, patch = BIASED_RATES["ruler"], BIASED_RATES["patch"]
    assert patch[0] == 0
    assert min(patch[1:]) > 0
    assert ruler[0] == pytest.approx(2 / 3, abs=0.03)
    assert max(ruler[1:]) < 0.2
    assert BIASED_RATES["ink"][0] > max(BIASED_RATES["ink"][1:])
    assert all(isinstance(rate, float) for rate in SCENARIOS["fair"].rates.values())
    assert not any(SCENARIOS["clean"].rates.values())
    assert SCENARIOS["counter"].rates["patch"][0] > 0 == SCENARIOS["counter"].rates["patch"][1]
    assert all(spec.startswith("python:csp_engine.demo.dermoscopy") for spec in MELANOMA.about)


@pytest.mark.parametrize(
    ("names", "place"),
    [(("naevus", "Melanoma"), 1), (("MEL", "x"), 0), (("benign", "malignant"), 1), (("a",), None)],
)
def test_the_output_is_found_by_its_name(names, place):
    assert MELANOMA.output_of(names) == place


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("title = ", "not TOML"),
        ("\udcff", "not TOML"),
        ("title = 'x'", "has no 'valid'"),
        ("valid = []\nspurious = []\noutputs = []", "has no 'title'"),
        ("valid = 3", "wrong kind"),
        ("valid = [{name = 'a', source = 'b', concepts = ['ruler']}]", "wrong kind"),
        ("valid = [{name = 'a', source = 'b', concepts = [[]]}]", "wrong kind"),
        ("valid = [{name = 'a', source = 'b', concepts = [[3]]}]", "wrong kind"),
        ("valid = [{name = 'a', source = 'b'}]", "has no 'concepts'"),
    ],
)
def test_a_bad_file_is_a_sentence(tmp_path, text, said):
    path = tmp_path / "bad.toml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=said):
        read_concept_set(path)


def test_a_missing_file_is_a_sentence(tmp_path):
    with pytest.raises(InputError, match="no concept set"):
        read_concept_set(tmp_path / "none.toml")


def test_the_example_of_the_document_is_a_concept_set(tmp_path):
    text = (ROOT / "docs" / "methods.md").read_text("utf-8")
    (example,) = re.findall(r"```toml\n(title = .*?)```", text, re.S)
    path = tmp_path / "husky.toml"
    path.write_text(example, "utf-8")
    found = find_concept_set(str(path))
    assert found.tags == ("valid", "spurious", "neutral")
    assert found.output_of(("wolf", "Siberian Husky")) == 1
    rows = {"erect ears": 3, "snow": 5, "snowy ground": 7, "wolf": 9}
    assert found.texts("valid", rows.get) == {"erect ears": 3}
    assert found.texts("spurious", rows.get) == {"snow": 5}
    assert found.texts("neutral", rows.get) == {"wolf": 9}
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_set_is_found_by_name_or_by_file(tmp_path):
    assert find_concept_set("melanoma").title == "melanoma"
    with pytest.raises(InputError, match="no concept set 'melanom'; name a TOML file, or melanoma"):
        find_concept_set("melanom")
    with pytest.raises(InputError, match="no concept set"):
        find_concept_set(str(tmp_path))  # a folder
