"""``csp factors``: factors of a layer that push wrong decisions more than right ones."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from csp_engine.cli.auditing.fixing import photographs_of
from csp_engine.cli.auditing.intervening import loaded_target, named_model
from csp_engine.cli.declared import (
    AsJson,
    BundlePath,
    Device,
    ImageRoot,
    ModelName,
    OwnPreprocessing,
    OwnWeights,
    new_folder,
)
from csp_engine.cli.shown import progress_bars, write_json, write_lines, write_table
from csp_engine.errors import InputError

if TYPE_CHECKING:
    from csp_engine.bundle import Bundle
    from csp_engine.views.audit.factors import Factored


def factors(
    bundle: BundlePath,
    layer: Annotated[
        str | None,
        typer.Option(
            "--layer",
            "-l",
            help="Look in this layer, as 'csp info' names it, and keep what is "
            "found in the bundle. Without it, what the bundle holds is shown.",
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            help="Photographs to decide about: a table with the columns path, class, and group if "
            "known. The demo's networks draw their own."
        ),
    ] = None,
    image_root: ImageRoot = None,
    n_factors: Annotated[
        int | None,
        typer.Option(
            "--factors",
            min=1,
            max=200,
            help="How many factors; without it 12, or one for each neuron of a smaller layer.",
        ),
    ] = None,
    n_random: Annotated[int, typer.Option("--random", min=0, help="Random directions.")] = 20,
    limit: Annotated[
        int | None, typer.Option(min=10, help="At most so many photographs of each slice.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Write the directions that are called here (.safetensors), for 'csp fix "
            "--project' and 'csp build --sae'."
        ),
    ] = None,
    leave: Annotated[
        Path | None,
        typer.Option(
            help="Leave the result in this folder instead of the bundle, for 'Keep' on the page."
        ),
    ] = None,
    model: ModelName = None,
    method: Annotated[
        str | None, typer.Option(help="Method that names the neurons; the first without it.")
    ] = None,
    weights: OwnWeights = None,
    preprocessing: OwnPreprocessing = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of halves, places and controls.")] = 0,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Find factors of a layer that push wrong decisions more than right ones.

    Nobody has to say what the bias is: wrong decisions are enough. Look at the photographs that a
    factor pushes most to see what it shows.

    Example:
        csp factors skin.csp --layer layer4@mean --images photographs.csv --output wrong.safetensors
    """
    from csp_engine.bundle import Bundle
    from csp_engine.views.audit import factors as view
    from csp_engine.views.places import scoring_methods

    opened = Bundle.open(bundle)
    methods = scoring_methods(opened)
    if method is not None and method not in methods:
        raise InputError(f"Method {method!r} has no labels here; it has {', '.join(methods)}.")
    chosen = method or next(iter(methods), "")
    if output is not None and output.suffix != ".safetensors":
        raise InputError(f"{output.name!r} is no file of directions; end it with .safetensors.")
    if layer is None and (images is not None or leave is not None):
        raise InputError("Look in which layer? Name one with --layer.")
    if output is not None and leave is not None:
        raise InputError(
            "--output writes directions that the bundle keeps, and --leave keeps nothing in it; "
            "give one of them."
        )
    if leave is not None:
        new_folder(leave, "--leave")
    found: list[Factored] = []
    if layer is not None:
        name = named_model(opened, model)
        target = loaded_target(opened, name, weights, preprocessing, [layer], device)
        with progress_bars() as progress:
            from csp_engine.pipeline.added.fixing import Trials
            from csp_engine.pipeline.factoring.finding import N_FACTORS, find_factors
            from csp_engine.pipeline.factoring.keeping import Left, add_factors, leave_factors

            shots = photographs_of(opened, name, images, image_root, limit, seed, progress)
            known = target.model.class_names or ("0",)
            trials = Trials(target, shots, known[0], progress=progress)
            wanted = n_factors or min(N_FACTORS, opened.n_units(name, layer))
            stored = find_factors(trials, layer, wanted, n_random, seed)
            if leave is None:
                opened = add_factors(bundle, name, layer, stored, seed)
            else:
                leave_factors(leave, Left(layer, seed, stored))
                found.append(view.figures(opened, name, layer, stored, chosen))
    if leave is None:
        found = _kept(opened, model if layer is None else named_model(opened, model), layer, chosen)
    if output is not None:
        if len(found) != 1:
            raise InputError("Directions of which layer? Name one with --layer and --model.")
        _write(opened, found[0], output)
    if as_json:
        write_json([view.as_json(each) for each in found])
        return
    for place, each in enumerate(found):
        write_lines([""] if place else [])
        _show(each)
    if output is not None:
        write_lines(["", f"Without them: csp fix {quote(str(bundle))} --project "
                     f"{quote(found[0].layer)}={quote(str(output))}"])  # fmt: skip


def _kept(bundle: Bundle, model: str | None, layer: str | None, method: str) -> list[Factored]:
    """The factors that a bundle holds, of one network or layer where that is named.

    Raises:
        InputError: if there are none.
    """
    from csp_engine.views.audit import factors as view

    found = [
        factored
        for name in view.models_factored(bundle)
        for each in view.layers_factored(bundle, name)
        if model in (None, name) and layer in (None, each)
        if (factored := view.factored(bundle, name, each, method))
    ]
    if not found:
        raise InputError(
            f"Bundle {bundle.name} holds no factors{f' of {model}' if model else ''}; look for "
            "some with --layer."
        )
    return found


def _write(bundle: Bundle, found: Factored, path: Path) -> None:
    """The directions of the factors that are called.

    Raises:
        InputError: if none is.
    """
    import numpy as np

    from csp_engine.networks.autoencoders.directions import write_directions

    stored = bundle.factors(found.model, found.layer)
    assert stored is not None
    if not found.called:
        raise InputError(f"{found.sentence} There is nothing to write into {path.name}.")
    own = [each.number - 1 for each in found.called]
    names = [f"factor {k + 1}" for k in own]
    write_directions(path, np.asarray(stored.direction_uk)[:, own], None, names)


def _show(found: Factored) -> None:
    write_lines([found.sentence, ""])
    write_table(
        ("factor", "share", "wrong less right (95 % interval)", "wrong", "right", "put right",
         "spoilt", "strongest neurons"),
        [
            (
                f"{each.number}{' *' if each.is_called else ''}", f"{each.share:.2f}",
                each.gap.signed, f"{each.wrong:+.2f}", f"{each.right:+.2f}",
                *(("–", "–") if each.turning is None
                  else (each.turning.n_mended, each.turning.n_spoilt)),
                ", ".join(f"{ref.unit} {label.title}" for ref, label in each.neurons),
            )
            for each in found.factors
        ],
    )  # fmt: skip
