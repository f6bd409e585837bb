"""``csp demo``: open the demo that comes with the project, make it again, check it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from csp_engine.cli.declared import AsJson
from csp_engine.cli.serving import MOST_PORT, NEEDS_TOKEN, serve
from csp_engine.cli.shown import progress_bars, write_json, write_lines
from csp_engine.demo.shipping.opening import SHIPPED, require_shipped
from csp_engine.files import IS_CHECKOUT

if TYPE_CHECKING:
    from typer import Context
else:
    # What Typer hands over is of the class that its own Context extends.
    Context = typer.Context.__base__

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")

WORK_FOLDER = Path("bundles/demo-work")
MADE_AT = "assets/demo" if IS_CHECKOUT else "bundles/demo"
MINUTES = 90
"""What a whole build may take on two cores."""


@app.callback(invoke_without_command=True)
def demo(
    context: Context,
    port: Annotated[
        int, typer.Option(min=1, max=MOST_PORT, help="Port to serve the demo on.")
    ] = 8501,
    open_browser: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the page in the default browser.")
    ] = True,
    needs_token: Annotated[bool, NEEDS_TOKEN] = True,
) -> None:
    """Browse the demo that comes with the project: a skin-lesion classifier with known shortcuts.

    Example:
        csp demo
    """
    if context.invoked_subcommand is not None:
        return
    serve(
        [str(require_shipped(SHIPPED))],
        port=port,
        open_browser=open_browser,
        needs_token=needs_token,
    )


@app.command("build")
def build(
    out: Annotated[
        Path,
        typer.Option(help="Folder for the finished demo.", show_default=MADE_AT),
    ] = SHIPPED if IS_CHECKOUT else Path(MADE_AT),
    work: Annotated[
        Path, typer.Option(help="Work folder; an interrupted build continues from there.")
    ] = WORK_FOLDER,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all random numbers.")] = 0,
    parts: Annotated[
        Path | None,
        typer.Option(
            help="Folder of a finished demo of the same seed whose networks are taken as they are, "
            "so that nothing is trained."
        ),
    ] = None,
) -> None:
    """Make every part of the demo from a seed: photographs, networks, bundle; then put it in place.

    Takes at most an hour and a half on two cores, and 2 GB of disk. If it is stopped, run it again
    to resume.

    Example:
        csp demo build
    """
    from csp_engine.demo.shipping.packing import require_place, ship
    from csp_engine.demo.shipping.parts import FULL
    from csp_engine.demo.shipping.world import build_world

    require_place(out)
    write_lines([f"Making the demo in {work} (at most {MINUTES} minutes on two cores)."])
    sys.stdout.flush()
    with progress_bars() as progress:
        world = build_world(work, replace(FULL, seed=seed), progress, parts)
        ship(world, out, progress)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    write_lines([f"The demo is in {out} ({size / 1e6:.1f} MB)."])


@app.command("draw")
def draw(
    out: Annotated[Path, typer.Argument(help="A new folder.")],
    scenario: Annotated[
        str, typer.Option(help="probe, words, biased, fair, clean or counter; see docs/demo.md.")
    ] = "probe",
    count: Annotated[int, typer.Option(min=1, help="Number of photographs.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all random numbers.")] = 0,
    masks: Annotated[
        bool, typer.Option("--masks", help="Also write where each object is, pixel by pixel.")
    ] = False,
) -> None:
    """Draw simulated photographs into a new folder, with tables of all that they show.

    cases.csv holds every control; probe.csv is a probe table for 'csp build'. The folder appears
    when everything is drawn. Until then it is called OUT.part; the same command continues there.

    Example:
        csp demo draw lesions --scenario counter --count 200 --masks
    """
    from csp_engine.demo.simulator import drawing

    with progress_bars() as progress:
        is_new = drawing.draw(out, scenario, count, seed, with_masks=masks, progress=progress)
    write_lines([f"{count:,} photographs are in {out}." if is_new else f"{out} is complete."])


@app.command("verify")
def verify(
    folder: Annotated[
        Path,
        typer.Argument(help="Folder of a demo; by default the shipped one.", show_default=False),
    ] = SHIPPED,
    against: Annotated[
        Path | None,
        typer.Option(help="Work folder of a finished 'csp demo build' to compare weights with."),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Only check the hashes of the files; draw nothing again."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check the demo: its files, and that its seed gives the same photographs and tables again.

    Photographs are compared bit by bit. Weights come from training, so --against compares them with
    those of a second build. Exit code 1 if anything does not match.

    Example:
        csp demo verify
    """
    from csp_engine.demo.shipping.verifying import verify_shipped

    with progress_bars() as progress:
        report = verify_shipped(folder, against=against, is_quick=quick, progress=progress)
    if as_json:
        write_json({"folder": str(folder), "holds": report.holds, "problems": report.problems})
    else:
        write_lines([f"holds: {sentence}" for sentence in report.holds])
        write_lines([f"wrong: {sentence}" for sentence in report.problems])
    if report.problems:
        raise typer.Exit(1)
