"""Networks run faster say the same up to their last digits, or run as they are given."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from csp_engine import pipeline
from csp_engine.bundle import Bundle, parts_folder, verify
from csp_engine.errors import InputError, StaleError
from csp_engine.networks import quickening
from csp_engine.networks.activations import ActivationRecorder
from csp_engine.networks.folding import folded, look
from csp_engine.networks.layers import select_layers
from csp_engine.networks.models import TargetModel, target_model
from csp_engine.networks.random_weights import with_random_weights
from csp_engine.pipeline import BuildRequest, Target
from csp_engine.pipeline.passing.image_pass import try_quick
from csp_engine.pipeline.sharding import deciding
from csp_engine.pipeline.sharding.measuring import measure_shard
from csp_engine.pipeline.sharding.merging import merge
from csp_engine.pipeline.sharding.shards import Shard
from csp_engine.views.overview.passes import pass_sentences
from tests.worlds import toys


def lived_in(network: nn.Module, seed: int = 0) -> nn.Module:
    """A network whose normalisations hold statistics as training leaves them."""
    torch.manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            if module.affine:
                nn.init.uniform_(module.weight, 0.8, 1.2)
                nn.init.normal_(module.bias, 0, 0.1)
    return network.eval()


class Odd(nn.Module):
    """Convolutions and normalisations of which some may be folded, and why others may not."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.plain = nn.Conv2d(3, 8, 3, padding=1)
        self.plain_norm = nn.BatchNorm2d(8)
        self.read_twice = nn.Conv2d(8, 8, 1)
        self.read_twice_norm = nn.BatchNorm2d(8)
        self.run_twice = nn.Conv2d(8, 8, 1)
        self.run_twice_norm = nn.BatchNorm2d(8)
        self.twice_named = nn.Conv2d(8, 8, 1, bias=False)
        self.alias = self.twice_named
        self.twice_named_norm = nn.BatchNorm2d(8)
        self.hooked = nn.Conv2d(8, 8, 1)
        self.hooked.register_forward_hook(lambda module, given, output: output * 2)
        self.hooked_norm = nn.BatchNorm2d(8)
        self.last = nn.Conv2d(8, 8, 3, groups=4, dilation=2, padding=2, bias=False)
        self.last_norm = nn.BatchNorm2d(8, affine=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.plain_norm(self.plain(x)))
        twice = self.read_twice(x)
        x = self.read_twice_norm(twice) + twice.sigmoid()
        x = self.run_twice_norm(self.run_twice(x))
        x = x + self.run_twice_norm(self.run_twice(x))
        x = self.twice_named_norm(self.twice_named(x))
        x = self.hooked_norm(self.hooked(x))
        return self.last_norm(self.last(x))


def seen_of(network: nn.Module, side: int = 12) -> Any:
    pixels = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    return look(network, lambda: network(pixels), 2)


def test_only_what_one_normalisation_alone_reads_is_folded():
    seen = seen_of(lived_in(Odd()))
    assert set(seen.pairs) == {("plain", "plain_norm"), ("last", "last_norm")}
    assert seen.n_convolutions == 6


def test_multiplications_are_counted_as_by_hand():
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 1, stride=2, groups=2))
    expected = 8 * 12 * 12 * 3 * 9 + 4 * 6 * 6 * 4
    assert seen_of(network).n_products == expected


@pytest.mark.parametrize("network", [Odd, torchvision.models.resnet18])
def test_a_folded_network_computes_the_same_in_double_precision(network):
    """With rounding out of the way, so that a wrong formula cannot hide behind it."""
    given = lived_in(network()).double()
    pixels = torch.randn(2, 3, 40, 40, dtype=torch.float64)
    with torch.inference_mode():
        seen = look(given, lambda: given(pixels), 2)
        twin, n_folded = folded(given, seen.pairs, ())
        assert n_folded == len(seen.pairs) > 0
        wanted = given(pixels)
        found = twin(pixels)
    assert float((found - wanted).abs().max()) < 1e-11 * float(wanted.std())
    n_norms = [sum(isinstance(m, nn.BatchNorm2d) for m in n.modules()) for n in (given, twin)]
    assert n_norms[1] == n_norms[0] - n_folded


def test_a_layer_that_is_listened_to_is_left_alone():
    network = lived_in(Odd())
    twin, n_folded = folded(network, seen_of(network).pairs, {"plain"})
    assert n_folded == 1
    assert torch.equal(twin.plain.weight, network.plain.weight)
    assert isinstance(twin.plain_norm, nn.BatchNorm2d)


