"""Recording: what is recorded, that nothing disturbs it, and that nothing is left behind."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from csp_engine.errors import InputError
from csp_engine.networks.activations import ActivationRecorder
from csp_engine.networks.layers import select_layers
from csp_engine.networks.models import target_model

RECIPE = {"resize": [8, 8], "crop": None, "interpolation": "bilinear", "mean": 0.5, "std": 0.5}


class Net(nn.Module):
    """A convolution whose output an in-place ReLU overwrites, then a linear head, likewise."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 6, 3)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(6, 5)
        self.last = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.last(self.fc(self.relu(self.conv(x)).mean((2, 3))))


@pytest.fixture
def model():
    return target_model(Net(), RECIPE, name="net")


@pytest.fixture
def pixels():
    return np.random.default_rng(0).normal(size=(7, 3, 8, 8)).astype(np.float32)


def truth(model, pixels):
    with torch.no_grad():
        conv = model.network.conv(torch.from_numpy(pixels))
        fc = model.network.fc(conv.relu().mean((2, 3)))
    return conv, fc


def test_all_poolings_of_several_layers_in_one_pass(model, pixels):
    calls = []
    model.network.conv.register_forward_pre_hook(lambda *a: calls.append(1))
    taps = select_layers(model, ["conv@mean", "conv@max", "conv@absmax", "relu", "fc"])
    with ActivationRecorder(model, taps) as recorder:
        recorder(pixels)  # the first batch runs a few images again
        calls.clear()
        acts = recorder(pixels)
    assert len(calls) == 1
    conv, fc = truth(model, pixels)
    flat = conv.flatten(2)
    place = flat.abs().argmax(-1, keepdim=True)
    expected = {
        "conv@mean": flat.mean(-1),
        "conv@max": flat.amax(-1),
        "conv@absmax": flat.gather(-1, place)[..., 0],
        "relu@mean": flat.relu().mean(-1),
        "fc@none": fc,
    }
    assert list(acts) == list(expected)
    for layer, act_nu in acts.items():
        assert act_nu.dtype == np.float32
        np.testing.assert_allclose(act_nu, expected[layer].numpy(), atol=1e-6)
    assert (acts["conv@mean"] < 0).any()
    assert (acts["conv@absmax"] < 0).any()


def test_an_in_place_operation_after_the_layer_cannot_change_the_record(model, pixels):
    with ActivationRecorder(model, select_layers(model, ["conv", "fc"])) as recorder:
        recorder.keep_logits = recorder._may_stop = False  # let the pass run to its end
        acts = recorder(pixels)
    conv, fc = truth(model, pixels)
    assert (fc < 0).any()
    np.testing.assert_allclose(acts["conv@mean"], conv.mean((2, 3)).numpy(), atol=1e-6)
    np.testing.assert_allclose(acts["fc@none"], fc.numpy(), atol=1e-6)


def test_records_do_not_depend_on_the_batch_and_survive_the_next_one(model, pixels):
    taps = select_layers(model, ["conv@max", "fc"])
    with ActivationRecorder(model, taps) as recorder:
        whole = recorder(pixels)
        copy = {k: v.copy() for k, v in whole.items()}
        parts = [recorder(pixels[i : i + 3]) for i in range(0, 7, 3)]  # the last batch has one
        recorder(-pixels)
    for layer in whole:
        np.testing.assert_array_equal(whole[layer], copy[layer])
        joined = np.concatenate([part[layer] for part in parts])
        np.testing.assert_allclose(joined, whole[layer], atol=1e-6)


def hooks(model):
    return sum(len(m._forward_hooks) for m in model.network.modules())


def test_hooks_are_gone_after_every_call_also_after_an_error(model, pixels):
    with ActivationRecorder(model, select_layers(model, ["conv", "fc"])) as recorder:
        recorder(pixels)
        assert hooks(model) == 0
        with pytest.raises(RuntimeError):
            recorder(np.zeros((2, 5, 8, 8), np.float32))
        assert hooks(model) == 0
        assert set(recorder(pixels)) == {"conv@mean", "fc@none"}


def test_no_gradient_and_no_training_mode(model, pixels):
    taps = select_layers(model, ["conv"])
    model.network.train()
    seen = []
    model.network.relu.register_forward_hook(
        lambda m, a, o: seen.append(
            (m.training, o.requires_grad, torch.is_inference_mode_enabled())
        )
    )
    with ActivationRecorder(model, taps, keep_logits=True) as recorder:
        recorder(pixels)
    assert set(seen) == {(False, False, True)}


