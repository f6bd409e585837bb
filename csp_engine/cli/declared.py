"""Options as typer wants to see them: those of several commands, and those declared for builds."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import typer

from csp_engine.errors import InputError
from csp_engine.jobs.options import OPTIONS, BuildOption

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
SummaryAsJson = Annotated[bool, typer.Option("--json", help="Print a summary as JSON.")]
Device = Annotated[str, typer.Option("--device", help=OPTIONS["device"].help)]
ModelName = Annotated[str | None, typer.Option(help="Target model; the first without it.")]
OnlyLayers = Annotated[list[str] | None, typer.Option("--layer", "-l", help="Only these layers.")]
FollowedOutput = Annotated[
    str | None, typer.Option(help="Output of the network whose score is followed.")
]
OwnWeights = Annotated[
    Path | None, typer.Option(help="Its checkpoint, if the bundle was built from one.")
]
OwnPreprocessing = Annotated[
    str | None, typer.Option(help="As for 'csp build', if it was given there.")
]
ImageRoot = Annotated[Path | None, typer.Option("--image-root", help=OPTIONS["image_root"].help)]
BundlePath = Annotated[Path, typer.Argument(help="A bundle, NAME.csp.")]


def takes(
    options: Iterable[BuildOption],
) -> Callable[[Callable[[Any, bool], None]], Callable[..., None]]:
    """Let a command take the options of a build, and ``--json``.

    The command gets them as attributes of one object; what stands for ``--json`` comes after it.
    """
    declared = [option for option in options if not option.parameter]

    def decorate(command: Callable[[Any, bool], None]) -> Callable[..., None]:
        def run(*, as_json: bool, **given: Any) -> None:
            command(SimpleNamespace(**given), as_json)

        parameters = [
            _parameter(
                o.name, _annotation(o), inspect.Parameter.empty if o.is_needed else _usual(o)
            )
            for o in declared
        ]
        parameters.append(_parameter("as_json", SummaryAsJson, False))
        run.__signature__ = inspect.Signature(parameters)  # ty: ignore[missing-attribute]
        return functools.update_wrapper(run, command)

    return decorate


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=default, annotation=annotation)


def _usual(option: BuildOption) -> Any:
    return list(option.default) if isinstance(option.default, tuple) else option.default


def _annotation(option: BuildOption) -> Any:
    one: Any = option.kind
    of = list[one] if option.is_many else one
    if not option.is_needed and option.default is None:
        of = of | None
    if not option.spelled:
        return Annotated[of, typer.Argument(help=option.help)]
    flags = () if option.flags is None else option.flags
    is_number = option.kind in (int, float)
    return Annotated[
        of,
        typer.Option(
            *flags,
            help=option.help,
            min=option.least if is_number else None,
            max=option.most if is_number else None,
            rich_help_panel=option.panel,
        ),
    ]


def new_folder(path: Path, option: str) -> Path:
    """The folder that an option names, if it is not there yet or is empty.

    Raises:
        InputError: if there is anything that would be written over.
    """
    if path.is_symlink() or (path.exists() and (not path.is_dir() or any(path.iterdir()))):
        raise InputError(
            f"{path} is there already and is not empty; name a new folder with {option}."
        )
    return path
