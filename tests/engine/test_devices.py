"""Several devices give the bundle of one: same digests, same sentences, or a refusal.

Two copies on one processor stand for two accelerators: what differs is only where a batch runs.
"""

from __future__ import annotations

import ctypes
import re
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from csp_engine import pipeline
from csp_engine.encoders import load_encoder
from csp_engine.errors import InputError
from csp_engine.networks.activations import ActivationRecorder
from csp_engine.networks.devices import read_devices, require_devices, worker
from csp_engine.networks.layers import select_layers
from csp_engine.networks.models import target_model
from csp_engine.networks.steadiness import quieten
from csp_engine.pipeline import Target
from csp_engine.pipeline.passing.spreading import AHEAD, Station, spread
from tests.engine.test_encoders_open_clip import save_encoder
from tests.engine.test_encoders_transformers import save_clip, save_siglip2
from tests.worlds import toys

TWO, THREE = ("cpu", "cpu"), ("cpu", "cpu", "cpu")


class CopiedEncoder(toys.ColourEncoder):
    """Says how it is copied; gives no number for images brighter than ``limit``."""

    limit = 10.0

    def on(self, device: str) -> CopiedEncoder:
        return type(self)()

    def embed_images(self, pixels: np.ndarray) -> np.ndarray:
        rows = super().embed_images(pixels)
        rows[pixels.mean((1, 2, 3)) > self.limit] = np.nan
        return rows


class DimEncoder(CopiedEncoder):
    limit = 0.5  # some of the grey images


class DarkEncoder(CopiedEncoder):
    limit = 0.4  # some in nearly every batch


