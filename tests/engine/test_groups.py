"""Groups of neurons by the name of their family, as the table lists it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from csp_engine.bundle import Bundle
from csp_engine.cli.auditing.fixing import _pieces
from csp_engine.cli.auditing.intervening import given_parts
from csp_engine.errors import CspError
from csp_engine.types import NeuronRef
from csp_engine.views.audit import groups
from csp_engine.views.audit.groups import group_of
from csp_engine.views.controls import SAME_AT
from csp_engine.views.memo import Memo
from csp_engine.views.neuron.label import best_label

DEMO = Path(__file__).resolve().parents[2] / "assets" / "demo" / "dermoscopy.csp"
LAYER, OTHER, MODEL = "layer2@max", "layer3@mean", "biased"


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.open(DEMO)


def named(bundle: Bundle, text: str, method: str = "csp_plus"):
    return group_of(bundle, Memo(), MODEL, text, method)


@pytest.mark.slow
def test_a_family_is_all_whose_reliable_label_means_its_name(bundle):
    """By cosine, less what all labels share, which a loop works out from the vocabulary."""
    method = "csp_plus"
    label_td = np.asarray(bundle.label_vectors(), np.float64)
    own_td = label_td - label_td.mean(axis=0)
    own_td /= np.linalg.norm(own_td, axis=1, keepdims=True)
    ids = bundle.label_ids
    units = range(bundle.n_units(MODEL, LAYER))
    labels = [best_label(bundle, NeuronRef(MODEL, LAYER, u), method) for u in units]
    family = "coloured plaster"
    found = named(bundle, f"{LAYER}:{family}", method)
    assert (found.layer, found.name, found.method) == (LAYER, family, method)
    assert len(found.unit_k) == len(set(found.unit_k.tolist())) > 0
    for unit in found.unit_k.tolist():
        assert labels[unit].is_named
        alike = float(own_td[ids[labels[unit].text]] @ own_td[ids[family]])
        assert alike >= SAME_AT - 1e-5
    same = [u for u in units if labels[u].is_named and labels[u].text == family]
    assert set(same) <= set(found.unit_k.tolist())


@pytest.mark.slow
def test_both_commands_take_the_same_neurons_by_name(bundle):
    found = named(bundle, f"{LAYER}:coloured plaster")
    (given,) = given_parts(bundle, MODEL, [f"{LAYER}:coloured plaster"], "csp_plus")
    assert given.name == "coloured plaster"
    assert given.part.tolist() == found.unit_k.tolist()
    (piece,), how = _pieces(bundle, MODEL, [f"{LAYER}:coloured plaster"], [], [], "csp_plus")
    assert piece.part.tolist() == found.unit_k.tolist()
    assert how == "chosen as the family 'coloured plaster' by csp_plus"
    both = [f"{LAYER}:coloured plaster", f"{LAYER}:0, 1"]
    (piece,), how = _pieces(bundle, MODEL, both, [], [], "csp_plus")
    assert set(piece.part.tolist()) == {*found.unit_k.tolist(), 0, 1}
    assert how == "chosen as the family 'coloured plaster' by csp_plus, named by hand"


def test_numbers_are_numbers(bundle):
    assert named(bundle, f"{LAYER}:14, 3,3").unit_k.tolist() == [3, 14]
    assert named(bundle, f"{LAYER}:3").name == "3"
    assert named(bundle, "deep:3") is None
    assert named(bundle, f"{LAYER}:") is None
    assert named(bundle, LAYER) is None


@pytest.mark.parametrize(
    ("text", "method", "said"),
    [
        ("256", "csp_plus", "has no unit 256"),
        ("snow", "csp_plus", "has no family 'snow'; its largest by csp_plus are "),
        ("snow", "", "has no family 'snow'; it has none"),
        ("3,x", "csp_plus", "has no family '3,x'"),
    ],
)
def test_what_is_not_there_is_said(bundle, text, method, said):
    with pytest.raises(CspError) as error:
        named(bundle, f"{LAYER}:{text}", method)
    assert said in str(error.value)


def test_neurons_are_written_as_they_are_read(bundle):
    refs = [NeuronRef(MODEL, layer, unit) for layer, unit in ((LAYER, 5), (OTHER, 1), (LAYER, 0))]
    text = groups.written([*refs, refs[0]])
    assert text == f"{LAYER}:0,5; {OTHER}:1"
    assert groups.written([]) == ""
    assert groups.parts("") == groups.parts(" ; ") == []
    read = [named(bundle, each) for each in groups.parts(text)]
    assert [(each.layer, each.unit_k.tolist()) for each in read] == [(LAYER, [0, 5]), (OTHER, [1])]
