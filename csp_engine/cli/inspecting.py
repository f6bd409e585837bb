"""``csp layers``, ``info``, ``verify``, ``search`` and ``doctor``: they look and change nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from csp_engine.cli.shown import progress_bars, write_json, write_lines, write_table
from csp_engine.errors import InputError, MissingModelError
from csp_engine.files import given_bytes

if TYPE_CHECKING:
    from csp_engine.bundle import Bundle
    from csp_engine.views.finding.query import Query
    from csp_engine.views.memo import Memo

USUAL_ENCODER = "open_clip/ViT-B-32/laion2b_s34b_b79k"
"""What the README builds with; ``csp doctor`` tells whether it would be downloaded."""

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
BundlePath = Annotated[Path, typer.Argument(help="A bundle, NAME.csp.")]


def layers(
    model: Annotated[str, typer.Argument(help="Target model, as for 'csp build --model'.")],
    weights: Annotated[
        Path | None, typer.Option(help="Local checkpoint (safetensors or .pt).")
    ] = None,
    preprocessing: Annotated[
        Path | None, typer.Option(help="JSON file, or whole, as for 'csp build'.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the layers of a model whose units can be browsed, with shapes and unit counts.

    Example:
        csp layers torchvision/resnet50
    """
    from csp_engine.networks.layers import list_layers
    from csp_engine.networks.models import load_model

    loaded = load_model(model, weights=weights, preprocessing=preprocessing)
    taps = list_layers(loaded)
    if as_json:
        write_json(
            [
                {
                    "layer": tap.id.module,
                    "type": tap.type_name,
                    "kind": tap.kind,
                    "shape": list(tap.shape),
                    "units": tap.n_units,
                    "poolings": list(tap.poolings),
                }
                for tap in taps
            ]
        )
        return
    write_table(
        ("layer", "type", "kind", "shape", "units", "pooling"),
        [
            (
                tap.id.module,
                tap.type_name,
                tap.kind,
                "x".join(map(str, tap.shape)),
                tap.n_units,
                ", ".join(tap.poolings),
            )
            for tap in taps
        ],
    )


def info(bundle: BundlePath, as_json: AsJson = False) -> None:
    """Show what a bundle contains, and the inputs and parameters it was built with.

    Example:
        csp info resnet50.csp
    """
    from csp_engine.audits.registered import AUDITS
    from csp_engine.bundle import Bundle, kinds
    from csp_engine.views.images.separation import doubt, texts_in_words
    from csp_engine.views.overview.unused import unused_files

    opened = Bundle.open(bundle)
    manifest, unused = opened.manifest, unused_files(opened)
    summary: dict[str, Any] = {
        "bundle": str(bundle),
        "schema": manifest.schema,
        "engine_version": manifest.engine_version,
        "updated": manifest.updated,
        "inputs": manifest.inputs,
        "recipe": manifest.recipe,
        "unused": unused,
        "texts": texts_in_words(opened),
        "doubt": doubt(opened) or None,
        "layers": [
            {
                "model": model,
                "layer": layer,
                **{
                    key: value
                    for key, value in opened.stage(kinds.NEURONS.name(model, layer)).facts.items()
                    if key != "quantile_levels"
                },
                "reliable": {
                    method: opened.stage(stage).facts.get("n_reliable")
                    for method in opened.methods(model, layer)
                    for stage in [kinds.SCORES.name(model, layer, method)]
                },
                "statistics": [c for c in opened.units(model, layer) if c in AUDITS],
                "metrics": _metrics(opened, model, layer),
                "columns": _columns(opened, model, layer),
            }
            for model in opened.model_names
            for layer in opened.layers(model)
        ],
        "bytes": _n_bytes(opened, omitted=False),
        "omitted": {"stages": list(opened.omitted), "bytes": _n_bytes(opened, omitted=True)},
    }
    if as_json:
        write_json(summary)
        return
    inputs = manifest.inputs
    probe, encoder = inputs.get("probe", {}), inputs.get("encoder", {})
    words = inputs.get("vocabulary", {})
    write_lines(
        [
            f"{opened.name}  schema {manifest.schema}, engine {manifest.engine_version}, "
            f"{manifest.updated}, {summary['bytes'] / 1e6:,.1f} MB",
            f"probe set   {probe.get('name')}: {probe.get('n_images', 0):,} images, "
            f"{probe.get('n_skipped', 0):,} unreadable",
            f"encoder     {encoder.get('spec')} ({str(encoder.get('fingerprint'))[:12]})",
            f"vocabulary  {words.get('name')}: {words.get('n_labels', 0):,} labels",
        ]
    )
    write_lines([f"            {sentence}" for sentence in unused])
    if opened.omitted:
        write_lines([f"left out    {_omitted_note(opened)}"])
    write_lines([f"texts       {texts_in_words(opened)}"])
    if opened.notice:
        write_lines([f"notice      {opened.notice}"])
    for name, model in inputs.get("models", {}).items():
        write_lines([f"model       {name}: {model['spec']} ({model['fingerprint'][:12]})"])
        write_lines([f"            {notice}" for notice in model.get("notices", ())])
    columns = ("layer", "neurons", "dead", "dense", "constant", "with a reliable label")
    write_lines([""])
    write_table(columns, [_layer_row(row) for row in summary["layers"]])
    write_lines(["", "parameters (change with 'csp label --set PARAMETER=VALUE')"])
    write_table(("parameter", "value"), [(k, str(v)) for k, v in manifest.recipe.items()])


