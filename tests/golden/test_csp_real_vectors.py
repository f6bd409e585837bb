"""The paper preset on real CLIP vectors of photographs and of 1,203 object names."""

from __future__ import annotations

import numpy as np
import pytest

from csp_engine.methods import METHODS, label_units
from tests.reference import csp_reference as reference
from tests.worlds import small_layers


@pytest.mark.parametrize("gamma", [0.5, 1.0])
def test_paper_preset_agrees_with_the_loops_on_real_clip_vectors(shared_data, gamma):
    folder = shared_data / "clip_vectors"
    image_nd = np.load(folder / "unsplash125_image.npy", allow_pickle=False).astype(np.float32)
    image_nd /= np.linalg.norm(image_nd, axis=1, keepdims=True)
    label_td = np.load(folder / "text_lvis1203.npy", allow_pickle=False).astype(np.float32)
    rng = np.random.default_rng(0)
    label_td *= rng.uniform(0.8, 1, (len(label_td), 1)).astype(np.float32)
    # Neurons that follow a name, with noise of the same size; some of their activations negative.
    told = image_nd @ label_td[[10, 400, 900]].T
    acts_un = ((told - told.mean(axis=0)) / told.std(axis=0)).T
    acts_un = acts_un + rng.standard_normal(acts_un.shape)
    evidence = small_layers.mined(acts_un, image_nd, 100)
    null = small_layers.noise(rng, image_nd, 20, 100)
    params = {**METHODS["csp"].published, "gamma": gamma}
    scores, _ = label_units("csp", evidence, null, label_td, params, n_labels=5)
    for unit in range(3):
        rows, partners, activations = small_layers.rows_of(evidence, unit, 30)
        z = reference.concept_vector(rows, partners, activations, gamma, "raw")
        expected = np.array(reference.scores(z, label_td))
        np.testing.assert_allclose(scores.score_uk[unit], np.sort(expected)[:-6:-1], atol=1e-5)
        np.testing.assert_allclose(
            expected[scores.label_uk[unit]], scores.score_uk[unit], atol=1e-5
        )