def test_the_pass_ends_at_the_last_layer_unless_logits_are_wanted(model, pixels):
    ran = []
    model.network.fc.register_forward_hook(lambda *a: ran.append(1))
    taps = select_layers(model, ["conv"])
    ran.clear()
    with ActivationRecorder(model, taps) as recorder:
        recorder(pixels)
        assert recorder.logits is None
    assert not ran
    with ActivationRecorder(model, taps, keep_logits=True) as recorder:
        recorder(pixels)
        logits = recorder.logits
    np.testing.assert_allclose(logits, truth(model, pixels)[1].relu().numpy(), atol=1e-6)


@pytest.mark.slow
def test_nothing_of_a_batch_is_kept(model, pixels):
    kept = []
    model.network.conv.register_forward_hook(lambda m, a, o: kept.append(weakref.ref(o)))
    taps = select_layers(model, ["conv@max"])
    kept.clear()
    with ActivationRecorder(model, taps) as recorder:
        acts = recorder(pixels)
        gc.collect()
        assert acts["conv@max"].shape == (7, 6)
        assert {ref() for ref in kept} == {None}


def test_raw_layer_and_autoencoder_side_by_side(model, pixels, tmp_path):
    torch.manual_seed(1)
    weight, bias = torch.randn(6, 11), torch.randn(11)
    save_file({"W_enc": weight, "b_enc": bias}, tmp_path / "s.safetensors")
    taps = select_layers(model, ["conv"], saes={"conv@max": tmp_path / "s.safetensors"})
    with ActivationRecorder(model, taps) as recorder:
        acts = recorder(pixels)
    conv, _ = truth(model, pixels)
    latents = (conv.permute(0, 2, 3, 1) @ weight + bias).relu()
    np.testing.assert_allclose(acts["conv+s@max"], latents.amax((1, 2)).numpy(), atol=1e-5)
    np.testing.assert_allclose(acts["conv@mean"], conv.mean((2, 3)).numpy(), atol=1e-6)


def test_half_precision_networks_give_float32(pixels):
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(256, 2)).bfloat16()

    class Cast(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = network

        def forward(self, x):
            return self.body(x.bfloat16())

    model = target_model(Cast(), RECIPE, name="half")
    with ActivationRecorder(model, select_layers(model, ["body.0"])) as recorder:
        act_nu = recorder(pixels)["body.0@mean"]
    with torch.no_grad():
        own = network[0](torch.from_numpy(pixels).bfloat16()).float().mean((2, 3))
    assert act_nu.dtype == np.float32
    np.testing.assert_allclose(act_nu, own.numpy(), atol=1e-6)  # averaged in float32


def test_read_only_pixels_are_accepted_without_a_warning(model, pixels, recwarn):
    pixels.setflags(write=False)
    with ActivationRecorder(model, select_layers(model, ["conv"])) as recorder:
        recorder(pixels)
    assert not [w for w in recwarn if "writ" in str(w.message)]


def test_values_that_are_not_finite_are_refused(model, pixels):
    taps = select_layers(model, ["conv"])
    pixels[2, 0, 0, 0] = np.inf
    with (
        ActivationRecorder(model, taps) as recorder,
        pytest.raises(InputError, match="conv@mean of net gives values that are not finite"),
    ):
        recorder(pixels)
    with pytest.raises(InputError, match="no layer to record"):
        ActivationRecorder(model, [])


def test_tokens_of_a_transformers_model(pixels):
    import transformers

    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=8,
        patch_size=4,
    )
    network = transformers.ViTForImageClassification(config)
    model = target_model(network, RECIPE, name="vit")
    block = "vit.layers.1"
    taps = select_layers(model, [block, f"{block}@token_mean", f"{block}@mean"])
    with ActivationRecorder(model, taps, keep_logits=True) as recorder:
        acts = recorder(pixels)
        logits = recorder.logits
    with torch.no_grad():
        out = network(torch.from_numpy(pixels), output_hidden_states=True)
    hidden = out.hidden_states[-1].numpy()
    np.testing.assert_allclose(acts[f"{block}@cls"], hidden[:, 0], atol=1e-5)
    np.testing.assert_allclose(acts[f"{block}@token_mean"], hidden[:, 1:].mean(1), atol=1e-5)
    np.testing.assert_allclose(acts[f"{block}@mean"], hidden.mean(1), atol=1e-5)
    np.testing.assert_allclose(logits, out.logits.numpy(), atol=1e-5)
