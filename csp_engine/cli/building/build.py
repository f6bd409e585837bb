"""``csp build`` and ``csp merge``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from csp_engine.cli.building.told import assignments, report, split
from csp_engine.cli.declared import takes
from csp_engine.cli.shown import progress_bars, write_json, write_lines
from csp_engine.errors import InputError
from csp_engine.jobs import on_ray
from csp_engine.jobs.copies import can_copy, copy
from csp_engine.jobs.options import OPTIONS
from csp_engine.jobs.workers import (
    OF_LAUNCHERS,
    Watch,
    asked,
    end_with_input,
    helpers_here,
    measure_here,
)

if TYPE_CHECKING:
    from csp_engine.bundle import Bundle
    from csp_engine.networks.layers import LayerTap
    from csp_engine.networks.models import TargetModel
    from csp_engine.pipeline import Target
    from csp_engine.pipeline.request import BuildRequest
    from csp_engine.pipeline.sharding.shards import Shard
    from csp_engine.types import Progress

log = logging.getLogger(__name__)


@takes(OPTIONS.values())
def build(given: Any, as_json: bool) -> None:
    """Build a bundle, or complete one: interrupted builds resume, finished parts are kept.

    For an address, it is built in a folder of this machine and copied when it is whole.

    Example:
        csp build photos/ --model torchvision/resnet50 --layer layer4 --encoder
        open_clip/ViT-B-32/laion2b_s34b_b79k --out resnet50.csp
    """
    from csp_engine.pipeline.sharding.measuring import measure_shard
    from csp_engine.pipeline.sharding.shards import Shard
    from csp_engine.probe.remote import is_address

    shard = None if given.shard is None else Shard.parse(given.shard)
    if shard is not None and given.workers is not None:
        raise InputError("--shard measures one share of the images and --workers all; give one.")
    OPTIONS["engine"].check(given.engine)
    if given.address is not None and given.engine != "ray":
        raise InputError("--address is that of a Ray cluster; add --engine ray.")
    if given.engine == "ray" and given.workers is None:
        raise InputError("--engine ray runs --workers N tasks; say how many.")
    if shard is not None or given.engine == "ray":
        _require_folder(given)
    end_with_input()
    if is_address(given.out):
        _build_at(given, as_json)
        return
    given.out = Path(given.out)
    with progress_bars() as progress:
        request = _request(given, progress, is_shard=shard is not None)
        if shard is not None:
            part = measure_shard(request, shard, progress)
            _report_part(part, shard, as_json)
            return
        bundle = _built(request, given, progress)
    report(bundle, as_json)


def _built(request: BuildRequest, given: Any, progress: Progress) -> Bundle:
    """The bundle of a build, by this process or by workers."""
    from csp_engine import pipeline
    from csp_engine.pipeline.sharding import merging
    from csp_engine.pipeline.sharing.helping import merging_alone

    if given.workers is None:
        bundle = pipeline.build(request, progress)
    else:
        if not merging.is_measured(request):
            watch = Watch(given.out, given.workers, len(request.probe), progress)
            if given.engine == "ray":
                on_ray.measure(vars(given), given.workers, watch, log.warning)
            elif can_copy(given.device):
                with _at_hand(request):
                    measure_here(vars(given), given.workers, watch, log.warning, _copy)
            else:
                measure_here(vars(given), given.workers, watch, log.warning)
        with merging_alone(given.out, helps=False, asked=asked(vars(given))):
            bundle = merging.merge(request, progress, given.workers, _helpers(given))
    return _judged(bundle, request, given, progress)


def _helpers(given: Any) -> Callable[[], AbstractContextManager[None]]:
    """What has the other workers of a build compute for its merge."""
    helpers = on_ray.helpers if given.engine == "ray" else helpers_here
    return lambda: helpers(vars(given), given.workers, log.warning)


_AT_HAND: list[BuildRequest] = []
"""What this process has loaded, for the copies of it that measure its shards."""


@contextmanager
def _at_hand(request: BuildRequest) -> Generator[None]:
    _AT_HAND.append(request)
    try:
        yield
    finally:
        _AT_HAND.clear()


def _copy(arguments: list[str], n_threads: int) -> Any:
    """A worker that is a copy of this process."""
    from csp_engine.cli import main
    from csp_engine.encoders.threads import threads

    def run(arguments: list[str]) -> None:
        with threads(n_threads):
            main(arguments)

    return copy(run, arguments, n_threads)


def _build_at(given: Any, as_json: bool) -> None:
    """A build whose bundle is to lie at an address."""
    from csp_engine.exchange.working_copies import WorkingCopy

    with WorkingCopy(given.out) as copy:
        if not as_json:
            write_lines([f"Built in {copy.path}, then copied to {copy.address}."])
        given.out = copy.path
        with progress_bars() as progress:
            request = _request(given, progress)
            copy.begin(request.probe.content_sha256, progress)
            bundle = _built(request, given, progress)
            copy.send(bundle, progress)
        report(bundle, as_json, place=copy.address)


def _require_folder(given: Any) -> None:
    """Refuse an address where several machines write parts."""
    from csp_engine.probe.remote import is_address

    if is_address(given.out):
        raise InputError(
            f"--out is {given.out!r}, and shards meet in a folder that all who measure them see; "
            f"name one such as {given.out.rstrip('/').rpartition('/')[2]}, and copy the bundle "
            "with 'csp copy' when it is whole."
        )


@takes(option for option in OPTIONS.values() if option.name not in OF_LAUNCHERS[1:])
def merge(given: Any, as_json: bool) -> None:
    """Make a bundle of all its shards, with the options that 'csp build --shard' was given.

    With --shard I/N it is one of N processes that share what takes long: the first that is there
    merges, the others compute for it.

    Example:
        csp merge photos/ --model torchvision/resnet50 --layer layer4 --encoder
        open_clip/ViT-B-32/laion2b_s34b_b79k --out resnet50.csp
    """
    from csp_engine.bundle import Bundle
    from csp_engine.pipeline.sharding.shards import Shard
    from csp_engine.pipeline.sharing.helping import merging_alone

    shard = None if given.shard is None else Shard.parse(given.shard)
    _require_folder(given)
    given.out = Path(given.out)
    end_with_input()
    with (
        progress_bars() as progress,
        merging_alone(
            given.out, progress, helps=shard is not None, asked=asked(vars(given))
        ) as is_mine,
    ):
        if is_mine:
            from csp_engine.pipeline.sharding.merging import merge as merged

            request = _request(given, progress)
            made = merged(request, progress, 1 if shard is None else shard.of)
            bundle = _judged(made, request, given, progress)
        else:
            bundle = Bundle.open(given.out)
    report(bundle, as_json)


def _request(given: Any, progress: Progress, *, is_shard: bool = False) -> BuildRequest:
    """What the options of a build ask for, with everything loaded that it takes."""
    if _AT_HAND:
        return _AT_HAND[0]
    from csp_engine import pipeline
    from csp_engine.bundle import refuse_strangers
    from csp_engine.captioners import load_captioner
    from csp_engine.encoders import load_encoder
    from csp_engine.networks.devices import read_devices, require_devices
    from csp_engine.networks.layers import select_layers
    from csp_engine.networks.models import load_model
    from csp_engine.pipeline.recipe import changed, named_recipe
    from csp_engine.probe.listing import read_probe_set
    from csp_engine.views.table.columns import require_own_names
    from csp_engine.words.templates import TEMPLATES
    from csp_engine.words.vocabularies import read_vocabulary

    refuse_strangers(given.out)  # before images are read and models loaded
    require_own_names()
    recipe = named_recipe(given.preset, given.exemplars, assignments(given.set_))
    OPTIONS["on_unreadable"].check(given.on_unreadable)
    OPTIONS["control"].check(given.control)
    devices = read_devices(given.device)
    require_devices(devices)
    words = read_vocabulary(given.vocabulary)
    if given.held_out and not given.judge:
        raise InputError("--held-out holds images for a judge; name an encoder with --judge.")
    probe = read_probe_set(
        given.images,
        image_root=given.image_root,
        path_column=given.path_column,
        class_column=given.class_column,
        split_column=given.split_column,
        group_column=given.group_column,
        limit=given.limit,
        is_hashed=not is_shard,
        progress=progress,
    )
    pipeline.require_enough_images(len(probe.table), recipe, "lists")
    progress("load model", 0, 1)
    target = load_model(
        given.model,
        weights=given.weights,
        name=given.name,
        preprocessing=given.preprocessing,
        class_names=given.class_names,
        device=devices[0],
        weights_key=given.weights_key,
        precision=given.precision,
    )
    progress("load model", 1, 1)
    progress("load encoder", 0, 1)
    loaded = load_encoder(given.encoder, device=devices[0])
    progress("load encoder", 1, 1)
    if not getattr(loaded, "needs_pixels", True):
        # Stored text vectors have names; prompts made from templates are not among them.
        recipe = changed(recipe, {"templates": TEMPLATES["bare"], "subtract_empty": False})
    taps = select_layers(
        target,
        given.layer,
        pooling=given.pooling,
        saes=_pairs(given.sae),
        layout=given.layout,
        prefix_tokens=given.prefix_tokens,
    )
    return pipeline.BuildRequest(
        out=given.out,
        probe=probe,
        targets=_targets(target, taps, given.control),
        encoder=loaded,
        vocabulary=words,
        recipe=recipe,
        batch_size=given.batch_size,
        devices=devices if len(devices) > 1 else (),
        stop_on_unreadable=given.on_unreadable == "stop",
        n_influence_images=given.influence_images,
        n_circuit_images=given.circuit_images,
        outputs=tuple(int(o) if o.isdigit() else o for o in given.output or ()),
        captioner=None
        if given.captioner is None or is_shard  # no shard labels
        else load_captioner(given.captioner, device=devices[0]),
    )


def _report_part(part: Path, shard: Shard, as_json: bool) -> None:
    if as_json:
        write_json({"part": str(part), "shard": shard.number, "of": shard.of})
        return
    told = f"Shard {shard.number} of {shard.of} is measured: {part}."
    write_lines([told, "When all are, give 'csp merge' the same options without --shard."])


def _targets(model: TargetModel, taps: list[LayerTap], control: str | None) -> tuple[Target, ...]:
    """The network, and its control if one is asked for; autoencoders belong to trained weights."""
    from csp_engine.networks.random_weights import with_random_weights
    from csp_engine.pipeline import Target

    own = Target(model, tuple(taps))
    plain = tuple(tap for tap in taps if tap.sae is None)
    if control is None:
        return (own,)
    if not plain:
        raise InputError(
            "Every layer is read through an autoencoder, which random weights have none of; leave "
            "--control out, or name a layer without one."
        )
    return own, Target(with_random_weights(model), plain, control_of=model.name)


def _judged(bundle: Bundle, request: BuildRequest, given: Any, progress: Progress) -> Bundle:
    """The bundle with how well its labels predict its neurons, if a judge is named.

    And with which figure to trust.
    """
    if not given.judge:
        return bundle
    from csp_engine import pipeline
    from csp_engine.encoders import load_encoder
    from csp_engine.networks.devices import read_devices
    from csp_engine.probe.listing import read_probe_set
    from csp_engine.views.benchmark.trusting import trusted_metrics

    judge = load_encoder(given.judge, device=read_devices(given.device)[0])
    if given.held_out:
        images = read_probe_set(given.held_out, progress=progress)
        judged = pipeline.judge_held_out(bundle, judge, images, request.targets, progress)
    else:
        judged = pipeline.judge_probe(bundle, judge, progress)
    bundle = pipeline.add_faithfulness(bundle.path, judged, progress)
    try:
        trust = trusted_metrics(bundle, judge=judge, progress=progress)
    except InputError as error:
        log.warning("Which figure to trust is not known: %s", error)
        return bundle
    return pipeline.add_trust(bundle.path, trust)


def _pairs(given: list[str] | None) -> dict[str, Path]:
    parted = (split(text, "--sae", "LAYER=FILE") for text in given or [])
    return {layer: Path(file) for layer, file in parted}
