"""The file of valid and spurious concepts: what it must name, and what a bad one says."""

from __future__ import annotations

import pytest

from csp_engine.demo.simulator.cases import BIASED_RATES, CONCEPTS, SCENARIOS
from csp_engine.errors import InputError
from csp_engine.words.concepts import SHIPPED, read_expected
from csp_engine.words.vocabularies import SHIPPED as VOCABULARIES
from csp_engine.words.vocabularies import clean_label, read_vocabulary

MELANOMA = read_expected(SHIPPED["melanoma"])


def first_names(is_valid: bool) -> list[str]:
    return [c[0] for g in MELANOMA.groups if g.is_valid == is_valid for c in g.concepts]


def test_it_names_every_clinical_concept_and_every_artefact_of_the_simulator():
    by_kind = {kind: {n for n, (k, _) in CONCEPTS.items() if k == kind}
               for kind in ("clinical", "artefact", "skin")}  # fmt: skip
    assert set(first_names(True)) == by_kind["clinical"]
    assert set(first_names(False)) - by_kind["skin"] == by_kind["artefact"]


def test_no_text_names_two_concepts_and_all_are_labels_as_the_vocabulary_keeps_them():
    texts = [t for g in MELANOMA.groups for names in g.concepts for t in names]
    assert len(set(texts)) == len(texts)
    assert [clean_label(text) for text in texts] == texts


def test_every_group_says_who_says_so():
    assert all(len(group.source) > 20 for group in MELANOMA.groups)


def test_the_dermoscopy_vocabulary_names_most_of_them():
    texts = read_vocabulary([str(VOCABULARIES["dermoscopy"])]).texts
    row = {text: at for at, text in enumerate(texts)}
    assert len(MELANOMA.texts(True, row.get)) >= 10
    found = MELANOMA.texts(False, row.get)
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
        ("valid = []\nspurious = []\noutputs = []\nsearches = []", "has no 'title'"),
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
        read_expected(path)


def test_a_missing_file_is_a_sentence(tmp_path):
    with pytest.raises(InputError, match="no file of concepts"):
        read_expected(tmp_path / "none.toml")
