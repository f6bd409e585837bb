"""``csp intervene``: what adding an artefact to photographs does, and which neurons carry it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from csp_engine.cli.declared import (
    AsJson,
    BundlePath,
    Device,
    FollowedOutput,
    ImageRoot,
    ModelName,
    OnlyLayers,
    OwnPreprocessing,
    OwnWeights,
    new_folder,
)
from csp_engine.cli.shown import progress_bars, write_json, write_lines, write_table
from csp_engine.errors import InputError

if TYPE_CHECKING:
    from csp_engine.bundle import Bundle, StoredIntervention
    from csp_engine.pasting.pairs import ImagePairs
    from csp_engine.pipeline import Target
    from csp_engine.pipeline.intervening.measuring import Given
    from csp_engine.types import Encoder
    from csp_engine.views.audit.interventions import Effect


def intervene(
    bundle: BundlePath,
    pairs: Annotated[
        Path | None,
        typer.Option(
            help="A table of pairs: columns artefact, without, with, and neutral, file, group if "
            "known (docs/methods.md). Without it, what the bundle holds is shown."
        ),
    ] = None,
    paste: Annotated[
        list[str] | None,
        typer.Option(
            help="Instead of a table: paste this artefact into the photographs of --photos, each "
            "with a neutral twin; may be given several times. For example ruler, 'colour patch' or "
            "a name from --cutouts; another name lists all."
        ),
    ] = None,
    photos: Annotated[
        Path | None,
        typer.Option(
            help="Photographs to paste into, as for 'csp build'. Columns of 0 and 1 that say which "
            "have the artefact already are what a paste is checked with."
        ),
    ] = None,
    image_root: ImageRoot = None,
    n_pairs: Annotated[
        int, typer.Option(min=20, help="Pairs of each pasted artefact, at most.")
    ] = 200,
    cutouts: Annotated[
        Path | None,
        typer.Option(
            help="A folder of artefacts of your own, cut out with transparency (PNG, WebP); a "
            "subfolder is an artefact."
        ),
    ] = None,
    swap: Annotated[
        list[str] | None,
        typer.Option(
            help="A part of a layer to swap besides: LAYER:3,14,15 for neurons, LAYER:NAME for a "
            "family (neurons whose labels by --method mean the same, as the table lists them), "
            "'LAYER:firing with 14' for what fires together with neuron 14 ('csp cofiring'), or "
            "LAYER=FILE for what the directions of a file span ('csp directions --output', 'csp "
            "factors --output'). May be given several times."
        ),
    ] = None,
    sheet: Annotated[
        Path | None,
        typer.Option(help="Write a picture of the first pairs here, to look at, and stop."),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option("--encoder", "-e", help="Where the bundle's encoder is now, if it moved."),
    ] = None,
    output: FollowedOutput = None,
    leave: Annotated[
        Path | None,
        typer.Option(
            help="Leave the result in this folder instead of the bundle, for 'Keep' on the page."
        ),
    ] = None,
    model: ModelName = None,
    weights: OwnWeights = None,
    preprocessing: OwnPreprocessing = None,
    layer: OnlyLayers = None,
    method: Annotated[
        str | None, typer.Option(help="Method that names the neurons; the first without it.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of halves and random sets.")] = 0,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Show what adding an artefact to photographs does to an output, and which neurons carry it.

    With --pairs or --paste it is measured and kept in the bundle.

    Example:
        csp intervene skin.csp --paste ruler --photos isic.csv --output melanoma
    """
    from csp_engine.bundle import Bundle
    from csp_engine.search import bundle_encoder
    from csp_engine.views.audit import interventions

    opened = Bundle.open(bundle)
    chosen = named_method(opened, method)
    if pairs is not None and paste:
        raise InputError("--pairs and --paste are two ways to the same; give one of them.")
    if not paste and (photos, cutouts, image_root) != (None, None, None):
        raise InputError(
            "--photos, --image-root and --cutouts are for --paste; name an artefact with it."
        )
    if swap and pairs is None and not paste:
        raise InputError("--swap needs pairs to swap between; give them with --pairs or --paste.")
    if leave is not None:
        if sheet is not None or (pairs is None and not paste):
            raise InputError(
                "--leave is for what is measured; give pairs with --pairs or --paste, and no "
                "--sheet."
            )
        new_folder(leave, "--leave")
    if sheet is not None or pairs is not None or paste:
        target = asked = loaded = None
        if sheet is None:  # what may be refused comes before what takes long
            target = loaded_target(
                opened, named_model(opened, model), weights, preprocessing, layer, device
            )
            asked = named_output(target, output)
            loaded = bundle_encoder(opened, encoder, device=device) if paste else None
        given = given_parts(opened, named_model(opened, model), swap or [], chosen)
        made = _pairs(pairs, paste or [], photos, image_root, n_pairs, cutouts, seed)
        if target is None or asked is None:
            assert sheet is not None
            _write_sheet(made, sheet)
            return
        found = _measured(opened, made, target, asked, loaded, given, seed, leave)
        if found is not None:
            if as_json:
                write_json([interventions.effect_json(e) for e in interventions.effects(found)])
            else:
                _show_effects(opened, found, target.model.name)
            return
        opened = Bundle.open(bundle)
        shown = named_model(opened, model)
    else:
        known = interventions.models_with(opened)
        if not known:
            raise InputError(
                f"Bundle {opened.name} holds no pairs of images; measure some with --pairs."
            )
        if model is not None and model not in known:
            raise InputError(
                f"No pairs of images were tried on {model!r}; --model can be {', '.join(known)}."
            )
        shown = model or known[0]
    if as_json:
        write_json(interventions.as_json(opened, shown, chosen))
        return
    _show(opened, shown, chosen)


