"""``csp audit``: which neurons stand for what should not matter, each kind of evidence apart."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from csp_engine.cli.declared import AsJson, BundlePath
from csp_engine.cli.shown import write_failure, write_json, write_lines, write_table
from csp_engine.errors import InputError

if TYPE_CHECKING:
    from csp_engine.bundle import Bundle
    from csp_engine.views.audit.gate import Judged
    from csp_engine.views.case.audit import Case
    from csp_engine.views.memo import Memo
    from csp_engine.words.concepts import ConceptSet


def audit(
    bundle: BundlePath,
    concepts: Annotated[
        str,
        typer.Option(
            help="A TOML file of valid and spurious concepts (docs/methods.md), or melanoma, "
            "which comes with the project."
        ),
    ] = "melanoma",
    model: Annotated[
        str | None,
        typer.Option(
            help="The classifier; by default the first with an output that the concepts are for."
        ),
    ] = None,
    layer: Annotated[
        list[str] | None, typer.Option("--layer", "-l", help="Only these layers.")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="Method whose concept vectors are compared; by default the first with random "
            "image sets."
        ),
    ] = None,
    n: Annotated[int, typer.Option("-n", min=1, help="How many neurons to print.")] = 20,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            help="Exit with 1 if this holds, such as 'effect colour patch < -0.5', 'association "
            "ruler > 0.9', 'suspects colour patch > 0', or 'suspects > 0' for all columns that the "
            "concept set does not call valid or neutral. May be given several times."
        ),
    ] = None,
    suspect_images: Annotated[
        Path | None,
        typer.Option(
            help="Write the images that excite each suspect most here (.csv), to clean or relabel "
            "them: file, activation, class, group, and whether they show what the neuron is "
            "suspected of."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show which neurons stand for what an output should not depend on.

    Two kinds of evidence, one after the other: resemblance of what excites a neuron to texts, for
    the neurons that matter to the output; and, where the images have columns of 0 and 1,
    association with them. 'csp intervene' shows the effects of interventions.

    Example:
        csp audit skin.csp --concepts concepts.toml --fail-if "suspects colour patch > 0"
    """
    from csp_engine.bundle import Bundle
    from csp_engine.views.audit.associations import layers_with
    from csp_engine.views.audit.gate import judge, read_condition
    from csp_engine.views.case.audit import examine
    from csp_engine.views.images.separation import doubt
    from csp_engine.views.memo import Memo
    from csp_engine.words.concepts import find_concept_set

    if suspect_images is not None and suspect_images.suffix.lower() != ".csv":
        raise InputError(f"{suspect_images.name!r} is no table; end --suspect-images with .csv.")
    conditions = [read_condition(text) for text in fail_if or ()]
    opened, memo = Bundle.open(bundle), Memo()
    wanted = find_concept_set(concepts)
    model = _model(opened, wanted, model)
    layers = _layers(opened, model, layer)
    judged = judge(opened, model, layers, conditions, wanted)
    method = _method(opened, memo, model, method)
    case = examine(opened, memo, wanted, model, layers, method)
    associated = tuple(each for each in layers if each in layers_with(opened, model))
    if isinstance(case, str) and not associated and not conditions:
        raise InputError(case)
    written = None
    if suspect_images is not None:
        written = _write_images(
            opened, memo, model, associated or layers, method, wanted, suspect_images
        )
    if as_json:
        write_json(_whole(opened, memo, case, model, associated, method, wanted, judged))
    else:
        write_lines(list(filter(None, [doubt(opened)])))
        _write_resemblance(case, n)
        _write_associations(opened, model, associated, wanted)
        _write_judged(judged)
        write_lines(list(filter(None, [written])))
    failed = [each for each in judged if each.fails]
    if failed:
        met = "; ".join(each.condition.text for each in failed)
        write_failure(f"{len(failed)} of {len(judged)} conditions of --fail-if hold: {met}.")
        raise typer.Exit(1)


def _write_resemblance(case: Case | str, n: int) -> None:
    if isinstance(case, str):
        write_lines([f"Resemblance: {case}"])
        return
    counts = ", ".join(f"{len(case.of_kind(kind)):,} {kind}" for kind in case.kinds)
    write_lines(
        [f"{len(case.influential):,} neurons of {case.model} carry half of the influence on "
         f"{case.output}: {counts}."]
    )  # fmt: skip
    write_table(
        ("influence", "kind", "neuron", "label", *(f"nearest {tag}" for tag in case.texts)),
        [
            (
                f"{row['share']:+.3f}",
                row["kind"],
                f"{row['model']}/{row['layer']}/{row['unit']}",
                row["label"] if row["reliable"] else "none",
                *(f"{row[f'{tag}_text']} {row[tag]:.3f}" for tag in case.texts),
            )
            for row in case.influential.head(n).to_dict("records")
        ],
    )


