"""What is put in the place of a layer's output reaches all that follows it, or is refused."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from torch import nn

from csp_engine.errors import InputError
from csp_engine.networks.activations import ActivationRecorder
from csp_engine.networks.driving.influence import influence
from csp_engine.networks.driving.reaching import passed_by
from csp_engine.networks.intervening.ablation import AblatedRuns, Cut
from csp_engine.networks.intervening.pairs import PairRuns
from csp_engine.networks.layers import list_layers, select_layers
from csp_engine.networks.models import target_model

RECIPE = {"resize": [16, 16], "crop": None, "interpolation": "bilinear", "mean": 0.5, "std": 0.5}


class Net(nn.Module):
    """A convolution, a layer, and a head; ``way`` says how the layer's output is used."""

    def __init__(self, layer, way):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.layer, self.next = nn.Conv2d(3, 8, 3), layer, nn.Conv2d(8, 8, 1)
        self.fc, self.way = nn.Linear(8, 4), way

    def forward(self, x):
        return self.fc(self.way(self, self.conv(x)).mean((2, 3)))


def shortcut(net, x):
    return net.next(net.layer(x)) + x


def kept_by_a_hook(net, x):
    kept = []
    handle = net.layer.register_forward_hook(lambda m, a, y: kept.append(y), prepend=True)
    y = net.layer(x)
    handle.remove()
    return net.next(y) + kept[0]


def in_place_after(net, x):
    y = net.next(net.layer(x))
    y += x
    return y.relu_()


def view_after(net, x):
    y = net.layer(x)
    y[:, 0].zero_()
    return net.next(y)


MISSED = {
    "a rectifier in place, and a shortcut": (nn.ReLU(inplace=True), shortcut),
    "one inside a chain": (nn.Sequential(nn.ReLU(inplace=True)), shortcut),
    "another in place": (nn.SiLU(inplace=True), shortcut),
    "what a hook has kept": (nn.ReLU(), kept_by_a_hook),
}
REACHED = {
    "a rectifier, and a shortcut": (nn.ReLU(), shortcut),
    "dropout in evaluation, and a shortcut": (nn.Dropout(0.5), shortcut),
    "an identity, and a shortcut": (nn.Identity(), shortcut),
    "sums in place after it": (nn.ReLU(), in_place_after),
    "a view that is changed after it": (nn.Conv2d(8, 8, 1), view_after),
    "a view of its input": (nn.Flatten(2), lambda net, x: net.layer(x).unflatten(2, (14, 14)) + x),
}


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).normal(size=(6, 3, 16, 16)).astype(np.float32)


def made(case):
    layer, way = case
    return target_model(Net(layer, way), RECIPE, name="net")


@pytest.mark.parametrize("name", MISSED)
def test_what_is_read_elsewhere_has_no_influence_and_is_not_ablated(name, x, caplog):
    model = made(MISSED[name])
    taps = select_layers(model, ["layer", "next"])
    assert passed_by(model, ["layer", "next", "conv"], x) >= {"layer"}
    with caplog.at_level(logging.WARNING):
        found = influence(model, taps, [(x, np.arange(6) % 4)])
    assert list(found) == ["next@mean"]
    assert "no influence for layer@mean: what it gives is also read elsewhere" in caplog.text
    with pytest.raises(InputError, match="What layer 'layer' of net gives is also read elsewhere"):
        PairRuns(model, taps, 0).attributed(x, -x)
    with pytest.raises(InputError, match="would reach a part only"):
        AblatedRuns(model, taps, 0).ablated(
            x, [(Cut("layer", np.arange(8), np.zeros(8, np.float32)),)]
        )


@pytest.mark.parametrize("name", REACHED)
def test_of_all_others_influence_is_the_gradient_by_hand(name, x):
    """Gradient times activation by differences: one unit of the layer a little larger."""
    model = made(REACHED[name])
    assert passed_by(model, ["layer"], x) == set()
    (tap,) = select_layers(model, ["layer"], layout="nct" if "a view of its" in name else None)
    classes = np.arange(6) % 4
    got = influence(model, [tap], [(x, classes)])[str(tap.id)].gradient_activation_cu
    network, pixels = model.network.double(), torch.from_numpy(x).double()

    def logits(unit, step):
        def larger(module, args, y):
            factor = torch.ones(8, dtype=y.dtype)
            factor[unit] += step
            return y * factor.reshape(1, 8, *[1] * (y.ndim - 2))

        handle = network.layer.register_forward_hook(larger)
        with torch.no_grad():
            found = network(pixels)
        handle.remove()
        return found.numpy()

    want = np.zeros((4, 8))
    for unit in range(8):
        slope = (logits(unit, 1e-5) - logits(unit, -1e-5)) / 2e-5
        for c in range(4):
            want[c, unit] = slope[classes == c, c].mean()
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_what_runs_once_for_all_trials_is_tried_for_each_set_of_layers(x):
    """A step in place between two layers counts for the later one alone."""

    class Between(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b = nn.Conv2d(3, 8, 3), nn.ReLU(inplace=True)
            self.c, self.fc = nn.Conv2d(8, 8, 1), nn.Linear(8, 4)

        def forward(self, x):
            y = self.a(x)
            z = self.c(self.b(y))
            return self.fc((z + y).mean((2, 3)))

    model = target_model(Between(), RECIPE, name="net")
    runs = AblatedRuns(model, select_layers(model, ["a", "c"]), 0)
    whole = np.arange(8)
    for layer in ("a", "c"):
        cut = Cut(layer, whole, np.zeros(8, np.float32))
        got, _ = runs.ablated(x, [(), (cut,)])
        for at, cuts in enumerate([(), (cut,)]):
            want, _ = AblatedRuns(model, select_layers(model, ["a", "c"]), 0).ablated(x, [cuts])
            np.testing.assert_allclose(got[at], want[0], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["resnet18", "densenet121", "mobilenet_v3_small", "shufflenet_v2_x0_5", "googlenet", "swin_t"],
)
def test_networks_that_people_have_are_sound(name):
    """Rectifiers in place, shortcuts, joined branches, shifted windows: neither check is wrong."""
    import torchvision

    options = {"init_weights": True} if name == "googlenet" else {}
    network = getattr(torchvision.models, name)(weights=None, **options).eval()
    model = target_model(network, {**RECIPE, "resize": [64, 64]}, name=name)
    taps = list_layers(model)
    pixels = np.random.default_rng(0).normal(size=(2, 3, 64, 64)).astype(np.float32)
    assert passed_by(model, {tap.id.module for tap in taps}, pixels) == set()
    with ActivationRecorder(model, taps) as recorder:
        recorder.require_steady(pixels)
    assert not model.steadiness.moving
