"""``csp ablate``: ablation curves of a layer by what its labels say, and the editing experiment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from csp_engine.cli.auditing.fixing import photographs_of
from csp_engine.cli.auditing.intervening import loaded_target, named_model, named_output
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

if TYPE_CHECKING:
    import numpy as np

    from csp_engine.bundle import Bundle
    from csp_engine.views.curves.told import Curved


def ablate(
    bundle: BundlePath,
    layer: Annotated[
        str | None, typer.Option("--layer", "-l", help="Layer, as 'csp info' names it.")
    ] = None,
    words: Annotated[
        str | None,
        typer.Option(
            help="Words with commas between them: also hold the neurons whose label has one, such "
            "as text,letter,word. The best first, by what each does alone on half of the "
            "photographs."
        ),
    ] = None,
    print_names: Annotated[
        bool,
        typer.Option(
            "--print-names",
            help="Also try every photograph with the name of another class in a corner.",
        ),
    ] = False,
    images: Annotated[
        Path | None,
        typer.Option(
            help="Photographs to try it on: a table with the columns path, class, and slice and "
            "group if known. The demo's networks draw their own."
        ),
    ] = None,
    image_root: ImageRoot = None,
    most: Annotated[
        float, typer.Option(min=0.005, max=1, help="Hold up to this share of the layer.")
    ] = 0.2,
    steps: Annotated[int, typer.Option(min=1, max=50, help="Steps up to there.")] = 10,
    n_orders: Annotated[
        int, typer.Option("--orders", min=1, max=50, help="Random orders of each kind.")
    ] = 5,
    mode: Annotated[
        str,
        typer.Option(help="What is held: zero, mean, or conditional (the mean without artefacts)."),
    ] = "zero",
    method: Annotated[
        str | None, typer.Option(help="Method that names the neurons; the first without it.")
    ] = None,
    output: FollowedOutput = None,
    model: ModelName = None,
    limit: Annotated[
        int | None, typer.Option(min=10, help="At most so many photographs of each slice.")
    ] = None,
    keep: Annotated[
        bool,
        typer.Option("--keep", help="Keep the curves in the bundle, in place of the layer's own."),
    ] = False,
    leave: Annotated[
        Path | None, typer.Option(help="Leave the result in this folder, for 'Keep' on the page.")
    ] = None,
    weights: OwnWeights = None,
    preprocessing: OwnPreprocessing = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of halves and orders.")] = 0,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Hold more and more neurons of a layer still, in orders that their labels or influence give.

    Curves: neurons whose label names a category, an attribute or a relation; the most influential
    first; random ones. With --words, neurons whose label has a word; with --print-names too, this
    is MILAN's editing experiment. Without --layer, the curves that the bundle keeps are shown.

    Example:
        csp ablate net.csp --layer layer4 --words text,letter,word --print-names --images photos.csv
    """
    from csp_engine.bundle import Bundle
    from csp_engine.bundle.checks.held import RANDOM
    from csp_engine.pipeline.added.curves import Left, add_curves, leave_curves
    from csp_engine.pipeline.added.deleting import (
        random_orders,
        ranked_alone,
        sizes_of,
        try_orders,
    )
    from csp_engine.pipeline.added.fixing import Trials
    from csp_engine.pipeline.added.photographs import PRINTED, with_names_printed
    from csp_engine.views.curves.told import figures
    from csp_engine.words.word_kinds import units_by_label

    if leave is not None:
        new_folder(leave, "--leave")
    opened = Bundle.open(bundle)
    name = named_model(opened, model)
    if layer is None:
        if keep or leave is not None or words is not None or print_names:
            raise InputError(
                f"Hold neurons of which layer? Name one with --layer; {name} has "
                f"{', '.join(opened.layers(name))}."
            )
        _show_kept(opened, name if model else None, as_json)
        return
    if words is not None and not _words(words):
        raise InputError("--words names no word; write some, such as text,letter,word.")
    target = loaded_target(opened, name, weights, preprocessing, [layer], device)
    tried = opened.intervention(name)
    asked = named_output(target, output or (None if tried is None else tried.output))
    method = _method(opened, name, layer, method)
    n_units = opened.n_units(name, layer)
    by_kind = units_by_label(opened.best_texts(name, layer, method), _words(words))
    by_words = by_kind.pop("words")
    if words is not None and not by_words:
        raise InputError(
            f"No neuron of {layer} has a label by {method} with one of {', '.join(_words(words))}; "
            "give other --words, or another --method."
        )
    sizes = sizes_of(n_units, most, steps)
    with progress_bars() as progress:
        shots = photographs_of(opened, name, images, image_root, limit, seed, progress)
        if print_names:
            shots = with_names_printed(shots, seed)
        trials = Trials(target, shots, asked, progress=progress)
        influence_u = trials.influence()[trials.module_of[layer]]
        orders: dict[str, list[np.ndarray]] = {
            RANDOM: random_orders(range(n_units), n_orders, seed),
            "influence": [(-influence_u).argsort(kind="stable")],
            **{
                kind: random_orders(own, n_orders, seed + 1 + at)
                for at, (kind, own) in enumerate(by_kind.items())
                if own
            },
        }
        if by_words:
            slices = list(dict.fromkeys(shots.table["slice"]))
            worst = PRINTED if print_names else _worst(trials, slices)
            orders["words"] = [ranked_alone(trials, layer, by_words, mode, worst)]
            sizes = sorted({*sizes, min(len(by_words), sizes[-1])})
        stored = try_orders(
            trials, layer, orders, sizes, mode, method=method, words=_words(words), seed=seed
        )
    if leave is not None:
        leave_curves(leave, Left(layer, stored))
    if keep:
        add_curves(bundle, name, layer, stored)
    _print([figures(name, layer, stored)], as_json)


