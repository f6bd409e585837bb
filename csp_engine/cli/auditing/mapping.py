"""``csp maps``: where neurons look, and whether maps of a layer point at the right place."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from csp_engine import numbers
from csp_engine.cli.auditing.intervening import loaded_target, named_model
from csp_engine.cli.declared import (
    AsJson,
    BundlePath,
    Device,
    ModelName,
    OnlyLayers,
    OwnPreprocessing,
    OwnWeights,
    new_folder,
)
from csp_engine.cli.shown import progress_bars, write_json, write_lines, write_table
from csp_engine.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

    from csp_engine.bundle import Bundle
    from csp_engine.networks.models import TargetModel
    from csp_engine.pipeline import Target
    from csp_engine.types import NeuronRef
    from csp_engine.views.images.changes import Changed

N_SHOWN = 12


def maps(
    bundle: BundlePath,
    neuron: Annotated[
        str | None, typer.Option(help="Draw maps of this neuron, model/layer/unit, into --out.")
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            help="activation, gradient, integrated, shap, occlusion or rise; may be given again. "
            "Default: activation; with --pairs: activation, gradient, integrated.",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="A new folder for the pictures.")] = None,
    text: Annotated[
        str | None,
        typer.Option(help="Instead of a neuron: where the encoder finds this text, on --image."),
    ] = None,
    but_not: Annotated[
        list[str] | None,
        typer.Option("--not", help="Texts to set it apart from; else the bundle's labels."),
    ] = None,
    image: Annotated[
        list[int] | None, typer.Option(help="Probe images; else the neuron's pairs.")
    ] = None,
    changes: Annotated[
        bool,
        typer.Option(
            "--changes",
            help="With --neuron: flip, crop, recolour and blur each --image, else the neuron's "
            "strongest exemplar, and show what the neuron and the decision do; with --out, the "
            "versions side by side, under the first --map if one is named.",
        ),
    ] = False,
    pairs: Annotated[
        Path | None,
        typer.Option(
            help="Check maps on a table of pairs, as 'csp intervene' takes it, and keep the result."
        ),
    ] = None,
    model: ModelName = None,
    weights: OwnWeights = None,
    preprocessing: OwnPreprocessing = None,
    layer: OnlyLayers = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Show where a neuron looks, or check whether maps of a layer point at the right place.

    Without options, what is known of the bundle's maps is shown.

    Example:
        csp maps skin.csp --neuron resnet18/layer4@mean/217 --map rise --out looks
    """
    from csp_engine.bundle import Bundle
    from csp_engine.bundle.names import require_neuron
    from csp_engine.types import NeuronRef

    opened = Bundle.open(bundle)
    if neuron is not None and text is not None:
        raise InputError("Maps are of a neuron or of a text; give --neuron or --text, not both.")
    if changes and neuron is None:
        raise InputError("--changes are of what a neuron does; name one with --neuron.")
    if text is not None:
        _of_text(opened, text, but_not or [], image or [], kind or ["gradient"], out, device)
        return
    if neuron is not None:
        ref = NeuronRef.parse(neuron)
        require_neuron(opened, ref)
        target = loaded_target(opened, ref.model, weights, preprocessing, [ref.layer], device)
        if changes:
            _of_changes(opened, target, ref, next(iter(kind or []), ""), image or [], out, as_json)
            return
        _of_neuron(opened, target, ref, kind or ["activation"], image or [], out)
        return
    name = named_model(opened, model)
    if pairs is not None:
        target = loaded_target(opened, name, weights, preprocessing, layer, device)
        opened = _check(opened, target, pairs, kind, seed)
    _show(opened, name, layer or list(opened.layers(name)), as_json)


def _check(
    bundle: Bundle, target: Target, source: Path, kinds: list[str] | None, seed: int
) -> Bundle:
    from csp_engine.pasting.listed import ListedPairs
    from csp_engine.pipeline import add_map_checks

    listed = ListedPairs(source, source.parent)
    chosen = kinds or ["activation", "gradient", "integrated"]
    with progress_bars() as progress:
        return add_map_checks(
            bundle.path, target, listed, maps=chosen, seed=seed, progress=progress
        )


def _of_neuron(
    bundle: Bundle,
    target: Target,
    neuron: Any,
    kinds: list[str],
    images: list[int],
    out: Path | None,
) -> None:
    from csp_engine.networks.attributing.neuron_maps import require_map
    from csp_engine.pipeline.mapping.overlays import NeuronOverlays
    from csp_engine.views.images.pairs import images_in_pairs
    from csp_engine.views.neuron.looking import said_of_map

    for kind in kinds:
        require_map(kind)
    folder = _new_folder(out)
    _require_same(bundle, target.model)
    overlays = NeuronOverlays(bundle, target.model, target.taps[0], neuron.unit)
    overlays.require_alike()
    chosen = images or images_in_pairs(bundle, neuron, N_SHOWN)
    _require_images(bundle, chosen)
    for kind in kinds:
        with progress_bars() as progress:
            drawn = overlays.pictures(kind, chosen, progress)
        _write(folder, kind, chosen, drawn)
        write_lines([" ".join([*said_of_map(bundle, neuron, kind)]).strip()])
    write_lines([f"{len(chosen) * len(kinds)} pictures are in {folder}."])


