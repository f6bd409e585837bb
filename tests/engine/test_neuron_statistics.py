"""What is said about one neuron in numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from csp_engine import pipeline
from csp_engine.bundle import Bundle
from csp_engine.types import NeuronRef
from csp_engine.views.neuron.statistics import statistics
from tests.worlds import toys


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    folder = tmp_path_factory.mktemp("small")
    return pipeline.build(toys.request(folder, folder / "small.csp"))


@pytest.mark.parametrize(
    ("strongest", "said"),
    [
        ([6, 6, 6, 5, 4], "5, the first 3 equally strong"),
        ([6, 6, 6, 6, 6], "5, all equally strong"),
        ([6, 5, 5, 4, 4], "5"),
        ([], "0"),
    ],
)
def test_exemplars_that_share_the_first_place_are_said(bundle, monkeypatch, strongest, said):
    """Above a ceiling (ReLU6) which images are shown is chance, and the number says so."""
    model = bundle.model_names[0]
    layer = bundle.layers(model)[0]
    held = bundle.exemplars(model, layer)
    activation_uk = np.zeros_like(held.activation_uk)
    activation_uk[0, : len(strongest)] = strongest
    count_u = np.full(len(held.count_u), len(strongest), np.int32)
    given = replace(held, activation_uk=activation_uk, count_u=count_u)
    monkeypatch.setattr(Bundle, "exemplars", lambda *_: given)
    found = {each.name: each for each in statistics(bundle, NeuronRef(model, layer, 0))}
    assert found["Exemplars"].text == said
    assert found["Exemplars"].values["n_exemplars"] == len(strongest)
