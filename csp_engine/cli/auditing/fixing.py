"""``csp fix``: what becomes of decisions when part of a network is held still."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from csp_engine.cli.auditing.intervening import (
    loaded_target,
    named_method,
    named_model,
    named_output,
)
from csp_engine.cli.declared import (
    AsJson,
    BundlePath,
    Device,
    FollowedOutput,
    ImageRoot,
    ModelName,
    OwnPreprocessing,
    OwnWeights,
    new_folder,
)
from csp_engine.cli.shown import progress_bars, write_json, write_lines, write_table
from csp_engine.errors import InputError
from csp_engine.trust import OWN_MODELS

if TYPE_CHECKING:
    from csp_engine.bundle import Bundle
    from csp_engine.pipeline.added.fixes import Piece
    from csp_engine.pipeline.added.photographs import Photographs
    from csp_engine.types import Progress
    from csp_engine.views.audit.fixes import Tested


def fix(
    bundle: BundlePath,
    units: Annotated[
        list[str] | None,
        typer.Option(
            help="Neurons to hold still, as LAYER:3,14,15, LAYER:NAME for a family (those whose "
            "labels by --method mean the same, as the table lists them), or 'LAYER:firing with 14' "
            "for what fires together with neuron 14 ('csp cofiring'); may be given again."
        ),
    ] = None,
    from_: Annotated[
        list[str] | None,
        typer.Option(
            "--from", help="Hold the neurons that carry this artefact (see csp intervene)."
        ),
    ] = None,
    direction: Annotated[
        list[str] | None,
        typer.Option(help="Project out the direction that carries this artefact."),
    ] = None,
    project: Annotated[
        list[str] | None,
        typer.Option(
            help="LAYER=FILE: project out the directions that 'csp directions --output' wrote."
        ),
    ] = None,
    search: Annotated[
        bool,
        typer.Option(
            "--search",
            help="Choose neurons and directions together, on half of the photographs, and report "
            "on the others.",
        ),
    ] = False,
    mode: Annotated[
        str,
        typer.Option(help="What is held: zero, mean, or conditional (the mean without artefacts)."),
    ] = "zero",
    images: Annotated[
        Path | None,
        typer.Option(
            help="Photographs to try it on: a table with the columns path, class, and slice and "
            "group if known. The demo's networks draw their own."
        ),
    ] = None,
    image_root: ImageRoot = None,
    clean: Annotated[
        str | None,
        typer.Option(help="The slice without artefacts; the one called clean, or the first."),
    ] = None,
    output: FollowedOutput = None,
    model: ModelName = None,
    beside: Annotated[
        list[str] | None,
        typer.Option(
            help="Another network of the bundle to set beside it, such as a retrained one."
        ),
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="Method that names families; the first without it.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=10, help="At most so many photographs of each slice.")
    ] = None,
    n_random: Annotated[int, typer.Option("--random", min=0, help="Random controls.")] = 20,
    keep: Annotated[
        str | None, typer.Option(help="Keep the result in the bundle under this name.")
    ] = None,
    leave: Annotated[
        Path | None, typer.Option(help="Leave the result in this folder, for 'Keep' on the page.")
    ] = None,
    weights: OwnWeights = None,
    preprocessing: OwnPreprocessing = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of halves and random controls.")] = 0,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Hold part of a network still, and show what becomes of its decisions.

    Without --units, --from, --direction or --project, the fixes that the bundle keeps are shown.

    Example:
        csp fix skin.csp --from "colour patch" --images photographs.csv --keep patch-neurons
    """
    from csp_engine.bundle import Bundle
    from csp_engine.views.audit import fixes

    if leave is not None:
        new_folder(leave, "--leave")
    opened = Bundle.open(bundle)
    name = named_model(opened, model)
    if search and (units or from_ or direction or project):
        raise InputError(
            "--search chooses by itself; leave out --units, --from, --direction and --project."
        )
    if not (units or from_ or direction or project or search):
        _show_kept(opened, name if model else None, keep, as_json)
        return
    options = fixes.options(opened, name) if search else []
    if search and not options:
        raise InputError(
            f"No artefact has a shown effect on {name} against a neutral paste, so nothing is "
            "known to choose from; measure pairs with 'csp intervene', or give --units."
        )
    labelled = named_method(opened, method)
    pieces, chosen_on = _pieces(opened, name, units or [], from_ or [], direction or [], labelled)
    if project:
        pieces += [each for text in project for each in _projected(opened, name, text)]
        chosen_on = ", ".join(filter(None, (chosen_on, "given as directions in a file")))
    others = [named_model(opened, each) for each in beside or []]
    targets = {
        each: loaded_target(
            opened, each, weights if each == name else None, preprocessing, None, device
        )
        for each in dict.fromkeys([name, *others])
    }
    tried = opened.intervention(name)
    asked = named_output(targets[name], output or (None if tried is None else tried.output))
    with progress_bars() as progress:
        from csp_engine.pipeline.added.choosing import choose
        from csp_engine.pipeline.added.fixing import Trials, try_fix

        shots = photographs_of(opened, name, images, image_root, limit, seed, progress)
        trials = Trials(targets[name], shots, asked, clean=clean, progress=progress)
        if search:
            chosen = choose(trials, options, mode)
            pieces = list(chosen.pieces)
            chosen_on = chosen.chosen_on
        stored = try_fix(
            trials, pieces, mode, chosen_on=chosen_on, n_random=n_random, seed=seed,
            beside=[targets[each] for each in others], progress=progress,
        )  # fmt: skip
    if leave is not None:
        from csp_engine.pipeline.added.fixes import leave_fix

        leave_fix(leave, stored)
    if keep is not None:
        from csp_engine.pipeline import add_fix

        add_fix(bundle, name, keep, stored)
    found = fixes.figures(stored)
    if as_json:
        write_json(fixes.as_json(found))
        return
    _show(found)


