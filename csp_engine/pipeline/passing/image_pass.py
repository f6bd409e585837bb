"""The one pass over the images: each is decoded once and serves thumbnail, encoder and models."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from csp_engine.bundle import PassJournal, sparse_rows, translated_os_errors
from csp_engine.encoders.answering import embedded
from csp_engine.errors import InputError, UnreadableImageError
from csp_engine.networks.devices import n_cores, n_threads
from csp_engine.networks.layers import LayerTap
from csp_engine.networks.models import TargetModel
from csp_engine.networks.quickening import N_TRIED, Trial, gains, quickened, tried
from csp_engine.networks.steadiness import N_IMAGES
from csp_engine.pipeline.passing.lasting import Lasting, NotLastingError
from csp_engine.pipeline.passing.spreading import Station, spread, stations, try_copies
from csp_engine.probe.decoding import decode
from csp_engine.probe.images import perceptual_hash, thumbnail
from csp_engine.probe.listing import ProbeSet
from csp_engine.types import Encoder, Progress

SPARSE = "sparse"


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """A target model and the layers whose units are looked at.

    ``control_of`` names the model that this one is the control of, with random weights.
    """

    model: TargetModel
    taps: tuple[LayerTap, ...]
    control_of: str = ""


def stream_of(tap: LayerTap, i: int, j: int) -> str:
    """The stream of layer ``j`` of target ``i``."""
    return f"{'layer' if tap.sae is None else SPARSE}-{i}-{j}"


def is_sparse(stream: str) -> bool:
    """Whether a stream holds ``sparse_rows``."""
    return stream.startswith(SPARSE)


@dataclass(frozen=True, slots=True, eq=False)
class Pass:
    """What one pass has to produce; each stream becomes the content of one stage.

    ``images`` writes thumbnails and image rows; ``encoder`` writes embeddings; ``targets`` write
    one stream a layer. Stream names are ``thumbs``, ``rows``, ``embeddings``, and ``layer-I-J``, or
    ``sparse-I-J`` of an autoencoder, whose latents are mostly zero: then only the others are kept.
    ``images`` are the listed images to take: all of them, or whole batches of them.
    """

    probe: ProbeSet
    targets: tuple[Target, ...]
    encoder: Encoder | None
    thumbnail_side: int
    batch_size: int
    stop_on_unreadable: bool
    devices: tuple[str, ...] = ()
    images: range | None = None
    streams: dict[str, int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        for i, target in enumerate(self.targets):
            for j, tap in enumerate(target.taps):
                self.streams[stream_of(tap, i, j)] = tap.n_units
        if self.encoder is not None:
            self.streams["embeddings"] = self.encoder.dim

    @property
    def listed(self) -> range:
        """The listed images to take."""
        return range(len(self.probe.table)) if self.images is None else self.images

    def stream_names(self) -> list[str]:
        """Every stream, thumbnails and image rows included."""
        return ["rows", "thumbs", *self.streams]


@dataclass(frozen=True, slots=True, eq=False)
class _Prepared:
    """One decoded image, ready for everything that wants it; ``reason`` is set if it failed."""

    listed: int
    reason: str = ""
    thumb: bytes = b""
    row: dict[str, Any] = field(default_factory=dict)
    encoder_pixels: np.ndarray | None = None
    target_pixels: tuple[np.ndarray, ...] = ()


def run_pass(work: Pass, journal: PassJournal, progress: Progress) -> None:
    """Take the images of the pass from where the journal stands to the end.

    Images that cannot be read get a row with a reason and no entry in any other stream, or stop
    the pass if so asked. Activations that are not finite stop it, with the image's name. A network
    that says other things of the first images at the end ends it, and nothing of it is kept.

    Raises:
        InputError: as above, or if the disk is full.
    """
    total = len(work.listed)
    progress("images", journal.n_listed, total)
    with ExitStack() as stack:
        places = stations(work.targets, work.encoder, work.devices, stack)
        if work.listed.start or journal.n_listed:
            _try_first_images(work, places[0])
        batches = _prepared_batches(work, journal.n_listed)
        lasting = Lasting()
        measured = spread(batches, places, partial(_measure, work, lasting), _try_copies)
        try:
            for batch, parts in stack.enter_context(closing(measured)):
                whole = [p for p in batch if not p.reason]
                parts["rows"] = "".join(json.dumps(p.row) + "\n" for p in batch).encode()
                parts["thumbs"] = b"".join(p.thumb for p in whole)
                if journal.n_listed + len(batch) == total:
                    lasting.at_end(places)
                with translated_os_errors(journal.folder.parent):
                    journal.append(parts, n_listed=len(batch), n_rows=len(whole))
                progress("images", journal.n_listed, total)
        except NotLastingError:
            journal.remove()  # else the same command would go on from what came of it
            raise


def _measure(
    work: Pass, lasting: Lasting, place: Station, batch: list[_Prepared]
) -> dict[str, bytes]:
    files = work.probe.table["file"]
    failed = ((files.iloc[p.listed], p.reason) for p in batch if p.reason)
    require_none_left_out(work.stop_on_unreadable, failed)
    parts: dict[str, bytes] = dict.fromkeys(work.streams, b"")
    whole = [p for p in batch if not p.reason]
    if not whole:
        return parts
    if place.encoder is not None:
        named = files.iloc[[p.listed for p in whole]].tolist()
        vectors = embedded(place.encoder, _for_encoder(whole), named)
        parts["embeddings"] = np.ascontiguousarray(vectors, np.float32).tobytes()
    for i, (target, recorder) in enumerate(zip(work.targets, place.recorders, strict=True)):
        recorded = recorder(_for_target(whole, i))
        for j, tap in enumerate(target.taps):
            values_nu = recorded[str(tap.id)]
            _require_finite(values_nu, f"layer {tap.id}", work.probe, whole)
            stream = stream_of(tap, i, j)
            values_nu = np.ascontiguousarray(values_nu, np.float32)
            parts[stream] = sparse_rows(values_nu) if is_sparse(stream) else values_nu.tobytes()
    few = whole[:N_IMAGES]
    for_encoder = None if place.encoder is None else _for_encoder(few)
    lasting.after_batch(place, for_encoder, [_for_target(few, i) for i in range(len(work.targets))])
    return parts


def _try_first_images(work: Pass, place: Station) -> None:
    """See how the networks are run, on the images that decide it in a pass from the beginning.

    Else it would hang on where a pass was interrupted, or on the shard, whether a network is found
    to be steady.
    """
    few = list(itertools.islice(_first_whole(work), N_IMAGES))
    for i, recorder in enumerate(place.recorders if few else ()):
        recorder.require_steady(_for_target(few, i))


def _first_whole(work: Pass) -> Iterator[_Prepared]:
    """The images of the first batch that has some, of all that are listed."""
    n_listed, size = len(work.probe.table), work.batch_size
    for start in range(0, n_listed, size):
        rows = range(start, min(start + size, n_listed))
        found = False
        for prepared in (_prepare(work, row) for row in rows):
            if not prepared.reason:
                found = True
                yield prepared
        if found:
            return


def try_quick(work: Pass) -> tuple[dict[str, Trial], dict[int, str]]:
    """What came of running each network both ways, by its name; see ``networks.quickening``.

    On the images that decide how a network is run in a pass from the beginning, and on some from
    all over the list, so that it hangs neither on where a pass was interrupted nor on the shard.
    These are read once more; none is where no network would gain.

    Returns:
        the trials, and the sha256 of each listed image that they were made with.
    """
    seen = [gains(target.model) for target in work.targets]
    if not any(seen):
        return {}, {}
    few = list(itertools.islice(_first_whole(work), N_IMAGES))
    n_listed = len(work.probe.table)
    n_more = N_TRIED - len(few)
    rows = sorted({n_listed * (i + 1) // (n_more + 1) for i in range(n_more)})
    held = {prepared.listed for prepared in few}
    more = [_prepare(work, row) for row in rows if row < n_listed and row not in held]
    few += [prepared for prepared in more if not prepared.reason]
    found: dict[str, Trial] = {}
    for i, target in enumerate(work.targets if few else ()):
        if seen[i] is None:
            continue
        trial = tried(target.model, target.taps, _for_target(few, i), seen[i])
        if trial is not None:
            found[target.model.name] = trial
    return found, {prepared.listed: prepared.row["sha256"] for prepared in few}


def run_as_tried(
    work: Pass,
    trials: Mapping[str, Mapping[str, Any]],
    made: Mapping[str, Trial] = MappingProxyType({}),
) -> Pass:
    """The pass with the faster copies of those networks that were found to say the same.

    Args:
        work: the pass with the networks as they are given.
        trials: what was found, as manifests and parts keep it.
        made: what this process found itself, whose copies are used.
    """
    targets = []
    for target in work.targets:
        trial = trials.get(target.model.name)
        if trial is not None and "reason" not in trial:
            own = made.get(target.model.name)
            quick = (own and own.twin) or _quick_copy(target, trial)
            target = target if quick is None else replace(target, model=quick)
        targets.append(target)
    return replace(work, targets=tuple(targets))


def _quick_copy(target: Target, trial: Mapping[str, Any]) -> TargetModel | None:
    quick = quickened(target.model, target.taps, n_folded=trial.get("n_folded"))
    return None if quick is None else quick[0]


def _try_copies(places: list[Station], batch: list[_Prepared]) -> bool:
    """Refuse copies that do not do what the first does; False if the batch has no image for it."""
    few = [p for p in batch if not p.reason][:2]
    if not few:
        return False
    n_targets = len(places[0].recorders)
    for_encoder = None if places[0].encoder is None else _for_encoder(few)
    try_copies(places, for_encoder, [_for_target(few, i) for i in range(n_targets)])
    return True


def _for_encoder(whole: list[_Prepared]) -> np.ndarray:
    return np.stack([p.encoder_pixels for p in whole if p.encoder_pixels is not None])


def _for_target(whole: list[_Prepared], number: int) -> np.ndarray:
    return np.stack([p.target_pixels[number] for p in whole])


def _require_finite(
    values: np.ndarray, where: str, probe: ProbeSet, whole: list[_Prepared]
) -> None:
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        file = probe.table["file"].iloc[whole[int(np.argmin(finite))].listed]
        raise InputError(
            f"{where} gives values that are not finite for image {file}; check the weights and "
            "the preprocessing, or remove that image."
        )


def _prepared_batches(work: Pass, n_done: int) -> Iterator[list[_Prepared]]:
    """Batches of decoded images, prepared by one thread a core.

    Where the networks leave cores idle, as on an accelerator, the next two batches are prepared
    meanwhile. Where they run on all cores, that would only make both wait for each other
    (measured: 20 % on two cores), so preparing and running take turns.

    Batch borders depend on the listing alone, so that a resumed pass runs the very same batches.
    """
    listed, end = work.listed, work.listed.stop
    starts = list(range(listed.start + n_done, end, work.batch_size))
    on_cores = all(str(target.model.device) == "cpu" for target in work.targets)
    n_ahead = 0 if on_cores and n_threads() >= n_cores() else 2
    with ThreadPoolExecutor(n_cores(), thread_name_prefix="decode") as pool:

        def submit(start: int) -> list[Future[_Prepared]]:
            rows = range(start, min(start + work.batch_size, end))
            return [pool.submit(_prepare, work, row) for row in rows]

        waiting: deque[list[Future[_Prepared]]] = deque()
        try:
            for place in range(len(starts)):
                while len(waiting) <= n_ahead and place + len(waiting) < len(starts):
                    waiting.append(submit(starts[place + len(waiting)]))
                yield [future.result() for future in waiting.popleft()]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _prepare(work: Pass, listed: int) -> _Prepared:
    content = None
    try:
        content = work.probe.read(listed)
        image = decode(content)
    except (UnreadableImageError, OSError) as error:
        reason = str(error)
        sha256 = "" if content is None else hashlib.sha256(content).hexdigest()
        return _Prepared(listed, reason, row={"listed": listed, "reason": reason, "sha256": sha256})
    thumb = thumbnail(image, work.thumbnail_side)
    row = {
        "listed": listed,
        "sha256": hashlib.sha256(content).hexdigest(),
        "width": image.width,
        "height": image.height,
        "hash": perceptual_hash(image),
        "thumb_bytes": len(thumb),
    }
    return _Prepared(
        listed,
        thumb=thumb,
        row=row,
        encoder_pixels=None if work.encoder is None else work.encoder.preprocess(image),
        target_pixels=tuple(target.model.preprocess(image) for target in work.targets),
    )


def read_rows(path: Path) -> list[Mapping[str, Any]]:
    """The image rows of a pass, in listing order."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def first_changed(rows: Iterable[Mapping[str, Any]], probe: ProbeSet) -> tuple[int, str] | None:
    """The first listed image that other bytes were measured of than the probe set has.

    An image that could not be read is of no bytes: one that was left out because its disk did not
    answer would be missing for good.

    Returns:
        the image, and what became of it, in words that end in "when".
    """
    sha256 = probe.table["sha256"].to_numpy()
    for row in rows:
        listed = row["listed"]
        before, now = row.get("sha256", sha256[listed]), sha256[listed]
        if before != now:
            if not before:
                return listed, "can be read now, and could not when"
            return listed, "is another image now than when" if now else (
                "cannot be read now, and could when"
            )
    return None


def require_none_left_out(is_stopping: bool, rows: Iterable[tuple[str, str]]) -> None:
    """Refuse images that were left out, where a build is to stop at them.

    Args:
        is_stopping: whether it is.
        rows: file and reason of each image that was left out.

    Raises:
        InputError: naming the first.
    """
    for file, reason in rows if is_stopping else ():
        raise InputError(
            f"{file} cannot be read: {reason}; mend or remove it, "
            "or build with --on-unreadable skip."
        )
