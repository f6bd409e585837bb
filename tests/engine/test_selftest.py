"""The self-test holds here, covers every area, and would tell if something did not hold."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from csp_engine import cells, printable
from csp_engine.cli import main, selftest
from csp_engine.errors import InputError


def run(capsys, *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as stop:
        main(["doctor", "--self-test", *arguments])
    return int(stop.value.code or 0), capsys.readouterr().out


@pytest.mark.slow
def test_everything_holds_and_every_area_is_tried(capsys):
    code, out = run(capsys, "--json")
    told = json.loads(out)
    assert [case for case in told["cases"] if case["holds"] is not True] == []
    assert (code, told["wrong"]) == (0, 0)
    assert set(Counter(case["area"] for case in told["cases"])) == set(selftest.AREAS)
    titles = [case["title"] for case in told["cases"]]
    assert len(set(titles)) == len(titles)
    assert {title[0] for title in titles if title[1] == ":"} == set("ABCDEFGHIJ")
    assert all(case["found"] for case in told["cases"])


def one(title: str) -> selftest.Verdict:
    (verdict,) = selftest.verdicts([each for each in selftest.kinds() if title in each.title])
    return verdict


def test_a_promise_that_is_broken_is_told(monkeypatch, capsys):
    assert one("spreadsheet").holds
    assert one("terminals").holds
    monkeypatch.setattr(cells, "neutral", lambda text: text)
    monkeypatch.setattr(printable, "one_line", lambda text: text)
    assert not one("spreadsheet").holds
    assert not one("terminals").holds
    chosen = [each for each in selftest.kinds() if "spreadsheet" in each.title]
    monkeypatch.setattr(selftest, "kinds", lambda: chosen)
    code, out = run(capsys)
    assert code == 1
    assert "WRONG" in out
    assert "0 of 1 hold." in out


def raising(error: Exception):
    def act() -> None:
        raise error

    return act


def test_a_refusal_has_to_be_one_and_to_be_about_it():
    assert "about x" in selftest.refused(raising(InputError("about x")), "x")
    with pytest.raises(selftest.NotHeldError, match="accepted"):
        selftest.refused(lambda: None)
    with pytest.raises(selftest.NotHeldError, match="without a word about"):
        selftest.refused(raising(InputError("about x")), "y")
    with pytest.raises(ZeroDivisionError):
        selftest.refused(raising(ZeroDivisionError()))


def test_nothing_is_left_behind_and_nothing_of_the_tests_is_needed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = dict(os.environ)
    assert one("only added").holds
    assert dict(os.environ) == before
    assert Path.cwd() == tmp_path
    assert list(tmp_path.iterdir()) == []
    folder = Path(selftest.__file__).parent
    for path in folder.glob("*.py"):
        assert not re.search(r"^\s*(from|import) tests\b", path.read_text("utf-8"), re.MULTILINE)


def test_the_gate_is_tried_where_a_loop_runs_already():
    async def within() -> selftest.Verdict:
        return one("without the token a visitor looks")

    with ThreadPoolExecutor(1) as pool:
        verdict = pool.submit(asyncio.run, within()).result()
    assert verdict.holds, verdict.found
