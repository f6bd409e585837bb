"""Search compares neurons with few exemplars with random image sets of as few."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from csp_engine.bundle import Bundle, KeptScores, verify
from csp_engine.bundle.verifying.sampling import sampled
from csp_engine.pipeline import Target, build
from csp_engine.pipeline.recipe import changed
from csp_engine.views.case.audit import _bars
from csp_engine.views.comparison import Side, _chance
from csp_engine.views.finding.query import Query
from csp_engine.views.finding.standing import judged
from csp_engine.views.lists import found_neurons
from csp_engine.views.memo import Memo
from csp_engine.views.random_sets import FULL, best_controls, lengths, null_of, sizes
from tests.worlds import toys

LAYER = "first@none"
N_SCORE = 20


class Noise(torch.nn.Module):
    """Units that mean nothing, each active on a random few of the images."""

    def __init__(self, n_units: int = 150, share: float = 0.03) -> None:
        super().__init__()
        self.n_units, self.share = n_units, share
        self.first = torch.nn.Identity()
        self.second = torch.nn.Linear(n_units, 4)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        rows = []
        for image in pixels:
            digest = hashlib.sha256(np.ascontiguousarray(image.numpy()).tobytes()).digest()
            rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
            is_on_u = rng.random(self.n_units) < self.share
            rows.append(np.where(is_on_u, rng.random(self.n_units), 0).astype(np.float32))
        return self.second(self.first(torch.from_numpy(np.stack(rows))))


def noise() -> torch.nn.Module:
    torch.manual_seed(0)
    return Noise()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("sparse")
    toys.draw_images(folder / "images", 150, side=16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(toys, "network", noise)
        target: Target = toys.target(["first"])
    recipe = changed(toys.SMALL, {"n_null": 200, "n_exemplars": 25, "n_score": N_SCORE})
    asked = toys.request(folder, folder / "a.csp", targets=(target,), recipe=recipe)
    return build(asked)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["csp", "semanticlens"])
def test_where_no_sparse_neuron_means_anything_hardly_a_query_finds_one(bundle, method):
    """About three in four queries found one when all were compared with sets of full size."""
    encoder, memo, n_clear = toys.ColourEncoder(), Memo(), 0
    for number in range(60):
        (vector_d,) = encoder.embed_texts([f"w{number} z{number * 7}"])
        query = Query("text", "it", vector_d)
        rows = found_neurons(bundle, memo, method, query)
        found = judged(bundle, memo, query, method, rows)
        n_clear += found is not None and found.best == "clear"
    assert n_clear <= 12


def test_the_sets_are_no_larger_than_the_neuron_and_nearly_as_large(bundle):
    size_u = sizes(bundle, Memo(), "small", LAYER, "csp")
    own_u = np.asarray(bundle.scores("small", LAYER, "csp").n_exemplar_u)
    is_small_u = (own_u > 0) & (own_u < N_SCORE)
    assert is_small_u.sum() > 100
    assert (size_u[~is_small_u] == FULL).all()
    assert (size_u[is_small_u] <= own_u[is_small_u]).all()
    assert (own_u[is_small_u] < 1.25 * (size_u[is_small_u] + 1)).all()
    np.testing.assert_array_equal(sizes(bundle, Memo(), "small", LAYER, "semanticlens"), size_u)


def test_semanticlens_meets_the_mean_of_as_few_images(bundle):
    memo, where = Memo(), ("small", LAYER, "semanticlens")
    size = int(sizes(bundle, memo, *where).max())
    image_nd = np.asarray(bundle.image_vectors(), np.float64)
    mean_rd = image_nd[np.asarray(bundle.array("null", "exemplar_image"))[:, :size]].mean(axis=1)
    unit_rd = mean_rd / np.linalg.norm(mean_rd, axis=1, keepdims=True)
    np.testing.assert_allclose(null_of(bundle, memo, *where, size), unit_rd, atol=1e-5)
    assert (lengths(bundle, memo, *where, size)[1] == 1).all()


@pytest.mark.parametrize("method", ["csp", "semanticlens"])
@pytest.mark.parametrize("what", ["audit", "comparison"])
def test_chance_is_that_of_sets_of_the_neurons_size(bundle, method, what):
    """One noise neuron in twenty lies above it; above that of full size many more did."""
    memo = Memo()
    vector_ud = np.asarray(bundle.scores("small", LAYER, method).vector_ud)
    size_u = sizes(bundle, memo, "small", LAYER, method)
    text_td = np.random.default_rng(0).normal(size=(12, vector_ud.shape[1])).astype(np.float32)
    text_td /= np.linalg.norm(text_td, axis=1, keepdims=True)
    if what == "audit":
        bar_u = _bars(bundle, memo, "small", LAYER, method, text_td, None)
    else:
        side = Side("a", bundle, "small", LAYER)
        bar_u = _chance(memo, side, method, text_td)
    best_u = (vector_ud @ text_td.T).max(axis=1)
    for size in np.unique(size_u).tolist():
        null_rd = null_of(bundle, memo, "small", LAYER, method, size)
        best_r = (null_rd[np.any(null_rd, axis=1)] @ text_td.T).max(axis=1)
        bar = np.quantile(best_r, 0.95, method="linear" if what == "audit" else "higher")
        np.testing.assert_allclose(bar_u[size_u == size], bar, atol=1e-5)
    is_small_u = (size_u != FULL) & np.any(vector_ud, axis=1)
    assert is_small_u.sum() > 100
    assert (best_u > bar_u)[is_small_u].mean() < 0.12


def test_percentiles_and_lengths_are_those_of_sets_of_the_same_size(bundle):
    memo, where = Memo(), ("small", LAYER, "csp")
    size = int(sizes(bundle, memo, *where).max())
    kept = KeptScores(bundle, *where)
    rows = np.flatnonzero(kept.array("null_size") == size)
    rest_rd = np.asarray(kept.array("null_anchor"), np.float64)[rows]
    rest_rd = rest_rd - np.asarray(kept.array("null_projection"), np.float64)[rows]
    length_r = np.linalg.norm(rest_rd, axis=1)
    live = length_r > 1e-5
    np.testing.assert_allclose(lengths(bundle, memo, *where, size)[1], length_r[live], rtol=1e-4)
    z_rd = rest_rd[live] / length_r[live, None]
    null_rd = null_of(bundle, memo, *where, size)
    np.testing.assert_allclose(null_rd[np.any(null_rd, axis=1)], z_rd, atol=1e-4)
    label_td = np.asarray(bundle.label_vectors(), np.float64)
    best_r = np.sort((z_rd @ (label_td - label_td.mean(axis=0)).T).max(axis=1))
    np.testing.assert_allclose(best_controls(bundle, memo, *where, "text", size), best_r, atol=1e-4)
    vector_d = np.asarray(bundle.label_vectors()[0], np.float32)
    found = found_neurons(bundle, memo, "csp", Query("text", "it", vector_d))
    size_u = sizes(bundle, memo, *where)
    for _, row in found[size_u[found["unit"]] == size].iterrows():
        share = np.mean(z_rd @ vector_d < row["match"])
        assert row["match_null"] == pytest.approx(min(share, 1 - 1 / len(z_rd)), abs=0.01)


def test_verify_does_not_miss_sizes_that_only_other_units_have(bundle):
    """Sets are kept for each size of the layer; the sampled units have some of them."""
    rows = sampled(bundle.n_units("small", LAYER))
    own_u = np.asarray(bundle.scores("small", LAYER, "csp").n_exemplar_u)
    assert set(own_u[own_u > 0].tolist()) - set(own_u[rows].tolist())
    assert verify(bundle) == []