def _show_kept(bundle: Bundle, model: str | None, keep: str | None, as_json: bool) -> None:
    """The fixes that a bundle holds.

    Raises:
        InputError: if there is none, or something is to be kept and nothing tried.
    """
    from csp_engine.views.audit import fixes

    if keep is not None:
        raise InputError("Nothing to keep; name neurons with --units, or --from an artefact.")
    names = [
        (of, name) for of in bundle.model_names if model in (None, of) for name in bundle.fixes(of)
    ]
    if not names:
        raise InputError(
            f"Bundle {bundle.name} keeps no fix{f' of {model}' if model else ''}; try one with "
            "--units, --from or --direction, and --keep NAME."
        )
    found = {(of, name): fixes.figures(bundle.fix(of, name)) for of, name in names}
    if as_json:
        write_json([{"name": n, **fixes.as_json(each)} for (_, n), each in found.items()])
        return
    for place, ((_, name), each) in enumerate(found.items()):
        write_lines([*([""] if place else []), f"{name}:"])
        _show(each)


def _pieces(
    bundle: Bundle,
    model: str,
    units: list[str],
    from_: list[str],
    direction: list[str],
    method: str,
) -> tuple[list[Piece], str]:
    """What is held still, and what chose it, in words.

    Raises:
        InputError: if it names nothing that there is.
    """
    import numpy as np

    from csp_engine.pipeline.added.fixes import Piece
    from csp_engine.views.audit import fixes
    from csp_engine.views.audit.groups import group_of
    from csp_engine.views.memo import Memo

    held: dict[str, set[int]] = {}
    memo, chosen = Memo(), []
    for text in units:
        group = group_of(bundle, memo, model, text.strip(), method)
        if group is None:
            raise InputError(
                f"{text!r} names no neurons; write --units LAYER:3,14,15, --units LAYER:FAMILY or "
                f"--units 'LAYER:firing with 14' with a layer of {model}: "
                f"{', '.join(bundle.layers(model))}."
            )
        held.setdefault(group.layer, set()).update(group.unit_k.tolist())
        chosen.append(group.chosen)
    chosen = list(dict.fromkeys(chosen))
    directions = []
    for artefact in (*from_, *direction):
        _require_artefact(bundle, model, artefact)
    for artefact in from_:
        piece = fixes.carriers(bundle, model, artefact)
        if piece is None:
            raise InputError(
                f"No set of neurons of one layer of {model} carries half of the effect of "
                f"{artefact}; try --direction {artefact!r}, or name neurons with --units."
            )
        held.setdefault(piece.layer, set()).update(piece.part.tolist())
    for artefact in direction:
        piece = fixes.direction(bundle, model, artefact)
        if piece is None:
            raise InputError(
                f"No direction of a layer of {model} carries half of the effect of {artefact}; "
                f"try --from {artefact!r}, or name neurons with --units."
            )
        directions.append(piece)
    if from_ or direction:
        chosen.append(fixes.on_pairs(bundle, model))
    own = [Piece(layer, np.array(sorted(each), np.int64)) for layer, each in held.items()]
    return [*own, *directions], ", ".join(chosen)


