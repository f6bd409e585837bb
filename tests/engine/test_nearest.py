"""The search for nearest images against sorting every product, on awkward shapes."""

from __future__ import annotations

import numpy as np
import pytest

from csp_engine.evidence import nearest
from csp_engine.evidence.nearest import nearest_images
from csp_engine.types import silent


def awkward_images(kind: str, n: int, d: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    image_nd = rng.standard_normal((n, d)).astype(np.float32)
    if kind == "crowded":  # whole clusters of near copies, in a row
        image_nd = image_nd[rng.integers(0, 5, n)].repeat(1, axis=0) + 1e-3 * image_nd
    if kind == "copies":
        image_nd = image_nd[np.sort(rng.integers(0, 3, n))]
    if kind == "alike":
        image_nd[:] = image_nd[0]
    if kind == "zeros":
        image_nd[rng.random(n) < 0.5] = 0
    if kind == "one side":
        image_nd = -np.abs(image_nd)
        image_nd[::2] *= -1
    length_n = np.linalg.norm(image_nd, axis=1, keepdims=True)
    return (image_nd / np.where(length_n > 0, length_n, 1)).astype(np.float32)


@pytest.mark.parametrize("kind", ["plain", "crowded", "copies", "alike", "zeros", "one side"])
@pytest.mark.parametrize(
    ("n", "share", "length"), [(700, 1.0, 5), (700, 0.3, 40), (333, 0.9, 7), (60, 0.5, 60)]
)
@pytest.mark.parametrize("panel", ["one", "many"])
def test_lists_hold_the_largest_products(monkeypatch, kind, n, share, length, panel):
    monkeypatch.setattr(nearest, "_TILE", 64)
    monkeypatch.setattr(nearest, "_SPARE", 16)
    if panel == "many":
        monkeypatch.setattr(nearest, "_PANEL_BYTES", 8 * 100 * (2 * length + 16))
    image_nd = awkward_images(kind, n, 6, n + length)
    rng = np.random.default_rng(1)
    query_e = np.flatnonzero(rng.random(n) < share)
    image_el, product_el = nearest_images(image_nd, query_e, length, silent)
    whole_en = image_nd[query_e] @ image_nd.T
    expected_el = -np.sort(-whole_en, axis=1)[:, :length]
    np.testing.assert_allclose(product_el, expected_el, atol=1e-6)
    own_el = np.take_along_axis(whole_en, image_el.astype(np.int64), axis=1)
    np.testing.assert_allclose(product_el, own_el, atol=1e-6)
    assert (np.diff(product_el, axis=1) <= 0).all()
    assert all(len(set(row)) == length for row in image_el.tolist())


def test_it_runs_as_it_is_set_and_tells_how_far_it_is():
    image_nd = awkward_images("plain", 2600, 8, 0)
    said = []
    told = lambda *step: said.append(step)  # noqa: E731
    _, product_el = nearest_images(image_nd, np.arange(2600), 32, told)
    expected_el = -np.sort(-(image_nd @ image_nd.T), axis=1)[:, :32]
    np.testing.assert_allclose(product_el, expected_el, atol=1e-6)
    done = [step[1] for step in said]
    assert done == sorted(done)
    assert said[-1] == ("neighbours", 2600, 2600)


def test_no_query_is_no_list():
    image_nd = awkward_images("plain", 50, 4, 0)
    image_el, product_el = nearest_images(image_nd, np.empty(0, np.int64), 3, silent)
    assert image_el.shape == product_el.shape == (0, 3)


def test_keys_sort_as_products_fall():
    rng = np.random.default_rng(0)
    product_c = np.concatenate(
        [rng.standard_normal(500), [0.0, -0.0, 1.0, -1.0, 3e38, -3e38, 1e-45, -1e-45]]
    ).astype(np.float32)
    key_c = nearest._keys(product_c, np.arange(len(product_c)))
    np.testing.assert_array_equal(nearest._products(key_c), product_c)
    in_order = product_c[np.argsort(key_c)]
    assert (np.diff(in_order) <= 0).all()
    same = nearest._keys(np.float32([0.0, -0.0]), np.array([7, 2]))
    assert same[1] < same[0]
