"""Pooling: what must hold for any map or token sequence, negative and tied values included."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from csp_engine.networks.activations import pool
from csp_engine.networks.layers import LayerTap
from csp_engine.types import LayerId

MAPS = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=4, max_dims=4, min_side=1, max_side=4),
    elements=st.integers(-8, 8).map(float),
)


def pooled(x, pooling, *, kind="map", channels_last=False, n_prefix=0):
    tap = LayerTap(LayerId("a", pooling), kind, channels_last, 1, (), "T", None, n_prefix, True)
    return pool(torch.from_numpy(np.ascontiguousarray(x)), tap).numpy()


@settings(deadline=None, max_examples=60)
@given(MAPS, st.sampled_from(["mean", "max", "absmax"]), st.randoms(use_true_random=False))
def test_order_of_positions_and_place_of_channels_do_not_matter(x, pooling, random):
    base = pooled(x, pooling)
    assert base.shape == x.shape[:2]
    order = random.sample(range(x.shape[2]), x.shape[2])
    np.testing.assert_allclose(pooled(x[:, :, order], pooling), base, rtol=1e-6, atol=1e-6)
    last = pooled(x.transpose(0, 2, 3, 1), pooling, channels_last=True)
    np.testing.assert_allclose(last, base, rtol=1e-6, atol=1e-6)


@settings(deadline=None, max_examples=60)
@given(MAPS)
def test_absmax_is_an_entry_of_largest_size_and_positive_in_a_tie(x):
    base = pooled(x, "absmax")
    np.testing.assert_array_equal(np.abs(base), np.abs(x).max((2, 3)))
    tied = x.max((2, 3)) == -x.min((2, 3))
    np.testing.assert_array_equal(base[tied], x.max((2, 3))[tied])
    np.testing.assert_array_equal(
        base[~tied], -pooled(-x, "absmax")[~tied]
    )  # the sign follows the values


@settings(deadline=None, max_examples=60)
@given(MAPS, st.integers(0, 3))
def test_token_mean_forgets_prefix_tokens_and_cls_all_others(x, n_prefix):
    tokens = x.reshape(x.shape[0], x.shape[1], -1)  # n, t, c
    n_prefix = min(n_prefix, tokens.shape[1] - 1)
    options = {"kind": "tokens", "channels_last": True, "n_prefix": n_prefix}
    changed = tokens.copy()
    changed[:, :n_prefix] += 5
    np.testing.assert_array_equal(
        pooled(tokens, "token_mean", **options), pooled(changed, "token_mean", **options)
    )
    changed = tokens.copy()
    changed[:, 1:] += 5
    np.testing.assert_array_equal(
        pooled(tokens, "cls", **options), pooled(changed, "cls", **options)
    )