class Dropping(toys.SmallNet):
    """Dropout that evaluation does not switch off: calmed at the first batch, in every copy."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        maps = self.last(self.second(torch.dropout(self.first(pixels).relu(), 0.5, True)))
        return self.head(maps.mean(dim=(2, 3)))


def target(net: nn.Module, layers: tuple[str, ...] = ("first", "second"), **more: Any) -> Target:
    model = target_model(net, toys.PREPROCESSING, name="small", **more)
    return Target(model, tuple(select_layers(model, list(layers))))


def seeded(kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(3)
    return kind()


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """28 images, five of which cannot be read, among them the whole first batch of four."""
    folder = tmp_path_factory.mktemp("world")
    toys.draw_images(folder / "images")
    files = sorted((folder / "images").rglob("*.png"))
    for file in [*files[:4], files[13]]:
        file.write_bytes(b"no image")
    return folder


def content(world: Path, out: Path, devices: tuple[str, ...], **changes: Any) -> dict[str, Any]:
    given = {"encoder": CopiedEncoder(), "batch_size": 4, "devices": devices, **changes}
    pipeline.build(toys.request(world, out, **given))
    return toys.content(out)


# --- the same numbers -------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("devices", "make"),
    [
        (TWO, lambda: target(seeded(toys.SmallNet), precision="bfloat16")),
        (TWO, lambda: target(seeded(toys.SmallNet).double())),
        (THREE, lambda: target(seeded(Dropping))),
    ],
    ids=["autocast", "float64", "calmed"],
)
def test_several_devices_give_the_digests_of_one(world, tmp_path, devices, make):
    one = content(world, tmp_path / "one.csp", (), targets=(make(),))
    several = content(world, tmp_path / "several.csp", devices, targets=(make(),))
    assert several == one
    assert {name.partition(":")[0] for name in one} >= {"activations", "embeddings", "scores"}


@pytest.fixture(scope="module")
def clean(world) -> dict[str, Any]:
    return content(world, world / "clean.csp", ())


@pytest.mark.slow
def test_every_device_runs_its_turn_and_two_run_at_once(world, clean, tmp_path, monkeypatch):
    """Batches meet at a barrier: devices that waited for one another would never get past it."""
    meeting = threading.Barrier(2, timeout=60)
    ran: Counter[int] = Counter()
    plain = ActivationRecorder.__call__

    def meet(self: ActivationRecorder, pixels: np.ndarray) -> Any:
        if threading.current_thread().name.startswith("run-"):
            ran[id(self)] += 1
            if ran[id(self)] <= 2:
                meeting.wait()
        return plain(self, pixels)

    monkeypatch.setattr(ActivationRecorder, "__call__", meet)
    assert content(world, tmp_path / "a.csp", TWO) == clean
    # seven batches: one without images, one on which the copies are tried, five in turn
    assert sorted(ran.values()) == [2, 3]


@pytest.mark.parametrize(("before", "after"), [(THREE, ()), ((), TWO), (TWO, THREE)])
def test_a_pass_goes_on_with_another_number_of_devices(world, clean, tmp_path, before, after):
    class StopHereError(Exception):
        pass

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "images" and done == 16:
            raise StopHereError

    n_threads = threading.active_count()
    request = toys.request(world, tmp_path / "a.csp", encoder=CopiedEncoder(), batch_size=4)
    with pytest.raises(StopHereError):
        pipeline.build(replace(request, devices=before), stop)
    assert threading.active_count() == n_threads
    seen: list[int] = []
    pipeline.build(
        replace(request, devices=after),
        lambda stage, done, total: seen.append(done) if stage == "images" else None,
    )
    assert seen == [16, 20, 24, 28]
    assert toys.content(tmp_path / "a.csp") == clean


def test_an_interruption_ends_the_threads(world, tmp_path):
    def interrupt(stage: str, done: int, total: int) -> None:
        if done == 12:
            raise KeyboardInterrupt

    n_threads = threading.active_count()
    request = toys.request(world, tmp_path / "a.csp", encoder=CopiedEncoder(), batch_size=4)
    with pytest.raises(KeyboardInterrupt):
        pipeline.build(replace(request, devices=TWO), interrupt)
    assert threading.active_count() == n_threads


def said(request: Any) -> str:
    with pytest.raises(InputError) as error:
        pipeline.build(request)
    return str(error.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"encoder": DimEncoder()},
        {"encoder": DarkEncoder(), "batch_size": 3},
        {"encoder": CopiedEncoder(), "stop_on_unreadable": True},
    ],
    ids=["one not finite", "many not finite", "unreadable"],
)
def test_errors_are_those_of_one_device(world, tmp_path, changes):
    request = toys.request(world, tmp_path / "one.csp", **{"batch_size": 4, **changes})
    one = said(request)
    assert "not finite for image" in one or "cannot be read" in one
    assert said(replace(request, out=tmp_path / "two.csp", devices=TWO)) == one


def test_tiny_encoders_of_libraries_are_copied(tmp_path):
    rng = np.random.default_rng(0)
    makers = {"transformers": [save_clip, save_siglip2], "open_clip": [save_encoder]}
    for kind, save in [(kind, save) for kind, all_ in makers.items() for save in all_]:
        torch.manual_seed(0)
        save(tmp_path / save.__name__)
        encoder: Any = load_encoder(f"{kind}/{tmp_path / save.__name__}")
        twin = encoder.on("cpu")
        images = [Image.fromarray(rng.integers(0, 255, (40, 50, 3), np.uint8)) for _ in range(3)]
        pixels = np.stack([encoder.preprocess(image) for image in images])
        expected = encoder.embed_images(pixels)
        with torch.no_grad():
            for tensor in encoder.network.parameters():
                tensor.zero_()
        np.testing.assert_array_equal(twin.embed_images(pixels), expected)
        assert (twin.fingerprint, twin.spec, twin.dim) == (
            encoder.fingerprint,
            encoder.spec,
            encoder.dim,
        )


# --- order and bounds -------------------------------------------------------------------------


def test_results_keep_their_order_and_wait_for_no_more_than_was_said():
    places = [Station(f"cpu:{i}", None, ()) for i in range(3)]
    done = {number: threading.Event() for number in range(40)}
    pulled = 0

    def batches():
        nonlocal pulled
        for number in range(40):
            pulled += 1
            yield number

    def measure(place: Station, number: int) -> tuple[str, int]:
        if number % 3 == 1 and number + 1 < 40:
            assert done[number + 1].wait(60)  # of the next device: later batches end first
        done[number].set()
        return place.device, number * number

    most, found = 0, []
    for number, result in spread(batches(), places, measure, lambda places, number: True):
        most = max(most, pulled - len(found))
        found.append((number, result))
    assert [number for number, _ in found] == list(range(40))
    assert [result[1] for _, result in found] == [n * n for n in range(40)]
    assert most == AHEAD * len(places)
    assert min(Counter(result[0] for _, result in found).values()) >= 13


def test_the_first_error_in_order_counts():
    places = [Station("cpu", None, ())] * 2
    failed = threading.Event()

    def measure(place: Station, number: int) -> int:
        if number == 3:
            assert failed.wait(60)
            raise InputError("third")
        if number == 4:
            failed.set()
            raise InputError("fourth")
        return number

    taken = []

    def take() -> None:
        for number, _ in spread(iter(range(9)), places, measure, lambda places, number: True):
            taken.append(number)

    with pytest.raises(InputError, match="third"):
        take()
    assert taken == [0, 1, 2]


def test_the_thread_of_a_device_uses_as_many_cores(monkeypatch):
    """OpenMP tells threads apart; where sums are split otherwise their last digits differ."""
    loaded = Path("/proc/self/maps")
    maps = loaded.read_text() if loaded.exists() else ""
    found = [line.split()[-1] for line in maps.splitlines() if "torch/lib/libgomp" in line]
    library = next(iter(found), None)
    if library is None:
        pytest.skip("torch uses another OpenMP here")
    openmp = ctypes.CDLL(library)
    held = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        with worker("cpu") as thread:
            assert thread.submit(openmp.omp_get_max_threads).result() == 3
    finally:
        torch.set_num_threads(held)


# --- what cannot be copied --------------------------------------------------------------------

SHARED: dict[str, torch.Tensor] = {}


class OfTheModule(toys.SmallNet):
    """Keeps features in a dictionary of the module, and reads them further on."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        SHARED["features"] = self.first(pixels)
        self.last(pixels)
        return self.head(self.second(SHARED["features"].relu()).mean(dim=(2, 3)))


