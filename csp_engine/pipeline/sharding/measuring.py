"""One shard: its images through encoder and networks, into a part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from csp_engine.bundle import (
    PassJournal,
    discard,
    parts_folder,
    parts_in,
    seal,
    translated_os_errors,
)
from csp_engine.errors import BundleError
from csp_engine.networks.conditions import code_conditions, place_conditions
from csp_engine.pipeline.passing.image_pass import run_as_tried, run_pass
from csp_engine.pipeline.request import BuildRequest
from csp_engine.pipeline.run import Keys
from csp_engine.pipeline.sharding.agreeing import require_same_conditions, require_same_pass
from csp_engine.pipeline.sharding.deciding import trials_of
from csp_engine.pipeline.sharding.shards import Shard
from csp_engine.pipeline.stages.influence import keep_influences
from csp_engine.pipeline.stages.measured import by_pass, identities_of, pass_header, pass_of
from csp_engine.pipeline.trying.possible import require_possible
from csp_engine.types import Progress, silent

PATIENCE_S = 2.0
"""How long a shard waits for a process that measured it and is about to end."""


def header_of(request: BuildRequest, images: str) -> dict[str, Any]:
    """What the whole pass of a build is known by; it makes all that comes from pixels.

    Args:
        request: of the build, whatever a bundle may hold already.
        images: the hash that the images are known by.
    """
    keys = Keys()
    names = by_pass(request, identities_of(keys, request, images))
    return pass_header(keys.keys, request, names)


def header_of_parts(request: BuildRequest) -> dict[str, Any]:
    """The same for shards, which know the images by their names.

    So no worker reads images that are not its own. Each row says of which bytes it is, and a merge
    compares that with the images.
    """
    return header_of(request, request.probe.listing_sha256)


def measure_shard(request: BuildRequest, shard: Shard, progress: Progress = silent) -> Path:
    """Measure the images of one shard; what is measured already is kept.

    Interrupted at any moment, the next call continues where it stopped, and ends with the same
    content as an undisturbed one.

    Args:
        request: of the whole build; nothing is written to its bundle.
        shard: which of its shards.
        progress: called with stage, done and total.

    Returns:
        the folder of the part.

    Raises:
        InputError: for requests that cannot work.
        StaleError: parts lie there that do not belong together with this shard.
        BundleError: another process measures this shard.
    """
    require_possible(request)
    header, folder = header_of_parts(request), parts_folder(request.out)
    device = request.devices[0] if request.devices else str(request.targets[0].model.device)
    conditions: dict[str, Any] = code_conditions() | place_conditions(device)
    images = shard.images(len(request.probe.table), request.batch_size)
    work, _ = pass_of(request, header["missing"], images)
    name = f".{shard.number}-of-{shard.of}"
    with translated_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock = FileLock(folder / f"{name}.lock").acquire(timeout=PATIENCE_S)
        except Timeout:
            raise BundleError(
                f"Another process measures shard {shard} of {request.out.name}; wait for it."
            ) from None
    with lock:
        parts = parts_in(folder)
        require_same_pass(parts, header, shard.of)
        require_same_conditions(parts, conditions, f"shard {shard.number} now")
        for part in parts:
            if part.number == shard.number and part.is_there:
                progress("images", len(images), len(images))
                return part.path
            if part.number == shard.number:
                discard(part.path)
        of_pass = {"header": header, "conditions": dict(conditions)}
        passes, made = trials_of(work, folder, of_pass) if request.is_quick else ({}, {})
        conditions["passes"] = passes
        require_same_conditions(parts, conditions, f"shard {shard.number} now")
        work = run_as_tried(work, passes, made)
        about: dict[str, Any] = {"number": shard.number, "of": shard.of, "header": header}
        about |= {"first": images.start, "conditions": conditions}
        journal = PassJournal(folder / name, about, work.stream_names())
        try:
            run_pass(work, journal, progress)
            if images:  # else the network was not tried
                keep_influences(request, shard.number, shard.of, progress)
            with translated_os_errors(folder):
                return seal(journal, **about)
        finally:
            journal.close()
