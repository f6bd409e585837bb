"""``csp layers``, ``info``, ``circuit``, ``verify``, ``doctor``: they look and change nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from csp_engine.cli.declared import AsJson, BundlePath, Device
from csp_engine.cli.shown import progress_bars, write_json, write_lines, write_table
from csp_engine.errors import InputError, has_networks
from csp_engine.jobs.options import OPTIONS

if TYPE_CHECKING:
    from csp_engine.bundle import Bundle
    from csp_engine.views.neuron.circuit import Circuit

USUAL_ENCODER = "open_clip/ViT-B-32/laion2b_s34b_b79k"
"""What the README builds with; ``csp doctor`` tells whether it would be downloaded."""


def layers(
    model: Annotated[str, typer.Argument(help="Target model, as for 'csp build --model'.")],
    weights: Annotated[Path | None, typer.Option(help=OPTIONS["weights"].help)] = None,
    preprocessing: Annotated[
        Path | None, typer.Option(help="JSON file, or whole, as for 'csp build'.")
    ] = None,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """List the layers of a model whose units can be browsed, with shapes and unit counts.

    Example:
        csp layers torchvision/resnet50
    """
    from csp_engine.networks.devices import read_devices, require_devices
    from csp_engine.networks.layers import list_layers
    from csp_engine.networks.models import load_model

    devices = read_devices(device)
    require_devices(devices)
    loaded = load_model(model, weights=weights, preprocessing=preprocessing, device=devices[0])
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
    from csp_engine.views.finding.index import search_sentences
    from csp_engine.views.images.separation import doubt, texts_in_words
    from csp_engine.views.overview.concepts import concept_sentences
    from csp_engine.views.overview.unused import unused_files

    opened = Bundle.open(bundle)
    manifest, unused = opened.manifest, unused_files(opened)
    concepts = concept_sentences(opened)
    summary: dict[str, Any] = {
        "bundle": str(bundle),
        "schema": manifest.schema,
        "engine_version": manifest.engine_version,
        "updated": manifest.updated,
        "inputs": manifest.inputs,
        "recipe": manifest.recipe,
        "unused": unused,
        "concepts": concepts,
        "texts": texts_in_words(opened),
        "search": search_sentences(opened),
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
    write_lines([f"            {sentence}" for sentence in [*unused, *concepts]])
    if opened.omitted:
        write_lines([f"left out    {_omitted_note(opened)}"])
    write_lines([f"texts       {texts_in_words(opened)}"])
    write_lines([f"search      {sentence}" for sentence in summary["search"]])
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
    entries = (entry for record in records for entry in record.files.values())
    return sum(entry.bytes for entry in entries if entry.kept_in is None)


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


def circuit(
    bundle: BundlePath,
    output: Annotated[
        str | None, typer.Option(help="Output of the network, by name; the first without it.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Target model; the first without it.")] = None,
    method: Annotated[
        str | None, typer.Option(help="Method that names the neurons, such as invert.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show which neurons an output rests on, layer by layer, and which of them feed which.

    Example:
        csp circuit skin.csp --output melanoma --method invert
    """
    from csp_engine.bundle import Bundle
    from csp_engine.views.neuron import circuit as circuits
    from csp_engine.views.places import scoring_methods

    opened = Bundle.open(bundle)
    known = {name: circuits.outputs_of(opened, name) for name in opened.model_names}
    models = [name for name, outputs in known.items() if outputs]
    if not models:
        raise InputError(
            f"Bundle {opened.name} holds no circuits; build it again with --circuit-images 64, "
            "from a network whose outputs have names."
        )
    model = _one_of("Model", "--model", model, models)
    output = _one_of("Output", "--output", output, known[model])
    method = _one_of("Method", "--method", method, scoring_methods(opened) or ["none"])
    found = circuits.circuit(opened, model, output, method)
    assert found is not None
    if as_json:
        write_json(_circuit_json(model, method, found))
        return
    write_lines(
        [
            f"{output} of {model}, over {found.images}; labels by {method}. Effects are gradient × "
            "activation.",
            "",
        ]
    )
    rows = []
    for layer, places in found.layers:
        for node in (found.nodes[place] for place in places):
            fed = ", ".join(f"{each.name} ({each.effect_text})" for each in node.fed_by[:3])
            rows.append((layer, node.neuron.unit, node.effect_text, node.label.title, fed or "–"))
    write_table(("layer", "unit", "effect", "label", "fed most by"), rows)


def _one_of(what: str, option: str, asked: str | None, known: Sequence[str]) -> str:
    if asked is not None and asked not in known:
        few = ", ".join(known[:10]) + (f" and {len(known) - 10:,} more" if len(known) > 10 else "")
        raise InputError(f"{what} {asked!r} has no circuit here; {option} can be {few}.")
    return known[0] if asked is None else asked


def _circuit_json(model: str, method: str, found: Circuit) -> dict[str, Any]:
    def ref(place: int) -> str:
        neuron = found.nodes[place].neuron
        return f"{neuron.model}/{neuron.layer}/{neuron.unit}"

    return {
        "model": model,
        "output": found.output,
        "method": method,
        "n_images": found.n_images,
        "is_predicted_class": found.is_predicted_class,
        "neurons": [
            {
                "neuron": ref(place),
                "effect": node.effect,
                "label": node.label.text or None,
                "reliable": node.label.is_reliable,
                "fed_by": [
                    {"neuron": ref(each.node), "effect": each.effect} for each in node.fed_by
                ],
            }
            for _, places in found.layers
            for place in places
            for node in [found.nodes[place]]
        ],
    }


def verify(bundle: BundlePath, as_json: AsJson = False) -> None:
    """Hash every file of a bundle again and recompute samples; exit code 1 if anything is wrong.

    Example:
        csp verify resnet50.csp
    """
    from csp_engine.bundle import Bundle, kinds
    from csp_engine.bundle import verify as check
    from csp_engine.bundle.verifying.whole import unchecked
    from csp_engine.captioners.speaking import speaking

    opened = Bundle.open(bundle)
    stages = opened.manifest.stages
    speaker = None
    if has_networks():
        from csp_engine.pipeline import bundle_speaker

        speaker = speaking(bundle_speaker(opened, {m for _, _, m in kinds.SCORES.among(stages)}))
    with progress_bars() as progress:
        problems = check(opened, progress, speaker)
    here = [record for record in opened.manifest.stages.values() if not record.omitted]
    n_files = sum(len(record.files) for record in here)
    if as_json:
        answer = {"bundle": str(bundle), "files": n_files, "problems": problems}
        write_json(
            {**answer, "omitted": list(opened.omitted), "unchecked": unchecked(opened, speaker)}
        )
    elif problems:
        write_lines([*problems, "Run 'csp build' with the same inputs to repair the bundle."])
    else:
        write_lines([f"{bundle}: {n_files} files in {len(here)} stages, whole."])
        if opened.omitted:
            write_lines([f"Note: it leaves out {_omitted_note(opened)}."])
        write_lines([f"Not computed again: {each}" for each in unchecked(opened, speaker)])
    if problems:
        raise typer.Exit(1)


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
            "one or two minutes, offline, in a temporary folder; exit code 1 if one is broken.",
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
