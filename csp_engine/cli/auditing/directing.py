"""``csp directions``: directions of a layer that show a concept, as neurons for the next build."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from csp_engine.cli.auditing.intervening import named_model
from csp_engine.cli.declared import (
    AsJson,
    BundlePath,
    ModelName,
    new_folder,
)
from csp_engine.cli.shown import progress_bars, write_json, write_lines, write_table
from csp_engine.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from csp_engine.bundle import Bundle
    from csp_engine.evaluation.directions import Direction
    from csp_engine.evaluation.paired_effects import Bounded


def directions(
    bundle: BundlePath,
    layer: Annotated[str, typer.Option("--layer", "-l", help="Layer, as 'csp info' names it.")],
    model: ModelName = None,
    column: Annotated[
        list[str] | None,
        typer.Option(help="Concept column to find the direction of; may be given several times."),
    ] = None,
    like: Annotated[
        list[str] | None,
        typer.Option(
            help="File name, as pages show it, of an image that shows what you mean; three or "
            "more. Look at what is ranked first, mark more of it, and run it again."
        ),
    ] = None,
    unlike: Annotated[
        list[str] | None,
        typer.Option(help="File name of an image that does not; all others without it."),
    ] = None,
    factors: Annotated[
        int | None, typer.Option(min=1, help="So many non-negative factors of the layer.")
    ] = None,
    name: Annotated[str, typer.Option(help="What to call the images marked with --like.")] = (
        "marked images"
    ),
    output: Annotated[
        Path | None,
        typer.Option(help="Write the directions here (.safetensors), for 'csp build --sae'."),
    ] = None,
    leave: Annotated[
        Path | None,
        typer.Option(
            help="With --like, leave the result in this folder, for the next round on the page."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of halves and factors.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Find directions of a layer that show a concept which no single neuron may show.

    Written to a file, they are neurons of the next build, with images, labels and audits.

    Example:
        csp directions skin.csp --layer layer4@mean --column ruler --output ruler.safetensors
    """
    from csp_engine.bundle import Bundle
    from csp_engine.evaluation.associations.asking import groups_of
    from csp_engine.evaluation.directions import concept_direction
    from csp_engine.evaluation.directions import factors as factored
    from csp_engine.networks.autoencoders.directions import write_directions

    asked = [bool(column), bool(like), factors is not None]
    if sum(asked) != 1:
        raise InputError("Name columns with --column, or images with --like, or --factors.")
    if output is not None and output.suffix != ".safetensors":
        raise InputError(f"{output.name!r} is no file of directions; end it with .safetensors.")
    if leave is not None:
        if not like:
            raise InputError("--leave is for a direction from images; mark some with --like.")
        new_folder(leave, "--leave")
    opened = Bundle.open(bundle)
    model = _place(opened, model, layer)
    activation_un = np.asarray(opened.activations(model, layer))
    table = opened.table("probe", "probe")
    if factors is not None:
        weight_uk, share_k = factored(activation_un, factors, seed)
        names = [f"factor {k}" for k in range(len(share_k))]  # a layer may have fewer
        rows = [{"name": n, "share": float(s)} for n, s in zip(names, share_k, strict=True)]
        if not as_json:
            write_table(("factor", "share of the layer"), [(r["name"], r["share"]) for r in rows])
        told: dict[str, Any] = {"factors": rows}
        mean_u = None
    elif like:
        told, weight_uk, mean_u = _of_marks(
            opened, model, layer, (like, unlike or []), name, leave, is_shown=not as_json
        )
        names = [name]
    else:
        together_n = groups_of(opened.images())
        group_n = np.arange(len(table)) if together_n is None else together_n
        found = [
            concept_direction(activation_un, _flags(opened, table, each), group_n, each, seed)
            for each in column or []
        ]
        mean_u = activation_un.mean(axis=1, dtype=np.float64).astype(np.float32)
        weight_uk = np.stack([each.weight_u for each in found], axis=1)
        names = [each.name for each in found]
        told = {"directions": [_as_json(each) for each in found]}
        if not as_json:
            _show(found)
    if output is not None:
        write_directions(output, weight_uk, mean_u, names)
    if as_json:
        write_json({**told, "output": None if output is None else str(output)})
        return
    if output is not None:
        module = layer.partition("@")[0]
        write_lines(["", f"As neurons: csp build … --layer {quote(layer)} --sae "
                     f"{quote(module)}={quote(str(output))}"])  # fmt: skip


