"""The control with random weights: same architecture, nothing learnt."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from csp_engine import pipeline
from csp_engine.bundle import Bundle, verify
from csp_engine.errors import InputError
from csp_engine.networks.models import target_model
from csp_engine.networks.random_weights import with_random_weights
from csp_engine.views.benchmark.control import beside_control, controls_of, in_a_sentence
from tests.engine.test_cli import run
from tests.worlds import toys


class Odd(nn.Module):
    """Parameters that a module resets, and one that none does."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.token = nn.Parameter(torch.arange(6.0).view(2, 3))

    def forward(self, pixels):
        return self.norm(self.first(pixels)).mean(dim=(2, 3)) + self.token.sum()


def odd():
    network = Odd()
    nn.init.constant_(network.first.weight, 0.5)
    network.norm.running_mean += 7
    return target_model(network, toys.PREPROCESSING, name="odd")


def test_every_weight_is_another_and_the_original_is_left_alone():
    model = odd()
    before = {k: v.clone() for k, v in model.network.state_dict().items()}
    control = with_random_weights(model)
    after = control.network.state_dict()
    assert control.name == "odd-random"
    assert control.fingerprint != model.fingerprint
    assert all(torch.equal(v, before[k]) for k, v in model.network.state_dict().items())
    assert after["first.weight"].std() > 0.05
    assert after["norm.running_mean"].abs().max() == 0
    assert not torch.equal(after["token"], before["token"])
    assert sorted(after["token"].flatten().tolist()) == list(range(6))
    assert not any(p.requires_grad for p in control.network.parameters())


def test_a_seed_gives_the_same_control_and_leaves_torchs_stream_alone():
    model = odd()
    torch.manual_seed(4)
    want = torch.rand(1)
    torch.manual_seed(4)
    one, two = with_random_weights(model, 3), with_random_weights(model, 3)
    assert torch.equal(torch.rand(1), want)
    assert one.fingerprint == two.fingerprint
    assert with_random_weights(model, 4).fingerprint != one.fingerprint


def test_a_network_without_weights_has_no_control():
    model = replace(odd(), network=nn.Identity())
    with pytest.raises(InputError, match="odd has no weights"):
        with_random_weights(model)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    folder = tmp_path_factory.mktemp("control")
    own = toys.target(["second"])
    control = pipeline.Target(with_random_weights(own.model), own.taps, control_of="small")
    built = pipeline.build(toys.request(folder, folder / "a.csp", targets=(own, control)))
    return toys.with_faithfulness(built)


def test_the_bundle_knows_its_control_and_sets_the_two_side_by_side(bundle):
    assert not verify(bundle)
    assert controls_of(bundle) == {"small": "small-random"}
    (row,) = beside_control(bundle, "csp")
    for name, share in (("small", row.trained), ("small-random", row.control)):
        reliable_u = np.asarray(bundle.scores(name, "second@mean", "csp").reliable_u)
        assert (share.n_hits, share.n) == (reliable_u.sum(), 12)
    assert row.gap[1] <= row.gap[0] <= row.gap[2]
    assert "not that training taught it" in in_a_sentence([row])


@pytest.mark.slow
def test_csp_build_makes_it(capsys, tmp_path):
    toys.draw_images(tmp_path / "images")
    (tmp_path / "pixels.json").write_text(json.dumps(toys.PREPROCESSING), "utf-8")
    arguments = [
        "build", tmp_path / "images", "--model", "python:tests.worlds.toys:network",
        "--layer", "second", "--encoder", "python:tests.worlds.toys:ColourEncoder",
        "--out", tmp_path / "b.csp", "--exemplars", 6, "--set", "n_null=30",
        "--vocabulary", toys_words(tmp_path), "--preprocessing", tmp_path / "pixels.json",
    ]  # fmt: skip
    code, _, err = run(capsys, *arguments, "--control", "none")
    assert (code, "choose" in err) == (2, True)
    judge = ("--judge", "python:tests.worlds.toys:Judge")
    code, _, err = run(capsys, *arguments, "--control", "random-weights", *judge)
    assert code == 0, err
    opened = Bundle.open(tmp_path / "b.csp")
    assert controls_of(opened) == {"network": "network-random"}
    assert opened.faithfulness("network-random", "second@mean", "csp") is not None
    # Without the option it stays, and so does what it is.
    code, _, err = run(capsys, *arguments)
    assert code == 0, err
    assert controls_of(Bundle.open(tmp_path / "b.csp")) == {"network": "network-random"}


def toys_words(folder):
    toys.words(folder)
    return folder / "words.txt"