def test_timms_normalisation_keeps_its_activation():
    import timm

    network = lived_in(timm.create_model("efficientnet_lite0")).double()
    pixels = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    with torch.inference_mode():
        seen = look(network, lambda: network(pixels), 1)
        twin, n_folded = folded(network, seen.pairs, ())
        assert n_folded == 49
        assert torch.allclose(twin(pixels), network(pixels), rtol=1e-9, atol=1e-12)


def pixels_of(model: TargetModel, n: int = 8) -> np.ndarray:
    rng = np.random.default_rng(0)
    coarse = rng.normal(size=(n, 3, 4, 4)).repeat(model.input_shape[1] // 4, 2)
    return coarse.repeat(model.input_shape[2] // 4, 3).astype(np.float32)


PIXELS = {"resize": [64, 64], "crop": None, "interpolation": "bilinear", "mean": 0.5, "std": 0.5}


@pytest.fixture(scope="module")
def model() -> TargetModel:
    return target_model(lived_in(torchvision.models.resnet18()), PIXELS, name="net")


@pytest.mark.slow
def test_what_is_said_of_a_trial_is_what_is_found(model):
    taps = select_layers(model, ["layer2@max", "layer3.0.bn1@mean", "layer3.0.conv2@absmax"])
    pixels = pixels_of(model)
    trial = quickening.tried(model, taps, pixels)
    assert trial is not None
    assert trial.reason == ""
    twin, n_folded = quickening.quickened(model, taps)
    assert n_folded == trial.n_folded == 19  # of 20, one is listened to
    given, found = ActivationRecorder(model, taps)(pixels), ActivationRecorder(twin, taps)(pixels)
    squares, largest = [], []
    for layer, given_nu in given.items():
        spreads = [float(np.std(column.astype(np.float64))) for column in given_nu.T]
        middle = float(np.median(spreads))
        z = [
            abs(float(found[layer][n, u]) - float(given_nu[n, u])) / max(spreads[u], middle)
            for n, u in np.ndindex(*given_nu.shape)
        ]
        squares.append((sum(v * v for v in z) / len(z)) ** 0.5)
        largest.append(max(z))
    assert trial.off == pytest.approx(max(squares), rel=0.06)
    assert trial.largest == pytest.approx(max(largest), rel=0.06)
    assert 0 < trial.off <= quickening.MOST
    for layer in given:
        assert not np.array_equal(given[layer], found[layer])


@pytest.mark.slow
def test_what_another_process_found_is_not_looked_for_again(model, monkeypatch):
    """It takes a shard a second, as nothing runs for the first time as slowly as such a pass."""
    taps = select_layers(model, ["layer2@max"])

    def refuse(*_: Any) -> bool:
        raise AssertionError("it is known")

    monkeypatch.setattr(quickening, "needs_numbers", refuse)
    for known, expected in ((20, 20), (0, 0)):
        _, n_folded = quickening.quickened(model, taps, n_folded=known)
        assert n_folded == expected
    with pytest.raises(AssertionError, match="it is known"):
        quickening.quickened(model, taps)


def test_nothing_is_gained_on_small_networks_without_convolutions_or_in_halves(model):
    assert quickening.quickened(toys.target(["last"]).model, ()) is None
    halves = target_model(torchvision.models.resnet18(), PIXELS, name="h", precision="bfloat16")
    assert quickening.quickened(halves, ()) is None
    flat = nn.Sequential(nn.Conv2d(3, 64, 16, 16), nn.Flatten(), nn.Linear(1024, 2000))
    assert quickening.quickened(target_model(flat, PIXELS, name="flat"), ()) is None


def test_units_without_spread_are_measured_by_their_layer():
    given = np.array([[0.0, 1, 2, 5], [0, 3, 4, 5], [0, 5, 0, 5]], np.float32)
    found = given + np.array([0, 0, 0, 3e-3], np.float32)
    off, largest = quickening.differences(given, found)
    middle = (given[:, 1].std() + 0) / 2  # of 0, 1.63, 1.63 and 0
    assert largest == pytest.approx(3e-3 / middle, rel=1e-3)
    assert off == pytest.approx(3e-3 / middle / 2, rel=1e-3)
    assert quickening.differences(given[:, :1], found[:, :1]) == (0, 0)
    assert quickening.differences(given[:, 3:], found[:, 3:]) == (np.inf, np.inf)


class Rebellious(nn.Module):
    """Says other things where its normalisation is not where it was."""

    def __init__(self, does: str) -> None:
        super().__init__()
        self.body = lived_in(torchvision.models.resnet18())
        self.does = does

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        is_given = isinstance(self.body.bn1, nn.BatchNorm2d)
        if self.does == "view":
            x = x.view(len(x), -1).view(x.shape)
        return self.body(x if is_given or self.does != "differ" else x * 1.001)

    def __deepcopy__(self, memo: Any) -> Any:
        if self.does == "refuse":
            raise TypeError("one of a kind")
        twin = Rebellious(self.does)
        twin.load_state_dict(self.state_dict())
        return twin.eval()


@pytest.mark.parametrize(
    ("does", "said"), [("differ", "its activations differ"), ("refuse", "one of a kind"),
                       ("view", "view size is not compatible")],
)  # fmt: skip
def test_a_network_that_is_not_the_same_runs_as_it_is_given(does, said):
    model = target_model(Rebellious(does), PIXELS, name="net")
    trial = quickening.tried(model, select_layers(model, ["body.layer1"]), pixels_of(model))
    assert trial is not None
    assert said in trial.reason


class Gated(nn.Module):
    """Bright images get what a convolution gives, the others what its normalisation makes of it."""

    def __init__(self, is_bright: Any) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.conv, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.last = nn.Conv2d(8, 4, 1)
        self.is_bright = is_bright

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raw = self.conv(x)
        mixed = self.norm(raw)
        if self.is_bright(x.mean((1, 2, 3))).any():
            mixed = torch.where((x.mean((1, 2, 3)) > 1)[:, None, None, None], raw, mixed)
        return self.last(mixed)


def _packed(n: torch.Tensor) -> Any:
    return nn.utils.rnn.pack_padded_sequence(torch.zeros(1, 9, 1), n[None] + 1, batch_first=True)


@torch.library.custom_op("csp_tests::any_bright", mutates_args=())
def _any_bright(mean: torch.Tensor) -> bool:
    return bool((mean.numpy() > 1).any())


@torch.library.custom_op("csp_tests::bright", mutates_args=())
def _bright(mean: torch.Tensor) -> torch.Tensor:
    return torch.zeros(int((mean.numpy() > 1).sum()))


def _applied(mean: torch.Tensor) -> bool:
    seen: list[float] = []
    mean.clone().apply_(lambda value: seen.append(value) or value)
    return max(seen) > 1


@pytest.mark.parametrize(
    "is_bright",
    [lambda mean: mean > 1, lambda mean: np.array(mean.tolist()) > 1, lambda mean: mean.numpy() > 1,
     lambda mean: np.array([each.item() > 1 for each in mean]),
     lambda mean: np.from_dlpack(mean) > 1,
     lambda mean: np.array([len((mean > 1).nonzero())]),
     lambda mean: np.array([mean[mean > 1].numel()]),
     lambda mean: np.array([mean.masked_select(mean > 1).shape[0]]),
     lambda mean: np.array([len(torch.argwhere(mean > 1))]),
     lambda mean: np.array([len(torch.where(mean > 1)[0])]),
     lambda mean: np.array([len(torch.cat([mean, mean * 0]).gt(1).unique()) > 1]),
     lambda mean: np.array([len(torch.bincount((mean > 1).int())) > 1]),
     lambda mean: np.array([nn.functional.one_hot((mean > 1).long()).shape[1] > 1]),
     lambda mean: np.array([len(mean.repeat_interleave((mean > 1).long()))]),
     lambda mean: np.array([len(mean.tensor_split((mean > 1).sum()[None])[0])]),
     lambda mean: np.array([len(_packed((mean > 1).sum()).data) > 1]),
     lambda mean: np.array([(mean > 1).float().to_sparse()._nnz()]),
     lambda mean: np.array([_any_bright(mean)]), lambda mean: np.array([len(_bright(mean))]),
     lambda mean: np.array([_applied(mean)]),
     lambda mean: np.array([float(repr(mean.sum())[7:-1]) > 8])],
    ids=["bool", "tolist", "numpy", "item", "dlpack", "nonzero", "mask", "select", "argwhere",
         "where", "unique", "bincount", "one_hot", "repeat", "tensor_split", "packed", "sparse",
         "own operation", "own size", "apply", "repr"],
)  # fmt: skip
def test_a_network_that_runs_by_what_it_sees_is_not_folded(monkeypatch, is_bright):
    """None of the images that run both ways is bright, so a trial finds no difference."""
    monkeypatch.setattr(quickening, "LEAST_PRODUCTS", 0)
    model = target_model(lived_in(Gated(is_bright)), PIXELS, name="net")
    taps = select_layers(model, ["last"])
    trial = quickening.tried(model, taps, pixels_of(model))
    assert (trial.n_folded, trial.reason) == (0, "")
    twin, _ = quickening.quickened(model, taps)
    bright = pixels_of(model) + np.float32(2)
    given, found = ActivationRecorder(model, taps)(bright), ActivationRecorder(twin, taps)(bright)
    for layer, given_nu in given.items():
        assert quickening.differences(given_nu, found[layer])[0] <= quickening.MOST


def test_places_that_no_image_decides_are_no_reason_to_fold_nothing():
    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
            self.order = torch.arange(8).flip(0)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(self.conv(x))[:, self.order]

    assert seen_of(lived_in(Turned())).pairs == (("conv", "norm"),)


@pytest.mark.parametrize("shares", ["itself", "a part", "a weight"])
def test_a_network_that_shares_parts_with_its_copy_is_not_touched(monkeypatch, shares):
    class Sharing(Small):
        def __deepcopy__(self, memo: Any) -> Any:
            if shares == "itself":
                return self
            twin = Small()
            twin.load_state_dict(self.state_dict())
            if shares == "a part":
                twin.layer1 = self.layer1
            else:
                twin.conv2.weight = self.conv2.weight
            return twin.eval()

    monkeypatch.setattr(quickening, "LEAST_PRODUCTS", 0)
    model = target_model(lived_in(Sharing()), toys.PREPROCESSING, name="net")
    before = {k: (v.clone(), v.stride()) for k, v in model.network.state_dict().items()}
    trial = quickening.tried(model, select_layers(model, ["layer2"]), pixels_of(model))
    assert "shares parts with what it copies" in trial.reason
    with pytest.raises(InputError, match="shares parts with what it copies"):
        with_random_weights(model)
    after = model.network.state_dict()
    assert list(after) == list(before)
    for key, (value, stride) in before.items():
        assert torch.equal(after[key], value)
        assert after[key].stride() == stride
    assert isinstance(model.network.layer1, nn.BatchNorm2d)


# --- in builds ----------------------------------------------------------------------------------


class Small(nn.Module):
    """Two convolutions, each with its normalisation."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.conv1 = nn.Conv2d(3, 8, 5, stride=2, bias=False)
        self.layer1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 12, 3, stride=2)
        self.layer2 = nn.BatchNorm2d(12)
        self.layer3 = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.layer1(self.conv1(x)))
        return self.layer3(self.layer2(self.conv2(x))).mean((2, 3))


@pytest.fixture(scope="module")
def small() -> Generator[TargetModel]:
    """A network that counts as large."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quickening, "LEAST_PRODUCTS", 0)
        yield target_model(lived_in(Small()), toys.PREPROCESSING, name="net")


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("quick")
    toys.draw_images(folder / "images")
    (folder / "images" / "blue" / "0000.png").write_bytes(b"no picture")
    return folder


def request(world: Path, out: Path, small: TargetModel, **changes: Any) -> BuildRequest:
    target = Target(small, tuple(select_layers(small, ["layer1@mean", "layer2@max"])))
    asked = {"targets": (target,), "batch_size": 5, "n_influence_images": 0, **changes}
    return toys.request(world, out, **asked)


def activations(bundle: Bundle, layer: str) -> np.ndarray:
    return np.asarray(bundle.array(f"activations:net/{layer}", "activation"))


@pytest.fixture(scope="module")
def whole(world, small) -> Bundle:
    return pipeline.build(request(world, world / "whole.csp", small))


@pytest.mark.slow
def test_a_build_runs_faster_and_says_so(world, whole, small):
    assert verify(whole) == []
    plain = pipeline.build(request(world, world / "plain.csp", small, is_quick=False))
    assert "passes" not in plain.manifest.inputs["models"]["net"]
    assert pass_sentences(plain) == []
    passes = whole.manifest.inputs["models"]["net"]["passes"]
    assert set(passes) == {"layer1@mean", "layer2@max"}
    (said,) = pass_sentences(whole)
    assert said.startswith("net ran with 2 batch normalisations folded into convolutions and the")
    for layer in passes:
        given_un, found_un = activations(plain, layer), activations(whole, layer)
        assert not np.array_equal(given_un, found_un)
        off, _ = quickening.differences(given_un.T, found_un.T)
        assert off <= quickening.MOST
    keys = [[r.key for r in b.manifest.stages.values()] for b in (plain, whole)]
    assert keys[0] == keys[1]  # a bundle made the plain way stays as it is


@pytest.mark.slow
def test_a_finished_bundle_is_not_measured_again(world, small, tmp_path):
    out = tmp_path / "a.csp"
    before = toys.content(pipeline.build(request(world, out, small, is_quick=False)).path)
    more = request(world, out, small)
    pipeline.build(more)
    assert toys.content(out) == before
    taps = tuple(select_layers(small, ["layer1@mean", "layer2@max", "layer3"]))
    bundle = pipeline.build(request(world, out, small, targets=(Target(small, taps),)))
    assert set(bundle.manifest.inputs["models"]["net"]["passes"]) == {"layer3@mean"}
    assert pass_sentences(bundle)[0].startswith("net (layer3@mean) ran with 2")


@pytest.mark.slow
@pytest.mark.parametrize("of", [3])
def test_shards_run_as_one_process_does(world, whole, small, tmp_path, of):
    out = tmp_path / "a.csp"
    for number in range(of, 0, -1):
        measure_shard(request(world, out, small), Shard(number, of))
    merge(request(world, out, small))
    assert toys.content(out) == toys.content(whole.path)
    assert Bundle.open(out).manifest.inputs == whole.manifest.inputs


@pytest.mark.slow
def test_an_interrupted_pass_goes_on_the_way_it_began(world, whole, small, tmp_path, monkeypatch):
    out = tmp_path / "a.csp"

    class StopHereError(Exception):
        pass

    def stop(stage: str, done: int, total: int) -> None:
        if (stage, done) == ("images", 10):
            raise StopHereError

    with pytest.raises(StopHereError):
        pipeline.build(request(world, out, small), stop)
    monkeypatch.setattr("csp_engine.pipeline.stages.measured.try_quick", lambda work: ({}, {}))
    seen: list[int] = []
    pipeline.build(request(world, out, small), lambda stage, done, _: seen.append(done))
    assert 10 in seen
    assert toys.content(out) == toys.content(whole.path)
    assert Bundle.open(out).manifest.inputs == whole.manifest.inputs


@pytest.mark.slow
def test_one_shard_tries_both_ways_and_the_others_read_it(
    world, whole, small, tmp_path, monkeypatch
):
    out, seen = tmp_path / "a.csp", []

    def counted(work: Any) -> Any:
        seen.append(work.images)
        return try_quick(work)

    def refuse(*_: Any) -> None:
        raise AssertionError("nothing runs in a merge")

    monkeypatch.setattr(deciding, "try_quick", counted)
    shutil.copytree(world / "images", tmp_path / "images")
    for number in (3, 1):
        measure_shard(request(tmp_path, out, small), Shard(number, 4))
    assert len(seen) == 1
    (held,) = parts_folder(out).glob(".decided-" + "?" * 12)
    held.write_bytes(held.read_bytes()[:-9])  # cut off
    measure_shard(request(tmp_path, out, small), Shard(2, 4))
    assert len(seen) == 2
    tried_on = json.loads(held.read_text())["images"].values()
    changed = sorted((tmp_path / "images").rglob("*.png"))[1]
    changed.write_bytes(changed.read_bytes() + b" ")
    assert hashlib.sha256(changed.read_bytes()[:-1]).hexdigest() in tried_on
    measure_shard(request(tmp_path, out, small), Shard(4, 4))  # on other images: it is tried anew
    assert len(seen) == 3
    changed.write_bytes(changed.read_bytes()[:-1])
    monkeypatch.setattr("csp_engine.pipeline.passing.image_pass.quickened", refuse)
    merge(request(tmp_path, out, small))
    assert toys.content(out) == toys.content(whole.path)
    assert Bundle.open(out).manifest.inputs == whole.manifest.inputs
    assert not parts_folder(out).exists()


def test_shards_run_in_two_ways_are_refused(world, small, tmp_path):
    out = tmp_path / "a.csp"
    measure_shard(request(world, out, small), Shard(1, 2))
    with pytest.raises(StaleError, match=r"networks run faster \(net\) and shard 2 now with netw"):
        measure_shard(request(world, out, small, is_quick=False), Shard(2, 2))


@pytest.mark.slow
def test_what_could_not_be_run_faster_is_said(world, small, tmp_path, monkeypatch):
    monkeypatch.setattr(quickening, "MOST", 0.0)
    bundle = pipeline.build(request(world, tmp_path / "a.csp", small))
    plain = pipeline.build(request(world, tmp_path / "b.csp", small, is_quick=False))
    assert toys.content(bundle.path) == toys.content(plain.path)
    (said,) = pass_sentences(bundle)
    assert said.startswith("net ran as it is given, because on 8 images, run faster, its activa")
    manifest = json.loads((bundle.path / "manifest.json").read_text())
    assert "reason" in manifest["inputs"]["models"]["net"]["passes"]["layer1@mean"]