def _of_marks(
    bundle: Bundle,
    model: str,
    layer: str,
    marks: tuple[list[str], list[str]],
    name: str,
    leave: Path | None,
    *,
    is_shown: bool,
) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """The direction of marked images as plain data, its weights, and the layer's mean."""
    from csp_engine.pipeline.factoring.marking import find_marked, leave_marked

    table = bundle.table("probe", "probe")
    like, unlike = (_rows(table, each).tolist() for each in marks)
    with progress_bars() as progress:
        progress(f"a direction of {layer}", 0, 1)
        ranking, found, mean_u = find_marked(bundle, model, layer, like, unlike, name)
        if leave is not None:
            leave_marked(leave, ranking, found, mean_u)
        progress(f"a direction of {layer}", 1, 1)
    ranked = [
        {"file": str(table["file"].iloc[image]), "score": score}
        for image, score in zip(ranking.ranked, ranking.score, strict=True)
    ]
    if is_shown:
        _show([found])
        write_lines(["", ranking.note])
        write_table(("image", "score"), [(row["file"], row["score"]) for row in ranked])
    told = {"directions": [_as_json(found)], "note": ranking.note, "ranked": ranked}
    return told, found.weight_u[:, None], mean_u


def _place(bundle: Bundle, model: str | None, layer: str) -> str:
    from csp_engine.bundle.names import require_layer

    model = named_model(bundle, model)
    require_layer(bundle, model, layer, "--layer")
    return model


def _flags(bundle: Bundle, table: pd.DataFrame, column: str) -> np.ndarray:
    known = list(bundle.manifest.inputs["probe"].get("concepts", ()))
    if column not in known:
        few = ", ".join(known[:20]) or "none"
        raise InputError(f"Concept column {column!r} is not in the bundle; it has {few}.")
    value_n = table[column].to_numpy(np.float64)
    return np.where(np.isnan(value_n), np.nan, (value_n > 0).astype(float))


def _rows(table: pd.DataFrame, files: list[str]) -> np.ndarray:
    """The images of some names: whole names, or the last part of one where that is enough."""
    place: dict[str, list[int]] = {str(file): [row] for row, file in enumerate(table["file"])}
    short: dict[str, list[int]] = {}
    for row, file in enumerate(table["file"]):
        short.setdefault(str(file).rsplit("/", 1)[-1], []).append(row)
    place = short | place
    found = []
    for file in files:
        rows = place.get(file, [])
        if len(rows) != 1:
            why = "is no image of the bundle" if not rows else f"is the name of {len(rows)} images"
            raise InputError(f"{file!r} {why}; give the name as the neuron page shows it.")
        found += rows
    return np.array(found, np.int64)


def _as_json(found: Direction) -> dict[str, Any]:
    from csp_engine.views.audit.figures import Figure

    def bounds(held: Bounded) -> dict[str, float | None] | None:
        return Figure(held.value, held.low, held.high).as_json()

    return {
        "name": found.name,
        "n_with": found.n_with,
        "n_without": found.n_without,
        "held_out_auroc": bounds(found.held_out),
        "best_unit": found.best_unit if found.best_unit >= 0 else None,
        "best_unit_auroc": bounds(found.best_held_out),
    }


def _show(found: list[Direction]) -> None:
    def told(held: Any) -> str:
        if np.isnan(held.value):
            return "too few images to hold some out"
        return f"{held.value:.3f} ({held.low:.3f} to {held.high:.3f})"

    write_table(
        ("direction", "images", "AUROC on the other half", "best single neuron there"),
        [
            (
                each.name,
                f"{each.n_with:,} with, {each.n_without:,} without",
                told(each.held_out),
                "" if each.best_unit < 0 else f"{told(each.best_held_out)}, unit {each.best_unit}",
            )
            for each in found
        ],
    )