def named_model(bundle: Bundle, asked: str | None) -> str:
    """The network that is asked for, the first without a name.

    Raises:
        InputError: if the bundle has none, or none of the name.
    """
    names = list(bundle.manifest.inputs.get("models", {}))
    if not names:
        raise InputError(f"Bundle {bundle.name} has no network; complete it with 'csp build'.")
    if asked is not None and asked not in names:
        raise InputError(f"Model {asked!r} is not in the bundle; it has {', '.join(names)}.")
    return asked or names[0]


def named_method(bundle: Bundle, asked: str | None) -> str:
    """The label method that is asked for, the first without a name; empty where there is none.

    Raises:
        InputError: if it has no labels here.
    """
    from csp_engine.views.places import scoring_methods

    methods = scoring_methods(bundle)
    if asked is not None and asked not in methods:
        named = ", ".join(methods) or "none"
        raise InputError(f"Method {asked!r} has no labels here; it has {named}.")
    return asked or next(iter(methods), "")


def _pairs(
    table: Path | None,
    artefacts: list[str],
    photos: Path | None,
    image_root: Path | None,
    n_pairs: int,
    cutouts: Path | None,
    seed: int,
) -> ImagePairs:
    """Pairs of a table, or pasted into photographs."""
    from csp_engine.pasting.listed import ListedPairs
    from csp_engine.pasting.pasted import PastedPairs
    from csp_engine.probe.listing import read_probe_set

    if table is not None:
        return ListedPairs(table, table.parent)
    if not artefacts:
        raise InputError("Which pairs? Give a table with --pairs, or name an artefact to --paste.")
    if photos is None:
        raise InputError("Paste into which photographs? Name a folder or table with --photos.")
    with progress_bars() as progress:
        probe = read_probe_set(photos, image_root=image_root, progress=progress)
        return PastedPairs(probe, artefacts, n_pairs, seed, cutouts, progress=progress)


def _write_sheet(pairs: ImagePairs, path: Path) -> None:
    from csp_engine.files import replacing
    from csp_engine.pasting.sheet import contact_sheet

    if path.suffix.lower() not in (".png", ".webp"):
        raise InputError(f"{path.name!r} is no name of a picture; end --sheet with .png or .webp.")
    with replacing(path, path.with_name(f".tmp-{path.name}")) as part:
        contact_sheet(pairs).save(part, format=path.suffix[1:].upper())
    write_lines([f"The first pairs of {pairs.name}: {path}"])


def named_output(target: Target, asked: str | None) -> str:
    """The output whose score is followed.

    Raises:
        InputError: if none is named, or the network has none of the name.
    """
    names = target.model.class_names or ()
    few = f": {', '.join(names[:10])}" if names else ""
    if asked is None:
        raise InputError(f"Which output? Name one with --output{few}.")
    if not names or asked in names:
        return asked
    if asked.isdecimal() and int(asked) < len(names):
        return names[int(asked)]
    raise InputError(
        f"{target.model.name} has no output {asked!r}; --output can be one of {len(names)}{few}."
    )


def _measured(
    bundle: Bundle,
    pairs: ImagePairs,
    target: Target,
    output: str,
    encoder: Encoder | None,
    given: list[Given],
    seed: int,
    leave: Path | None,
) -> StoredIntervention | None:
    """Measure and keep it in the bundle; or leave it in a folder, and return what was found."""
    from csp_engine.pasting.pasted import PastedPairs
    from csp_engine.pipeline import add_interventions, gate_pastes
    from csp_engine.pipeline.intervening.keeping import leave_interventions
    from csp_engine.pipeline.intervening.measuring import measure_pairs

    with progress_bars() as progress:
        gates = None
        if isinstance(pairs, PastedPairs):
            assert encoder is not None
            gates = gate_pastes(
                bundle, target, output, pairs.photos, pairs, encoder, seed=seed, progress=progress
            )
        asked: dict[str, Any] = {
            "gates": gates, "given": given, "seed": seed, "progress": progress
        }  # fmt: skip
        if leave is None:
            add_interventions(bundle.path, target, pairs, output, **asked)
            return None
        measured = measure_pairs(target, pairs, output, **asked)
        leave_interventions(leave, measured)
        return measured.stored


