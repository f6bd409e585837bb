"""``csp intervene``: what adding an artefact to photographs does, and which neurons carry it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from csp_engine.cli.declared import AsJson, BundlePath, Device
from csp_engine.cli.shown import progress_bars, write_json, write_lines, write_table
from csp_engine.errors import InputError

if TYPE_CHECKING:
    from csp_engine.bundle import Bundle
    from csp_engine.pasting.pairs import ImagePairs
    from csp_engine.pipeline import Target


def intervene(
    bundle: BundlePath,
    pairs: Annotated[
        Path | None,
        typer.Option(
            help="A table of pairs: columns artefact, without, with, and neutral, file, group if "
            "known (docs/methods.md). Without it, what the bundle holds is shown."
        ),
    ] = None,
    output: Annotated[
        str | None, typer.Option(help="Output of the network whose score is followed.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Target model; the first without it.")] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Its checkpoint, if the bundle was built from one.")
    ] = None,
    preprocessing: Annotated[
        str | None, typer.Option(help="As for 'csp build', if it was given there.")
    ] = None,
    layer: Annotated[
        list[str] | None, typer.Option("--layer", "-l", help="Only these layers.")
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="Method that names the neurons; the first without it.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of halves and random sets.")] = 0,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Show what adding an artefact to photographs does to an output, and which neurons carry it.

    With --pairs it is measured and kept in the bundle.

    Example:
        csp intervene skin.csp --pairs pairs.csv --output melanoma
    """
    from csp_engine.bundle import Bundle
    from csp_engine.views.audit import interventions
    from csp_engine.views.places import scoring_methods

    opened = Bundle.open(bundle)
    if pairs is not None:
        opened = _measured(
            opened, pairs, _named(opened, model), output, weights, preprocessing, layer, seed,
            device,
        )  # fmt: skip
        shown = _named(opened, model)
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
    methods = scoring_methods(opened)
    if method is not None and method not in methods:
        raise InputError(f"Method {method!r} has no labels here; it has {', '.join(methods)}.")
    chosen = method or next(iter(methods), "")
    if as_json:
        write_json(interventions.as_json(opened, shown, chosen))
        return
    _show(opened, shown, chosen)


def _named(bundle: Bundle, asked: str | None) -> str:
    names = list(bundle.manifest.inputs.get("models", {}))
    if not names:
        raise InputError(f"Bundle {bundle.name} has no network; complete it with 'csp build'.")
    if asked is not None and asked not in names:
        raise InputError(f"Model {asked!r} is not in the bundle; it has {', '.join(names)}.")
    return asked or names[0]


def _measured(
    bundle: Bundle,
    source: Path,
    name: str,
    output: str | None,
    weights: Path | None,
    preprocessing: str | None,
    layers: list[str] | None,
    seed: int,
    device: str,
) -> Bundle:
    from csp_engine.pasting.listed import ListedPairs
    from csp_engine.pipeline import add_interventions

    target = _target(bundle, name, weights, preprocessing, layers, device)
    names = target.model.class_names or ()
    if output is None:
        few = ", ".join(names[:10])
        raise InputError(f"Which output? Name one with --output{f': {few}' if few else ''}.")
    listed: ImagePairs = ListedPairs(source, source.parent)
    with progress_bars() as progress:
        return add_interventions(bundle.path, target, listed, output, seed=seed, progress=progress)


def _target(
    bundle: Bundle,
    name: str,
    weights: Path | None,
    preprocessing: str | None,
    layers: list[str] | None,
    device: str,
) -> Target:
    """The network of a bundle, loaded again, with the layers that the bundle has."""
    from csp_engine.networks.layers import select_layers
    from csp_engine.networks.models import load_model
    from csp_engine.pipeline import Target

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
    model = load_model(
        described["spec"],
        weights=weights,
        name=name,
        preprocessing=preprocessing,
        class_names=described.get("class_names"),
        device=device,
        precision=described.get("precision", "float32"),
    )
    return Target(model, tuple(select_layers(model, plain)))


def _show(bundle: Bundle, model: str, method: str) -> None:
    from csp_engine.views.audit import interventions

    stored = bundle.intervention(model)
    assert stored is not None
    found = interventions.effects(stored)
    write_lines([f"{stored.output} of {model}, in log-odds, over {stored.images}.", ""])
    write_table(
        ("artefact", "pairs", "effect (95 % interval)", "neutral", "called", "lost", "gained"),
        [
            (each.artefact, each.n_pairs, each.effect.signed, each.neutral.signed,
             each.n_called, each.n_lost, each.n_gained)
            for each in found
        ],
    )  # fmt: skip
    for effect in found:
        audited = interventions.audited(bundle, model, effect.artefact, method)
        assert audited is not None
        write_lines(["", effect.sentence(stored.output)])
        if effect.effect.is_away_from_zero:
            write_lines([interventions.carrier_sentence(audited, stored.output)])
        if audited.suspects:
            write_table(
                ("neuron", "attribution", "share", "label", "truth"),
                [
                    (f"{s.neuron.layer}/{s.neuron.unit}", f"{s.attribution:+.3f}",
                     f"{s.share:.2f}", s.label.title, s.truth or "–")
                    for s in audited.suspects[:5]
                ],
            )  # fmt: skip