def _show_kept(bundle: Bundle, model: str | None, as_json: bool) -> None:
    """The curves that a bundle holds.

    Raises:
        InputError: if there are none.
    """
    from csp_engine.views.curves.told import kept, layers_curved
    from csp_engine.views.memo import Memo

    memo = Memo()
    found = [
        kept(bundle, memo, of, layer)
        for of in bundle.model_names
        if model in (None, of)
        for layer in layers_curved(bundle, of)
    ]
    if not found:
        raise InputError(
            f"Bundle {bundle.name} keeps no curves{f' of {model}' if model else ''}; draw some "
            "with --layer and --keep."
        )
    _print(found, as_json)


def _print(found: list[Curved], as_json: bool) -> None:
    from csp_engine.views.curves import told

    if as_json:
        write_json([told.as_json(each) for each in found])
        return
    for place, each in enumerate(found):
        write_lines([""] if place else [])
        _show(each)


def _words(text: str | None) -> list[str]:
    return [word.strip().casefold() for word in (text or "").split(",") if word.strip()]


def _method(bundle: Bundle, model: str, layer: str, asked: str | None) -> str:
    known = bundle.methods(model, layer)
    if asked is not None and asked not in known:
        raise InputError(f"Method {asked!r} has no labels of {layer}; it has {', '.join(known)}.")
    if not known:
        raise InputError(f"Nothing labelled {layer} of {model}; label it with 'csp label'.")
    return asked or known[0]


def _worst(trials: Any, slices: list[str]) -> str:
    """The slice that is decided rightly least often, on the photographs that choose."""
    rows = trials.choosing
    _, class_tn = trials.decided(rows, [()], "decisions as they are")
    is_right_n = class_tn[0] == trials.truth(rows)
    of_n = trials.photographs.table["slice"].iloc[rows].to_numpy(object)
    return min(slices, key=lambda name: is_right_n[of_n == name].mean())


def _show(found: Curved) -> None:
    write_lines([found.sentence, *filter(None, [found.details]), ""])
    counts = ", ".join(
        f"{found.name(name)} {len(units):,}"
        for name, units in found.units.items()
        if name not in ("random", "influence")
    )
    if counts:
        write_lines([f"Of {found.n_units:,} neurons, by {found.method}: {counts}.", ""])
    write_table(
        ("slice", "order", "held", "photographs", "right", "orders", "change (95 % interval)",
         "against random orders"),
        [
            (each.slice, each.order, each.n_units, each.n_photographs, f"{100 * each.right:.1f} %",
             f"{100 * each.least:.1f} to {100 * each.most:.1f}", each.change.signed,
             "" if each.order == "random" else each.against.signed)
            for each in found.steps
        ],
    )  # fmt: skip
