"""The command line, ``csp`` or ``python -m csp_engine``: parse, call one engine function, print."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress

import typer
from typer.exceptions import TyperException

from csp_engine.cli import (
    demo,
    inspecting,
    preparing,
    reporting,
    reviewing,
    searching,
    serving,
    sharing,
)
from csp_engine.cli.auditing import (
    ablating,
    audit,
    cofiring,
    directing,
    factoring,
    fixing,
    intervening,
    judging,
    mapping,
    telling,
)
from csp_engine.cli.building import build, label, trying
from csp_engine.errors import CspError, brief, no_networks
from csp_engine.printable import guard_logs, one_line
from csp_engine.registry import blamed

app = typer.Typer(
    name="csp",
    help="Build, check and browse bundles of a vision model's neurons.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

app.command("build")(build.build)
app.command("merge")(build.merge)
app.command("isic2017")(preparing.isic2017)
app.command("layers")(inspecting.layers)
app.command("try")(trying.try_)
app.command("info")(inspecting.info)
app.command("verify")(inspecting.verify)
app.command("label")(label.label)
app.command("search")(searching.search)
app.command("neuron")(telling.neuron)
app.command("circuit")(inspecting.circuit)
app.command("directions")(directing.directions)
app.command("factors")(factoring.factors)
app.command("cofiring")(cofiring.cofiring)
app.command("intervene")(intervening.intervene)
app.command("fix")(fixing.fix)
app.command("ablate")(ablating.ablate)
app.command("maps")(mapping.maps)
app.command("audit")(audit.audit)
app.command("evaluate")(judging.evaluate)
app.command("export")(sharing.export)
app.command("report")(reporting.report)
app.command("publish")(reporting.publish)
app.command("import")(sharing.import_)
app.command("reviews")(reviewing.reviews)
app.command("copy")(serving.copy)
app.command("serve")(serving.serve)
app.command("doctor")(inspecting.doctor)
app.add_typer(demo.app, name="demo")


INTERRUPTED = 130
"""What typer itself makes of Ctrl-C inside a command."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; exit code 0 means done, 1 a negative finding, 2 unusable input."""
    guard_logs()
    # Bars of libraries would run through our own progress, and into logs where a bar is a line.
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    if not os.environ.get("CSP_DEBUG"):
        # Libraries warn about odd EXIF blocks and the like, image after image.
        logging.captureWarnings(True)
        logging.getLogger("py.warnings").setLevel(logging.ERROR)
    try:
        with suppress(CspError):
            _require_unaltered()  # what was found before is not of this command
        code = app(arguments, standalone_mode=False, prog_name="csp")
        _require_unaltered()
    except CspError as error:
        _complain(str(error))
        code = 2
    except typer.Exit as stop:
        code = stop.exit_code
    except TyperException as error:
        context = getattr(error, "ctx", None)
        command = "csp" if context is None else context.command_path
        if error.format_message():  # without one, typer has already shown the help
            _complain(f"{error.format_message().rstrip('.')}; see: {command} --help")
        code = 2
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except OSError as error:
        if os.environ.get("CSP_DEBUG"):
            raise
        _complain(f"{error.filename or 'a file'} cannot be used: {error.strerror or error}.")
        code = 2
    except (Exception, SystemExit) as error:
        lacking = no_networks(error) if isinstance(error, ModuleNotFoundError) else None
        if os.environ.get("CSP_DEBUG"):
            raise
        blame = lacking or blamed(error)
        if blame is None and isinstance(error, SystemExit):
            raise
        first_line = (str(error).splitlines() or [""])[0]
        bug = (
            f"unexpected {type(error).__name__}: {first_line} "
            "This is a bug; run again with CSP_DEBUG=1 for the traceback and please report it."
        )
        _complain(str(blame or bug))
        code = 2 if blame else 1
    if code == INTERRUPTED:
        _complain("interrupted; run the same command again and it continues where it stopped.")
        code = 1
    sys.exit(code or 0)


def _require_unaltered() -> None:
    """What was printed came from files some of which are hashed in the background: wait for them.

    Raises:
        BundleError: if one of them was altered.
    """
    later = sys.modules.get("csp_engine.bundle.checks.later")
    if later is not None:  # else no bundle was opened
        later.require_unaltered()


def _complain(sentence: str) -> None:
    sys.stderr.write(f"csp: {one_line(brief(sentence))}\n")
