"""Holding part of a network still, against weights edited by hand and loops over positions."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from csp_engine.errors import InputError
from csp_engine.networks.intervening.ablation import AblatedRuns, Cut
from csp_engine.networks.layers import select_layers
from tests.engine.test_interventions import Net, by_hand, wrapped


@pytest.fixture
def pixels():
    return np.random.default_rng(0).normal(size=(7, 3, 6, 6)).astype(np.float32)


def runs_of(net, *layers, batch=3, output="c1"):
    model = wrapped(net)
    return AblatedRuns(model, select_layers(model, list(layers), layout=None), output, batch=batch)


def logits_of(net, pixels):
    with torch.no_grad():
        return net(torch.tensor(pixels)).numpy()


def same(found, net, pixels):
    score_n, class_n = found
    logit_nc = logits_of(net, pixels)
    np.testing.assert_allclose(score_n, by_hand(logit_nc, 1), rtol=1e-4, atol=1e-5)
    assert class_n.tolist() == logit_nc.argmax(1).tolist()


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_zero_ablation_is_zeroing_the_outgoing_weights(pixels, batch):
    net = Net()
    runs = runs_of(net, "relu", "act", batch=batch)
    early, late = np.array([1, 3]), np.array([0, 5])
    trials = [
        [],
        [Cut("relu", early, np.zeros(4, np.float32))],
        [Cut("act", late, np.zeros(6, np.float32))],
        [Cut("relu", early, np.zeros(4, np.float32)), Cut("act", late, np.zeros(6, np.float32))],
    ]
    score_tn, class_tn = runs.ablated(pixels, trials)
    assert score_tn.shape == class_tn.shape == (4, 7)
    for trial, edits in enumerate([(), (early,), (), (early,)]):
        edited = copy.deepcopy(net)
        with torch.no_grad():
            for units in edits:
                edited.second.weight[:, units] = 0
            if trial > 1:
                edited.fc.weight[:, late] = 0
        same((score_tn[trial], class_tn[trial]), edited, pixels)


def test_a_mean_is_a_bias(pixels):
    net = Net()
    runs = runs_of(net, "act")
    units = np.array([2, 4])
    mean_u = runs.means(pixels)["act"]
    with torch.no_grad():
        act = net.act(net.body(torch.tensor(pixels)))
        np.testing.assert_allclose(mean_u, act.mean((0, 2, 3)).numpy(), rtol=1e-5, atol=1e-6)
        edited = copy.deepcopy(net)
        edited.fc.bias += edited.fc.weight[:, units] @ torch.tensor(mean_u[units])
        edited.fc.weight[:, units] = 0
    score_tn, class_tn = runs.ablated(pixels, [[Cut("act", units, mean_u)]])
    same((score_tn[0], class_tn[0]), edited, pixels)


@pytest.mark.parametrize("layout", ["map", "ntc", "tnc"])
@pytest.mark.parametrize("at", [0.0, 0.7])
def test_a_projection_equals_a_loop_over_positions(pixels, layout, at):
    net = Net(layout)
    runs = runs_of(net, "second")
    rng = np.random.default_rng(3)
    along = rng.normal(size=6)
    along /= np.linalg.norm(along)
    at_u = (at * rng.normal(size=6)).astype(np.float32)
    score_tn, _ = runs.ablated(pixels, [[], [Cut("second", along.astype(np.float32), at_u)]])
    axis = 1 if layout == "map" else -1
    with torch.no_grad():
        body = net.body(torch.tensor(pixels)).movedim(axis, -1)
        rows = body.reshape(-1, 6).double().numpy()
        held = np.stack([row - along * (row @ along) + along * (at_u @ along) for row in rows])
        changed = torch.tensor(held.reshape(body.shape), dtype=torch.float32).movedim(-1, axis)
        logit_nc = net.tail(changed).numpy()
    np.testing.assert_allclose(score_tn[1], by_hand(logit_nc, 1), rtol=1e-4, atol=1e-5)


def test_pieces_of_one_layer_are_held_together(pixels):
    net = Net()
    runs = runs_of(net, "act")
    along = np.eye(6, dtype=np.float32)[3]  # a direction that is a unit
    zero_u = np.zeros(6, np.float32)
    both = [Cut("act", np.array([0]), zero_u), Cut("act", along, zero_u)]
    score_tn, class_tn = runs.ablated(pixels, [both, [Cut("act", np.array([0, 3]), zero_u)]])
    np.testing.assert_allclose(score_tn[0], score_tn[1], atol=1e-6)
    assert (class_tn[0] == class_tn[1]).all()


class Shared(nn.Module):
    """One ReLU used before and after the layer, weights used outside of modules, a residual."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(4)
        self.first = nn.Conv2d(3, 5, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.mid = nn.Conv2d(5, 5, 3, padding=1)
        self.scale = nn.Parameter(torch.linspace(0.5, 2, 5))
        self.last = nn.Conv2d(5, 5, 1)
        self.fc = nn.Linear(5, 3)

    def forward(self, x):
        x = self.relu(self.first(x))
        y = self.mid(x * self.scale[:, None, None])
        y = self.relu(y) + x
        return self.fc(torch.tanh(self.relu(self.last(y)) + y).mean((2, 3)))


@pytest.mark.parametrize("layer", ["first", "mid", "last"])
def test_running_the_rest_alone_changes_nothing(pixels, layer):
    net = Shared().eval()
    zero_u = np.zeros(5, np.float32)
    trials = [[], *([Cut(layer, np.array([u]), zero_u)] for u in range(5))]
    together = runs_of(net, layer).ablated(pixels, trials)
    for at, trial in enumerate(trials):
        alone = runs_of(net, layer).ablated(pixels, [trial])  # one trial: nothing is run again
        np.testing.assert_allclose(together[0][at], alone[0][0], atol=1e-6)
        assert (together[1][at] == alone[1][0]).all()


class Secret(nn.Module):
    """A network whose layer remembers how often it ran: what it gave must not be given again."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.first = nn.Conv2d(3, 4, 3)
        self.fc = nn.Linear(4, 3)
        self.hidden = torch.zeros(4)

    def forward(self, x):
        mean = self.first(x).mean((2, 3))
        self.hidden = mean.detach().mean(0)  # changed outside of what modules give
        return self.fc(mean)


def test_what_is_done_outside_of_modules_is_done_each_time(pixels):
    net = Secret().eval()
    zero_u = np.zeros(4, np.float32)
    found = runs_of(net, "first").ablated(
        pixels, [[], [Cut("first", np.array([1]), zero_u)], [Cut("first", np.arange(4), zero_u)]]
    )
    edited = copy.deepcopy(net)
    with torch.no_grad():
        edited.fc.weight[:, 1] = 0
    same((found[0][1], found[1][1]), edited, pixels)
    same((found[0][0], found[1][0]), net, pixels)


def state_of(net):
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def untouched(net, before):
    for name, module in net.named_modules():
        assert "forward" not in vars(module), name
        assert not module._forward_hooks, name
        assert not module._forward_pre_hooks, name
    after = net.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_network_is_as_before_after_an_exception_too(pixels):
    net = Net().eval()
    runs = runs_of(net, "act", "relu")
    before, logits = state_of(net), logits_of(net, pixels)
    zero_u = np.zeros(6, np.float32)
    runs.ablated(pixels, [[], [Cut("act", np.array([1]), zero_u)]])
    untouched(net, before)
    with pytest.raises(InputError, match="cannot be cut"):
        runs.ablated(pixels, [[Cut("nowhere", np.array([1]), zero_u)]])
    with pytest.raises(IndexError):
        runs.ablated(pixels, [[], [Cut("act", np.array([99]), zero_u)]])
    untouched(net, before)

    calls = 0

    def burst(*_):
        nonlocal calls
        calls += 1
        if calls > 3:
            raise RuntimeError("burst")

    handle = net.fc.register_forward_pre_hook(burst)
    with pytest.raises(RuntimeError, match="burst"):
        runs.ablated(pixels, [[], [Cut("act", np.array([1]), zero_u)]])
    handle.remove()
    untouched(net, before)
    np.testing.assert_array_equal(logits_of(net, pixels), logits)


def test_influence_is_gradient_times_activation(pixels):
    net = Net().eval()
    runs = runs_of(net, "act")
    x = torch.tensor(pixels)
    act = net.act(net.body(x)).detach().requires_grad_(True)
    logit_nc = net.fc(act.mean((2, 3)))
    log_p = logit_nc.log_softmax(1)[:, 1]
    (log_p - torch.log1p(-log_p.exp())).sum().backward()
    expected = (act * act.grad).sum((2, 3)).abs().mean(0).detach().numpy()
    np.testing.assert_allclose(runs.influences(pixels)["act"], expected, rtol=1e-4, atol=1e-6)


class OneOutput(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.first = nn.Conv2d(3, 4, 3)
        self.fc = nn.Linear(4, 1)

    def forward(self, x):
        return self.fc(self.first(x).mean((2, 3)))


def test_one_output_decides_by_its_sign(pixels):
    net = OneOutput().eval()
    model = wrapped(net, 1)
    runs = AblatedRuns(model, select_layers(model, ["first"]), 0, batch=4)
    score_tn, class_tn = runs.ablated(
        pixels, [[], [Cut("first", np.arange(4), np.zeros(4, np.float32))]]
    )
    np.testing.assert_allclose(score_tn[0], logits_of(net, pixels)[:, 0], rtol=1e-5)
    np.testing.assert_allclose(score_tn[1], net.fc.bias.item(), rtol=1e-5)
    assert (class_tn == (score_tn > 0)).all()
    empty = runs.ablated(pixels[:0], [[], []])
    assert empty[0].shape == empty[1].shape == (2, 0)