def _write_associations(
    bundle: Bundle, model: str, layers: tuple[str, ...], concepts: ConceptSet
) -> None:
    """By layer, what was looked for, how many neurons respond to it, and what would be found."""
    from csp_engine.views.audit.associations import all_suspects, area, sought_in

    if told := all_suspects(bundle, model, concepts):
        write_lines(["", told])
    for layer in layers:
        shown = [each for each in sought_in(bundle, model, layer, concepts) if each.is_in_question]
        write_lines(["", f"Association in {layer}: neurons that respond to what images show."])
        write_table(
            ("column", "images", "suspects", "best AUROC", "least found", "goes with"),
            [
                (
                    each.name,
                    each.n_positive,
                    str(each.n_suspects) if each.is_tried else "too few images",
                    each.best.words,
                    area(each.least),
                    f"{each.beside} {area(each.beside_v)}" if each.beside else "–",
                )
                for each in shown
            ],
        )


def _write_images(
    bundle: Bundle,
    memo: Memo,
    model: str,
    layers: tuple[str, ...],
    method: str,
    concepts: ConceptSet,
    path: Path,
) -> str:
    """Write the images that drive suspects; in words, what was written."""
    from csp_engine.files import write_whole
    from csp_engine.views.audit.driving import images_csv, images_of_all

    rows = images_of_all(bundle, memo, model, layers, method, concepts)
    write_whole(path, images_csv(rows).decode())
    n = len(rows[["layer", "unit"]].drop_duplicates())
    return f"Images of {n:,} suspects, {len(rows):,} rows: {path}"


def _write_judged(judged: list[Judged]) -> None:
    if judged:
        write_lines(["", *(f"{_verdict(each)} {each.sentence}" for each in judged)])


def _verdict(each: Judged) -> str:
    return f"{'FAILS' if each.fails else 'Passes'} {each.condition.text!r}:"


def _whole(
    bundle: Bundle,
    memo: Memo,
    case: Case | str,
    model: str,
    layers: tuple[str, ...],
    method: str,
    concepts: ConceptSet,
    judged: list[Judged],
) -> dict[str, Any]:
    from csp_engine.views.audit.associations import as_json
    from csp_engine.views.images.separation import doubt

    resemblance = {"model": model, "resemblance": case} if isinstance(case, str) else _as_json(case)
    return {
        "doubt": doubt(bundle) or None,
        **resemblance,
        "associations": [as_json(bundle, memo, model, each, method, concepts) for each in layers],
        "conditions": [each.as_json() for each in judged],
        "passed": not any(each.fails for each in judged),
    }


def _model(bundle: Bundle, concepts: ConceptSet, asked: str | None) -> str:
    from csp_engine.bundle.names import require_model
    from csp_engine.views.case.audit import layers_of

    names = bundle.model_names
    if not names:
        raise InputError(f"Bundle {bundle.name} has no neurons yet; complete it with 'csp build'.")
    if asked is not None:
        require_model(bundle, asked, "--model")
    return asked or next((name for name in names if layers_of(bundle, concepts, name)), names[0])


def _layers(bundle: Bundle, model: str, asked: list[str] | None) -> tuple[str, ...]:
    known = bundle.layers(model)
    unknown = [layer for layer in asked or () if layer not in known]
    if unknown:
        raise InputError(f"Layer {unknown[0]!r} is not in {model}; it has {', '.join(known)}.")
    return tuple(asked or known)


def _method(bundle: Bundle, memo: Any, model: str, asked: str | None) -> str:
    from csp_engine.views.case.audit import methods_of

    known = methods_of(bundle, memo, model)
    if asked is not None and asked not in known:
        named = ", ".join(known) or "none"
        raise InputError(f"Method {asked!r} cannot be used here; --method can be {named}.")
    return asked or next(iter(known), "")


def _as_json(case: Case) -> dict[str, Any]:
    return {
        "concepts": {"title": case.concepts.title, "sha256": case.concepts.sha256},
        "model": case.model,
        "output": case.output,
        "layers": list(case.layers),
        "texts": {tag: list(texts) for tag, texts in case.texts.items()},
        "bars": {tag: _number(bar) for tag, bar in case.bars.items()},
        "found": [
            {
                "neuron": f"{row['model']}/{row['layer']}/{row['unit']}",
                "influence": float(row["share"]),
                "kind": row["kind"],
                "label": row["label"],
                "reliable": bool(row["reliable"]),
                **{
                    tag: {
                        "alignment": _number(row[tag]),
                        "text": row[f"{tag}_text"],
                        "bar": _number(row[f"{tag}_bar"]),
                    }
                    for tag in case.texts
                },
            }
            for row in case.influential.to_dict("records")
        ],
    }


def _number(value: float) -> float | None:
    """JSON has no NaN, as where a neuron has no concept vector."""
    return None if math.isnan(value) else float(value)
