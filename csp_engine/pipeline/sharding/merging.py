"""All shards of a build into its bundle."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

from csp_engine.bundle import (
    Bundle,
    BundleWriter,
    Part,
    PassJournal,
    parts_folder,
    parts_in,
    remove_parts,
    translated_os_errors,
)
from csp_engine.errors import StaleError
from csp_engine.hashing import sha256_file
from csp_engine.networks.conditions import code_conditions
from csp_engine.pipeline.building import build
from csp_engine.pipeline.passing.image_pass import Pass, first_changed, is_sparse, read_rows
from csp_engine.pipeline.request import BuildRequest
from csp_engine.pipeline.sharding.agreeing import (
    damaged,
    require_all,
    require_same_conditions,
    require_same_pass,
)
from csp_engine.pipeline.sharding.measuring import header_of, header_of_parts
from csp_engine.pipeline.sharding.shards import Shard
from csp_engine.pipeline.sharing.dividing import Sharing
from csp_engine.pipeline.stages.measured import pass_of
from csp_engine.pipeline.trying.possible import require_possible
from csp_engine.types import Progress, silent


def merge(
    request: BuildRequest,
    progress: Progress = silent,
    n_processes: int = 1,
    call: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Bundle:
    """Make the bundle of a build all of whose shards are measured.

    The rows of the shards, one after the other, are those of a pass that is not in shards, and are
    handed to the build as such: the rest of it is the same. Interrupted at any moment, the next
    call continues. The parts are deleted once the bundle is whole; those of another pass stay.

    Args:
        request: of the build.
        progress: called with stage, done and total.
        n_processes: how many compute contrast images and scores, this one among them; the others
            ``help_merge``.
        call: has the others come, until its block ends; without it they come by themselves.

    Raises:
        InputError: for requests that cannot work.
        StaleError: parts are missing, damaged, there twice, or do not belong together; the bundle
            is as it was.
        BundleError: if another process is writing the bundle.
    """
    require_possible(request)
    folder = parts_folder(request.out)
    parts = parts_in(folder)
    if not request.out.exists():  # refused before there is an empty folder of that name
        _require_whole(parts, request)
    with BundleWriter(request.out) as writer:
        if not _is_measured(request, writer):
            _require_whole(parts, request)
            _take(parts, request, writer, progress)
    with Sharing(request.out, n_processes, call, progress) as sharing:
        bundle = build(replace(request, gradient_threads=_threads(parts)), progress, sharing)
    remove_parts(folder, header_of_parts(request))
    return bundle


def _threads(parts: list[Part]) -> int | None:
    """On how many threads the networks of the parts ran, where that is known."""
    said = {part.conditions.get("threads") for part in parts}
    one = said.pop() if len(said) == 1 else None
    return int(one) if isinstance(one, str) and one.isdecimal() and 0 < int(one) < 10**6 else None


def is_measured(request: BuildRequest) -> bool:
    """Whether the bundle holds all that shards would measure."""
    if not request.out.exists():
        return False
    with BundleWriter(request.out) as writer:
        return _is_measured(request, writer)


def _is_measured(request: BuildRequest, writer: BundleWriter) -> bool:
    header = header_of(request, request.probe.content_sha256)
    return all(writer.is_fresh(name, header["stages"][name]) for name in header["missing"])


def _require_whole(parts: list[Part], request: BuildRequest) -> None:
    folder, header = parts_folder(request.out), header_of_parts(request)
    if not parts:
        raise StaleError(
            f"There are no finished shards in {folder}; run 'csp build' with --shard 1/N to N/N "
            "and the same --out first."
        )
    of = parts[0].of
    require_same_pass(parts, header, of)
    require_same_conditions(parts[1:], parts[0].conditions, parts[0].name)
    require_same_conditions(parts, code_conditions(), "this merge")
    work, _ = pass_of(request, header["missing"])
    require_all(parts, of, folder)
    for part in parts:
        images = Shard(part.number, of).images(len(request.probe.table), request.batch_size)
        held = set(part.streams), part.first, part.last
        if held != (set(work.stream_names()), images.start, images.stop):
            raise damaged(part)


def _take(
    parts: list[Part], request: BuildRequest, writer: BundleWriter, progress: Progress
) -> None:
    """Fill the journal of the bundle's pass; what it holds of these very parts stays."""
    header = header_of(request, request.probe.content_sha256)
    work, _ = pass_of(request, header["missing"])
    names = [part.path.name for part in parts]
    if passes := parts[0].conditions.get("passes"):
        header["passes"] = passes
    about = {**header, "parts": hashlib.sha256("\n".join(names).encode()).hexdigest()}
    with translated_os_errors(request.out):
        journal = PassJournal(writer.pass_folder, about, work.stream_names())
        try:
            for part in parts:
                if part.last > journal.n_listed:
                    _require_same_images(part, request, work)
                    files = {s: (part.file(s), sha) for s, (_, sha) in part.streams.items()}
                    n_listed = part.last - part.first
                    wrong = journal.take(files, n_listed=n_listed, n_rows=part.n_rows)
                    if wrong is not None:
                        raise damaged(part, wrong)
                progress("merge", part.last, len(request.probe.table))
        finally:
            journal.close()


def _require_same_images(part: Part, request: BuildRequest, work: Pass) -> None:
    """Refuse a part that was measured on other bytes than the images have now.

    Also one whose rows are not those of its images, or whose files are not as long as they say.
    """
    rows, (_, sha256) = part.file("rows"), part.streams["rows"]
    if sha256_file(rows) != sha256:
        raise damaged(part, "rows")
    try:
        held = read_rows(rows)
        whole = [row for row in held if "reason" not in row]
        sizes = {"thumbs": sum(row["thumb_bytes"] for row in whole)}
        sizes |= {
            name: 4 * n * len(whole) for name, n in work.streams.items() if not is_sparse(name)
        }
        listed = [row["listed"] for row in held]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise damaged(part, "rows") from None
    if listed != list(range(part.first, part.last)) or len(whole) != part.n_rows:
        raise damaged(part, "rows")
    for stream, size in sizes.items():
        if part.streams[stream][0] != size:
            raise damaged(part, stream)
    changed = first_changed(held, request.probe)
    if changed is not None:
        row, how = changed
        raise StaleError(
            f"{request.probe.table['file'].iloc[row]} {how} {part.name} measured it; delete "
            f"{part.path} and measure that shard again."
        )
