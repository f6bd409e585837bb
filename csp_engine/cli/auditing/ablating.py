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
)
from csp_engine.cli.shown import progress_bars, write_json, write_lines, write_table
from csp_engine.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from csp_engine.bundle import Bundle
    from csp_engine.evaluation.paired_effects import Bounded
    from csp_engine.pipeline.added.deleting import Step
    from csp_engine.views.audit.figures import Figure


def ablate(
    bundle: BundlePath,
    layer: Annotated[str, typer.Option("--layer", "-l", help="Layer, as 'csp info' names it.")],
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
    weights: OwnWeights = None,
    preprocessing: OwnPreprocessing = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of halves and orders.")] = 0,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Hold more and more neurons of a layer still, in orders that their labels or influence give.

    Curves: neurons whose label names a category, an attribute or a relation; the most influential
    first; random ones. With --words, neurons whose label has a word; with --print-names too, this
    is MILAN's editing experiment.

    Example:
        csp ablate net.csp --layer layer4 --words text,letter,word --print-names --images photos.csv
    """
    from csp_engine.bundle import Bundle
    from csp_engine.pipeline.added.deleting import (
        RANDOM,
        curves,
        random_orders,
        ranked_alone,
        sizes_of,
    )
    from csp_engine.pipeline.added.fixing import Trials
    from csp_engine.pipeline.added.photographs import PRINTED, with_names_printed

    opened = Bundle.open(bundle)
    name = named_model(opened, model)
    target = loaded_target(opened, name, weights, preprocessing, [layer], device)
    tried = opened.intervention(name)
    asked = named_output(target, output or (None if tried is None else tried.output))
    method = _method(opened, name, layer, method)
    n_units = opened.n_units(name, layer)
    by_kind, by_words = _named(opened, name, layer, method, _words(words))
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
                if len(own) >= sizes[0]
            },
        }
        if by_words:
            slices = list(dict.fromkeys(shots.table["slice"]))
            worst = PRINTED if print_names else _worst(trials, slices)
            orders["words"] = [ranked_alone(trials, layer, by_words, mode, worst)]
            sizes = sorted({*sizes, min(len(by_words), sizes[-1])})
        found = curves(trials, layer, orders, sizes, mode, seed)
    if as_json:
        write_json(
            {
                "model": name, "layer": layer, "output": asked, "method": method, "mode": mode,
                "images": shots.name, "n_units": n_units, "n_orders": n_orders,
                "n_labelled": {kind: len(own) for kind, own in by_kind.items()},
                "words": _words(words), "units_by_words": by_words,
                "steps": [_as_json(each) for each in found],
            }
        )  # fmt: skip
        return
    _show(found, name, layer, n_units, by_kind, by_words)


def _words(text: str | None) -> list[str]:
    return [word.strip().casefold() for word in (text or "").split(",") if word.strip()]


def _method(bundle: Bundle, model: str, layer: str, asked: str | None) -> str:
    known = bundle.methods(model, layer)
    if asked is not None and asked not in known:
        raise InputError(f"Method {asked!r} has no labels of {layer}; it has {', '.join(known)}.")
    if not known:
        raise InputError(f"Nothing labelled {layer} of {model}; label it with 'csp label'.")
    return asked or known[0]


def _named(
    bundle: Bundle, model: str, layer: str, method: str, words: list[str]
) -> tuple[dict[str, list[int]], list[int]]:
    """Units by the kind of their label, and those whose label has one of some words."""
    import re

    from csp_engine.types import NeuronRef
    from csp_engine.views.neuron.label import best_label
    from csp_engine.words.word_kinds import KINDS, kind_of_label

    by_kind: dict[str, list[int]] = {kind: [] for kind in KINDS}
    by_words = []
    for unit in range(bundle.n_units(model, layer)):
        text = best_label(bundle, NeuronRef(model, layer, unit), method).text
        if not text:
            continue
        by_kind[kind_of_label(text)].append(unit)
        if set(words) & set(re.findall(r"[^\W_]+", text.casefold())):
            by_words.append(unit)
    return by_kind, by_words


def _worst(trials: Any, slices: list[str]) -> str:
    """The slice that is decided rightly least often, on the photographs that choose."""
    rows = trials.choosing
    _, class_tn = trials.decided(rows, [()], "decisions as they are")
    is_right_n = class_tn[0] == trials.truth(rows)
    of_n = trials.photographs.table["slice"].iloc[rows].to_numpy(object)
    return min(slices, key=lambda name: is_right_n[of_n == name].mean())


def _show(
    found: list[Step],
    model: str,
    layer: str,
    n_units: int,
    by_kind: dict[str, list[int]],
    by_words: list[int],
) -> None:
    counts = ", ".join(f"{kind} {len(own):,}" for kind, own in by_kind.items())
    told = [f"Labels of {layer} of {model} ({n_units:,} neurons): {counts}."]
    if by_words:
        told.append(f"{len(by_words):,} have one of the words.")
    write_lines([" ".join(told), ""])
    write_table(
        ("slice", "order", "held", "photographs", "right", "orders", "change (95 % interval)",
         "against random orders"),
        [
            (each.slice, each.order, each.n_units, each.n_photographs, f"{100 * each.right:.1f} %",
             f"{100 * each.least:.1f} to {100 * each.most:.1f}", _points(each.change).signed,
             "" if each.order == "random" else _points(each.against).signed)
            for each in found
        ],
    )  # fmt: skip


def _points(figure: Bounded) -> Figure:
    from csp_engine.views.audit.fixes import Points

    return Points(figure.value, figure.low, figure.high)


def _as_json(step: Step) -> dict[str, Any]:
    from dataclasses import asdict

    figures = {name: _points(getattr(step, name)).as_json() for name in ("change", "against")}
    return {**asdict(step), **figures}
