from __future__ import annotations

import io
import os
import subprocess
import sys

import numpy as np
import pytest

from csp_engine.search import layout_process
from csp_engine.search.layout_process import LayoutProcess
from csp_engine.search.projection import lay_out, nearest
from csp_engine.stats.planes import neighbour_recall, principal_components


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def clusters(n_each: int = 40, width: int = 16, n: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    centre = rng.normal(size=(n, width))
    rows = np.repeat(centre, n_each, axis=0) + 0.25 * rng.normal(size=(n * n_each, width))
    return unit(rows), np.repeat(np.arange(n), n_each)


@pytest.mark.slow
def test_groups_of_vectors_stay_groups_on_the_map():
    vector_ud, group_u = clusters()
    laid = lay_out(vector_ud)
    assert laid.kind == "umap"
    distance = np.linalg.norm(laid.xy_u2[:, None] - laid.xy_u2[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    assert (group_u[distance.argmin(axis=1)] == group_u).all()
    assert laid.neighbour_recall > 0.3  # ten random ones of 159 would share 0.06


def test_a_map_leaves_torch_as_many_threads_as_it_had():
    vector_ud, _ = clusters()
    code = (
        "import io, sys, numpy as np, torch\n"
        "from csp_engine.search.projection import lay_out\n"
        "laid = lay_out(np.load(io.BytesIO(sys.stdin.buffer.read())))\n"
        "print(laid.kind, torch.get_num_threads())\n"
    )
    given = io.BytesIO()
    np.save(given, vector_ud)
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=given.getvalue(),
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        check=True,
    )
    assert done.stdout.split() == [b"umap", b"1"]


@pytest.mark.slow
def test_the_same_vectors_give_the_same_map_also_in_another_process():
    vector_ud, _ = clusters()
    here = lay_out(vector_ud).xy_u2
    code = (
        "import sys; from tests.engine.test_projection import clusters, lay_out;"
        "sys.stdout.buffer.write(lay_out(clusters()[0]).xy_u2.tobytes())"
    )
    env = {**os.environ, "OMP_NUM_THREADS": "2"}
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=env)
    assert there.stdout == here.tobytes()
    assert (lay_out(vector_ud, seed=1).xy_u2 != here).any()


def test_what_numba_compiles_is_kept_for_the_next_process():
    from umap import umap_

    lay_out(clusters()[0])
    for function in (umap_.smooth_knn_dist, umap_.compute_membership_strengths):
        assert function.stats.cache_hits or function.stats.cache_misses


def test_neurons_without_evidence_have_no_place_and_change_nothing():
    vector_ud, _ = clusters()
    holed = np.zeros((len(vector_ud) + 3, vector_ud.shape[1]), np.float32)
    rows = np.setdiff1d(np.arange(len(holed)), [0, 50, len(holed) - 1])
    holed[rows] = vector_ud
    laid = lay_out(holed).xy_u2
    assert np.isnan(laid[[0, 50, -1]]).all()
    np.testing.assert_array_equal(laid[rows], lay_out(vector_ud).xy_u2)


def test_equal_vectors_share_a_point_however_many_there_are():
    vector_ud, _ = clusters()
    doubled = np.concatenate([vector_ud, np.repeat(vector_ud[:1], 100, axis=0)])
    laid = lay_out(doubled)
    assert laid.n_distinct == len(vector_ud)
    assert (laid.xy_u2[len(vector_ud) :] == laid.xy_u2[0]).all()
    assert np.isfinite(laid.xy_u2).all()


@pytest.mark.parametrize("n", [0, 1, 2, 3, 14, 49, 50, 51])
@pytest.mark.parametrize("width", [1, 2, 5])
def test_any_number_of_vectors_of_any_width_has_a_map(n, width):
    rng = np.random.default_rng(n)
    vector_ud = unit(rng.normal(size=(n, width))) if n else np.zeros((0, width), np.float32)
    laid = lay_out(vector_ud)
    assert laid.xy_u2.shape == (n, 2)
    assert np.isfinite(laid.xy_u2).all()
    assert laid.n_distinct == len(np.unique(vector_ud, axis=0))
    assert laid.kind == ("umap" if laid.n_distinct >= 50 else "pca")


def test_only_zero_vectors_have_an_empty_map():
    laid = lay_out(np.zeros((30, 4), np.float32))
    assert np.isnan(laid.xy_u2).all()
    assert (laid.kind, laid.n_distinct) == ("pca", 0)
    assert np.isnan(laid.neighbour_recall)


def test_vectors_on_a_line_keep_their_order():
    angle = np.linspace(0, 0.3, 60)
    laid = lay_out(np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32))
    assert np.isfinite(laid.xy_u2).all()
    assert laid.neighbour_recall > 0.5


