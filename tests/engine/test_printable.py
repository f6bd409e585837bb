"""What is printed cannot move the cursor, recolour, write over a line or turn letters around."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import unicodedata

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from csp_engine import printable
from csp_engine.cli import main, shown

HOSTILE = [
    "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "\x9b2J",
    "damaged\rverified", "a\x08\x08b", "\x07", "\x7f", "one\ntwo", "\u202egnp.exe", "\u2066x\u2069",
    "\x1bc", "\x1b(0", "\u2028x", "\x85x", "\ufeffx", "\u200fx", "\x1b[", "\x1b]52;c;AAAA", "\x00",
]  # fmt: skip
KEPT = ["ruler", "grün", "אדום", "👩🏽‍⚕️", "می‌خواهم", "a  b", "[bold]x[/bold]", ":smile:", "日本"]


TURNS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def is_safe(text: str) -> bool:
    return not any(
        unicodedata.category(c) in ("Cc", "Zl", "Zp", "Cs") or unicodedata.bidirectional(c) in TURNS
        for c in text
    )


@pytest.mark.parametrize("text", HOSTILE)
def test_one_line_keeps_only_what_can_be_seen(text):
    assert is_safe(printable.one_line(f"a {text} z"))
    assert printable.one_line(f"a {text} z").startswith("a ")
    assert printable.one_line("a\rb\n\tc\x1b[1md") == "a b cd"


@pytest.mark.parametrize("text", KEPT)
def test_writing_of_every_kind_is_kept(text):
    assert printable.one_line(text) == text


@given(st.text(alphabet=st.characters(), max_size=30))
def test_any_text_is_safe_and_passing_twice_changes_nothing(text):
    once = printable.one_line(text)
    assert is_safe(once)
    assert printable.one_line(once) == once


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=30))
def test_json_keeps_its_value(text):
    written = printable.escaped(json.dumps({text: [text]}, indent=1, ensure_ascii=False))
    assert json.loads(written) == {text: [text]}
    assert is_safe(written.replace("\n", ""))


@pytest.mark.parametrize("text", HOSTILE)
def test_everything_that_the_command_line_shows_passes(text, capsys):
    shown.write_lines([f"a {text}"])
    shown.write_table([f"column{text}"], [[f"cell {text}"], [1.5]])
    shown.write_json({text: text})
    with shown.progress_bars() as progress:
        progress(f"stage {text}", 1, 2)
    with pytest.raises(SystemExit):
        main(["info", f"{text.replace(chr(0), '')}gone.csp"])
    with pytest.raises(SystemExit):
        main(["info", f"--{text}"])
    out, err = capsys.readouterr()
    assert all(is_safe(line) for line in (out + err).split("\n"))


def test_csv_is_whole_for_a_program_and_safe_on_a_terminal(monkeypatch, capsys):
    table = pd.DataFrame({"note": ["\x1b[31m=1", "a\u202eb"], "n": [1, 2]})
    shown.write_csv(table)
    read = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert read["note"].tolist() == ["\x1b[31m=1", "a\u202eb"]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    shown.write_csv(table)
    assert all(is_safe(line) for line in capsys.readouterr().out.split("\n"))


def test_logs_and_their_tracebacks_pass():
    program = (
        "import logging\n"
        "from csp_engine.printable import guard_logs\n"
        "guard_logs()\n"
        "log = logging.getLogger('x')\n"
        "log.warning('a %s', '\\x1b[31mb\\rc')\n"
        "try:\n"
        "    raise ValueError('\\x1b]0;t\\x07 \\u202e')\n"
        "except ValueError:\n"
        "    log.exception('failed')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    said = done.stderr.decode()
    assert said.startswith("a b c\n")
    assert "ValueError: 0;t" in said
    assert all(is_safe(line) for line in said.split("\n"))


@pytest.fixture(autouse=True)
def factory():
    before = logging.getLogRecordFactory()
    yield
    logging.setLogRecordFactory(before)


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ("open_clip/ViT-B-32/laion2b_s34b_b79k", "open_clip/ViT-B-32/laion2b_s34b_b79k"),
        ("open_clip/hf-hub:org/name", "open_clip/hf-hub:org/name"),
        ("transformers/openai/clip-vit-base-patch32", "transformers/openai/clip-vit-base-patch32"),
        ("timm/resnet50.a1_in1k", "timm/resnet50.a1_in1k"),
        ("python:demo.encoders:factory", "python:demo.encoders:factory"),
        ("precomputed/patients/vectors", "precomputed/vectors"),
        ("open_clip//home/anna/clip", "open_clip/clip"),
        ("open_clip/./encoder", "open_clip/encoder"),
        ("transformers/~/models/clip/", "transformers/clip"),
        ("transformers/../secret/clip", "transformers/clip"),
        ("transformers/C:\\Users\\anna\\clip", "transformers/clip"),
        ("transformers/work/anna/clip", "transformers/clip"),
        ("?", "?"),
    ],
)
def test_folders_are_shown_by_their_names(spec, wanted):
    assert printable.shown_spec(spec) == wanted