def _metrics(bundle: Bundle, model: str, layer: str) -> list[str]:
    """The figures that the ground truth of a layer holds."""
    from csp_engine.evaluation.metrics.registered import METRICS

    truth = bundle.truth(model, layer)
    return [] if truth is None else [name for name in METRICS if name in truth.units]


def _columns(bundle: Bundle, model: str, layer: str) -> list[str]:
    """The concept columns that a layer was compared with."""
    held = bundle.columns(model, layer)
    return [] if held is None else held.columns["name"].tolist()


def _n_bytes(bundle: Bundle, *, omitted: bool) -> int:
    records = (r for r in bundle.manifest.stages.values() if r.omitted == omitted)
    return sum(entry.bytes for record in records for entry in record.files.values())


def _omitted_note(bundle: Bundle) -> str:
    from csp_engine.bundle.kinds import stage_kind

    left_out = sorted(set(map(stage_kind, bundle.omitted)))
    size = _n_bytes(bundle, omitted=True) / 1e6
    return (
        f"{', '.join(left_out)} ({len(bundle.omitted)} stages, {size:,.1f} MB): this is a slim "
        "copy; 'csp build' with the same images and models measures them again"
    )


def _layer_row(row: dict[str, Any]) -> tuple[Any, ...]:
    reliable = ", ".join(f"{method} {n}" for method, n in row["reliable"].items())
    counts = (row["n_units"], row["n_dead"], row["n_dense"], row["n_constant"])
    return (f"{row['model']}/{row['layer']}", *counts, reliable)


def verify(bundle: BundlePath, as_json: AsJson = False) -> None:
    """Hash every file of a bundle again and recompute samples; exit code 1 if anything is wrong.

    Example:
        csp verify resnet50.csp
    """
    from csp_engine.bundle import Bundle
    from csp_engine.bundle import verify as check

    opened = Bundle.open(bundle)
    with progress_bars() as progress:
        problems = check(opened, progress)
    here = [record for record in opened.manifest.stages.values() if not record.omitted]
    n_files = sum(len(record.files) for record in here)
    if as_json:
        answer = {"bundle": str(bundle), "files": n_files, "problems": problems}
        write_json({**answer, "omitted": list(opened.omitted)})
    elif problems:
        write_lines([*problems, "Run 'csp build' with the same inputs to repair the bundle."])
    else:
        write_lines([f"{bundle}: {n_files} files in {len(here)} stages, whole."])
        if opened.omitted:
            write_lines([f"Note: it leaves out {_omitted_note(opened)}."])
    if problems:
        raise typer.Exit(1)


