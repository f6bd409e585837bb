"""``csp evaluate``: labels against the truth."""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from csp_engine.cli.declared import AsJson, BundlePath, Device
from csp_engine.cli.shown import progress_bars, write_json, write_lines, write_table
from csp_engine.errors import InputError
from csp_engine.numbers import plain_json

if TYPE_CHECKING:
    from csp_engine.bundle import Bundle
    from csp_engine.networks.models import TargetModel


class Benchmark(StrEnum):
    """What the labels are judged by."""

    truth = "truth"
    planted = "planted"


RIGHT = {
    "best_over_neurons": "right",
    "best_by_concept": "mean over concepts",
    "claimed_and_right": "reliable and right",
    "claimed_and_wrong": "reliable and wrong",
}


def evaluate(
    bundle: BundlePath,
    benchmark: Annotated[
        Benchmark,
        typer.Option(
            help="truth: neurons of the bundle whose truth is known. planted: units made up on its "
            "images, of which it is known what they answer to; needs concept columns or classes."
        ),
    ] = Benchmark.truth,
    units: Annotated[
        int | None, typer.Option(min=1, help="Planted units of each kind; 60 by default.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the planted units.")] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            help="Encoder that did not choose the labels; with --benchmark planted it says which "
            "figures tell right labels from wrong ones."
        ),
    ] = None,
    cosy: Annotated[
        str | None,
        typer.Option(
            help="Show the networks images that are made of each label: diffusers/NAME_OR_FOLDER, "
            "or simulator, which draws the concepts of the demo."
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            help="Draw what --benchmark planted finds into this file, as a picture (SVG)."
        ),
    ] = None,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Show how often the labels of a bundle are right, and how well they predict its neurons.

    Example:
        csp evaluate skin.csp --benchmark planted
    """
    from csp_engine.bundle import Bundle

    opened = Bundle.open(bundle)
    if plot is not None and benchmark is not Benchmark.planted:
        raise InputError("--plot goes with --benchmark planted; leave it out.")
    if cosy is not None:
        if benchmark is Benchmark.planted or units is not None or judge is not None:
            raise InputError("--cosy goes alone, or with --seed; leave the others out.")
        _cosy(opened, cosy, seed or 0, device, as_json)
        return
    if benchmark is Benchmark.planted:
        _planted(opened, units or 60, seed or 0, judge, plot, device, as_json)
        return
    if units is not None or seed is not None or judge is not None:
        raise InputError("--units, --seed and --judge go with --benchmark planted; leave them out.")
    _known(opened, as_json)


def _cosy(opened: Bundle, spec: str, seed: int, device: str, as_json: bool) -> None:
    from csp_engine.encoders.making import load_maker
    from csp_engine.views.benchmark.cosy import cosy_benchmark

    if spec == "simulator":
        from csp_engine.demo.simulator.making import SimulatorMaker

        maker = SimulatorMaker()
    else:
        maker = load_maker(spec, device)
    # Weights of a network that learnt nothing are kept by nobody.
    models = {
        name: _loaded_again(name, described, device)
        for name, described in opened.manifest.inputs["models"].items()
        if name in opened.model_names and not described.get("control_of")
    }
    with progress_bars() as progress:
        found = cosy_benchmark(opened, maker, models, seed=seed, progress=progress)
    if as_json:
        write_json(plain_json({"bundle": opened.name, "digest": opened.digest, **found}))
        return
    write_lines([
        f"{found['n_images']} images of each label by {found['maker']}, against "
        f"{found['n_control']} probe images. Intervals are 95 %."
    ])  # fmt: skip
    write_table(
        ("method", "neurons", "not shown", "AUROC", "MAD"),
        [
            (name, own["n"], own["n_not_made"], *(with_interval(own[k]) for k in ("auroc", "mad")))
            for name, own in found["methods"].items()
        ],
    )
    write_lines([""])
    _write_pairs(found["differences"], "AUROC, paired")


def _loaded_again(name: str, described: dict[str, Any], device: str) -> TargetModel:
    """The network that a bundle was built with, by what the bundle calls it."""
    from csp_engine.networks.models import load_model
    from csp_engine.trust import require_trust

    require_trust(f"The network {name}", described["spec"])
    reason = "it gives other numbers now"
    for pixels in (described["preprocessing"], None):
        try:
            model = load_model(described["spec"], name=name, preprocessing=pixels, device=device)
        except InputError as error:
            reason = str(error).rstrip(".")
            continue
        if model.fingerprint == described["fingerprint"]:
            return model
    raise InputError(
        f"{name} cannot be loaded again as {described['spec']} ({reason}); --cosy needs the "
        "network that the bundle was built with."
    )


def _write_pairs(pairs: list[dict[str, Any]], figure: str) -> None:
    write_table(
        ("first − second", "n", figure, "p (Holm)"),
        [
            (
                f"{row['first']} − {row['second']}",
                row["n"],
                with_interval(row),
                f"{row['p_holm']:.2g}",
            )
            for row in pairs
        ],
    )


def _planted(
    opened: Bundle,
    n_units: int,
    seed: int,
    judge: str | None,
    plot: Path | None,
    device: str,
    as_json: bool,
) -> None:
    from csp_engine.bundle import translated_os_errors
    from csp_engine.captioners.speaking import Likely, Speaking
    from csp_engine.encoders import load_encoder
    from csp_engine.evaluation.planted_units import Plan
    from csp_engine.exports.planted_plots import planted_svg
    from csp_engine.files import write_whole
    from csp_engine.methods import METHODS
    from csp_engine.pipeline import bundle_speaker
    from csp_engine.views.benchmark.planted import ERRORS, planted_benchmark, setting_of
    from csp_engine.views.benchmark.trusting import trusted_metrics

    if plot is not None and not plot.absolute().parent.is_dir():
        raise InputError(f"There is no folder {plot.absolute().parent}; make it, or name another.")
    loaded = None if judge is None else load_encoder(judge, device=device)
    plan = Plan(n_units=n_units, seed=seed)
    with progress_bars() as progress:
        captioner = bundle_speaker(opened, METHODS, device=device)
        figures = planted_benchmark(
            opened,
            plan,
            speaker=Speaking(captioner) if isinstance(captioner, Likely) else None,
            progress=progress,
        )
        figures["trust"] = trusted_metrics(opened, plan, loaded, progress)
    if plot is not None:
        with translated_os_errors(plot.absolute().parent):
            write_whole(plot, planted_svg(figures))
    if as_json:
        write_json(plain_json(figures))
        return
    write_lines([
        f"Units planted on {figures['n_images']:,} images with {figures['n_concepts']} concepts, "
        f"{figures['n_labels']:,} labels. Intervals are 95 %."
    ])  # fmt: skip
    kinds = ("right", "reliable_and_right", "reliable_and_wrong", "refused")
    write_table(
        ("units", "method", "n", *(kind.replace("_", " ") for kind in kinds)),
        [
            (row["row"], row["method"], row["n"], *(with_interval(row.get(k)) for k in kinds))
            for row in figures["rows"]
        ],
    )
    write_lines([""])
    write_table(
        ("with", "method", "right"),
        [(setting_of(row), row["method"], with_interval(row["right"])) for row in figures["tries"]],
    )
    write_lines(["", "Wrong labels of units with one concept, by what their images show:"])
    write_table(
        ("units", "method", *ERRORS),
        [
            (row["row"], row["method"], *(row["errors"][kind] for kind in ERRORS))
            for row in figures["rows"]
            if "errors" in row
        ],
    )
    _write_trust(figures["trust"])


def _write_trust(trust: dict[str, Any]) -> None:
    by = trust["judge"] or "the encoder that chose the labels (name another with --judge)"
    write_lines([
        "",
        f"Which figure tells right labels of {trust['n_units']} planted units from wrong ones, by "
        f"{by}, on {trust['n_images']:,} images that chose no label:",
    ])  # fmt: skip
    write_table(
        ("figure", "AUROC", "right", "wrong", "notices missing", "notices extra"),
        [
            (
                row["metric"],
                f"{row['auroc']:.3f} [{row['low']:.3f}, {row['high']:.3f}]",
                row["n_right"],
                row["n_wrong"],
                *(_noticed(row[check]) for check in ("missing", "extra")),
            )
            for row in trust["rows"]
        ],
    )


def _noticed(check: dict[str, Any]) -> str:
    passed = "yes" if check["is_passed"] else "no"
    return f"{passed}: falls for {check['falls']['share']:.0%}, by {check['by']:.0%}"


def _known(opened: Bundle, as_json: bool) -> None:
    from csp_engine.views.accuracy import has_truth, label_accuracy
    from csp_engine.views.benchmark.faithfulness import faithfulness

    faithful = faithfulness(opened)
    figures = label_accuracy(opened) if has_truth(opened) or faithful is None else {}
    if as_json:
        whole = {"bundle": opened.name, "digest": opened.digest, **figures}
        write_json(plain_json({**whole, "faithfulness": faithful}))
        return
    if figures:
        _write_accuracy(figures)
    if faithful is not None:
        write_lines([""] if figures else [])
        _write_faithfulness(faithful)


def _write_faithfulness(found: dict[str, Any]) -> None:
    write_lines([f"{found['about']} The judge: {found['judge']}. Intervals are 95 %."])
    write_table(
        ("method", "n", "Pearson", "AUPRC", "predicts its neuron"),
        [
            (name, own["n"], *(with_interval(own[k]) for k in ("pearson", "auprc", "predicts")))
            for name, own in found["methods"].items()
        ],
    )
    write_lines([""])
    _write_pairs(found["differences"], "Pearson, paired")


def _write_accuracy(figures: dict[str, Any]) -> None:
    kinds = ", ".join(f"{kind} {n:,}" for kind, n in figures["n_by_kind"].items())
    write_lines([
        f"{figures['n_with_truth']:,} of {figures['n_neurons']:,} neurons have a known truth "
        f"({kinds}). Intervals are 95 %."
    ])  # fmt: skip
    methods = figures["methods"]
    refused = list(dict.fromkeys(k for found in methods.values() for k in _refused(found)))
    write_table(
        ("method", *RIGHT.values(), *(f"not reliable: {kind}" for kind in refused)),
        [
            (
                name,
                *(with_interval(found.get(key)) for key in RIGHT),
                *(with_interval(_refused(found).get(kind)) for kind in refused),
            )
            for name, found in methods.items()
        ],
    )
    write_lines([""])
    write_table(
        ("first − second", "right, paired", "McNemar p", "mean over concepts"),
        [
            (
                f"{row['first']} − {row['second']}",
                with_interval(row["over_neurons"]),
                f"{row['over_neurons']['p']:.2g}",
                with_interval(row["by_concept"]),
            )
            for row in figures["differences"]
        ],
    )


def _refused(found: dict[str, Any]) -> dict[str, Any]:
    return found.get("silent_by_kind", {})


def with_interval(figure: dict[str, Any] | None) -> str:
    """A share or difference with its interval; a dash where there is none."""
    if figure is None:
        return "–"
    value = next(figure[key] for key in ("share", "mean", "difference") if key in figure)
    if math.isnan(value):
        return "–"
    if math.isnan(figure["low"]):
        return f"{value:.3f} [no interval]"
    return f"{value:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"