def _projected(bundle: Bundle, model: str, text: str) -> list[Piece]:
    """The directions of a file, as many as it spans.

    Raises:
        InputError: if it names no layer of the bundle, or no file of its directions.
    """
    from csp_engine.networks.autoencoders.directions import read_directions
    from csp_engine.pipeline.added.fixes import Piece

    layer, _, file = text.partition("=")
    if layer not in bundle.layers(model) or not file:
        raise InputError(
            f"{text!r} names no directions; write --project LAYER=FILE with a layer of {model}: "
            f"{', '.join(bundle.layers(model))}."
        )
    basis_uk = read_directions(Path(file), bundle.n_units(model, layer))
    return [Piece(layer, each) for each in basis_uk.T]


def _require_artefact(bundle: Bundle, model: str, artefact: str) -> None:
    stored = bundle.intervention(model)
    if stored is None:
        raise InputError(
            f"No pairs of images were tried on {model}, so nothing is known to carry {artefact!r}; "
            "measure some with 'csp intervene', or name neurons with --units."
        )
    known = list(stored.effects["artefact"])
    if artefact not in known:
        raise InputError(f"{artefact!r} was not tried on {model}; tried were {', '.join(known)}.")


def photographs_of(
    bundle: Bundle,
    model: str,
    source: Path | None,
    image_root: Path | None,
    limit: int | None,
    seed: int,
    progress: Progress,
) -> Photographs:
    """What a change of a network is tried on: those of a table, or the demo's own.

    Raises:
        InputError: if none are named, and the network is none of the demo.
    """
    if source is not None:
        from csp_engine.pipeline.added.photographs import listed_photographs

        return listed_photographs(source, seed, limit, image_root, progress)
    if bundle.manifest.inputs["models"][model]["spec"] not in OWN_MODELS:
        raise InputError(
            f"Which photographs? Give a table of them with --images: {model} is no network of "
            "the demo, which draws its own."
        )
    from csp_engine.demo.simulator.slices import N_CHOOSING, N_SLICE, simulated_slices

    n_reported = min(limit or N_SLICE, N_SLICE)
    return simulated_slices(N_CHOOSING if limit is None else -(-n_reported // 5), n_reported)


def _show(found: Tested) -> None:
    write_lines(
        [
            found.sentence,
            f"{found.verdict} {found.details}",
            *filter(None, [found.gap_sentence]),
            "",
        ]
    )
    beside = [name for name, *_ in found.slices[0].beside]
    write_table(
        ("slice", "photographs", "right", "after", "change (95 % interval)", "AUROC", "after",
         f"{found.output} found", "after", "random", *beside),
        [
            (
                each.name, each.right.n, each.right.before.n_hits, each.right.after.n_hits,
                each.right.change.signed, each.ranked.before, each.ranked.after,
                f"{each.found.before.n_hits} of {each.found.n}", each.found.after.n_hits,
                _band(each.random), *(str(right.n_hits) for _, right, _, _ in each.beside),
            )
            for each in found.slices
        ],
    )  # fmt: skip


def _band(random: tuple[float, float] | None) -> str:
    if random is None:
        return "–"
    low, high = (f"{100 * each:+.1f}".replace("-", "−") for each in random)
    return f"{low} to {high}"
