"""The networks of a pass on one device or several: who runs which batch, results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from csp_engine.errors import InputError
from csp_engine.networks.activations import ActivationRecorder
from csp_engine.networks.devices import (
    require_apart,
    require_devices,
    require_same,
    usable,
    worker,
)
from csp_engine.types import Encoder

if TYPE_CHECKING:
    from csp_engine.pipeline.passing.image_pass import Target

Batch = TypeVar("Batch")
Result = TypeVar("Result")
AHEAD = 2
"""Batches that each device may have before their results are taken; they bound the memory."""


@dataclass(frozen=True, slots=True, eq=False)
class Station:
    """The networks of a pass on one device."""

    device: str
    encoder: Encoder | None
    recorders: tuple[ActivationRecorder, ...]


def stations(
    targets: Sequence[Target], encoder: Encoder | None, devices: Sequence[str], stack: ExitStack
) -> list[Station]:
    """The networks where they are, and copies of them on every further device.

    Raises:
        InputError: a device cannot be used or is not that of a network, or a network or the encoder
            cannot be copied.
    """
    require_devices(devices)
    for target in targets if devices else ():
        _require_there(target, devices[0])
    found = []
    for number, device in enumerate(devices or ("",)):
        models = [t.model if number == 0 else t.model.on(device) for t in targets]
        recorders = [
            stack.enter_context(ActivationRecorder(model, target.taps))
            for model, target in zip(models, targets, strict=True)
        ]
        there = encoder if number == 0 or encoder is None else _copy_of(encoder, device)
        found.append(Station(device, there, tuple(recorders)))
    return found


def _require_there(target: Target, device: str) -> None:
    model, place = target.model, usable(device)
    if model.device != place:
        raise InputError(
            f"{model.name} is on {model.device}, and the first device is {place}; load it there "
            f"with device={device!r}."
        )


def _copy_of(encoder: Encoder, device: str) -> Encoder:
    on = getattr(encoder, "on", None)
    if on is None:
        raise InputError(
            f"Encoder {encoder.spec} cannot be copied to {device}, because it has no method "
            "on(device) that returns a copy there; add one, or name one device with --device."
        )
    return on(device)


def spread(
    batches: Iterator[Batch],
    places: list[Station],
    measure: Callable[[Station, Batch], Result],
    try_on: Callable[[list[Station], Batch], bool],
) -> Generator[tuple[Batch, Result]]:
    """What is measured of every batch, in their order, devices taking turns.

    On one device nothing else happens than a loop. On several, each has a thread; the first batch
    with images runs alone, because the first run of a network also decides how it is run, and the
    copies are tried on it.

    Args:
        batches: what to run.
        places: the networks, on one device or more.
        measure: one batch on one device; an error ends the pass at that batch, whatever later
            batches have become.
        try_on: tries the copies on a batch, and says whether it had images for that.
    """
    if len(places) == 1:
        for batch in batches:
            yield batch, measure(places[0], batch)
        return
    for batch in batches:
        result = measure(places[0], batch)
        is_tried = try_on(places, batch)
        yield batch, result
        if is_tried:
            break
    workers = [worker(place.device) for place in places]
    waiting: deque[tuple[Batch, Future[Result]]] = deque()
    try:
        for number, batch in enumerate(batches):
            turn = number % len(places)
            waiting.append((batch, workers[turn].submit(measure, places[turn], batch)))
            if len(waiting) == AHEAD * len(places):
                done, future = waiting.popleft()
                yield done, future.result()
        while waiting:
            done, future = waiting.popleft()
            yield done, future.result()
    finally:
        for each in workers:
            each.shutdown(wait=True, cancel_futures=True)


def try_copies(
    places: Sequence[Station], for_encoder: np.ndarray | None, for_model: Sequence[np.ndarray]
) -> None:
    """Refuse copies that do not do what the first does; what they may share is alike in all.

    Args:
        places: the first and the copies.
        for_encoder: pixels of a few images for the encoder, if there is one.
        for_model: the same for each network.

    Raises:
        InputError: naming the network, the device and the option.
    """
    first = places[0]
    for place in places[1:]:
        if first.encoder is not None and place.encoder is not None and for_encoder is not None:
            name = f"Encoder {first.encoder.spec}"
            runs = [_embedding(each) for each in (first.encoder, place.encoder)]
            require_same(*runs, for_encoder, name, place.device, 2.0**-10)
        for one, other, pixels in zip(first.recorders, place.recorders, for_model, strict=True):
            model = one.model
            require_same(one, other, pixels, model.name, place.device, model.resolution)
            if place is places[1]:
                require_apart(one, other, pixels, place.device)


def _embedding(encoder: Encoder) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    return lambda pixels: {"": encoder.embed_images(pixels)}