def _of_changes(
    bundle: Bundle,
    target: Target,
    neuron: NeuronRef,
    kind: str,
    images: list[int],
    out: Path | None,
    as_json: bool,
) -> None:
    """What the neuron and the decision do once each image is changed.

    Raises:
        InputError: if there is no such image or map, or the neuron has no exemplars.
    """
    from csp_engine.networks.attributing.neuron_maps import require_map
    from csp_engine.pipeline.mapping.changes import versions
    from csp_engine.pipeline.mapping.neuron_pixels import pictures
    from csp_engine.pipeline.mapping.overlays import NeuronOverlays
    from csp_engine.views.images.changes import changed, usual_image

    if kind:
        require_map(kind)
    _require_same(bundle, target.model)
    _require_images(bundle, images)
    folder = None if out is None else _new_folder(out)
    overlays = NeuronOverlays(bundle, target.model, target.taps[0], neuron.unit)
    overlays.require_alike()
    usual = usual_image(bundle, neuron)
    assert usual is not None  # without exemplars there are no overlays
    chosen = images or [usual]
    found = [
        changed(bundle, neuron.model, each, versions(overlays, picture, kind))
        for each, picture in zip(chosen, pictures(bundle, chosen), strict=True)
    ]
    for each in found if folder is not None else []:
        assert folder is not None
        folder.mkdir(parents=True, exist_ok=True)
        _side_by_side(each).save(folder / f"changes-image-{each.image}.png")
    if as_json:
        write_json([each.as_json() for each in found])
        return
    for place, each in enumerate(found):
        write_lines([*([""] if place else []), each.sentence, ""])
        write_table(
            ("image", "activation", "decision", "log-odds"),
            [
                (one.name, one.words, one.decided or "–", numbers.signed(one.log_odds))
                for one in each.versions
            ],
        )
    if folder is not None:
        write_lines(["", f"The versions side by side: {folder}"])


def _side_by_side(found: Changed) -> Image.Image:
    """The pictures of all versions in a row, in their order."""
    import io

    from PIL import Image

    shown = [Image.open(io.BytesIO(each.picture)) for each in found.versions]
    gap = 4
    size = sum(each.width + gap for each in shown) - gap, max(each.height for each in shown)
    sheet = Image.new("RGB", size, "white")
    left = 0
    for each in shown:
        sheet.paste(each, (left, 0))
        left += each.width + gap
    return sheet


def _of_text(
    bundle: Bundle,
    text: str,
    but_not: list[str],
    images: list[int],
    kinds: list[str],
    out: Path | None,
    device: str,
) -> None:
    from csp_engine.pipeline.mapping.text_maps import TextMaps
    from csp_engine.search import bundle_encoder

    if not images:
        raise InputError("On which images? Give probe images by number with --image.")
    _require_images(bundle, images)
    folder = _new_folder(out)
    found = TextMaps(bundle, bundle_encoder(bundle, device=device), text, but_not)
    for kind in kinds:
        with progress_bars() as progress:
            drawn = found.pictures(kind, images, progress)
        _write(folder, kind, images, drawn)
    write_lines(
        [f"Where {text!r} is found, apart from {found.foil}; not checked.",
         f"{len(images) * len(kinds)} pictures are in {folder}."]
    )  # fmt: skip


def _require_images(bundle: Bundle, images: list[int]) -> None:
    strange = [image for image in images if not 0 <= image < bundle.n_images]
    if strange:
        raise InputError(
            f"There is no probe image {strange[0]}; --image can be 0 to {bundle.n_images - 1}."
        )


def _require_same(bundle: Bundle, model: TargetModel) -> None:
    held = bundle.manifest.inputs["models"][model.name]
    if held["fingerprint"] != model.fingerprint:
        raise InputError(
            f"{model.name} as it is loaded here is not the network that made {bundle.name}; give "
            "the same --weights and --preprocessing as the build."
        )


def _new_folder(out: Path | None) -> Path:
    if out is None:
        raise InputError("Where shall the pictures go? Name a new folder with --out.")
    return new_folder(out, "--out")


def _write(folder: Path, kind: str, images: list[int], drawn: list[Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for at, (image, picture) in enumerate(zip(images, drawn, strict=True)):
        picture.save(folder / f"{kind}-{at + 1:02d}-image-{image}.png")


def _show(bundle: Bundle, model: str, layers: list[str], as_json: bool) -> None:
    from csp_engine.views.neuron.looking import checks_of, rate

    found = {layer: checks_of(bundle, model, layer) for layer in layers}
    if as_json:
        write_json(
            {
                "model": model,
                "layers": {key: [each.as_json() for each in value] for key, value in found.items()},
            }
        )
        return
    if not any(found.values()):
        raise InputError(
            f"No maps of {model} were checked in {bundle.name}; check them on a table of pairs "
            "with --pairs, or draw some with --neuron."
        )
    for layer, checks in found.items():
        if not checks:
            write_lines([f"{model}/{layer}: not checked."])
            continue
        write_lines(["", f"{model}/{layer}"])
        write_table(
            ("map", "thing", "images", "points at it (95 % interval)", "random place", "random map",
             "other neuron", "random weights", "overlap", "beats all"),
            [
                (each.name, each.artefact or "all", each.n_photographs, rate(each.rate),
                 f"{each.base:.0%}", *(f"{c.control.value:.0%}" for c in each.against.values()),
                 f"{each.overlap.value:.2f}", each.beats_all)
                for each in checks
            ],
        )  # fmt: skip