def search(
    bundle: BundlePath,
    text: Annotated[
        list[str] | None,
        typer.Argument(
            help="Texts to search for, as separate arguments or with commas between them; neurons "
            "nearest to their mean come first."
        ),
    ] = None,
    but_not: Annotated[list[str] | None, typer.Option("--not", help="Texts to avoid.")] = None,
    image: Annotated[Path | None, typer.Option(help="An image file to search by.")] = None,
    like: Annotated[
        str | None, typer.Option(help="A neuron, model/layer/unit, to find others like it.")
    ] = None,
    column: Annotated[
        str | None,
        typer.Option(
            help="A concept column of the probe set, to find the neurons that go with it."
        ),
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="Method whose concept vectors are searched.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Only this target model.")] = None,
    layer: Annotated[
        list[str] | None, typer.Option("--layer", "-l", help="Only these layers.")
    ] = None,
    n: Annotated[int, typer.Option("-n", min=1, help="How many neurons.")] = 10,
    encoder: Annotated[
        str | None,
        typer.Option("--encoder", "-e", help="Where the bundle's encoder is now, if it moved."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find neurons by texts, an image, another neuron, or a concept column.

    Examples:
        csp search resnet50.csp "striped fur" --not zebra -n 5
        csp search resnet50.csp --column ruler
    """
    from csp_engine import search as searching
    from csp_engine.bundle import Bundle
    from csp_engine.views.address import Narrowing
    from csp_engine.views.column_search import going_with
    from csp_engine.views.finding.query import spelt_like
    from csp_engine.views.finding.standing import judged, judgement
    from csp_engine.views.images.separation import doubt
    from csp_engine.views.lists import found_neurons
    from csp_engine.views.memo import Memo
    from csp_engine.views.table.narrowed import narrowed

    opened, memo = Bundle.open(bundle), Memo()
    if sum(map(bool, (text, image, like, column))) != 1:
        raise InputError(
            "Search by texts, by --image, by --like or by --column: give one of the four."
        )
    _require_layers(opened, model, layer)
    if column:
        if but_not:
            raise InputError("--not goes with texts, --image or --like; leave it with --column.")
        found = going_with(opened, column, method, model=model, layers=layer, n=n)
        _write_going_with(column, found, doubt(opened), as_json)
        return
    method = _method(opened, method)
    searching.open_index(opened, method)  # raises the sentence that fits where it is damaged
    texts, avoided = _concepts(opened, text), _concepts(opened, but_not)
    if text and not texts:
        raise InputError("The query is empty; type a word or a short description.")
    query = _query(opened, memo, texts, avoided, image, like, method, encoder)
    rows = found_neurons(opened, memo, method, query)
    if model:
        rows = rows[rows["model"] == model]
    if layer:
        rows = rows[rows["layer"].isin(layer)]
    chance = judged(opened, memo, query, method, rows)
    said = judgement(query, method, chance)
    is_clear = chance is None or chance.best == "clear"
    near = [] if is_clear else spelt_like(opened, texts)
    standing = {} if chance is None else chance.standing
    best = narrowed(rows, Narrowing(sort="-match")).iloc[:n]
    found = [
        {
            "neuron": f"{row['model']}/{row['layer']}/{row['unit']}",
            "score": round(float(row["match"]), 4),
            "label": row["label"] or None,
            "reliable": bool(row["reliable"]),
            "standing": standing.get(at),
        }
        for at, row in zip(best.index.tolist(), best.to_dict("records"), strict=True)
    ]
    if as_json:
        whole = {"standing": None if chance is None else chance.best, "words": str(said)}
        answer = {"method": method, "doubt": doubt(opened) or None, "judgement": whole}
        write_json({**answer, "did_you_mean": near, "found": found})
        return
    write_lines([*filter(None, [doubt(opened)]), str(said), ""])
    if near:
        write_lines([f"Did you mean {', '.join(near)}?", ""])
    write_table(
        ("score", "neuron", "label", "reliable", *(("against chance",) if standing else ())),
        [_found_row(each, bool(standing)) for each in found],
    )


def _write_going_with(column: str, found: list[dict[str, Any]], doubt: str, as_json: bool) -> None:
    if as_json:
        write_json({"column": column, "doubt": doubt or None, "found": found})
        return
    if doubt:
        write_lines([doubt, ""])
    figures = ("auroc", "pearson", "auprc")
    rows = []
    for each in found:
        shown = ["–" if each[name] is None else each[name] for name in figures]
        trust = "yes" if each["reliable"] else "no"
        rows.append((*shown, each["neuron"], each["label"] or "none", trust))
    write_table(("AUROC", "Pearson", "AUPRC", "neuron", "label", "reliable"), rows)


def doctor(
    encoder: Annotated[
        list[str] | None,
        typer.Option("--encoder", "-e", help="Encoders to check; by default a common one."),
    ] = None,
    self_test: Annotated[
        bool,
        typer.Option(
            "--self-test",
            help="Test instead that this program treats hostile and odd files as it promises: in "
            "about a minute, offline, in a temporary folder; exit code 1 if a promise is broken.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what is installed, which models are on this machine, and what would be downloaded.

    Example:
        csp doctor --encoder open_clip/ViT-B-32/laion2b_s34b_b79k
    """
    from csp_engine.cli.installation import diagnose, try_promises

    if self_test:
        if not try_promises(as_json):
            raise typer.Exit(1)
        return
    report = diagnose(encoder or [USUAL_ENCODER])
    if as_json:
        write_json(report)
        return
    for title, entries in report.items():
        write_lines([title])
        write_lines([f"  {name}: {value}" for name, value in entries.items()] or ["  none"])


def _concepts(bundle: Bundle, given: list[str] | None) -> list[str]:
    """The concepts in some texts, each read as the search page reads its box."""
    from csp_engine.views.finding.query import texts_of

    return [concept for text in given or [] for concept in texts_of(bundle, text)]


def _method(bundle: Bundle, asked: str | None) -> str:
    """The method to search by: the one asked for, or the first."""
    from csp_engine.views.finding.index import searchable_methods

    known = searchable_methods(bundle)
    if not known:
        raise InputError(f"Bundle {bundle.name} has no search index; complete it with 'csp build'.")
    if asked is not None and asked not in known:
        raise InputError(
            f"Method {asked!r} cannot be searched in bundle {bundle.name}; --method is "
            f"{', '.join(known)}."
        )
    return asked or known[0]


def _require_layers(bundle: Bundle, model: str | None, wanted: list[str] | None) -> None:
    names = bundle.model_names
    if model is not None and model not in names:
        raise InputError(f"Model {model!r} is not in the bundle; --model is {', '.join(names)}.")
    within = names if model is None else (model,)
    known = {layer: None for name in within for layer in bundle.layers(name)}
    unknown = [layer for layer in wanted or () if layer not in known]
    if unknown:
        where = "the bundle" if model is None else f"model {model}"
        raise InputError(f"Layer {unknown[0]!r} is not in {where}; it has {', '.join(known)}.")


def _query_encoder(bundle: Bundle, texts: list[str], image: Path | None, spec: str | None) -> Any:
    from csp_engine import search as searching

    stored = [searching.stored_label(bundle, text) is not None for text in texts]
    if image is None and all(stored):
        return None
    try:
        return searching.bundle_encoder(bundle, spec)
    except MissingModelError as error:
        if spec is None and "--encoder" not in str(error):
            raise MissingModelError(f"{error} If it moved, name it by --encoder.") from None
        raise


def _read_image(path: Path) -> Any:
    from csp_engine.probe.decoding import decode

    try:
        return decode(given_bytes(path))
    except OSError as error:
        raise InputError(f"Cannot read image {path} ({error.strerror}).") from None


def _query(
    bundle: Bundle,
    memo: Memo,
    texts: list[str],
    but_not: list[str],
    image: Path | None,
    like: str | None,
    method: str,
    encoder: str | None,
) -> Query:
    """What is searched for, as the search page would make it of the same words."""
    from csp_engine import search as searching
    from csp_engine.types import NeuronRef
    from csp_engine.views.finding import query as asking

    picture = None if image is None else _read_image(image)
    loaded = _query_encoder(bundle, [*texts, *but_not], image, encoder)

    def encode(_: Bundle, text: str) -> np.ndarray:
        return searching.query_vector(bundle, text, loaded)

    unlike = ", ".join(but_not)
    if texts:
        title = asking.less(f"“{', '.join(texts)}”", unlike)
        return asking.text_query(bundle, memo, texts, but_not, encode, title=title)
    neuron = None
    if like is not None:
        neuron = NeuronRef.parse(like)
        searching.row_of(bundle.index_rows(method), neuron)
        vector_d = asking.neuron_vector(bundle, neuron, method)
    else:
        vector_d = searching.image_query_vector(bundle, picture, loaded)
    title = asking.less(f"likeness to {like}" if neuron else f"the image {image}", unlike)
    kind = "neuron" if neuron else "image"
    return asking.vector_query(
        bundle, memo, vector_d, kind, but_not, encode, title=title, neuron=neuron
    )


def _found_row(found: dict[str, Any], is_judged: bool) -> tuple[Any, ...]:
    from csp_engine.views.finding.standing import STANDING_WORDS

    row = (found["score"], found["neuron"], found["label"] or "none")
    row = (*row, "yes" if found["reliable"] else "no")
    return (*row, STANDING_WORDS.get(found["standing"], "")) if is_judged else row