def given_parts(bundle: Bundle, model: str, texts: list[str], method: str) -> list[Given]:
    """Parts of layers as --swap names them.

    Raises:
        InputError: if one names no layer, no neurons or no directions of it, or is given twice.
    """
    from csp_engine.networks.autoencoders.directions import read_directions
    from csp_engine.pipeline.intervening.measuring import Given
    from csp_engine.views.audit.groups import group_of
    from csp_engine.views.memo import Memo

    layers = [each for each in bundle.layers(model) if "+" not in each]
    found, memo = [], Memo()
    for text in texts:
        layer, at, rest = text.partition("=")
        if at and layer in layers and rest:
            part = read_directions(Path(rest), bundle.n_units(model, layer))
            found.append(Given(Path(rest).stem, layer, part))
            continue
        group = group_of(bundle, memo, model, text.strip(), method)
        if group is None or group.layer not in layers:
            raise InputError(
                f"{text!r} names no part of a layer; write --swap LAYER:3,14,15, --swap "
                f"LAYER:FAMILY, --swap 'LAYER:firing with 14' or --swap LAYER=FILE with a layer of "
                f"{model}: {', '.join(layers)}."
            )
        found.append(Given(group.name, group.layer, group.unit_k))
    names = [(each.layer, each.name) for each in found]
    twice = next((each for each in names if names.count(each) > 1), None)
    if twice is not None:
        raise InputError(f"{twice[1]!r} of {twice[0]} is given twice with --swap; keep one.")
    return found


def loaded_target(
    bundle: Bundle,
    name: str,
    weights: Path | None,
    preprocessing: str | None,
    layers: list[str] | None,
    device: str,
) -> Target:
    """The network of a bundle, loaded again, with the layers that the bundle has.

    Raises:
        InputError: if a layer is not in the bundle, or all are read through autoencoders.
    """
    from csp_engine.networks.layers import select_layers
    from csp_engine.networks.loading.preprocessing import kept_recipe
    from csp_engine.networks.models import load_model
    from csp_engine.pipeline import Target
    from csp_engine.trust import require_trust

    known = bundle.layers(name)
    asked = layers or known
    strange = [each for each in asked if each not in known]
    if strange:
        raise InputError(
            f"Layer {strange[0]!r} of {name} is not in the bundle; it has {', '.join(known)}."
        )
    plain = [each for each in asked if "+" not in each]
    if not plain:
        raise InputError(
            f"Every layer of {name} is read through an autoencoder, into which nothing can be "
            "swapped yet; build with a plain layer too."
        )
    described: dict[str, Any] = bundle.manifest.inputs["models"][name]
    require_trust(f"The network {name}", described["spec"])
    model = load_model(
        described["spec"],
        weights=weights,
        name=name,
        preprocessing=preprocessing or kept_recipe(described.get("preprocessing")),
        class_names=described.get("class_names"),
        device=device,
        precision=described.get("precision", "float32"),
    )
    if model.fingerprint != described["fingerprint"]:
        raise InputError(
            f"{name} is not the network that {bundle.name} was made of. Give the same weights and "
            "preprocessing."
        )
    return Target(model, tuple(select_layers(model, plain)))


def _show_effects(bundle: Bundle, stored: StoredIntervention, model: str) -> tuple[Effect, ...]:
    """The table of effects, without what carries them."""
    from csp_engine.views.audit import interventions

    found = interventions.effects(stored)
    other = interventions.one_output(bundle, model, stored.output)
    write_lines([f"{stored.output} of {model}, in log-odds, over {stored.images}.",
                 *filter(None, [other]), ""])  # fmt: skip
    write_table(
        ("artefact", "pairs", "effect (95 % interval)", "neutral", "called", "lost", "gained"),
        [
            (each.artefact, each.n_pairs, "withheld", "", "", "", "")
            if each.is_withheld
            else (each.artefact, each.n_pairs, each.effect.signed, each.neutral.signed,
                  each.n_called, each.n_lost, each.n_gained)
            for each in found
        ],
    )  # fmt: skip
    return found


def _show(bundle: Bundle, model: str, method: str) -> None:
    from csp_engine.views.audit import interventions

    stored = bundle.intervention(model)
    assert stored is not None
    for effect in _show_effects(bundle, stored, model):
        audited = interventions.audited(bundle, model, effect.artefact, method)
        assert audited is not None
        write_lines(["", effect.sentence(stored.output)])
        if effect.gate is not None and not effect.is_withheld:
            write_lines([effect.gate.sentence()])
        if effect.is_withheld:
            continue
        if effect.effect.is_away_from_zero:
            write_lines([interventions.carrier_sentence(audited, stored.output)])
        if audited.given:
            write_table(
                ("given part", "gone with it (95 % interval)", "comes with it alone"),
                [
                    (each.words, each.swapped.necessity.share, each.swapped.sufficiency.share)
                    for each in audited.given
                ],
            )
        if audited.suspects:
            write_table(
                ("neuron", "attribution", "share", "on the other half (95 % interval)",
                 "change of its activation", "label", "truth"),
                [
                    (f"{s.neuron.layer}/{s.neuron.unit}", f"{s.attribution:+.3f}",
                     f"{s.share:.2f}", s.confirmed.fine, s.moved.fine, s.label.title,
                     s.truth or "–")
                    for s in audited.suspects[:5]
                ],
            )  # fmt: skip
