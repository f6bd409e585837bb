"""Latents and pooling, fast against the slow reference, over kinds, poolings and activations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from csp_engine.networks.activations import pool
from csp_engine.networks.autoencoders.sae import load_sae
from csp_engine.networks.layers import LayerTap
from csp_engine.types import LayerId
from tests.reference.sae_latents import latents, pooled


@pytest.mark.parametrize("n_inputs", [5, 7])  # 7 latents: once as many as inputs
@pytest.mark.parametrize("act", ["relu", "threshold", "k"])
@pytest.mark.parametrize("pooling", ["cls", "token_mean", "mean", "max", "absmax"])
def test_token_latents_follow_the_papers(tmp_path, n_inputs, act, pooling):
    rng = np.random.default_rng(n_inputs)
    weight, bias = rng.normal(size=(7, n_inputs)), rng.normal(size=7)
    pre_bias = rng.normal(size=n_inputs)
    extra = {"threshold": {"threshold": rng.uniform(0, 2, 7)}, "k": {"k": np.array(3)}}.get(act, {})
    arrays = {"encoder.weight": weight, "encoder.bias": bias, "pre_bias": pre_bias} | extra
    path = tmp_path / "s.safetensors"
    save_file(
        {k: torch.tensor(v) if v.ndim == 0 else torch.tensor(v).float() for k, v in arrays.items()},
        path,
    )
    sae = load_sae(path)
    x = rng.normal(size=(3, 6, n_inputs)).astype(np.float32)
    tap = LayerTap(LayerId("a", pooling, "s"), "tokens", True, 7, (6, n_inputs), "T", sae, 2, True)
    expected = np.zeros((3, 7))
    for n in range(3):
        positions = [
            latents(
                x[n, t], weight, bias, pre_bias, extra.get("threshold"), 3 if act == "k" else None
            )
            for t in range(6)
        ]
        for u in range(7):
            expected[n, u] = pooled([p[u] for p in positions], pooling, n_prefix=2)
    np.testing.assert_allclose(pool(torch.from_numpy(x), tap).numpy(), expected, atol=2e-5)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("pooling", ["mean", "max", "absmax"])
def test_map_pooling_follows_the_definition(channels_last, pooling):
    x = np.random.default_rng(0).integers(-3, 3, size=(2, 4, 3, 5)).astype(np.float32)  # with ties
    tap = LayerTap(LayerId("a", pooling), "map", channels_last, 4, (), "T")
    given = np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if channels_last else x
    expected = [[pooled(unit.ravel().tolist(), pooling) for unit in image] for image in x]
    np.testing.assert_allclose(pool(torch.from_numpy(given), tap).numpy(), expected, rtol=1e-6)
