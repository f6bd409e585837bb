"""docs/cli.md says what the commands say of themselves, and they say enough."""

from __future__ import annotations

import pytest

from tools import cli_reference

COMMANDS = cli_reference.commands()
NAMES = {"build", "layers", "info", "verify", "label", "search", "export", "import", "serve"}


def test_the_page_is_what_make_docs_writes():
    written = cli_reference.REFERENCE_PATH.read_text("utf-8")
    assert written == cli_reference.render(), "docs/cli.md is out of date; run: make docs"


def test_the_promised_commands_exist():
    assert {*NAMES, "doctor", "demo"} <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_a_section_an_example_and_words_for_every_option(name):
    page = cli_reference.REFERENCE_PATH.read_text("utf-8")
    section = page.partition(f"\n## csp {name}\n")[2].partition("\n## ")[0]
    assert f"\ncsp {name}" in section, "an example in the docstring, under 'Example:'"
    for parameter in cli_reference.shown_parameters(COMMANDS[name]):
        shown = parameter.name.upper() if parameter.param_type_name == "argument" else None
        assert f"`{shown or parameter.opts[0]}`" in section
        assert parameter.help, f"csp {name}: {parameter.opts[0]} has no help"
        assert parameter.help.strip().endswith((".", "?")), f"{parameter.opts[0]}: a sentence"
