"""Write docs/cli.md from the command line itself; ``make docs`` runs this file."""

from __future__ import annotations

import enum
import inspect
import re
import types
import typing
from pathlib import Path
from typing import Any

import typer.main

ROOT = Path(__file__).resolve().parents[1]
REFERENCE_PATH = ROOT / "docs" / "cli.md"

INTRODUCTION = """# Commands

`csp COMMAND --help` shows the same. Exit codes: 0 means done; 1, a negative finding, an
interruption or a fault in the program; 2, input that cannot be used, with one sentence that says
why and what to do. `CSP_DEBUG=1` shows the traceback of a fault. `make docs` writes this page; do
not edit it.
"""


def commands() -> dict[str, Any]:
    """The commands of ``csp`` by name, in the order of its help."""
    from csp_engine.cli import app

    return _shown(typer.main.get_command(app), "")


def _shown(group: Any, before: str) -> dict[str, Any]:
    """The commands of a group; one that is a group itself is followed by its own."""
    found = {}
    for name, command in group.commands.items():
        if not command.hidden:
            found[before + name] = command
            found.update(
                _shown(command, f"{before}{name} ") if hasattr(command, "commands") else {}
            )
    return found


def shown_parameters(command: Any) -> list[Any]:
    """Arguments and options of a command that its help shows, without ``--help``."""
    return [p for p in command.params if not getattr(p, "hidden", False) and "--help" not in p.opts]


def render() -> str:
    """The whole reference page."""
    found = commands()
    index = "".join(
        f"- [`csp {name}`](#{_slug(name)}): {_summary(c)}\n" for name, c in found.items()
    )
    return "\n".join([INTRODUCTION, index, *(_section(n, c) for n, c in found.items())])


def _slug(name: str) -> str:
    return f"csp {name}".replace(" ", "-")


def _summary(command: Any) -> str:
    return " ".join(_paragraphs(command)[0].split())


def _paragraphs(command: Any) -> list[str]:
    return re.split(r"\n\s*\n", inspect.cleandoc(command.help or ""))


def _section(name: str, command: Any) -> str:
    arguments = [p for p in shown_parameters(command) if p.param_type_name == "argument"]
    options = [p for p in shown_parameters(command) if p.param_type_name == "option"]
    needed = [f"{p.opts[0]} {_kind(p)}" for p in options if p.required]
    usage = " ".join(
        [f"csp {name}", *needed, "[OPTIONS]" if len(options) > len(needed) else ""]
        + [p.name.upper() if p.required else f"[{p.name.upper()}]" for p in arguments]
    )
    lines = [f"## csp {name}", ""]
    for paragraph in _paragraphs(command):
        heading, _, rest = paragraph.partition("\n")
        if heading.strip() in ("Example:", "Examples:") and rest:
            lines += ["```bash", *_examples(rest), "```", ""]
        else:
            lines += [" ".join(paragraph.split()), ""]
    lines += ["```text", " ".join(usage.split()), "```", ""]
    if arguments:
        lines += ["| argument | meaning |", "|---|---|"]
        lines += [f"| `{p.name.upper()}` | {_cell(p.help)} |" for p in arguments]
        lines.append("")
    if options:
        lines += ["| option | value | default | meaning |", "|---|---|---|---|"]
        for p in options:
            spelled = ", ".join(f"`{o}`" for o in [*p.opts, *p.secondary_opts])
            lines.append(f"| {spelled} | {_kind(p)} | {_default(p)} | {_cell(p.help)} |")
        lines.append("")
    return "\n".join(lines)


def _examples(text: str) -> list[str]:
    """One command a line, however the docstring wraps them."""
    return re.split(r" (?=csp [a-z])", " ".join(text.split()))


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


def _kind(parameter: Any) -> str:
    """What to write after an option, in words."""
    if parameter.metavar:
        return parameter.metavar
    annotation = parameter.type_descriptor.annotation
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        annotation = next(a for a in typing.get_args(annotation) if a is not type(None))
    if typing.get_origin(annotation) is list:
        annotation = typing.get_args(annotation)[0]
    if annotation is bool:
        return ""
    if inspect.isclass(annotation) and issubclass(annotation, enum.Enum):
        return " or ".join(str(member.value) for member in annotation)
    return {int: "NUMBER", float: "NUMBER", Path: "PATH"}.get(annotation, "TEXT")


def _default(parameter: Any) -> str:
    if parameter.required:
        return "(required)"
    value = parameter.default
    if isinstance(parameter.show_default, str):
        return parameter.show_default
    if value is None or value is False or value == ():
        return ""
    if value is True:
        return "on" if parameter.secondary_opts else ""
    if isinstance(value, list | tuple):
        return ", ".join(f"`{v}`" for v in value)
    return f"`{value.value if isinstance(value, enum.Enum) else value}`"


if __name__ == "__main__":
    REFERENCE_PATH.write_text(render(), "utf-8")
