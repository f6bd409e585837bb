"""Every ``csp …`` line that a person can read, in a document or a message, is a real command."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.exceptions import TyperException

from tools import cli_reference

ROOT = cli_reference.ROOT
COMMANDS = cli_reference.commands()
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SOURCES = [
    *sorted((ROOT / "csp_engine").rglob("*.py")),
    *sorted((ROOT / "pages").rglob("*.py")),
    ROOT / "app.py",
]


def fenced_lines(path: Path) -> list[str]:
    """Command lines of the shell blocks of a document, continued lines joined."""
    blocks = re.findall(r"^```(?:bash|sh|console)\n(.*?)^```", path.read_text("utf-8"), re.M | re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.startswith("csp ")]


def problem_with(line: str) -> str:
    """Why a whole command line would be refused before it does anything; empty if it would not."""
    name, *arguments = shlex.split(line, comments=True)[1:]
    if arguments and f"{name} {arguments[0]}" in COMMANDS:
        name = f"{name} {arguments.pop(0)}"
    if name not in COMMANDS:
        return f"no command {name!r}"
    try:
        COMMANDS[name].make_context(name, arguments)
    except TyperException as error:
        return error.format_message()
    return ""


FENCED = [(path.name, line) for path in DOCUMENTS for line in fenced_lines(path)]


@pytest.mark.parametrize(("document", "line"), FENCED)
def test_a_command_line_in_a_document_is_accepted(document, line):
    assert problem_with(line) == ""


def test_there_are_command_lines_and_bad_ones_are_noticed():
    assert {"build", "verify", "serve"} <= {shlex.split(line)[1] for _, line in FENCED}
    assert "no command" in problem_with("csp browse my.csp")
    assert "No such option" in problem_with("csp info my.csp --colour")
    assert "Missing argument" in problem_with("csp info")


def mentions(text: str) -> list[tuple[str, list[str]]]:
    """Commands with the options that stand right behind them, in prose and in messages."""
    # A message may be written in several pieces, and a command continued on the next line.
    text = re.sub(r'"\s*\n\s*f?"', "", text)
    text = re.sub(r"\\{1,2}\n", " ", text)
    found = []
    for match in re.finditer(r"(?<![\w./])csp ([a-z]+)\b([^\"'`;\n]*)", text):
        name, rest = match[1], match[2]
        words = rest.split()
        if words and f"{name} {words[0].rstrip('.,:)')}" in COMMANDS:
            name = f"{name} {words[0].rstrip('.,:)')}"
        found.append((name, re.findall(r"(?<!\w)--[a-z-]+", rest)))
    return found


@pytest.mark.parametrize("path", [*DOCUMENTS, *SOURCES], ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_named_in_prose_and_messages_exist(path):
    for name, options in mentions(path.read_text("utf-8")):
        if name in ("from", "import") and path.suffix == ".py":
            continue
        assert name in COMMANDS, f"csp {name}"
        known = {o for p in COMMANDS[name].params for o in [*p.opts, *p.secondary_opts]}
        assert set(options) <= {*known, "--help"}, f"csp {name}"