class Hooked(toys.SmallNet):
    """A hook stores what the head reads, in a dictionary that copies of the hook share."""

    def __init__(self) -> None:
        super().__init__()
        kept: dict[str, torch.Tensor] = {}
        self.first.register_forward_hook(lambda m, a, output: kept.update(x=output))
        self.second.register_forward_pre_hook(lambda m, a: (kept["x"].relu(),))


class Closed(toys.SmallNet):
    """Its forward pass is a function that holds the network."""

    def __init__(self) -> None:
        super().__init__()
        net = self
        self.forward = lambda pixels: toys.SmallNet.forward(net, pixels)


class Locked(toys.SmallNet):
    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


class NotALeaf(toys.SmallNet):
    def __init__(self) -> None:
        super().__init__()
        self.table = self.head.weight * 2


@pytest.mark.parametrize(
    ("kind", "layers", "reason"),
    [
        (OfTheModule, ("first", "head"), "gives other values in layer head"),
        (Hooked, ("first", "second"), "gives other values in layer second"),
        (Closed, ("first", "second"), "it fails .*did not run"),
        (Locked, ("first",), "be copied to cpu .*lock"),
        (NotALeaf, ("first",), "be copied to cpu .*deepcopy"),
    ],
)
def test_a_network_that_shares_or_holds_what_cannot_be_copied(
    world, tmp_path, kind, layers, reason
):
    request = toys.request(
        world,
        tmp_path / "a.csp",
        encoder=CopiedEncoder(),
        targets=(target(seeded(kind), layers),),
        n_influence_images=0,
    )
    words = said(replace(request, devices=TWO))
    assert re.fullmatch(rf"small cannot .*{reason}.*; name one device with --device\.", words)


class OtherCopy(CopiedEncoder):
    def on(self, device: str) -> CopiedEncoder:
        twin = type(self)()
        twin._projection = -twin._projection
        return twin


@pytest.mark.parametrize(
    ("encoder", "words"),
    [(toys.ColourEncoder, r"has no method on\(device\)"), (OtherCopy, "gives other values")],
)
def test_an_encoder_that_cannot_be_copied(world, tmp_path, encoder, words):
    request = toys.request(world, tmp_path / "a.csp", encoder=encoder(), devices=TWO)
    start = "Encoder python:tests.worlds.toys:ColourEncoder cannot "
    assert re.fullmatch(rf"{start}.*{words}.*name one device with --device\.", said(request))


def test_networks_are_where_the_first_device_is(world, tmp_path):
    made = target(seeded(toys.SmallNet))
    made = replace(made, model=made.model.on("meta"))
    request = toys.request(world, tmp_path / "a.csp", encoder=CopiedEncoder(), targets=(made,))
    assert "small is on meta, and the first device is cpu" in said(replace(request, devices=TWO))


def test_a_copy_takes_everything_along():
    """Tensors that are no buffers, and what was switched off, are the copy's own."""

    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ramp = torch.arange(4.0)

        def random_masking(self, tokens: torch.Tensor) -> Any:
            return self

    net = Masked()
    assert quieten(net)
    model = target_model(nn.Sequential(nn.Conv2d(3, 4, 1), net), toys.PREPROCESSING, name="small")
    twin = model.on("meta")
    inner: Any = twin.network[1]
    assert (inner.ramp.device.type, net.ramp.device.type) == ("meta", "cpu")
    assert twin.device.type == "meta"
    assert inner.random_masking(torch.zeros(1)) is inner
    assert twin.steadiness is model.steadiness
    assert (twin.fingerprint, twin.precision) == (model.fingerprint, model.precision)


# --- names ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cpu", ("cpu",)),
        ("cuda:0,cuda:1", ("cuda:0", "cuda:1")),
        ("cuda, cuda:1", ("cuda", "cuda:1")),
        ("cpu,cpu", TWO),
    ],
)
def test_names_of_devices(text, expected):
    assert read_devices(text) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has an empty name"),
        (",", "has an empty name"),
        ("cuda:0,cuda:0,", "has an empty name"),
        ("cpu,,cpu", "has an empty name"),
        ("mps,cuda", "mixes mps and cuda"),
        ("cpu,cuda:0", "mixes cpu and cuda"),
        ("cuda:1,cuda:0,cuda:1", "names cuda:1 twice"),
        ("cuda,cuda:0", "names cuda:0 twice"),
        ("mps,mps", "names mps twice"),
    ],
)
def test_names_that_are_none(text, words):
    with pytest.raises(InputError, match=words) as error:
        read_devices(text)
    assert "\n" not in str(error.value)


def test_devices_of_two_makes_are_refused(monkeypatch):
    """Two accelerators of other makes round otherwise; faked, since none is needed to say so."""
    monkeypatch.setattr("csp_engine.networks.devices.usable", lambda device: torch.device(device))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda place: f"Make {place.index // 2}")
    require_devices(("cuda:0", "cuda:1"))
    with pytest.raises(InputError, match="cuda:1 is a Make 0 and cuda:2 a Make 1, which differ"):
        require_devices(("cuda:1", "cuda:2"))