def test_principal_components_keep_distances_of_a_plane():
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(20, 2)) * [3, 1]
    turn, _ = np.linalg.qr(rng.normal(size=(7, 7)))
    rows = (plane @ turn[:2]).astype(np.float32)
    found = principal_components(rows)
    before = np.linalg.norm(plane[:, None] - plane[None], axis=2)
    after = np.linalg.norm(found[:, None] - found[None], axis=2)
    np.testing.assert_allclose(after, before, atol=1e-4)
    assert found[:, 0].var() > found[:, 1].var()


def test_each_vector_is_its_own_nearest_also_beside_near_copies():
    rows = unit(np.ones((30, 8)) + 1e-5 * np.random.default_rng(0).normal(size=(30, 8)))
    row_mk, distance_mk = nearest(rows, 5)
    assert (row_mk[:, 0] == np.arange(30)).all()
    assert all(len(set(row)) == 5 for row in row_mk.tolist())
    assert (np.diff(distance_mk, axis=1) >= 0).all()
    assert (distance_mk[:, 0] == 0).all()


def test_recall_is_one_for_a_faithful_map_and_low_for_a_shuffled_one():
    angle = np.sort(np.random.default_rng(0).uniform(0, 3, 400))
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    assert neighbour_recall(circle, circle) > 0.99
    shuffled = circle[np.random.default_rng(1).permutation(400)]
    assert neighbour_recall(circle, shuffled) < 0.1


@pytest.mark.slow
def test_a_process_of_its_own_lays_out_the_same_map(monkeypatch):
    monkeypatch.setattr(layout_process, "n_cores", lambda: 2)
    vector_ud, _ = clusters()
    vector_ud[5] = 0  # a neuron without evidence
    here = lay_out(vector_ud, seed=3)
    monkeypatch.setattr(layout_process, "lay_out", None)  # nothing is laid out here
    with LayoutProcess() as apart:
        there = apart.lay_out(vector_ud, seed=3)()
    np.testing.assert_array_equal(there.xy_u2, here.xy_u2)
    assert there.xy_u2.dtype == here.xy_u2.dtype
    assert (there.kind, there.n_distinct) == (here.kind, here.n_distinct)
    assert there.neighbour_recall == here.neighbour_recall


@pytest.mark.parametrize("cores", [1, 2])
def test_without_that_process_the_map_is_laid_out_here(monkeypatch, cores):
    monkeypatch.setattr(layout_process, "n_cores", lambda: cores)
    monkeypatch.setattr(layout_process, "__name__", "csp_engine.no_such_module")
    vector_ud = clusters()[0][:20]  # principal components: no UMAP needed
    with LayoutProcess() as apart:
        assert (apart._process is None) == (cores == 1)
        laid = apart.lay_out(vector_ud)()
    np.testing.assert_array_equal(laid.xy_u2, lay_out(vector_ud).xy_u2)


def test_the_process_ends_with_the_block_though_nobody_asked_it(monkeypatch):
    monkeypatch.setattr(layout_process, "n_cores", lambda: 2)
    with LayoutProcess() as apart:
        process = apart._process
        assert process.poll() is None
    assert process.returncode is not None


def test_a_map_that_nobody_waits_for_ends_with_the_block(monkeypatch):
    monkeypatch.setattr(layout_process, "n_cores", lambda: 2)
    with LayoutProcess() as apart:
        process = apart._process
        apart.lay_out(clusters()[0])
    assert process.returncode is not None
    assert not apart._talk.is_alive()


def test_of_two_maps_the_second_is_laid_out_here(monkeypatch):
    monkeypatch.setattr(layout_process, "n_cores", lambda: 2)
    few = clusters()[0][:20]
    with LayoutProcess() as apart:
        waiting = [apart.lay_out(few), apart.lay_out(few[:10])]
        for wait, rows in zip(waiting, (few, few[:10]), strict=True):
            np.testing.assert_array_equal(wait().xy_u2, lay_out(rows).xy_u2)
