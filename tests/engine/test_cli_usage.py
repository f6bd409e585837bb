"""Mistakes on the command line: one sentence, the next step, exit code 2."""

from __future__ import annotations

import pytest

from csp_engine.cli import main


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nonsense"], "csp: No such command 'nonsense'; see: csp --help\n"),
        (["info", "--zz"], "csp: No such option: --zz; see: csp info --help\n"),
        (["info"], "csp: Missing argument 'bundle'; see: csp info --help\n"),
        (
            ["info", "gone.csp"],
            "csp: There is no bundle at gone.csp; make one with: csp build --help\n",
        ),
    ],
)
def test_a_mistake_is_one_sentence_with_the_next_step(capsys, arguments, sentence):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert capsys.readouterr().err == sentence


def test_no_command_shows_the_help_and_nothing_else(capsys):
    with pytest.raises(SystemExit) as stop:
        main([])
    shown = capsys.readouterr()
    assert stop.value.code == 2
    assert "Usage: csp" in shown.out + shown.err
    assert "csp:" not in shown.err


def test_help_is_no_mistake(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["export", "--help"])
    assert stop.value.code == 0
    assert "csp export" in capsys.readouterr().out
